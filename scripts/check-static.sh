#!/usr/bin/env bash
# Checks that a binary is static, runs, and is as small as promised.
#   scripts/check-static.sh BINARY
set -euo pipefail
binary=$1
limit=5000000

complain() {
    echo "error: $binary: $1" >&2
    exit 1
}

! readelf --program-headers --wide "$binary" | grep -q INTERP || complain "not static: it needs a dynamic linker"
! readelf --dynamic --wide "$binary" | grep -q NEEDED || complain "not static: it needs shared libraries"
"$binary" --version > /dev/null || complain "it does not run here"
size=$(stat -c %s "$binary")
[ "$size" -le $limit ] || complain "$size bytes, more than $limit"
echo "$binary: static, $size bytes" >&2
