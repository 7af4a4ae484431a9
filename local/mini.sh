#!/usr/bin/env bash
# Makes the built-in corpora and the tiny HuBERT checkpoint (--output DIR, --seed N).
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../path.sh" || exit 1
exec python -m espnet_ext.bin.ser_make_mini "$@"
