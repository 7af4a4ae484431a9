#!/usr/bin/env bash
# A corpus of your own: --corpus NAME --manifest FILE (espnet_ext/corpora/README.md).
# Every emotion that occurs is a class, or --labels YAML says which are. The models are
# those that the labels allow; all folds are run.
#
# And tables of any corpora, --table cross_corpus or a YAML of your own: known corpora
# have their data and features in their own recipes.
set -euo pipefail
here=${PWD} # where paths in the options are meant from
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"
homes=(--home)
for corpus in iemocap msp_podcast crema_d ravdess emodb meld; do
    homes+=("${corpus}=../../${corpus}/ser1")
done

exec ./ser.sh \
    --features hubert_large \
    "${homes[@]}" \
    --paths_from "${here}" "$@"
