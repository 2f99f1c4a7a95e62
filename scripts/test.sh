#!/usr/bin/env bash
# All checks and all tests; ends with the test runner's own summary, which has the time.
#   scripts/test.sh [fast]     fast: the checks and the inner rings alone, under a minute
set -euo pipefail
cd "$(dirname "$0")/.."
rings=()
case ${1:-} in
    "") scripts/test-needs.sh ;;
    fast) rings=(--lib --test tidy --test cli --test props --test model --test config --test intake) ;;
    *)
        echo "usage: scripts/test.sh [fast]" >&2
        exit 2
        ;;
esac
cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
cargo test --quiet --no-run "${rings[@]}"
echo "checked and built in $SECONDS s" >&2
# Most tests wait for processes most of the time, so three at a time for each core.
n_tests=$(($(nproc) * 3))
if command -v cargo-nextest > /dev/null; then
    exec cargo nextest run --no-fail-fast --test-threads $n_tests "${rings[@]}"
fi
exec cargo test --no-fail-fast "${rings[@]}" -- --test-threads $n_tests
