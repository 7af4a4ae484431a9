#!/usr/bin/env bash
# Finds the Python environment, makes it on first use, and prints its folder.
#
#   env=$(local/setup_env.sh) && "${env}/bin/python" ...        (path.sh does this)
#
# In this order:
#   1. an active environment (VIRTUAL_ENV, CONDA_PREFIX) that holds the requirements;
#   2. .venv beside setup.py, made for the present setup.py and conf/constraints.txt;
#   3. a new .venv, from a Python 3.12 or 3.13 found on this machine.
# Case 2 starts no Python: it compares a stamp, and costs some milliseconds.
#
# .venv may be a link to a folder on a larger disk. It is built where it stays (a virtual
# environment holds absolute paths). Its stamp is there first, says "unfinished" until the
# last moment and goes last, so that what a kill -9 leaves is never taken for an
# environment. Without a stamp somebody else made it: used if it holds the requirements, and never
# deleted.
#
# Variables:
#   SER_INSTALLER  uv or pip; by default uv where it is or can be had
#   SER_EXTRAS     extras that an active environment must hold, by default mini
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
venv=$(readlink -f -- "${root}/.venv")
stamp="${venv}/ser_setup.txt"
# Always both: run.sh needs the synthesizer, tests/run.sh the tools (together 60 MB beside
# 6 GB), and one environment serves both commands.
extras=mini,dev

say() { printf '%s\n' "$@" >&2; }
fail() {
    say "error: $1" "${@:2}"
    exit 1
}

# ---- Is there an environment already?

# What a finished .venv was made from. Its place is part of it: a moved one is broken.
fingerprint() {
    {
        cat -- "${root}/setup.py" "${root}/conf/constraints.txt"
        printf '%s\n' "${venv}" "${extras}"
    } | sha256sum | cut -d ' ' -f 1
}

# The last condition is false when the Python that .venv was made from has gone.
finished() {
    [[ -e ${stamp} && $(<"${stamp}") == "$(fingerprint)" && -x ${venv}/bin/python ]]
}

# Prints what the environment PREFIX lacks of setup.py and EXTRAS, and tells whether it does.
# -I: neither PYTHONPATH nor the current folder may answer for the environment.
lacks() { # PREFIX EXTRAS
    local reply
    if reply=$("$1/bin/python" -I "${root}/local/setup_env.py" \
        missing "${root}/setup.py" "$2" 2>/dev/null </dev/null); then
        return 1
    fi
    printf '%s\n' "${reply:-Python 3.12 or 3.13}"
}

find_active() {
    local prefix
    for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
        if [[ -n ${prefix} ]]; then
            if [[ ${prefix} -ef ${venv} ]]; then return 1; fi # its stamp decides
            if ! lacks "${prefix}" "${SER_EXTRAS:-mini}" >/dev/null; then
                printf '%s\n' "${prefix}"
                return
            fi
        fi
    done
    return 1
}

# Printed only before .venv is made: later it would be printed at every start.
explain_active() {
    local prefix
    for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
        if [[ -n ${prefix} && ! ${prefix} -ef ${venv} ]]; then
            say "The active environment ${prefix} is not used; it lacks:" \
                "  $(lacks "${prefix}" "${SER_EXTRAS:-mini}")"
        fi
    done
}

is_foreign() {
    [[ -e ${venv} && ! -e ${stamp} && -n $(ls -A -- "${venv}" 2>/dev/null) ]]
}

# ---- Which Python?

python_answer='
import sys, sysconfig
ours = (
    (3, 12) <= sys.version_info[:2] < (3, 14)
    and sys.implementation.name == "cpython"
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)
# Of a virtual environment the Python below it: the former may be the .venv to be renewed.
path = getattr(sys, "_base_executable", sys.executable)
print("%s %s %s" % (ours and "yes" or "no", sys.version.split()[0], path))'

# Each pattern ends where the interpreters are. Folders that match nothing stay out.
python_folders() {
    local home=${HOME:-/nonexistent} minor
    shopt -s nullglob
    for minor in 3.12 3.13; do
        printf '%s\n' \
            "${PYENV_ROOT:-${home}/.pyenv}/versions/${minor}"*/bin \
            "${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${home}/.local/share}/uv/python}/cpython-${minor}"*/bin \
            "${ASDF_DATA_DIR:-${home}/.asdf}/installs/python/${minor}"*/bin \
            "${MISE_DATA_DIR:-${home}/.local/share/mise}/installs/python/${minor}"*/bin \
            "${home}/.rye/py/cpython@${minor}"*/bin
    done
    printf '%s\n' \
        "${CONDA_EXE:+${CONDA_EXE%/*}}" \
        "${MAMBA_ROOT_PREFIX:-${home}/micromamba}"/{,envs/*/}bin \
        "${home}"/{.conda,miniconda3,miniforge3,mambaforge,anaconda3}/{,envs/*/}bin \
        "${home}"/.local/bin \
        "${home}"/.linuxbrew/bin
    system_python_folders
    shopt -u nullglob
}

system_python_folders() {
    printf '%s\n' /usr/local/bin /usr/bin /home/linuxbrew/.linuxbrew/bin \
        /opt/*/bin /opt/{conda,miniconda3,miniforge3,mambaforge,anaconda3}/envs/*/bin \
        /opt/hostedtoolcache/Python/3.1[23]*/x64/bin
}

# By name on PATH first (all of them: the first may be a version manager's shim that only
# says "command not found"), then the folders of the version managers.
python_candidates() {
    local name folder
    for name in python3.12 python3.13 python3 python; do
        type -aP "${name}" || true
    done
    while IFS= read -r folder; do
        for name in python3.12 python3.13; do
            if [[ -n ${folder} && -x ${folder}/${name} ]]; then
                printf '%s\n' "${folder}/${name}"
            fi
        done
    done < <(python_folders)
    if [[ -n ${uv} ]]; then
        "${uv}" python find --no-python-downloads '>=3.12,<3.14' 2>/dev/null || true
    fi
}

# Sets `python` to an interpreter that really runs and can make an environment, or fails.
find_python() {
    local candidate ours version path others=() bare=() sources=()
    python=
    while IFS= read -r candidate; do
        read -r ours version path < <("${candidate}" -I -c "${python_answer}" \
            2>/dev/null </dev/null) || continue
        if [[ ${ours} != yes ]]; then
            others+=("${candidate} (${version})")
        elif [[ -z ${uv} ]] && ! "${path}" -I -c 'import ensurepip, venv' \
            2>/dev/null </dev/null; then
            bare+=("${candidate}")
        else
            python=${path}
            return
        fi
    done < <(python_candidates)

    if [[ -n ${uv} ]]; then
        say "No Python 3.12 or 3.13 is here; asking uv for one ..."
        if run "${uv}" python install 3.12 &&
            python=$("${uv}" python find --no-python-downloads 3.12 2>/dev/null); then
            return
        fi
    fi
    if [[ ${#bare[@]} -gt 0 ]]; then
        fail "${bare[0]} has neither ensurepip nor venv, so it cannot make an environment." \
            "  Install them (Debian, Ubuntu: apt install python3.12-venv), or uv, and start again."
    fi
    sources=("python3.12, python3.13, python3 and python on PATH"
        "the folders of pyenv, uv, asdf, mise, rye, conda, mamba, Homebrew; /usr/local, /opt")
    if [[ ${#others[@]} -gt 0 ]]; then sources+=("not suitable: $(join_list "${others[@]}")"); fi
    fail "no Python 3.12 or 3.13 (CPython) was found. Looked for:" "${sources[@]/#/  - }" \
        "Get one in any of these ways, then start again:" \
        "  apt install python3.12 python3.12-venv     or your distribution's like" \
        "  module load python/3.12                    on many clusters" \
        "  conda create -n py312 python=3.12 && conda activate py312" \
        "  pyenv install 3.12" \
        "  uv python install 3.12"
}

join_list() {
    local text
    printf -v text ', %s' "$@"
    printf '%s' "${text:2}"
}

# Sets `uv`: one that really runs, or nothing.
find_uv() {
    local candidate
    uv=
    if [[ ${SER_INSTALLER:-} == pip ]]; then return; fi
    while IFS= read -r candidate; do
        if "${candidate}" --version >/dev/null 2>&1 </dev/null; then
            uv=${candidate}
            return
        fi
    done < <(type -aP uv; printf '%s\n' "${HOME:-}"/.local/bin/uv "${HOME:-}"/.cargo/bin/uv)
}

# ---- Make it

child=      # the installer that is running
building=   # not empty while .venv may be thrown away
signal=     # the signal that ended us

# In the background, because bash acts on a signal only between foreground commands.
# Descriptor 3 is the answer's: a child that outlives us must not hold it open.
run() {
    local status=0
    "$@" 3>&- &
    child=$!
    wait "${child}" || status=$?
    child=
    return "${status}"
}

on_exit() {
    trap '' INT TERM HUP
    if [[ -n ${child} ]]; then
        kill "${child}" 2>/dev/null || true
        wait "${child}" 2>/dev/null || true
    fi
    if [[ -n ${building} ]]; then
        say "Removing ${venv}, which is not finished (some seconds) ..."
        discard || say "error: ${venv} could not be removed; delete it before the next start"
        if [[ -n ${signal} ]]; then say "Set-up interrupted; nothing of it is left behind."; fi
    fi
    if [[ -n ${signal} ]]; then
        trap - "${signal}" EXIT
        kill -s "${signal}" "$$"
    fi
}

# Removes .venv, or all that is in it where it is a link to a folder. The stamp goes last:
# killed half-way, the rest is still known to be unfinished. (A bare `return`
# would, called from a trap, return the status of what the signal interrupted.)
discard() {
    local try
    if [[ ! -d ${venv} ]]; then return 0; fi
    write_stamp unfinished
    for try in 1 2 3; do # a killed installer's own children may still be writing
        if find "${venv}" -mindepth 1 -maxdepth 1 ! -path "${stamp}" \
            -exec rm -rf -- {} + 2>/dev/null && rm -f -- "${stamp}"; then
            if [[ ! -L ${root}/.venv ]]; then rmdir -- "${venv}"; fi
            return 0
        fi
        sleep "${try}"
    done
    return 1
}

write_stamp() { # TEXT
    printf '%s\n' "$1" >"${stamp}"
}

# Gigabytes free where FOLDER is or would be; a large number where df cannot tell.
free_space() { # FOLDER
    local folder=$1
    while [[ ! -e ${folder} ]]; do folder=$(dirname -- "${folder}"); done
    df -Pk -- "${folder}" 2>/dev/null |
        awk 'NR == 2 && $4 ~ /^[0-9]+$/ {known = 1; print int($4 / 1048576)}
             END {if (!known) print 999}'
}

need_space() { # GIGABYTES
    local free
    free=$(free_space "${venv}")
    if [[ ${free} -lt $1 ]]; then
        fail "set-up needs about $1 GB of disk for ${venv}, and ${free} GB are free." \
            "  Free some space, or make .venv a link to a folder on a larger disk, or" \
            "  activate an environment that has the package; then start again."
    fi
}

# One set-up at a time in a folder. The installer inherits the lock: if we are killed and
# it is not, the next start waits until it has stopped writing.
take_lock() {
    local reason status=0
    if ! reason=$(touch -- "${venv}.lock" 2>&1); then
        fail "set-up cannot write in $(dirname -- "${venv}"): ${reason##*: }." \
            "  Work in a copy that you can write to, or make .venv a link to a folder where" \
            "  you can, or activate an environment that has the package."
    fi
    exec 9>"${venv}.lock"
    flock -n -E 75 9 2>/dev/null || status=$?
    if [[ ${status} -eq 75 ]]; then
        say "Another start is setting up ${venv}; waiting for it ..."
        run flock 9
    fi # any other status: this file system has no locks; go on without
}

# Sets the variables in which uv looks for an index, from pip's settings.
use_pip_settings() { # PYTHON
    local line
    while IFS= read -r line; do
        export "${line?}"
    done < <("$1" -I "${root}/local/setup_env.py" uv-settings)
}

install_with_uv() {
    local cache
    cache=$("${uv}" cache dir 2>/dev/null) || cache=
    if [[ -z ${cache} ]] || ! mkdir -p -- "${cache}" 2>/dev/null || [[ ! -w ${cache} ]] ||
        [[ $(free_space "${cache}") -lt 8 ]]; then
        export UV_CACHE_DIR="${venv}/cache" # a small home must not stop us
    fi
    run "${uv}" pip install --python "${venv}/bin/python" --editable ".[${extras}]" \
        --constraints conf/constraints.txt --build-constraints conf/constraints.txt
}

# Constraints by variable, because only so do they reach the builds that pip starts (the
# first name for old versions of pip, the second for new ones), and relative, because pip
# splits them at spaces. TMPDIR: /tmp may be too small for 3 GB of wheels.
install_with_pip() {
    mkdir -- "${venv}/tmp"
    TMPDIR="${venv}/tmp" PIP_USER=0 \
        PIP_CONSTRAINT=conf/constraints.txt PIP_BUILD_CONSTRAINT=conf/constraints.txt \
        run "${venv}/bin/python" -m pip install --use-pep517 --editable ".[${extras}]"
}

make_venv() {
    local reply
    use_pip_settings "${python}"
    if [[ ${SER_INSTALLER:-} == pip ]]; then uv=; fi
    if [[ -n ${uv} ]]; then
        run "${uv}" venv --quiet --seed --allow-existing --python "${python}" "${venv}" ||
            give_up "uv could not make a virtual environment"
    else
        run "${python}" -m venv "${venv}" || give_up "${python} -m venv failed"
        if [[ ${SER_INSTALLER:-} != pip ]]; then
            say "Getting uv, which installs in a quarter of pip's time ..."
            if PIP_USER=0 PIP_CONSTRAINT=conf/constraints.txt \
                run "${venv}/bin/python" -m pip install --quiet uv; then
                uv="${venv}/bin/uv"
            else
                say "uv cannot be had; going on with pip."
            fi
        fi
    fi
    if [[ -n ${uv} ]]; then
        install_with_uv || give_up "uv could not install the packages"
    else
        need_space 10 # pip keeps what it downloads until the end
        install_with_pip || give_up "pip could not install the packages"
    fi
    rm -rf -- "${venv}/cache" "${venv}/tmp"
    if reply=$(lacks "${venv}" "${extras}"); then
        give_up "the new environment lacks: ${reply}"
    fi
    # What the metadata cannot tell: that the libraries inside the wheels load here.
    say "Checking that it works ..."
    run "${venv}/bin/python" -I -c 'import soundfile, torchaudio, espeakng_loader' ||
        give_up "what was installed does not load"
}

give_up() { # REASON
    local free
    free=$(free_space "${venv}")
    if [[ ${free} -lt 1 ]]; then
        fail "set-up failed, the disk of ${venv} is full: $1. It is removed again."
    fi
    fail "set-up failed: $1; the reason is above. Nothing of it is left behind." \
        "  Without a network, or behind a mirror or proxy: pip's own settings (pip config," \
        "  PIP_INDEX_URL, HTTPS_PROXY) are used by pip and uv alike. SER_INSTALLER=pip takes" \
        "  pip instead of uv. Then start again."
}

set_up() {
    local reply
    if is_foreign; then
        reply=$(lacks "${venv}" "${extras}")
        fail "${venv} was not made by this set-up, and it lacks:" "  ${reply}" \
            "Install that there (pip install -e '.[${extras}]' -c conf/constraints.txt), or" \
            "move it away to get a new one, then start again."
    fi
    take_lock
    if finished; then return; fi # by the start that we have waited for
    explain_active
    find_uv
    find_python
    if [[ -e ${stamp} && $(<"${stamp}") == unfinished ]]; then
        say "Removing what an earlier set-up, killed half-way, has left in ${venv} ..."
    elif [[ -e ${stamp} ]]; then
        say "Removing ${venv}: it was made from other requirements, or in another place ..."
    fi
    building=yes
    discard || fail "${venv} cannot be removed; delete it, then start again."
    need_space 8
    say "Setting up ${venv} with ${python}, this once:" \
        "about 6 GB (PyTorch brings CUDA), 1-2 minutes with uv, 4-10 with pip, more on a slow" \
        "network. It may be interrupted at any time."
    mkdir -p -- "${venv}"
    write_stamp unfinished
    make_venv
    write_stamp "$(fingerprint)"
    building=
    say "Set-up is done."
}

main() {
    local active
    exec 3>&1 1>&2 # only the answer goes to stdout
    unset PYTHONHOME PYTHONPATH # they would answer for packages that are not installed
    case "${SER_INSTALLER:-}" in
        '' | uv | pip) ;;
        *) fail "SER_INSTALLER=${SER_INSTALLER} is not known; use uv or pip." ;;
    esac
    cd -- "${root}"
    if active=$(find_active); then
        printf '%s\n' "${active}" >&3
        return
    fi
    if ! finished && ! { is_foreign && ! lacks "${venv}" "${extras}" >/dev/null; }; then
        trap 'signal=INT; exit 130' INT
        trap 'signal=TERM; exit 143' TERM
        trap 'signal=HUP; exit 129' HUP
        trap on_exit EXIT
        set_up
    fi
    printf '%s\n' "${venv}" >&3
}

# Sourced, it only defines its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
