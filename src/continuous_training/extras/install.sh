#!/bin/sh
# Installs extras in an environment, each by its lock: install.sh VENV WHAT...
#
# WHAT is the name of an extra that has a lock in this folder, or a path: then the extras that Python files below it
# import, except for the framework's and the tool's. An extra whose lock is installed already costs nothing.
#
# The lines of a lock that have no hash are packages with several builds. A machine without a GPU installs the build for
# processors, from wherever pip's own variables point to (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), else from the index that
# uv knows for it. UV_TORCH_BACKEND names another build, such as cu130.
set -eu

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$1
shift
log=$venv/extras/log

needs() { # NAME WHAT...: whether one of them names or imports the extra
    name=$1
    shift
    import="^[[:space:]]*(import|from)[[:space:]]([^#]*[^[:alnum:]_.])?$name([^[:alnum:]_]|\$)"
    for what; do
        case $what in
            */*) ! grep -rqsE --include='*.py' --exclude-dir=continuous_training --exclude-dir=jenkinsfile \
                "$import" "$what" || return 0 ;;
            "$name") return 0 ;;
        esac
    done
    return 1
}

install() { # NAME
    echo "ct: installing $1 in $venv, once" >&2
    mkdir -p "$venv/extras"
    : >"$log"
    hashed=$venv/extras/hashed
    sed '/^[^ #].*[^\\]$/d' "$folder/$1.lock" >"$hashed"
    by_uv --no-deps --require-hashes -r "$hashed" || by_pip --no-deps --require-hashes -r "$hashed" ||
        fail "$1 cannot be installed"
    for package in $(sed -n 's/^\([^ #]*\)[^\\]*$/\1/p' "$folder/$1.lock"); do
        install_build "$package" ||
            fail "no build of $package was found: set PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS to where pip finds one"
    done
    rm "$hashed"
    cp "$folder/$1.lock" "$venv/extras/" # last: it says that all this has succeeded
}

install_build() { # PACKAGE==VERSION: with its dependencies, which are others for each build
    if [ -n "${UV_TORCH_BACKEND:-}" ]; then
        by_uv "$1"
    elif [ "$(uname -s)" != Linux ]; then
        by_pip "$1"
    elif [ -e /proc/driver/nvidia/version ]; then
        by_uv --torch-backend auto "$1" || by_pip "$1"
    else
        by_pip "$1+cpu" || by_uv --torch-backend cpu "$1+cpu"
    fi
}

by_uv() {
    "$venv/bin/uv" pip install --python "$venv/bin/python" --compile-bytecode "$@" >>"$log" 2>&1 </dev/null
}

by_pip() {
    "$venv/bin/python" -m pip install --disable-pip-version-check "$@" >>"$log" 2>&1 </dev/null
}

fail() {
    grep -i 'error' "$log" | tail -n 3 >&2 || true
    echo "ct: error: $1 (log: $log)" >&2
    exit 1
}

for lock in "$folder"/*.lock; do
    name=${lock##*/}
    name=${name%.lock}
    if needs "$name" "$@" && ! cmp -s "$lock" "$venv/extras/$name.lock"; then
        install "$name"
    fi
done
