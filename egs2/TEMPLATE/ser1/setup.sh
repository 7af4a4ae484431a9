#!/usr/bin/env bash
# Make a recipe in any folder, one of an ESPnet checkout included:
#
#   egs2/TEMPLATE/ser1/setup.sh DIR        e.g. .../espnet/egs2/mycorpus/ser1
#
# What a researcher edits (conf, cmd.sh, db.sh, run.sh) is copied; ser.sh, path.sh and
# local are links to this repository, so that they stay up to date.
set -euo pipefail

if [ $# -ne 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../../.." && pwd)
dir=$1
for name in run.sh ser.sh path.sh cmd.sh db.sh conf local; do
    if [ -e "${dir}/${name}" ]; then
        echo "error: ${dir}/${name} exists already; choose another folder" >&2
        exit 1
    fi
done

mkdir -p -- "${dir}"
cp -R -- "${root}/conf" "${root}/cmd.sh" "${root}/db.sh" "${dir}/"
cp -- "${root}/egs2/mini/ser1/run.sh" "${dir}/run.sh"
ln -s -- "${root}/egs2/TEMPLATE/ser1/ser.sh" "${root}/path.sh" "${root}/local" "${dir}/"
echo "A recipe is in ${dir}. Its run.sh uses the built-in corpora: edit it for yours,"
echo "then: cd ${dir} && ./run.sh"
