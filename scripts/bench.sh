#!/usr/bin/env bash
# Prints the figures that src/docs/figures.md quotes: counts, and ratios measured alternately in one run.
#   scripts/bench.sh [releases|keep-alive|overhead|rollback|kill|crash|upgrade|rest|lag|logs|modes|intercept|forward|hold|data|backup|faults|soak|many|restart|services ...]
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo bench --quiet --bench figures -- "$@"
