#!/usr/bin/env bash
# Table 3 of the paper: the five models on MSP-Podcast, scored on test1. The corpus'
# place is MSP_PODCAST in db.sh, or --corpus_root DIR here.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
. ./db.sh

exec ./ser.sh \
    --corpus msp_podcast --corpus_root "${MSP_PODCAST}" \
    --scheme msp_podcast \
    --features hubert_large --corpus_overlay conf/msp_podcast.yaml \
    "$@"
