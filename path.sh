# shellcheck shell=bash
# The environment of every script here, as in ESPnet: source it (`. ./path.sh || exit 1`).
#
# Finds the Python environment, making it on first use (local/setup_env.sh), and sets
#   SER_ROOT   the folder of this file, also when it is reached through a link
#   SER_ENV    the Python environment in use: its bin is first on PATH
# Nothing is changed when no environment can be had: sourcing it then returns 1.

if [ -z "${BASH_VERSION:-}" ]; then
    echo "error: path.sh must be sourced from bash" >&2
    return 1
fi

_ser_root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
case ${_ser_root} in
    *:* | *$'\n'*)
        printf 'error: %q: PATH and PYTHONPATH part at ":", lists at a line break; %s\n' \
            "${_ser_root}" "move the folder to a place whose name has neither" >&2
        unset _ser_root
        return 1
        ;;
esac
if ! _ser_env=$(bash "${_ser_root}/local/setup_env.sh"); then
    unset _ser_root _ser_env
    return 1
fi
export SER_ROOT="${_ser_root}"
export SER_ENV="${_ser_env}"
unset _ser_root _ser_env

if [ -e "${SER_ENV}/pyvenv.cfg" ]; then
    export VIRTUAL_ENV="${SER_ENV}"  # what its own `activate` says; conda has its own names
fi
unset PYTHONHOME

# Each is added once, however many scripts source this file one inside the other.
case "${PATH}:" in
    "${SER_ENV}/bin:"*) ;;
    *) export PATH="${SER_ENV}/bin:${PATH}" ;;
esac
# This checkout before any other copy of the package that the environment may hold.
case "${PYTHONPATH:-}:" in
    "${SER_ROOT}:"*) ;;
    *) export PYTHONPATH="${SER_ROOT}${PYTHONPATH:+:${PYTHONPATH}}" ;;
esac

export LC_ALL=C  # data directories are sorted by byte
export PYTHONIOENCODING=UTF-8  # and yet names and transcripts are UTF-8
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # many small processes, not many threads
