#!/usr/bin/env bash
# Runs real programs under Halley and prints a table: two releases, a rollback, a crash, a stop, under load.
# The configurations are those of src/docs/recipes.md. Packages are put into target/real.
#   scripts/real-programs.sh [NAME...]     all programs, or those: redis, php-fpm, ...; "list" names them
# HALLEY_BINARY is the program to try instead of the one that is built here.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ${1:-} != list ]]; then
    mapfile -t missing < <(/usr/bin/python3 -B scripts/real/main.py missing "$@")
    [ ${#missing[@]} = 0 ] || scripts/apt-install.sh "${missing[@]}"
    if [[ -z ${HALLEY_BINARY:-} ]]; then
        cargo build --quiet --release
        export HALLEY_BINARY=$PWD/target/release/halley-sup
    fi
fi
exec /usr/bin/python3 -B scripts/real/main.py "$@"
