#!/usr/bin/env bash
# Table 1 of the paper: the five models on IEMOCAP, leave one session out. The corpus'
# place is IEMOCAP in db.sh, or --corpus_root DIR here.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
. ./db.sh

exec ./ser.sh \
    --corpus iemocap --corpus_root "${IEMOCAP}" \
    --scheme iemocap_5fold --fold 1 2 3 4 5 \
    --features hubert_large \
    "$@"
