#!/usr/bin/env bash
# Prepares MSP-Podcast in data/msp_podcast: reads its labels and checks its audio. The corpus'
# place is MSP_PODCAST in db.sh, or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

# Of an option that is given twice the later one counts.
if [ -n "${MSP_PODCAST}" ]; then
    set -- --root "${MSP_PODCAST}" "$@"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus msp_podcast --output data/msp_podcast "$@"
