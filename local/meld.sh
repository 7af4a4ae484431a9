#!/usr/bin/env bash
# Prepares MELD in data/meld: reads its labels and checks its audio. The corpus'
# place is MELD in db.sh, or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

# Of an option that is given twice the later one counts.
if [ -n "${MELD}" ]; then
    set -- --root "${MELD}" "$@"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus meld --output data/meld "$@"
