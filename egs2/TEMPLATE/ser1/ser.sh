#!/usr/bin/env bash
# Stages of a speech emotion recognition recipe, run from a recipe's folder:
#
#   1  data preparation        data/local/<corpus>
#   2  audio check             data/<corpus>
#   3  feature extraction      dump/<corpus>/<features>
#   4  train/valid/test sets   dump/<corpus>/sets/<labels>/<split>
#   5  training                exp/<features>_<labels>/<split>/<model>_seed<n>
#   6  inference               .../<model>_seed<n>/test/predictions.csv
#   7  scoring                 exp/<features>_<labels>/<split>/results/RESULTS.md
#
# What a stage consists of, and whether it is finished, is decided by the plan in
# espnet_ext/jobs/recipe.py; `./ser.sh --help` lists the options, `--dry_run` the
# command of each step.
#
# cmd.sh and db.sh of this folder are read there too (espnet_ext/jobs/shell_files.py):
# which commands count depends on the option --cmd_backend.
set -euo pipefail
. ./path.sh || exit 1

exec python -P -m espnet_ext.bin.ser_plan "$@"
