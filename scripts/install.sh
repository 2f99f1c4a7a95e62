#!/usr/bin/env bash
# Installs halley-sup, its unit and a first configuration. Run again it changes only what differs.
#   scripts/install.sh [BINARY]        PREFIX=/usr/local DESTDIR=
set -euo pipefail
# A path on the command line is the caller's, not relative to this folder.
binary=${1:-}
[ -z "$binary" ] || binary=$(realpath -- "$binary")
cd "$(dirname "$0")/.."
prefix=${PREFIX:-/usr/local}
destdir=${DESTDIR:-}
binary=${binary:-$(scripts/build.sh)}

put() { # put MODE FROM TO: whole or not at all
    if cmp -s "$2" "$3"; then
        echo "unchanged  $3"
        return
    fi
    install -d "$(dirname "$3")"
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
    echo "installed  $3"
}

put 0755 "$binary" "$destdir$prefix/bin/halley-sup"
unit=$(mktemp)
trap 'rm -f "$unit"' EXIT
sed "s|/usr/local/bin|$prefix/bin|g" units/halley-sup.service > "$unit"
put 0644 "$unit" "$destdir/etc/systemd/system/halley-sup.service"
config=$destdir/etc/halley/halley.toml
if [ -e "$config" ]; then
    echo "kept       $config"
else
    install -d "$destdir/etc/halley" "$destdir/etc/halley/services.d"
    cat > "$config.new" <<'TOML'
# One section a service; all keys: halley-sup help config
# [service.web]
# listen = ["tcp://0.0.0.0:8080"]
# command = ["./bin/web"]
# [service.web.health]
# http = "/healthz"
TOML
    chmod 0640 "$config.new"
    mv -f "$config.new" "$config"
    echo "installed  $config"
fi
if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    echo "next: systemctl enable --now halley-sup"
fi
