#!/usr/bin/env bash
# The five models on the built-in IEMOCAP-like corpus (--part msp_podcast: on the
# MSP-Podcast-like one). Options that are given here come after the recipe's and win.
set -euo pipefail
cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")"

part=iemocap
mini_seed=0
args=()
while [ $# -gt 0 ]; do
    case $1 in
        --part) part=${2:?"--part needs iemocap or msp_podcast"}; shift 2 ;;
        --mini_seed) mini_seed=${2:?"--mini_seed needs a number"}; shift 2 ;;
        *) args+=("$1"); shift ;;
    esac
done
corpora=downloads/seed${mini_seed}
case ${part} in
    iemocap)
        corpus=(--corpus iemocap --corpus_root "${corpora}/IEMOCAP_full_release"
            --scheme iemocap_5fold --fold 1) ;;
    msp_podcast)
        corpus=(--corpus msp_podcast --corpus_root "${corpora}/MSP-PODCAST-1.8"
            --scheme msp_podcast) ;;
    *) echo "error: --part ${part}: must be iemocap or msp_podcast" >&2; exit 1 ;;
esac

exec ./ser.sh \
    "${corpus[@]}" --mini_seed "${mini_seed}" \
    --features mini --upstream "${corpora}/hubert_tiny" \
    --overlay conf/mini.yaml \
    ${args[@]+"${args[@]}"}
