#!/usr/bin/env bash
# Prepares RAVDESS in data/ravdess: reads its labels and checks its audio. The corpus'
# place is RAVDESS in db.sh, or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

# Of an option that is given twice the later one counts.
if [ -n "${RAVDESS}" ]; then
    set -- --root "${RAVDESS}" "$@"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus ravdess --output data/ravdess "$@"
