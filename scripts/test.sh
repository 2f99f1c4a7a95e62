#!/usr/bin/env bash
# All checks and all tests; ends with the test runner's own summary.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/test-needs.sh
cargo fmt --check
cargo clippy --quiet --all-targets -- -D warnings
if command -v cargo-nextest > /dev/null; then
    exec cargo nextest run --no-fail-fast
fi
exec cargo test --no-fail-fast
