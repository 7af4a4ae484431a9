#!/usr/bin/env bash
# Prepares EmoDB in data/emodb: reads its labels and checks its audio. The corpus'
# place is EMODB in db.sh, or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

# Of an option that is given twice the later one counts.
if [ -n "${EMODB}" ]; then
    set -- --root "${EMODB}" "$@"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus emodb --output data/emodb "$@"
