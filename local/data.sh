#!/usr/bin/env bash
# Prepares a corpus in data/CORPUS: local/data.sh CORPUS. Its place is the CORPUS of db.sh
# (in capitals), or --root DIR; further options are those of ser_prepare.
set -euo pipefail
top=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
. "${top}/path.sh" || exit 1
. <(tr -d '\r' <"${top}/db.sh") # as written on Windows, too

corpus=${1:?"give the name of a corpus, as in: local/data.sh iemocap"}
place=${corpus^^}
# Of an option that is given twice the later one counts.
if [ -n "${!place:-}" ]; then
    set -- "${corpus}" --root "${!place}" "${@:2}"
fi
exec python -m espnet_ext.bin.ser_prepare --corpus "$1" --output "data/$1" "${@:2}"
