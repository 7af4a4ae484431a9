#!/usr/bin/env bash
# RAVDESS speech, five classes, six folds of four actors.
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is RAVDESS in db.sh, or --corpus_root DIR here.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --corpus ravdess \
    --scheme ravdess_6fold --fold 1 2 3 4 5 6 \
    --features hubert_large --model baseline_d \
    --paths_from "${here}" "$@"
