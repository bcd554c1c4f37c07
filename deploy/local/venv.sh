#!/bin/sh
# venv.sh DIRECTORY PIP-ARGUMENTS…: make sure the virtual environment exists, then `pip install` into it.
set -eu

directory=$1
shift

say() { printf '%s\n' "$*" >&2; }

# Run a command and show what it printed only if it failed.
quietly() {
    if ! output=$(DEBIAN_FRONTEND=noninteractive "$@" 2>&1); then
        say "error: $* failed" "$output"
        exit 1
    fi
}

suits() { command -v "$1" > /dev/null && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if suits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    say "error: no Python of version 3.11 or newer on PATH; install one (Debian: apt-get install python3)," \
        "or name it: make venv PYTHON=/path/to/python3.11"
    exit 1
}

# Debian keeps ensurepip in a package of its own.
provide_ensurepip() {
    if "$1" -c 'import ensurepip, venv' 2> /dev/null; then
        return
    fi
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
        say "error: $1 cannot make virtual environments (no ensurepip); install it: sudo apt-get install $package"
        exit 1
    fi
    say "$package is missing: installing it with apt-get"
    quietly apt-get -o DPkg::Lock::Timeout=300 update
    quietly apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$package"
}

# One at a time: a demo and a test run may both find the environment missing.
if command -v flock > /dev/null; then
    exec 9< "$0"
    flock 9
fi

if ! "$directory/bin/python" -m pip --version > /dev/null 2>&1; then
    python=$(find_python)
    provide_ensurepip "$python"
    say "creating $directory with $("$python" --version)"
    "$python" -m venv --clear "$directory"
fi

say "$directory: pip install $*"
"$directory/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input --root-user-action=ignore "$@"
