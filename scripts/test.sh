#!/usr/bin/env bash
# All checks and all tests; ends with the test runner's own summary, which has the time.
#   scripts/test.sh [fast | static]     fast: the checks and the inner rings alone, under a minute
#                                       static: all end-to-end tests on the binary that is shipped
set -euo pipefail
cd "$(dirname "$0")/.."
# Most tests wait for processes most of the time, so three at a time for each core.
n_tests=$(($(nproc) * 3))

# run WHAT [-- NAME...]: what has one of the names in its own.
run() {
    if command -v cargo-nextest > /dev/null; then
        cargo nextest run --no-fail-fast --test-threads $n_tests "$@"
    elif [[ " $* " == *" -- "* ]]; then
        cargo test --no-fail-fast "$@" --test-threads $n_tests
    else
        cargo test --no-fail-fast "$@" -- --test-threads $n_tests
    fi
}

# What the C library does otherwise where it is linked in: names, threads, clocks, child processes.
static() {
    local binary
    binary=$PWD/$(scripts/build.sh)
    HALLEY_BINARY=$binary run --test e2e "$@"
}

rings=()
case ${1:-} in
    "") scripts/test-needs.sh ;;
    fast) rings=(--lib --test tidy --test cli --test props --test model --test config --test intake) ;;
    static)
        scripts/test-needs.sh
        static
        exit
        ;;
    *)
        echo "usage: scripts/test.sh [fast | static]" >&2
        exit 2
        ;;
esac
cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
[[ ${1:-} == fast ]] || static -- user:: databases:: decoder:: keeper_death:: main_path:: verbs::
cargo test --quiet --no-run "${rings[@]}"
echo "checked and built in $SECONDS s" >&2
run "${rings[@]}"
