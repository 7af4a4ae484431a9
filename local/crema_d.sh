#!/usr/bin/env bash
# Prepares CREMA-D in data/crema_d: reads its labels and checks its audio. The corpus'
# place is CREMA_D in db.sh, or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

# Of an option that is given twice the later one counts.
if [ -n "${CREMA_D}" ]; then
    set -- --root "${CREMA_D}" "$@"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus crema_d --output data/crema_d "$@"
