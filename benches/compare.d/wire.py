"""Owns the one blocking RESP2 connection that preloading, probing and INFO go through. Is no load generator."""

import socket


class ReplyError(Exception):
    """An error reply, as the server worded it."""


class Client:
    def __init__(self, port, timeout_seconds=10):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout_seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.sock.makefile("rb")

    def close(self):
        self.stream.close()
        self.sock.close()

    def call(self, *args):
        self.sock.sendall(encode(*args))
        return self.reply()

    def pipeline(self, commands, at_once=500):
        """Sends `commands` (encoded) in bounded batches and drops the replies; an error reply raises."""
        for start in range(0, len(commands), at_once):
            batch = commands[start:start + at_once]
            self.sock.sendall(b"".join(batch))
            for _ in batch:
                self.reply()

    def reply(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ReplyError(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.stream.read(length + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise ReplyError(f"not RESP2: {line[:80]!r}")

    def info(self, section):
        """One section of INFO as a dictionary; empty where the server has no such section."""
        lines = self.call("INFO", section).decode(errors="replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def calls(self, command):
        """How often this Redis has run `command`."""
        stats = self.info("commandstats").get(f"cmdstat_{command.lower()}", "calls=0")
        return int(stats.split(",")[0].split("=")[1])


def encode(*args):
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        raw = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


def key(number):
    """The names that redis-benchmark makes of key:__rand_int__."""
    return b"key:%012d" % number
