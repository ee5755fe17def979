"""Clients that never stop while nodes fail: each writes or reads through HAProxy all the time, in a thread of its own, and notes which
node answered and when. What that means is for the cases to say."""

import contextlib
import dataclasses
import threading
import time

import wire


@dataclasses.dataclass
class Write:
    """One acknowledged write. `replicated`: a replica had it as well when that was asked right behind it."""

    token: int
    acknowledged: float
    node_port: int
    replicated: bool = True


class Endless(threading.Thread):
    """Calls `turn` with a connection until it is ended; where that one is lost, or refuses, with a new one."""

    connect = None

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port = port
        self.ended = threading.Event()
        self.crash = None

    def run(self):
        try:
            while not self.ended.is_set():
                try:
                    with type(self).connect(self.port) as connection:
                        self.begin(connection)
                        while not self.ended.is_set():
                            self.turn(connection)
                except (OSError, wire.Refused):
                    time.sleep(0.01)
        except Exception as wrong:  # pylint: disable=broad-except
            self.crash = wrong

    def begin(self, connection):
        """What a new connection is asked first."""

    def turn(self, connection):
        raise NotImplementedError

    def end(self):
        self.ended.set()
        self.join(wire.ANSWER_SECONDS_MAX + 5)
        if self.crash:
            raise self.crash


class RedisWriter(Endless):
    """Writes `token:<n>` for n = 1, 2, 3 ..., each on its own; a token whose outcome is not known is not written again."""

    connect = wire.Redis

    def __init__(self, port):
        super().__init__(port)
        self.token = 0
        self.writes = []
        self.node_port = None

    def begin(self, connection):
        self.node_port = int(connection.call("CONFIG", "GET", "port")[1])

    def turn(self, connection):
        self.token += 1
        connection.send(["SET", f"token:{self.token}", "x"], ["WAIT", 1, 50])
        connection.reply()
        write = Write(self.token, time.monotonic(), self.node_port, replicated=False)
        self.writes.append(write)
        write.replicated = connection.reply() >= 1
        time.sleep(0.003)


class DaemonClient(Endless):
    """Writes a number through the daemon and reads it back, again and again."""

    connect = wire.Redis

    def __init__(self, port):
        super().__init__(port)
        self.number = self.read_back = 0
        self.outdated = []
        self.refusals = set()

    def turn(self, connection):
        self.number += 1
        try:
            connection.call("SET", "number", self.number)
            found = connection.call("GET", "number")
        except wire.Refused as refusal:
            self.refusals.add(str(refusal))
            raise
        if found == str(self.number):
            self.read_back += 1
        else:
            self.outdated.append((self.number, found))
        time.sleep(0.003)


class PostgresWriter(Endless):
    """Inserts numbers through the primary's address, on one connection as long as that lasts."""

    connect = wire.Postgres

    def __init__(self, port):
        super().__init__(port)
        self.token = 0
        self.writes = []

    def turn(self, connection):
        self.token += 1
        ((node_port,),) = connection.query(f"INSERT INTO tokens VALUES ({self.token}) RETURNING inet_server_port()")
        self.writes.append(Write(self.token, time.monotonic(), int(node_port)))
        time.sleep(0.005)


@dataclasses.dataclass
class Read:
    began: float
    node_port: int
    in_recovery: bool


class PostgresReader(Endless):
    """Asks, with a new connection each time, which node is behind the address of the replicas."""

    connect = wire.Postgres

    def __init__(self, port):
        super().__init__(port)
        self.reads = []

    def turn(self, _):
        began = time.monotonic()
        with wire.Postgres(self.port) as connection:
            ((node_port, in_recovery),) = connection.query("SELECT inet_server_port(), pg_is_in_recovery()")
        self.reads.append(Read(began, int(node_port), in_recovery == "t"))
        time.sleep(0.02)


class OldMaster(threading.Thread):
    """Looks at a Redis that has come back for as long as it says that it is a master, and counts the SETs that it has run meanwhile."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.looks = []
        self.crash = None

    def run(self):
        try:
            while True:
                # The sentinel that demotes it also closes its connections.
                with contextlib.suppress(OSError), self.node.connect() as connection:
                    while True:
                        connection.send(["MULTI"], ["ROLE"], ["INFO", "commandstats"], ["EXEC"])
                        *_, (role, stats) = [connection.reply() for _ in range(4)]
                        if role[0] != "master":
                            return
                        self.looks.append(self._sets(stats))
                        time.sleep(0.02)
        except Exception as wrong:  # pylint: disable=broad-except
            self.crash = wrong

    @staticmethod
    def _sets(stats):
        for line in stats.splitlines():
            if line.startswith("cmdstat_set:calls="):
                return int(line.split("=")[1].split(",")[0])
        return 0

    def until_demoted(self):
        self.join(wire.ANSWER_SECONDS_MAX)
        if self.crash:
            raise self.crash
        assert not self.is_alive(), f"{self.node.name} still says that it is a master"
        return self.looks
