#!/usr/bin/env bash
# Table 2 of the paper: labels of IEMOCAP and MSP-Podcast combined, tested on Session 5
# and on test1. The corpora's places are IEMOCAP and MSP_PODCAST in db.sh, or --root
# iemocap=DIR msp_podcast=DIR here. Their data and features are those of their recipes.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --table 2 \
    --home iemocap=../../iemocap/ser1 msp_podcast=../../msp_podcast/ser1 \
    --paths_from "${here}" "$@"
