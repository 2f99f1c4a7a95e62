#!/usr/bin/env bash
# Installs what the tests need: real servers from Debian, uvicorn, pg8000 and pymysql from PyPI. Run again it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
need() { # need COMMAND PACKAGE
    command -v "$1" > /dev/null || missing+=("$2")
}
PATH=$PATH:/usr/sbin
need nginx nginx-light
need caddy caddy
need haproxy haproxy
need unshare util-linux
need ip iproute2
need redis-server redis-server
need redis-cli redis-tools
need restic restic
need mariadbd mariadb-server-core
need mariadb mariadb-client-core
need mariadb-dump mariadb-client
need php php-cli
need dnsmasq dnsmasq-base
need unbound unbound
need dig bind9-dnsutils
need gunicorn gunicorn
need node nodejs
need sqlite3 sqlite3
need zstd zstd
need curl curl
need sshd openssh-server
need tar tar
need xz xz-utils
need bzip2 bzip2
need lz4 lz4
need zip zip
need unzip unzip
need mkfs.ext4 e2fsprogs
need chattr e2fsprogs
need openssl openssl
need mount mount
need strace strace
need pgbouncer pgbouncer
[ -x /usr/bin/python3 ] || missing+=(python3)
compgen -G '/usr/sbin/php-fpm*' > /dev/null || missing+=(php-fpm)
[ -d /usr/lib/postgresql ] || missing+=(postgresql)
dpkg -s python3-venv > /dev/null 2>&1 || missing+=(python3-venv)
[ ${#missing[@]} = 0 ] || scripts/apt-install.sh "${missing[@]}"
if [ ! -e target/test-venv/complete-3 ]; then
    /usr/bin/python3 -m venv target/test-venv
    target/test-venv/bin/pip install -q uvicorn pg8000 pymysql >&2
    touch target/test-venv/complete-3
fi
