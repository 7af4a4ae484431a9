#!/usr/bin/env bash
# The front door. Without arguments: set everything up, make the built-in corpora, train
# the paper's five models on them and print the table.
#
#   ./run.sh                                              built-in IEMOCAP, fold 1
#   ./run.sh --model hierarchical_dc                      one of its models
#   ./run.sh --corpus iemocap --corpus_root DIR --fold 1  the real thing
#   ./run.sh --table 1                                    a whole table of the paper
#   ./run.sh --table 1 --iemocap DIR                      on the real thing (2: and
#                                                         --msp_podcast DIR; 3: that)
#   ./run.sh --corpus iemocap --table 1                   the same, where db.sh says (2:
#                                                         iemocap_msp_podcast; 3: msp_podcast)
#   ./run.sh --help                                       every option
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
corpus=
table=
real=false
args=()
while [ $# -gt 0 ]; do
    case $1 in
        --corpus) corpus=${2:?"--corpus needs a name"}; shift 2 ;;
        --corpus=*) corpus=${1#*=}; shift ;;
        --table) table=${2:?"--table needs 1, 2, 3, sanity or a YAML"}; shift 2 ;;
        --table=*) table=${1#*=}; shift ;;
        --iemocap|--msp_podcast)
            real=true
            args+=("$1" "$(realpath -ms -- "${2:?"$1 needs a folder"}")"); shift 2 ;;
        --corpus_root|--corpus_overlay|--overlay|--upstream|--datadir|--dumpdir|--expdir)
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

if [ -n "${table}" ]; then
    case ${table} in
        *.yaml) table=$(realpath -ms -- "${table}"); yaml=${table} ;;
        [0-9]*) yaml=${root}/conf/tables/table${table}.yaml ;;
        *) yaml=${root}/conf/tables/${table}.yaml ;;
    esac
    if [ ! -f "${yaml}" ]; then
        echo "error: --table ${table}: there is no ${yaml}" >&2
        exit 1
    fi
    args=(--table "${table}" ${args[@]+"${args[@]}"})
    if [ -z "${corpus}" ]; then
        own=$(sed -n 's/^recipe: *//p' "${yaml}")
        if [ "${real}" = true ]; then
            corpus=${own}
        else
            echo "On the built-in corpora. On yours, where db.sh says: --corpus ${own}" >&2
        fi
    fi
fi
corpus=${corpus:-mini}
recipe=${root}/egs2/${corpus}/ser1
if [ "${corpus}" = TEMPLATE ] || [ ! -x "${recipe}/run.sh" ]; then
    echo "error: --corpus ${corpus}: there is no such recipe; choose one of:" \
        "$(cd -- "${root}/egs2" && ls -d -- */ | tr -d / | grep -v TEMPLATE | xargs)" >&2
    exit 1
fi
exec "${recipe}/run.sh" ${args[@]+"${args[@]}"}
