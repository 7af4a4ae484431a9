#!/usr/bin/env bash
# CREMA-D, five classes, a split by actors.
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is CREMA_D in db.sh, or --corpus_root DIR here.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --corpus crema_d \
    --scheme crema_d \
    --features hubert_large --model baseline_d \
    --paths_from "${here}" "$@"
