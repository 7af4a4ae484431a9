#!/usr/bin/env bash
# Makes the built-in corpora and the tiny HuBERT checkpoint (--output DIR, --seed N).
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd -P)
export PYTHONPATH="${root}${PYTHONPATH:+:${PYTHONPATH}}"
exec python3 -m espnet_ext.bin.ser_make_mini "$@"
