"""Starts what the test needs on 127.0.0.1, in one temporary directory, and ends it by process ids: Redis with Sentinel, Patroni with
etcd, and HAProxy with the file that is shipped. Knows what a server needs to run, not what is tested. Standard library only."""

import contextlib
import csv
import io
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "haproxy" / "state-pillar.cfg"
NODES = (1, 2, 3)
MASTER_NAME = "test-state"
# A machine that does other things beside is slow; a test that waits this long has failed.
WAIT_SECONDS_MAX = 60


class TookTooLong(Exception):
    """An event that did not come."""


def wait_for(what, condition, seconds=WAIT_SECONDS_MAX, pause=0.02):
    """Asks `condition` until it holds, and gives what it answered. No answer from a server is no."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := condition():
                return answer
        except (OSError, wire.Refused):
            pass
        time.sleep(pause)
    raise TookTooLong(f"{what}: not within {seconds} s")


class Ports:
    """Free ports below those that the kernel gives to outgoing connections: a server that is killed and started again must find its
    own port still free."""

    def __init__(self):
        self.given = set()

    def take(self):
        while True:
            port = random.randrange(12000, 32000)
            if port not in self.given and self._is_free(port):
                self.given.add(port)
                return port

    @staticmethod
    def _is_free(port):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
        return True


class Place:
    """The run's temporary directory, and where logs go. PostgreSQL does not run as root, so what is its own belongs to `postgres`."""

    def __init__(self, logs):
        self.logs = pathlib.Path(logs)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="madcache-haproxy-"))
        self.directory.chmod(0o755)
        self.ports = Ports()

    def subdirectory(self, name, owner=None):
        made = self.directory / name
        made.mkdir()
        if owner and os.geteuid() == 0:
            shutil.chown(made, owner, owner)
        return made

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)


class Process:
    """One server that can be started, killed, stopped, continued, and started again."""

    def __init__(self, place, name):
        self.place = place
        self.name = name
        self.log = place.logs / f"{name}.log"
        self.log.write_bytes(b"")
        self.process = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ)

    def start(self, environment=None):
        with self.log.open("ab") as output:
            # A session of its own: a signal for the test must not reach its servers before the test has noted it.
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.place.directory,
                env=self.environment() | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def stopped(self):
        """Stops it as a machine that hangs does; it goes on in any case, so that the next case finds it well."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()


class RedisNode(Process):
    """A redis-server that keeps an append-only file: started again, it comes back with what it had, and as what it was."""

    def __init__(self, place, number, master=None, password=None):
        super().__init__(place, f"redis-{number}")
        self.server = f"redis-{number}"
        self.password = password
        self.port = place.ports.take()
        directory = place.subdirectory(self.name)
        # Sentinel rewrites this file, so it is written once and not at each start.
        self.file = directory / "redis.conf"
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", 'save ""', "appendonly yes", "repl-diskless-sync-delay 0",
        ]  # fmt: skip
        if master:
            lines.append(f"replicaof 127.0.0.1 {master.port}")
        if password:
            lines.append(f"requirepass {password}")
        self.file.write_text("\n".join(lines) + "\n")

    def command(self):
        return ["redis-server", str(self.file)]

    def connect(self):
        return wire.Redis(self.port)

    def role(self):
        with self.connect() as connection:
            return connection.call("ROLE")[0]

    def replicas(self):
        """How many there are of this master."""
        with self.connect() as connection:
            return len(connection.call("ROLE")[2])


class SentinelNode(Process):
    def __init__(self, place, number, master):
        super().__init__(place, f"sentinel-{number}")
        self.port = place.ports.take()
        directory = place.subdirectory(self.name)
        self.file = directory / "sentinel.conf"
        lines = [
            f"port {self.port}", "bind 127.0.0.1", f"dir {directory}",
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} 2000",
            f"sentinel failover-timeout {MASTER_NAME} 10000",
            f"sentinel parallel-syncs {MASTER_NAME} 2",
        ]  # fmt: skip
        if master.password:
            lines += [f"requirepass {master.password}", f"sentinel auth-pass {MASTER_NAME} {master.password}"]
        self.file.write_text("\n".join(lines) + "\n")

    def command(self):
        return ["redis-sentinel", str(self.file)]

    def ask(self, *command):
        with wire.Redis(self.port) as connection:
            return connection.call("SENTINEL", *command)

    def knows_all(self):
        flat = self.ask("MASTER", MASTER_NAME)
        fields = dict(zip(flat[::2], flat[1::2]))
        return fields["flags"] == "master" and fields["num-slaves"] == "2" and fields["num-other-sentinels"] == "2"

    def master_port(self):
        return int(self.ask("GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[1])


class Etcd(Process):
    def __init__(self, place):
        super().__init__(place, "etcd")
        self.port = place.ports.take()
        self.peer_port = place.ports.take()
        self.directory = place.subdirectory(self.name)

    def command(self):
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        return [
            "etcd", "--name", "test", "--data-dir", str(self.directory), "--initial-cluster", f"test={peer}",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        ]  # fmt: skip


class PatroniNode(Process):
    """Patroni and the PostgreSQL that it starts, which is not our child: its process id is in its own file."""

    def __init__(self, place, number, etcd):
        super().__init__(place, f"patroni-{number}")
        self.server = f"postgres-{number}"
        self.port = place.ports.take()
        self.rest_port = place.ports.take()
        self.directory = place.subdirectory(self.name, "postgres")
        self.file = place.directory / f"patroni-{number}.yml"
        self.file.write_text(json.dumps(self._settings(number, etcd), indent=1))

    def _settings(self, number, etcd):
        hosts = ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        return {
            "scope": "test",
            "name": f"postgres-{number}",
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}", "connect_address": f"127.0.0.1:{self.rest_port}"},
            "etcd3": {"host": f"127.0.0.1:{etcd.port}"},
            "bootstrap": {
                "dcs": {"ttl": 8, "loop_wait": 1, "retry_timeout": 3, "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, "data-checksums", "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.directory / "data"),
                "bin_dir": str(postgres_programs()),
                "pgpass": str(self.directory / "pgpass"),
                "pg_hba": hosts,
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
                "parameters": {"unix_socket_directories": str(self.directory), "fsync": "off", "shared_buffers": "16MB"},
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            },
        }

    def command(self):
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
        return [*as_postgres, "patroni", str(self.file)]

    def postmaster(self):
        """The process id of PostgreSQL, or None."""
        try:
            return int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError, ValueError):
            return None

    def kill(self):
        """As when the node dies: Patroni first, so that it cannot start PostgreSQL again."""
        super().kill()
        self._kill_postmaster()

    def _kill_postmaster(self):
        if number := self.postmaster():
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def end(self):
        super().end()
        self._kill_postmaster()

    def answers(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False


def postgres_programs():
    """Debian keeps the programs of each version of PostgreSQL in a directory of its own."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1]


class HAProxy(Process):
    """HAProxy with the very file that is shipped; all that is given to it is the environment."""

    def __init__(self, place, redis, sentinels, postgres, name="haproxy"):
        super().__init__(place, name)
        take = place.ports.take
        self.redis_port, self.primary_port, self.replicas_port, self.stats_port = take(), take(), take(), take()
        self.variables = {
            "REDIS_BIND": f"127.0.0.1:{self.redis_port}",
            "POSTGRES_PRIMARY_BIND": f"127.0.0.1:{self.primary_port}",
            "POSTGRES_REPLICAS_BIND": f"127.0.0.1:{self.replicas_port}",
            "STATS_BIND": f"127.0.0.1:{self.stats_port}",
            "SENTINEL_MASTER_NAME": MASTER_NAME,
            "VERDICT_SOCKET": f"abns@{place.directory.name}-{name}",
        }
        if os.geteuid() == 0:
            self.variables["HAPROXY_USER"] = "haproxy"
        # Of a node that is not there nobody listens on the port.
        for number, node, sentinel, patroni in itertools.zip_longest(NODES, redis, sentinels, postgres):
            self.variables |= {
                f"STATE_{number}_HOST": "127.0.0.1",
                f"REDIS_{number}_PORT": str(node.port if node else take()),
                f"SENTINEL_{number}_PORT": str(sentinel.port if sentinel else take()),
                f"POSTGRES_{number}_PORT": str(patroni.port if patroni else take()),
                f"PATRONI_{number}_PORT": str(patroni.rest_port if patroni else take()),
            }

    def command(self):
        return ["haproxy", "-db", "-f", str(CONFIGURATION)]

    def environment(self):
        return super().environment() | self.variables

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stats_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()

    def up(self, proxy):
        """The names of the servers of `proxy` that get connections."""
        _, table = self.get("/;csv")
        rows = csv.DictReader(io.StringIO(table.removeprefix("# ")))
        servers = (row for row in rows if row["pxname"] == proxy and row["svname"] not in ("FRONTEND", "BACKEND"))
        # "UP 1/2" is on its way down, and still gets them.
        return {row["svname"] for row in servers if row["status"].startswith("UP")}


class Daemon(Process):
    """The daemon that MADCACHE_BIN names, with HAProxy as its Redis."""

    def __init__(self, place, haproxy):
        super().__init__(place, "madcache")
        self.haproxy = haproxy
        self.port = place.ports.take()

    def command(self):
        return [os.environ["MADCACHE_BIN"], "--port", str(self.port), "--admin-bind", ""]

    def environment(self):
        # A developer's own settings must not decide what the test sees.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MADCACHE_")}
        return kept | {"REDIS_URL": f"redis://127.0.0.1:{self.haproxy.redis_port}"}
