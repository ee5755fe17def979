"""The two protocols, as little of them as the test speaks: RESP2 and PostgreSQL's, each over one blocking connection. Errors of the
server are exceptions; a lost connection is an OSError. Standard library only."""

import contextlib
import socket
import struct

ANSWER_SECONDS_MAX = 60


class Refused(Exception):
    """An error reply of the server."""


class Connection:
    """One TCP connection. Without an answer for `ANSWER_SECONDS_MAX` it counts as lost: long, since it is HAProxy that has to end it."""

    def __init__(self, port, seconds=ANSWER_SECONDS_MAX):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()

    def exactly(self, count):
        taken = self.stream.read(count)
        if len(taken) < count:
            raise ConnectionResetError("the connection was closed")
        return taken

    def is_closed(self):
        """Whether the other side has closed it; for a connection that nothing is pending on."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(ANSWER_SECONDS_MAX)


class Redis(Connection):
    def call(self, *arguments):
        return self.pipeline(arguments)[0]

    def pipeline(self, *commands):
        self.send(*commands)
        return [self.reply() for _ in commands]

    def send(self, *commands):
        lines = []
        for command in commands:
            lines.append(b"*%d\r\n" % len(command))
            for argument in command:
                argument = argument if isinstance(argument, bytes) else str(argument).encode()
                lines.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
        self.socket.sendall(b"".join(lines))

    def reply(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Refused(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.exactly(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return rest.decode()


class Postgres(Connection):
    """Logged in as `postgres`, whom the test's servers trust."""

    def __init__(self, port, seconds=ANSWER_SECONDS_MAX):
        super().__init__(port, seconds)
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(self.close)
            login = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
            self.socket.sendall(struct.pack("!I", len(login) + 4) + login)
            self._until_ready()
            unless_ready.pop_all()

    def query(self, text):
        """The rows, each a list of texts."""
        body = text.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self._until_ready()

    def _until_ready(self):
        rows, error = [], None
        while True:
            kind, length = struct.unpack("!cI", self.exactly(5))
            body = self.exactly(length - 4)
            if kind == b"E":
                error = body.replace(b"\0", b" ").decode(errors="replace")
                if b"FATAL" in body:
                    raise Refused(error)
            elif kind == b"D":
                rows.append(self._row(body))
            elif kind == b"Z":
                if error:
                    raise Refused(error)
                return rows

    @staticmethod
    def _row(body):
        (count,) = struct.unpack_from("!H", body)
        values, at = [], 2
        for _ in range(count):
            (length,) = struct.unpack_from("!i", body, at)
            at += 4
            values.append(None if length < 0 else body[at : at + length].decode())
            at += max(length, 0)
        return values
