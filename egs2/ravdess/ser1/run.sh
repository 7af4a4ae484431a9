#!/usr/bin/env bash
# RAVDESS speech, five classes, six folds of four actors.
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is RAVDESS in db.sh, or --corpus_root DIR here.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
. ./db.sh

exec ./ser.sh \
    --corpus ravdess --corpus_root "${RAVDESS}" \
    --scheme ravdess_6fold --fold 1 2 3 4 5 6 \
    --features hubert_large --model baseline_d \
    "$@"
