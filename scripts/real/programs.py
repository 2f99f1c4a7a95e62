"""The programs, each with what a user brings beside its recipe, and with the client that asks it."""

import glob
import json
import os
import pwd
import re
import sqlite3
import subprocess
from pathlib import Path

import protocols
from clients import KeepAlive, Short
from halley import Trouble

PACKAGES = Path(__file__).parents[2] / "target/real"


PYTHON = {"/usr/share/doc/python3-venv": "python3-venv"}
NODE = {"/usr/bin/node": "nodejs", "/usr/bin/npm": "npm"}


def missing(names):
    """The Debian packages that these programs lack."""
    needs = {path: package for program in ALL if program.name in names for path, package in program.needs.items()}
    return sorted({package for path, package in needs.items() if not glob.glob(path)})


def newest(pattern):
    """The last of the versions that are installed."""
    return max(glob.glob(pattern), key=lambda path: [int(n) for n in re.findall(r"\d+", path)], default=None)


class Program:
    """What most have in common."""

    name = ""
    # What it takes from Debian: a path, and the package that brings it.
    needs = {}

    def prepare(self, run):
        """What a user does on the host before the first release."""

    def build(self, run, service, n, directory):
        """What the artifact has beside the files of the recipe."""

    def kinds(self, run):
        """The clients."""
        return [one(port, **self.asks) for port in self.asked(run) for one in (Short, Short, KeepAlive, KeepAlive)]

    asks = {"pattern": r"release \d"}

    def asked(self, run):
        """The ports that clients know."""
        return list(run.ports.values())[:1]

    def check(self, run):
        """What has to be true before the stop."""


def directory_of(path, user=None):
    """A directory on the host that belongs to this user, as packages bring it."""
    path.mkdir(parents=True)
    if user and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


def done(command, **kwargs):
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kwargs)
    if said.returncode:
        raise Trouble(f"{command}: {said.stdout}{said.stderr}")
    return said.stdout


def npm(directory, name, *packages):
    """The packages of a name, fetched once, in this directory."""
    kept = PACKAGES / name
    if not (kept / "done").exists():
        kept.mkdir(parents=True, exist_ok=True)
        # A tag of a registry moves, and not all mirrors have it.
        package = {"name": "packages", "private": True, "overrides": {"node-fetch": "2.6.7"}}
        (kept / "package.json").write_text(json.dumps(package))
        done(["npm", "install", "--no-save", "--loglevel=error", "--no-audit", "--no-fund", *packages], cwd=kept)
        (kept / "done").touch()
    done(["cp", "-a", "--reflink=auto", kept / "node_modules", directory])


def venv(directory, name, *packages):
    """A virtual environment with these packages, made once, in this directory."""
    kept = PACKAGES / name
    if not (kept / "done").exists():
        kept.mkdir(parents=True, exist_ok=True)
        done(["/usr/bin/python3", "-m", "venv", kept / "venv"])
        done([kept / "venv/bin/python", "-m", "pip", "install", "--quiet", *packages])
        (kept / "done").touch()
    done(["cp", "-a", "--reflink=auto", kept / "venv", directory])


class Redis(Program):
    name = "redis"
    needs = {"/usr/bin/redis-server": "redis-server", "/usr/bin/redis-cli": "redis-tools"}

    def prepare(self, run):
        directory_of(run.path("/var/lib/redis"))

    def kinds(self, run):
        return [protocols.Redis(port, f"k{i}") for port in self.asked(run) for i in range(4)]


class Postgresql(Program):
    name = "postgresql"
    needs = {"/usr/lib/postgresql/*/bin/postgres": "postgresql"}

    def prepare(self, run):
        data = directory_of(run.path("/var/lib/postgresql/15"), "postgres") / "main"
        command = [newest("/usr/lib/postgresql/*/bin/initdb"), "-A", "trust", "-U", "postgres", "--no-sync", "-D", data]
        done(command, **({"user": "postgres", "group": "postgres", "cwd": "/"} if os.geteuid() == 0 else {}))

    def kinds(self, run):
        [port] = self.asked(run)
        protocols.Postgres(port, 0).query("CREATE TABLE acknowledged (client int, n int, PRIMARY KEY (client, n))")
        self.clients = [protocols.Postgres(port, i) for i in range(4)]
        return self.clients

    def check(self, run):
        acknowledged = [client.n for client in self.clients]
        rows = protocols.Postgres(self.asked(run)[0], 0).query(
            "SELECT client || ' ' || count(*) FROM acknowledged GROUP BY client"
        )
        for client, n in (map(int, row.split()) for row in rows):
            if n < acknowledged[client]:
                raise Trouble(f"client {client}: {acknowledged[client]} rows acknowledged, {n} there")


class Mosquitto(Program):
    name = "mosquitto"
    needs = {"/usr/sbin/mosquitto": "mosquitto"}

    def prepare(self, run):
        directory_of(run.path("/var/lib/mosquitto"), "mosquitto")

    def kinds(self, run):
        return [protocols.Mqtt(port, i) for port in self.asked(run) for i in range(4)]


class Prometheus(Program):
    name = "prometheus"
    needs = {"/usr/bin/prometheus": "prometheus"}
    asks = {"path": "/api/v1/status/config", "pattern": r"release \d"}

    def prepare(self, run):
        directory_of(run.path("/var/lib/prometheus"))


class PhpFpm(Program):
    name = "php-fpm"
    needs = {"/usr/sbin/php-fpm*": "php-fpm", "/usr/sbin/nginx": "nginx-light"}

    def prepare(self, run):
        directory_of(run.path("/run/php"))


class Caddy(Program):
    name = "caddy"
    needs = {"/usr/bin/caddy": "caddy"}


class Puma(Program):
    name = "puma"
    needs = {"/usr/bin/puma": "puma"}


class Express(Program):
    name = "express"
    needs = NODE

    def build(self, run, service, n, directory):
        npm(directory, f"express-{n}", f"express@{['4.21.2', '5.1.0'][n - 1]}")


class NodeRed(Program):
    name = "node-red"
    needs = NODE
    asks = {"path": "/greeting", "pattern": r"release \d"}

    def build(self, run, service, n, directory):
        npm(directory, f"nodered-{n}", f"node-red@{['4.1.7', '4.1.15'][n - 1]}")


class Verdaccio(Program):
    name = "verdaccio"
    needs = NODE
    asks = {"path": "/", "pattern": r"release \d"}

    def prepare(self, run):
        directory_of(run.path("/var/lib/verdaccio"))

    def build(self, run, service, n, directory):
        npm(directory, f"verdaccio-{n}", f"verdaccio@{['6.2.4', '6.3.2'][n - 1]}")


class Django(Program):
    """Each request adds a row, and is answered with how many there are."""

    name = "django"
    needs = PYTHON
    asks = {"path": "/add", "pattern": r"release \d"}

    def build(self, run, service, n, directory):
        venv(directory, f"django-{n}", f"django=={['5.2.18', '5.2.19'][n - 1]}", "gunicorn==25.3.0")
        if n == 1:
            (directory / "shop/migrations/0002_note.py").unlink()
            models = directory / "shop/models.py"
            models.write_text(models.read_text().replace("    note = models.TextField(null=True)\n", ""))
        for package in ("shop", "shop/migrations"):
            (directory / package / "__init__.py").touch()
        environment = {**os.environ, "HALLEY_SHARED": str(run.root)}
        done(["venv/bin/python", "manage.py", "collectstatic", "--noinput"], cwd=directory, env=environment)

    def check(self, run):
        answered = sum(run.load.answers.values())
        [port] = self.asked(run)
        rows = int(Short(port, "/add", r"(?<=, )\d+").ask())
        if rows < answered:
            raise Trouble(f"{answered} rows acknowledged, {rows} there")


class FastApi(Program):
    name = "fastapi"
    needs = PYTHON

    def build(self, run, service, n, directory):
        venv(directory, f"fastapi-{n}", f"fastapi=={['0.163.2', '0.165.0'][n - 1]}", "uvicorn==0.54.0")


class Flask(Program):
    name = "flask"
    needs = PYTHON

    def build(self, run, service, n, directory):
        venv(directory, f"flask-{n}", f"flask=={['3.1.2', '3.1.3'][n - 1]}", "gunicorn==25.3.0")


class Datasette(Program):
    name = "datasette"
    needs = PYTHON
    asks = {"path": "/-/metadata.json", "pattern": r"release \d"}

    def build(self, run, service, n, directory):
        venv(directory, f"datasette-{n}", f"datasette=={['0.65.4', '0.65.5'][n - 1]}", "setuptools==80.9.0")
        with sqlite3.connect(directory / "data.db") as data:
            data.execute("CREATE TABLE things (name TEXT)")


class Radicale(Program):
    name = "radicale"
    needs = {"/usr/bin/radicale": "radicale"}
    asks = {"path": "/.web/", "pattern": "Radicale"}

    def prepare(self, run):
        directory_of(run.path("/var/lib/radicale"), "radicale")


class Java(Program):
    name = "java"
    needs = {"/usr/bin/javac": "default-jdk-headless"}

    def build(self, run, service, n, directory):
        done(["javac", "Main.java"], cwd=directory)


class Next(Program):
    name = "next"
    needs = NODE

    def build(self, run, service, n, directory):
        npm(directory, "next-1", "next@16.2.10", "react@19.2.0", "react-dom@19.2.0")
        done(["npx", "next", "build"], cwd=directory, env={**os.environ, "NEXT_TELEMETRY_DISABLED": "1"})


ALL = [
    Django(),
    FastApi(),
    Flask(),
    Puma(),
    Express(),
    Next(),
    NodeRed(),
    Verdaccio(),
    Radicale(),
    Datasette(),
    PhpFpm(),
    Caddy(),
    Redis(),
    Postgresql(),
    Mosquitto(),
    Prometheus(),
    Java(),
]
