"""Starts the redis-server and the daemon that a run needs, each on a free port in a temporary directory, and ends them by
their process ids. Knows nothing of what is sent to them. Standard library only."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

START_SECONDS_MAX = 15
STOP_SECONDS_MAX = 20


class NotStarted(Exception):
    """A server that ended, or did not answer PING, with the end of its log."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_of_listeners(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers_ping(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


class Server:
    """One process that speaks the Redis protocol on `port`. Its output goes to `log`."""

    def __init__(self, name, log):
        self.name = name
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix="madcache-test-")
        self.port = None
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def __enter__(self):
        # Somebody else may take a free port before the server does, so a server that ended at once gets another one.
        for attempt in range(3):
            self.port = free_port()
            with self.log.open("wb") as output:
                self.process = subprocess.Popen(
                    self.command(),
                    cwd=self.directory,
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            if self._ready():
                return self
            self._end()
        shutil.rmtree(self.directory, ignore_errors=True)
        raise NotStarted(f"{self.name} did not start; {self.log} ends with:\n{self.tail()}")

    def _ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            if answers_ping(self.port):
                return self.process.poll() is None
            time.sleep(0.02)
        return False

    def _end(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def __exit__(self, *_):
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def tail(self, lines=30):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class RedisServer(Server):
    """A redis-server that keeps nothing and, as redis-py's own test set-up has it, allows DEBUG and MODULE."""

    def __init__(self, log, port=None):
        super().__init__("redis-server", log)
        self.fixed_port = port

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def command(self):
        self.port = self.fixed_port or self.port
        return [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.directory,
            "--save", "", "--appendonly", "no",
            "--enable-debug-command", "yes", "--enable-module-command", "yes",
        ]  # fmt: skip


class ClusterNode(RedisServer):
    """One node of a Redis Cluster, which knows no other yet."""

    def command(self):
        self.bus_port = free_port()
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)]

    def serves(self, nodes):
        info = ask(self.port, "CLUSTER", "INFO")
        return b"cluster_state:ok\r\n" in info and b"cluster_known_nodes:%d\r\n" % nodes in info


def ask(port, *words):
    """The reply to one command, as bytes without the frame's first line; an error is raised."""
    with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX) as connection:
        parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words)]
        connection.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        with connection.makefile("rb") as replies:
            line = replies.readline()
            if line.startswith(b"-"):
                raise NotStarted(f"{words}: {line}")
            return replies.read(int(line[1:])) if line.startswith(b"$") else line[1:].rstrip()


class RedisCluster:
    """Three masters that share all slots. `url` names them all."""

    NODES = 3
    SLOTS = 16384

    def __init__(self, log):
        log = pathlib.Path(log)
        self.nodes = [ClusterNode(log.with_name(f"{log.stem}-{at}{log.suffix}")) for at in range(self.NODES)]

    @property
    def port(self):
        return self.nodes[0].port

    @property
    def url(self):
        return "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for at, node in enumerate(self.nodes):
                stack.enter_context(node)
                first, end = (self.SLOTS * bound // self.NODES for bound in (at, at + 1))
                ask(node.port, "CLUSTER", "SET-CONFIG-EPOCH", str(at + 1))
                ask(node.port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(end - 1))
                for other in self.nodes[:at]:
                    ask(node.port, "CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.bus_port))
            deadline = time.monotonic() + START_SECONDS_MAX
            while not all(node.serves(self.NODES) for node in self.nodes):
                if time.monotonic() > deadline:
                    raise NotStarted("the cluster does not serve all slots")
                time.sleep(0.02)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exception):
        self.stack.close()


class Madcache(Server):
    """The daemon in front of `upstream`, or without a Redis where that is None, with its defaults but for the port and the
    settings given. After the `with` block `problems` tells what the daemon itself did wrong, whatever its clients saw."""

    def __init__(self, upstream, log, settings=None):
        super().__init__("madcache", log)
        self.upstream = upstream
        self.settings = settings or {}
        self.problems = []

    def command(self):
        return [os.environ["MADCACHE_BIN"], "--port", str(self.port), "--admin-bind", ""]

    def environment(self):
        # A developer's own settings must not decide what a test sees.
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MADCACHE_") and k != "REDIS_URL"}
        if self.upstream:
            kept["REDIS_URL"] = self.upstream.url
        return kept | self.settings

    def __exit__(self, *exception):
        early = self.process.poll()
        status = self._end()
        if early is not None:
            self.problems.append(f"madcache ended by itself with status {early}")
        elif status is None:
            self.problems.append(f"madcache had not ended {STOP_SECONDS_MAX} s after SIGTERM")
        elif status != 0:
            self.problems.append(f"madcache ended with status {status} after SIGTERM")
        if "panicked at" in self.log.read_text(errors="replace"):
            self.problems.append(f"madcache panicked, see {self.log}")
        super().__exit__(*exception)
