#!/bin/sh
# `make matrix`: a fresh clone of the committed tree, an empty environment, `make test`, on each other Python.
set -eu
cd "$(dirname "$0")/.."
for version in ${VERSIONS:-3.12 3.13}; do
    python=""
    for each in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
        "$each" -c '' 2>/dev/null && python=$each
    done
    [ -n "$python" ] || { echo "python$version not found"; exit 1; }
    folder=$(mktemp -d)
    git clone -q . "$folder/crm2"
    echo "== Python $version"
    (cd "$folder/crm2" && env -i HOME="$HOME" PATH="$PATH" PIP_FIND_LINKS="${PIP_FIND_LINKS:-}" make test PYTHON="$python")
    rm -rf "$folder"
done
