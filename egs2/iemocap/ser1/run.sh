#!/usr/bin/env bash
# Table 1 of the paper: the five models on IEMOCAP, leave one session out. The corpus'
# place is IEMOCAP in db.sh, or --corpus_root DIR here.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --corpus iemocap \
    --scheme iemocap_5fold --fold 1 2 3 4 5 \
    --features hubert_large \
    --paths_from "${here}" "$@"
