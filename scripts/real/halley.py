"""One Halley in a directory of its own, and what runs below it."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PATIENCE_S = 120


class Trouble(Exception):
    """Something did not go as a user expects."""


def adopt_orphans():
    """Makes this process the parent of what others leave behind, so that nothing goes unseen."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def until(what, condition, patience_s=PATIENCE_S):
    """Waits for a condition, and returns what it gives."""
    end = time.monotonic() + patience_s
    while True:
        if got := condition():
            return got
        if time.monotonic() > end:
            raise Trouble(f"not within {patience_s} s: {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def below(pid):
    """All processes below one, with their command lines."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(entry.name):
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            parents.setdefault(parent, []).append((int(entry.name), words.strip()))
    found, open_ = {}, [pid]
    while open_:
        for child, words in parents.get(open_.pop(), []):
            found[child] = words
            open_.append(child)
    return found


class Halley:
    """`halley-sup run` with one configuration."""

    def __init__(self, binary, root, config):
        self.binary, self.root = binary, root
        self.config = root / "halley.toml"
        self.config.write_text(f'root = "{root}/halley"\n{config}')
        self.log = open(root / "halley.log", "wb")
        self.run = None

    def start(self):
        checked = self.verb("check")
        if checked.returncode:
            raise Trouble(f"check: {checked.stderr}")
        command = [self.binary, "run", "--config", self.config]
        self.run = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until("the supervisor answers", lambda: self.verb("status").returncode == 0)

    def verb(self, *words):
        command = [self.binary, *words, "--config", self.config]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def does(self, *words):
        """Does a verb, and gives its result."""
        said = self.verb(*words, "--json")
        if said.returncode:
            shown = self.verb("status").stdout
            raise Trouble(f"{' '.join(map(str, words))}: exit {said.returncode}\n{explained(said)}\n{shown}")
        return json.loads(said.stdout.splitlines()[-1])

    def service(self, name):
        services = json.loads(self.verb("status", "--json").stdout.splitlines()[-1])["services"]
        return next(service for service in services if service["name"] == name)

    def live(self, name):
        """The main process of what serves, once it is ready."""
        for instance in self.service(name)["instances"]:
            if instance["role"] == "live" and instance["state"] == "ready":
                return instance["pid"]
        return None

    def is_alone(self, name):
        service = self.service(name)
        return service["operation"] is None and [one["role"] for one in service["instances"]] == ["live"]

    def programs(self):
        """What runs below it and is not Halley's own."""
        return {pid: words for pid, words in below(self.run.pid).items() if not words.startswith("halley-sup ")}

    def end(self):
        """Ends it as a service manager does; gives what is left of its programs."""
        if self.run:
            self.run.send_signal(signal.SIGTERM)
            try:
                self.run.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.run.kill()
                self.run.wait()
            self.run = None
        self.log.close()
        return below(os.getpid())


def explained(said):
    """The trouble of a verb, as people see it."""
    try:
        result = json.loads(said.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return said.stderr + said.stdout
    trouble = result.get("trouble") or result
    lines = [f"{key}: {trouble.get(key)}" for key in ("what", "why", "still", "next")]
    return "\n".join(lines + [f"warning: {one}" for one in result.get("warnings", [])])
