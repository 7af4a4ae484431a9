#!/usr/bin/env bash
# MELD, five classes, the official split (its speakers are shared).
# Its labels are classes only, so Baseline D is what can be trained on it alone. The
# corpus' place is MELD in db.sh, or --corpus_root DIR here.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --corpus meld \
    --scheme meld \
    --features hubert_large --model baseline_d \
    --paths_from "${here}" "$@"
