"""Strict clients: each request ends well, or is a loss with a name. Nothing is silently tried again."""

import re
import select
import socket
import threading
import time
from collections import Counter
from http.client import HTTPException, HTTPResponse
from typing import NamedTuple

PATIENCE_S = 20
PAUSE_S = 0.03


class Loss(Exception):
    """A request that was not answered as it should be."""


def named(error):
    """The kind of a loss."""
    if isinstance(error, Loss):
        return str(error)
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    if isinstance(error, TimeoutError):
        return "hanging"
    if isinstance(error, FileNotFoundError):
        return "no such socket"
    return f"cut ({type(error).__name__})"


class Load:
    """A few clients that ask in turn, and the ledger of what became of it."""

    def __init__(self, kinds):
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.slowest_s, self.answers = 0.0, Counter()
        self.losses, self.n_closed = [], 0
        # Requests that are begun from here on may fail: the program is told to stop for good.
        self.over = None
        self.clients = [threading.Thread(target=self.work, args=(kind,)) for kind in kinds]

    def start(self):
        for client in self.clients:
            client.start()
        return self

    def work(self, kind):
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                answer = kind.ask()
            except (OSError, EOFError, HTTPException, Loss) as error:
                was_kept = kind.is_kept() and not isinstance(error, (Loss, TimeoutError))
                kind.close()
                with self.lock:
                    if self.over is None or begun < self.over:
                        seen = time.monotonic()
                        self.losses.append(Lost(begun, seen, f"{kind.name}: {named(error)}", was_kept))
            else:
                with self.lock:
                    self.answers[answer] += 1
                    self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
                kind.answered()
            self.stopping.wait(PAUSE_S)
        with self.lock:
            self.n_closed += kind.n_closed
        kind.close()

    def n_requests(self):
        return sum(self.answers.values()) + len(self.losses)

    def more(self, n=40):
        """A condition: so many requests have been answered from here on."""
        at = sum(self.answers.values())
        return lambda: sum(self.answers.values()) >= at + n

    def stop(self):
        self.stopping.set()
        for client in self.clients:
            client.join()

    def sorted(self, deaths):
        """The losses of three kinds: under way in a process that was killed; on a connection that the
        program had kept, and ended with; all others."""
        killed, kept, lost = [], [], []
        for loss in self.losses:
            if not loss.is_hanging() and any(loss.begun <= gone and loss.seen >= kill for kill, gone in deaths):
                killed.append(loss)
            else:
                (kept if loss.was_kept else lost).append(loss)
        return lost, kept, killed


class Lost(NamedTuple):
    """A request that was not answered as it should be."""

    begun: float
    seen: float
    kind: str
    was_kept: bool

    def is_hanging(self):
        return "hanging" in self.kind


class Kind:
    """One client."""

    name = ""

    def __init__(self):
        self.n_closed = 0

    def is_kept(self):
        """Whether the connection has been used before."""
        return False

    def answered(self):
        pass

    def close(self):
        pass


class Short(Kind):
    """HTTP, a connection for each request."""

    name = "new connection"

    def __init__(self, port, path="/", pattern=".", host="localhost", headers=""):
        Kind.__init__(self)
        self.port, self.path, self.host, self.headers = port, path, host, headers
        self.pattern = re.compile(pattern)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def asked(self, stream, connection):
        request = (
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: {connection}\r\n{self.headers}\r\n"
        )
        stream.sendall(request.encode())
        answer = HTTPResponse(stream)
        answer.begin()
        body = answer.read().decode(errors="replace")
        found = self.pattern.search(body)
        if answer.status != 200 or not found:
            raise Loss(f"wrong: {answer.status} {body[:60]!r}")
        return found[0], answer.will_close

    def ask(self):
        with self.connect() as stream:
            return self.asked(stream, "close")[0]


class Kept(Kind):
    """One connection, looked at before it is used again, and opened again when it was closed."""

    def __init__(self, port):
        Kind.__init__(self)
        self.port, self.stream, self.rest, self.n_answered = port, None, b"", 0

    def looked_at(self):
        """The connection. What is readable before a request is its end."""
        if self.stream and select.select([self.stream], [], [], 0)[0]:
            self.n_closed += 1
            self.close()
        if not self.stream:
            self.stream = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
            self.opened()
        return self.stream

    def opened(self):
        """What a protocol says first."""

    def is_kept(self):
        return self.n_answered > 0

    def answered(self):
        self.n_answered += self.stream is not None

    def exactly(self, n):
        while len(self.rest) < n:
            self.read()
        got, self.rest = self.rest[:n], self.rest[n:]
        return got

    def line(self):
        while b"\n" not in self.rest:
            self.read()
        return self.exactly(self.rest.index(b"\n") + 1)

    def read(self):
        got = self.stream.recv(65536)
        if not got:
            raise EOFError("closed")
        self.rest += got

    def close(self):
        if self.stream:
            self.stream.close()
        self.stream, self.rest, self.n_answered = None, b"", 0


class KeepAlive(Kept, Short):
    """HTTP, one connection."""

    name = "kept connection"

    def __init__(self, port, *args, **kwargs):
        Short.__init__(self, port, *args, **kwargs)
        Kept.__init__(self, port)

    def ask(self):
        answer, will_close = self.asked(self.looked_at(), "keep-alive")
        if will_close:
            self.close()
        return answer
