#!/usr/bin/env bash
# Builds one static release binary, checks it (scripts/check-static.sh) and prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
binary=target/$host/release/halley-sup
link=(
    # A list of relative relocations instead of a table of 24 bytes each (glibc 2.36 or later).
    -C link-arg=-Wl,-z,pack-relative-relocs
    -C link-arg=-Wl,-T,scripts/no-unwind-tables.ld
    -C link-arg=-Wl,--no-eh-frame-hdr
    # The walker of src/os/unwind.rs comes before libgcc's of the same name.
    -C link-arg=-Wl,-z,muldefs
    # Runs of instructions that are equal become functions.
    -C llvm-args=-enable-machine-outliner
)
# Functions that are equal stand once; lld alone can, which rustc links with on this one.
[[ $host != x86_64-*-gnu ]] || link+=(-C link-arg=-Wl,--icf=all)
flags=(-C target-feature=+crt-static)
# Names of source files in messages begin with the package's, not with where this machine has it.
# Where they cannot be fetched the build says so.
cargo fetch --quiet --target "$host" || true
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=("--remap-path-prefix=$sources/=")
done
# With --target the flags reach the program alone, not the compiler's own plug-ins.
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
    cargo rustc --release --target "$host" --bin halley-sup -- "${link[@]}" >&2
scripts/check-static.sh "$binary" >&2
echo "$binary"
