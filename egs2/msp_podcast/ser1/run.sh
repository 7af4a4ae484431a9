#!/usr/bin/env bash
# Table 3 of the paper: the five models on MSP-Podcast, scored on test1. The corpus'
# place is MSP_PODCAST in db.sh, or --corpus_root DIR here.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --corpus msp_podcast \
    --scheme msp_podcast \
    --features hubert_large --corpus_overlay conf/msp_podcast.yaml \
    --paths_from "${here}" "$@"
