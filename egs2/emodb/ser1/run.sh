#!/usr/bin/env bash
# Berlin EmoDB, five classes, five folds of two speakers.
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is EMODB in db.sh, or --corpus_root DIR here.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
. ./db.sh

exec ./ser.sh \
    --corpus emodb --corpus_root "${EMODB}" \
    --scheme emodb_5fold --fold 1 2 3 4 5 \
    --features hubert_large --model baseline_d \
    "$@"
