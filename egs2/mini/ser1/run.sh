#!/usr/bin/env bash
# The five models on the built-in IEMOCAP-like corpus (--part msp_podcast: on the
# MSP-Podcast-like one). Options that are given here come after the recipe's and win.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --part iemocap \
    --features mini --overlay conf/mini.yaml \
    --paths_from "${here}" "$@"
