#!/usr/bin/env bash
# Builds one static release binary and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target the flag reaches the program alone, not the compiler's own plug-ins.
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target "$host" --bin halley-sup >&2
echo "target/$host/release/halley-sup"
