#!/usr/bin/env bash
# Brings a build from CI to a host and releases it there; the exit code is halley-sup's own.
#   scripts/ci-release.sh HOST SERVICE ARCHIVE     copy with scp, then release
#   scripts/ci-release.sh HOST SERVICE -           stream stdin over ssh, nothing is stored on the way
# SSH and SCP name other commands; HALLEY names halley-sup on the host ("sudo halley-sup").
set -euo pipefail
if [ $# -ne 3 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
host=$1 service=$2 archive=$3
read -r -a ssh <<< "${SSH:-ssh}"
read -r -a scp <<< "${SCP:-scp}"
halley=${HALLEY:-halley-sup}
# ssh would take a host that begins with a dash for one of its options.
case $host in
    -*|"") echo "error: $host is no host" >&2; exit 2 ;;
esac
# The name goes through a shell on the other side: only plain ones get there.
case $service in
    -*|*[!a-z0-9_-]*|"") echo "error: $service is no service's name" >&2; exit 2 ;;
esac
if [ "$archive" = - ]; then
    exec "${ssh[@]}" "$host" "$halley release $service -"
fi
[ -f "$archive" ] && [ -r "$archive" ] || { echo "error: $archive cannot be read" >&2; exit 2; }
remote=$("${ssh[@]}" -n "$host" mktemp /tmp/halley-release.XXXXXX)
case $remote in
    /tmp/halley-release.*[!A-Za-z0-9]*) echo "error: $host gave a strange name" >&2; exit 1 ;;
    /tmp/halley-release.*) ;;
    *) echo "error: no room for the archive on $host" >&2; exit 1 ;;
esac
remove() { "${ssh[@]}" -n "$host" rm -f "$remote" || true; }
trap remove EXIT
# scp would take what stands before a colon in a relative path for a host.
case $archive in
    /*|./*) ;;
    *) archive=./$archive ;;
esac
"${scp[@]}" -q -- "$archive" "$host:$remote"
code=0
"${ssh[@]}" -n "$host" "$halley release $service $remote" || code=$?
exit "$code"
