"""Runs real programs under Halley, one after another, and prints a table of what became of their requests."""

import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import halley
import programs
import recipes
from clients import Load
from halley import Halley, Trouble, below, until

# Short enough for a path of a unix socket, and open to the users that programs run as.
ROOTS = "/tmp"
STEPS = ["release", "rollback", "crash", "stop"]
# What is shorter here than a user would have it, so that a run takes minutes: how long a release is watched,
# how long the one before stays, and how long its open connections have.
HASTE = {"bake": ['for = "3s"'], "keep": ['standby = "1s"'], "stop": ['drain = "2s"']}
if "HALLEY_HASTE" in os.environ:
    # For a test that is to be over in a minute.
    HASTE["bake"] = ['for = "500ms"']
    HASTE["stop"] += ['linger = "1s"']
    HASTE["health"] = ['interval = "100ms"', 'min_healthy = "200ms"']


def hastened(config, services):
    for service in services:
        for section, lines in HASTE.items():
            header = f"[service.{service}.{section}]\n"
            if header not in config:
                # Without one it is a connection that is accepted.
                config += header + ("tcp = true\n" if section == "health" else "")
            config = config.replace(header, header + "".join(f"{line}\n" for line in lines))
    return config


def placed(text, root, ports):
    """The text of a recipe with places and ports of this run, and the versions that are installed."""
    for theirs, ours in (("php-fpm8.2", "/usr/sbin/php-fpm*"), ("/usr/lib/postgresql/15", "/usr/lib/postgresql/*")):
        text = text.replace(theirs, programs.newest(ours) or theirs)
    for theirs, ours in ports.items():
        text = re.sub(rf"(?<![\d.]){theirs}\b", str(ours), text)
    return re.sub(r"(?<![\w.])/(var/lib|run|srv)/", rf"{root}/\1/", text)


class Run:
    """One program, from its first release to its stop."""

    def __init__(self, program, binary):
        self.program = program
        self.root = Path(tempfile.mkdtemp(prefix="hr-", dir=ROOTS))
        self.root.chmod(0o755)
        files = recipes.read(program.name)
        self.ports = {port: halley.free_port() for port in recipes.ports(files["halley.toml"])}
        self.files = {name: placed(text, self.root, self.ports) for name, text in files.items()}
        config = self.files.pop("halley.toml")
        self.services = re.findall(r"^\[service\.([\w-]+)\]", config, re.M)
        if os.geteuid() != 0:
            config = re.sub(r"^(user|group) .*\n", "", config, flags=re.M)
        self.way = self.ways(config)
        self.halley = Halley(binary, self.root, hastened(config, self.services))
        self.deaths, self.load, self.begun = [], None, []

    @staticmethod
    def ways(config):
        """`handoff/strategy` of each service."""
        ways = []
        for part in re.split(r"^(?=\[service\.[\w-]+\])", config, flags=re.M)[1:]:
            handoff = re.search(r'^handoff\s*=\s*"(\w+)"', part, re.M)
            strategy = re.search(r'^strategy\s*=\s*"(\w+)"', part, re.M)
            ways.append(f"{handoff[1] if handoff else 'inherit'}/{strategy[1] if strategy else 'overlap'}")
        return ", ".join(ways)

    def path(self, text):
        """A path of the recipe, where it is in this run."""
        return Path(placed(text, self.root, {}))

    def artifact(self, service, n):
        """What a user would release as the n-th."""
        directory = self.root / f"{service}-{n}"
        directory.mkdir()
        for name, text in self.files.items():
            # Of several services each has a directory of its name.
            is_only = len(self.services) == 1
            mine = name if is_only else name.removeprefix(f"{service}/")
            if is_only or mine != name:
                path = directory / mine
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("release 1", f"release {n}"))
                if text.startswith("#!"):
                    path.chmod(0o755)
        self.program.build(self, service, n, directory)
        return directory

    def step(self, name, text):
        """A step begins: what is lost from here on is lost in it."""
        print(f"  {self.program.name}: {text}", file=sys.stderr, flush=True)
        self.begun.append((time.monotonic(), name))

    def step_of(self, loss):
        """The step that a loss was seen in."""
        return [name for begun, name in self.begun if begun <= loss.seen][-1]

    def settles(self, service):
        """Waits until what was replaced is gone, and requests were answered since."""
        until(f"{service} runs alone", lambda: self.halley.is_alone(service))
        self.is_served()

    def is_served(self):
        until("requests are answered", self.load.more(), 60)

    def steps(self):
        self.program.prepare(self)
        artifacts = {n: {service: self.artifact(service, n) for service in self.services} for n in (1, 2)}
        self.halley.start()
        for service in self.services:
            self.step("release", f"first release of {service}")
            self.halley.does("release", service, artifacts[1][service])
        self.load = Load(self.program.kinds(self)).start()
        self.is_served()
        for service in self.services:
            self.step("release", f"release of {service}")
            self.halley.does("release", service, artifacts[2][service])
            self.settles(service)
            self.step("rollback", f"rollback of {service}")
            self.halley.does("rollback", service)
            self.settles(service)
            self.step("crash", f"kill -9 of {service}")
            self.crash(service)
        self.program.check(self)
        self.load.over = time.monotonic()
        for service in reversed(self.services):
            self.step("stop", f"stop of {service}")
            self.halley.does("stop", service)
            until(f"{service} is stopped", lambda: not self.halley.service(service)["instances"])
        if left := self.halley.programs():
            raise Trouble(f"left by stop: {left}")

    def crash(self, service):
        pid = until("it serves", lambda: self.halley.live(service))
        # Halley ends its workers once it has seen its end: until then they take connections.
        processes = [pid, *below(pid)]
        kill = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        # A zombie may still have threads, and with them its connections.
        until("it is gone", lambda: not any(Path(f"/proc/{one}").exists() for one in processes))
        gone = time.monotonic()
        self.deaths.append((kill, gone))
        until("another serves", lambda: self.halley.live(service) not in (None, pid))
        self.is_served()

    def end(self):
        if self.load:
            self.load.stop()
        left = self.halley.end()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        while left and below(os.getpid()):
            time.sleep(0.05)
        return left


def row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


HEADER = ["program", "handoff/strategy", *STEPS, "requests", "lost", "kept, cut", "killed, cut", "longest"]


def ran(program, binary):
    """A row of the table, and whether it is as it should be."""
    run = Run(program, binary)
    try:
        return told(run)
    finally:
        run.end()
        if "HALLEY_KEEP" in os.environ:
            print(f"  kept: {run.root}", file=sys.stderr)
        else:
            shutil.rmtree(run.root)


def told(run):
    program, why = run.program, None
    try:
        run.steps()
    except (Trouble, OSError, LookupError) as error:
        why = error if isinstance(error, Trouble) else traceback.format_exc()
    left = run.end()
    if left and not why:
        why = f"left by Halley's end: {left}"
    lost, kept, killed = run.load.sorted(run.deaths) if run.load else ([], [], [])
    for name, losses in (("lost", lost), ("kept, cut", kept), ("killed, cut", killed)):
        for (step, kind), n in Counter((run.step_of(loss), loss.kind) for loss in losses).items():
            print(f"  {program.name}: {name}: {step}: {n} x {kind}", file=sys.stderr)
    if why or lost:
        log = (run.root / "halley.log").read_text(errors="replace").splitlines()
        print("\n".join([f"  {program.name}: {why}", *log[-15:]]), file=sys.stderr)
    done = [name for _, name in run.begun]
    cells = [program.name, run.way]
    for step in STEPS:
        n = sum(run.step_of(loss) == step for loss in lost)
        failed = why and done and done[-1] == step
        cells.append("failed" if failed else "-" if step not in done else f"{n} lost" if n else "ok")
    load = run.load
    cells += [load.n_requests() if load else 0, len(lost), len(kept), len(killed)]
    cells.append(f"{load.slowest_s:.1f} s" if load else "-")
    return row(cells), not why and not lost


def main():
    names = sys.argv[1:]
    if names == ["list"]:
        print("\n".join(program.name for program in programs.ALL))
        return 0
    are_missing = names[:1] == ["missing"]
    names = names[are_missing:]
    unknown = set(names) - {program.name for program in programs.ALL}
    if unknown and not are_missing:
        print(f"error: no program {', '.join(unknown)}; see: scripts/real-programs.sh list", file=sys.stderr)
        return 2
    names = names or [program.name for program in programs.ALL]
    if are_missing:
        print("".join(f"{package}\n" for package in programs.missing(names)), end="")
        return 0
    halley.adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    binary = Path(os.environ["HALLEY_BINARY"]).resolve()
    rows, are_well = [], True
    for program in programs.ALL:
        if program.name in names:
            line, is_well = ran(program, binary)
            rows.append(line)
            are_well &= is_well
    print("\n".join([row(HEADER), row(["---"] * len(HEADER)), *rows]))
    return 0 if are_well else 1


if __name__ == "__main__":
    sys.exit(main())
