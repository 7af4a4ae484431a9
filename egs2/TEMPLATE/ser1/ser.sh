#!/usr/bin/env bash
# Stages of a speech emotion recognition recipe, run from a recipe's folder. The options
# that matter most, with their defaults (`./ser.sh --help` lists all):
#
#   --stage 1              first stage
#   --stop_stage 7         last stage
#   --skip_data_prep false leave stages 1 to 4 out
#   --skip_train false     leave stage 5 out
#   --skip_eval false      leave stages 6 and 7 out
#   --skip_packing true    leave stage 8 out (unless --stop_stage is over 7)
#   --skip_upload_hf true  leave stage 9 out (unless --stop_stage is over 8)
#   --dry_run false        print the command of each step, run nothing
#   --force STAGE ...      make stages again although they are finished
#   --nj N                 processes at a time (the number of CPUs)
#   --ngpu 0               GPUs of a run
#   --seed 0               seed of the training
#   --datadir data, --dumpdir dump, --expdir exp   where the files go
#
# Stage 1: data preparation and audio check
#   reads    the corpus (a built-in one is generated first, by ser_make_mini)
#   program  ser_prepare --corpus --root --output --nj --compare_counts
#   writes   data/<corpus>
# Stage 2: none, it is part of stage 1 (--stage 2 starts at 3)
# Stage 3: feature extraction
#   reads    data/<corpus>, conf/features/<features>.yaml, conf/labels/<labels>.yaml
#   program  ser_extract --data --config --output --labels --ngpu --upstream
#   writes   dump/<corpus>/<features>
# Stage 4: train, valid and test sets
#   reads    data/<corpus>, conf/labels/<labels>.yaml, dump/<corpus>/<features>
#   program  ser_make_sets --data --labels --scheme --output --store --fold
#   writes   dump/<corpus>/sets/<labels>/<split>
# Stage 5: training, the models side by side
#   reads    the train and valid sets, conf/train_<model>.yaml
#   program  ser_train --config --output_dir --seed --ngpu --resume --class_list
#   writes   exp/<features>_<labels>/<split>/<model>_seed<n>
# Stage 6: inference
#   reads    the trained model, the test set
#   program  ser_infer --train_config --model_file --set --store --output
#   writes   .../<model>_seed<n>/test/predictions.csv
# Stage 7: scoring
#   reads    the predictions of all models
#   program  ser_score --output --title --reference --wav_scp --resamples --predictions
#   writes   exp/<features>_<labels>/<split>/results/RESULTS.md; of several folds also
#            their means, exp/tables/<features>_<labels>_<scheme>/RESULTS.md
# Stage 8: packing
#   reads    the trained model, its predictions, the scores
#   program  ser pack --output --licence_ack
#   writes   .../<model>_seed<n>/package/<model>_seed<n>.zip
# Stage 9: upload to the Hugging Face Hub
#   reads    the package
#   program  ser upload --hf_repo --output --licence_ack
#   writes   the repository; .../<model>_seed<n>/package_upload/uploaded.json
#
# One process plans and runs them all, so that models train side by side and what is
# finished is skipped: espnet_ext/jobs/recipe.py has a function a stage. cmd.sh and
# db.sh of this folder are read there too (espnet_ext/jobs/shell_files.py).
# tests/jobs/test_recipe.py keeps this table equal to the plan.
set -euo pipefail
. ./path.sh || exit 1

exec python -P -m espnet_ext.bin.ser_plan "$@"
