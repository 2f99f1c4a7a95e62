"""Clients of protocols that are not HTTP."""

import struct

from clients import Kept, Loss


class Redis(Kept):
    """Counts up by one with each request."""

    name = "redis"

    def __init__(self, port, key):
        super().__init__(port)
        self.key, self.n = key, 0

    def ask(self):
        self.looked_at().sendall(f"INCR {self.key}\r\n".encode())
        answer = self.line()
        if not answer.startswith(b":"):
            raise Loss(f"wrong: {answer}")
        n, self.n = self.n, int(answer[1:])
        if self.n <= n:
            raise Loss(f"forgotten: {n + 1 - self.n} writes")
        return "counted"


class Postgres(Kept):
    """Writes one row with each request, and remembers what was acknowledged."""

    name = "postgresql"

    def __init__(self, port, client):
        super().__init__(port)
        self.client, self.n = client, 0

    def opened(self):
        words = b"user\0postgres\0database\0postgres\0\0"
        self.stream.sendall(struct.pack("!ii", len(words) + 8, 196608) + words)
        self.until_ready()

    def until_ready(self):
        rows = []
        while True:
            kind, length = struct.unpack("!ci", self.exactly(5))
            body = self.exactly(length - 4)
            if kind == b"E":
                fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
                # What a server says to those whom it closes in its fast way to stop.
                if fields[b"C"] == "57P01":
                    raise EOFError(fields[b"M"])
                raise Loss(f"wrong: {fields[b'C']} {fields[b'M']}")
            if kind == b"D":
                rows.append(body[6:].decode())
            if kind == b"Z":
                return rows

    def query(self, text):
        text = text.encode() + b"\0"
        self.looked_at().sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
        return self.until_ready()

    def ask(self):
        self.query(f"INSERT INTO acknowledged VALUES ({self.client}, {self.n})")
        self.n += 1
        return "written"


class Mqtt(Kept):
    """Publishes to itself, and waits until the broker has taken and brought each message."""

    name = "mqtt"

    def __init__(self, port, client):
        super().__init__(port)
        self.topic, self.n = f"client/{client}".encode(), 0

    @staticmethod
    def text(words):
        return struct.pack("!H", len(words)) + words

    def send(self, kind, body):
        assert len(body) < 128
        self.stream.sendall(bytes([kind, len(body)]) + body)

    def packet(self):
        kind, length = self.exactly(2)
        return kind, self.exactly(length)

    def expect(self, expected):
        kind, body = self.packet()
        if kind != expected:
            raise Loss(f"wrong: packet {kind:#x} instead of {expected:#x}")
        return body

    def opened(self):
        # MQTT 3.1.1, a clean session, a keep-alive of a minute.
        self.send(0x10, self.text(b"MQTT") + b"\x04\x02\0\x3c" + self.text(self.topic))
        if self.expect(0x20) != b"\0\0":
            raise Loss("wrong: not let in")
        self.send(0x82, b"\0\x01" + self.text(self.topic) + b"\0")
        self.expect(0x90)

    def ask(self):
        self.looked_at()
        self.n += 1
        message = str(self.n).encode()
        # At least once: it is acknowledged, and it comes back, in any order.
        self.send(0x32, self.text(self.topic) + b"\0\x02" + message)
        got = dict(self.packet() for _ in range(2))
        if got.get(0x40) != b"\0\x02" or not got.get(0x30, b"").endswith(message):
            raise Loss(f"wrong: {got}")
        return "brought"
