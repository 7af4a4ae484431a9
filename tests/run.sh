#!/usr/bin/env bash
# Sets up and runs every check: lint, format, types, tests.
#
#   tests/run.sh [--slow] [pytest's arguments ...]
#
# --slow runs the slow tests too. Paths are relative to the repository. All checks are run;
# the status is 0 only when all of them pass.
set -euo pipefail

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
cd -- "${root}"

pytest_args=()
for arg in "$@"; do
    case "${arg}" in
        -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${root}/tests/run.sh"
            exit 0
            ;;
        --slow) pytest_args+=(-m "") ;;  # over the `not slow` of .pytest.ini
        *) pytest_args+=("${arg}") ;;
    esac
done

export SER_EXTRAS=mini,dev  # what an environment that is already active must hold
# shellcheck source=path.sh
. ./path.sh

failed=()
check() {
    local name=$1
    shift
    echo "== ${name}"
    "$@" || failed+=("${name}")
}

check "ruff check" python -m ruff check .
check "ruff format" python -m ruff format --check .
check "mypy" python -m mypy
# pytest comes last so that its summary is what is seen; what failed before it is printed first.
if [ "${#failed[@]}" -gt 0 ]; then
    printf '== FAILED: %s (see above)\n' "${failed[@]}"
fi
# -W: a compiled package says this while Python ends, after pytest's last line.
check "pytest" python -W "ignore:builtin type swig:DeprecationWarning" \
    -m pytest "${pytest_args[@]}"
[ "${#failed[@]}" -eq 0 ]
