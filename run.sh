#!/usr/bin/env bash
# The front door. Without arguments: set everything up, make the built-in corpora, train
# the paper's five models on them and print the table.
#
#   ./run.sh                                              built-in IEMOCAP, fold 1
#   ./run.sh --model hierarchical_dc                      one of its models
#   ./run.sh --corpus iemocap --corpus_root DIR --fold 1  the real thing
#   ./run.sh --help                                       every option
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
corpus=mini
args=()
while [ $# -gt 0 ]; do
    case $1 in
        --corpus) corpus=${2:?"--corpus needs a name"}; shift 2 ;;
        --corpus=*) corpus=${1#*=}; shift ;;
        --corpus_root|--overlay|--upstream|--datadir|--dumpdir|--expdir)
            # The recipe runs in its own folder: paths are meant from the caller's.
            args+=("$1" "$(realpath -ms -- "${2:?"$1 needs a path"}")"); shift 2 ;;
        --train_config)
            args+=("$1"); shift
            while [ $# -gt 0 ] && [[ $1 != --* ]]; do
                args+=("$(realpath -ms -- "$1")"); shift
            done ;;
        *) args+=("$1"); shift ;;
    esac
done

recipe=${root}/egs2/${corpus}/ser1
if [ "${corpus}" = TEMPLATE ] || [ ! -x "${recipe}/run.sh" ]; then
    echo "error: --corpus ${corpus}: there is no such recipe; choose one of:" \
        "$(cd -- "${root}/egs2" && ls -d -- */ | tr -d / | grep -v TEMPLATE | xargs)" >&2
    exit 1
fi
exec "${recipe}/run.sh" ${args[@]+"${args[@]}"}
