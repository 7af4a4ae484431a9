#!/usr/bin/env bash
# CREMA-D, five classes, a split by actors.
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is CREMA_D in db.sh, or --corpus_root DIR here.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
. ./db.sh

exec ./ser.sh \
    --corpus crema_d --corpus_root "${CREMA_D}" \
    --scheme crema_d \
    --features hubert_large --model baseline_d \
    "$@"
