#!/usr/bin/env bash
# Installs Debian packages; starts none of what they bring.
#   scripts/apt-install.sh PACKAGE...
set -euo pipefail
echo "installing: $*" >&2
as_root=()
if [ "$(id -u)" != 0 ]; then
    # Without a terminal nobody can type a password.
    if ! sudo -n true 2> /dev/null; then
        echo "error: as root: apt-get update && apt-get install $*" >&2
        exit 1
    fi
    as_root=(sudo -n)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q >&2
# policy-rc.d is Debian's way to say that nothing is to be started. One that is there already is left
# as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap '"${as_root[@]}" rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy > /dev/null
    "${as_root[@]}" chmod 755 $policy
fi
"${as_root[@]}" apt-get install -q -y --no-install-recommends "$@" >&2
