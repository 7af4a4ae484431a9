#!/usr/bin/env bash
# The front door. Without arguments: set everything up, make the built-in corpora, train
# the paper's five models on them and print the table.
#
#   ./run.sh                                              built-in IEMOCAP, fold 1
#   ./run.sh --model hierarchical_dc                      one of its models
#   ./run.sh --corpus iemocap --corpus_root DIR --fold 1  the real thing
#   ./run.sh --table 1                                    a whole table of the paper
#   ./run.sh --table 1 --root iemocap=DIR                 on the real thing (2: also
#                                                         msp_podcast=DIR; 3: only that)
#   ./run.sh --corpus iemocap --table 1                   the same, where db.sh says (2:
#                                                         iemocap_msp_podcast; 3: msp_podcast)
#   ./run.sh --help                                       every option
#
# It sets up the environment and hands every option to espnet_ext/jobs/front.py, which
# starts the recipe's own run.sh (egs2/<corpus>/ser1).
set -euo pipefail
. "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/path.sh" || exit 1
# -P: what lies in the folder where you stand is no package of this project.
exec python -P -m espnet_ext.jobs.front --paths_from "${PWD}" "$@"
