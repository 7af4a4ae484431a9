#!/usr/bin/env bash
# A corpus of your own: --corpus NAME --manifest FILE (espnet_ext/corpora/README.md).
# Every emotion that occurs is a class, or --labels YAML says which are. The models are
# those that the labels allow; all folds are run.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

exec ./ser.sh \
    --features hubert_large \
    --paths_from "${here}" "$@"
