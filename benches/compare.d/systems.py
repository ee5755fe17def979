"""Owns the servers under test: starts each with a Redis of its own on free ports of 127.0.0.1, reads the CPU time
they used, and ends them by pid. Sends no load and judges no figure."""

import ctypes
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

from wire import Client, ReplyError

CLIENTS_MAX = 12000  # what each server is told to accept: 10,000 connections, the probes, and room
START_SECONDS_MAX = 10
START_TRIES = 3
DIRECT = "redis"
PROXIES = ("twemproxy", "haproxy", "madcache")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class StartError(Exception):
    """A server did not come up; says what was attempted and what it wrote."""


class System:
    """What a client talks to: `port`, answered by `proxy` (None for Redis itself) with `redis` behind it (None where the
    daemon is alone; its own port then stands for that of Redis)."""

    def __init__(self, name, port, redis, redis_port, proxy=None):
        self.name, self.port, self.redis, self.redis_port, self.proxy = name, port, redis, redis_port, proxy
        self.tls_port = None

    def cpu_ns(self):
        """CPU time so far of each process by role: {"redis": ns, "proxy": ns}."""
        spent = {}
        if self.redis:
            spent["redis"] = cpu_ns(self.redis.pid)
        if self.proxy:
            spent["proxy"] = cpu_ns(self.proxy.pid)
        return spent

    def dead(self, grace_seconds=0.0):
        """What to say of a server that ended during a run; None while all live. A client may see the connection close
        a moment before the process is gone: that moment is `grace_seconds`."""
        time.sleep(grace_seconds)
        for name, process in ((self.name, self.proxy), ("redis-server", self.redis)):
            if process and process.poll() is not None:
                return f"{name} ended with {process.returncode} during the run; it wrote:\n{tail(process.log_path)}"
        return None

    def client(self):
        return Client(self.port)

    def redis_client(self):
        return Client(self.redis_port)


class Fleet:
    """Every process that one case starts, in a temporary directory that goes with them. `pinned`: Redis has a core that
    nothing else runs on."""

    def __init__(self, madcache_bin, pinned=False):
        self.madcache_bin = madcache_bin
        self.cores = cores() if pinned else {}
        self.processes = []
        self.directory = tempfile.TemporaryDirectory(prefix="madcache-compare-")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process)
        self.directory.cleanup()

    def system(self, name, l1=False, upstream_port=None, redis_options=(), settings=None):
        """Starts `name` before a Redis of its own; `upstream_port` puts a madcache before a relay instead. `settings` are
        further ones of madcache."""
        redis, redis_port = self.redis(redis_options)
        if name == DIRECT:
            return System(name, redis_port, redis, redis_port)
        start = {"twemproxy": self.twemproxy, "haproxy": self.haproxy}.get(name)
        if start:
            proxy, port = start(redis_port)
        else:
            proxy, port = self.madcache(upstream_port or redis_port, l1, settings)
        return System(name, port, redis, redis_port, proxy)

    def madcache_before(self, system, l1=True, upstream_port=None):
        """One more madcache before the Redis that `system` already has."""
        proxy, port = self.madcache(upstream_port or system.redis_port, l1)
        return System("madcache", port, system.redis, system.redis_port, proxy)

    def madcache_alone(self):
        """A madcache that serves from its own keyspace."""
        proxy, port = self.madcache(None, l1=True)
        return System("madcache", port, None, port, proxy)

    def redis(self, options=()):
        return self.serve("redis-server", lambda port: [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--maxclients", str(CLIENTS_MAX), "--enable-debug-command", "yes", "--dir", self.directory.name,
            *options], question=("PING",))  # a node without slots has no other answer

    def twemproxy(self, upstream):
        def command(port):
            path = os.path.join(self.directory.name, f"nutcracker-{port}.yml")
            with open(path, "w") as conf:
                conf.write(f"bench:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n"
                           f"  redis: true\n  servers:\n   - 127.0.0.1:{upstream}:1\n")
            return ["nutcracker", "-c", path, "-s", str(free_port()), "-a", "127.0.0.1"]
        return self.serve("nutcracker", command)

    def haproxy(self, upstream):
        def command(port):
            path = os.path.join(self.directory.name, f"haproxy-{port}.cfg")
            with open(path, "w") as conf:
                conf.write(f"global\n  nbthread 1\n  maxconn {haproxy_clients_max()}\n"
                           "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
                           f"listen bench\n  bind 127.0.0.1:{port}\n  server redis 127.0.0.1:{upstream}\n")
            return ["haproxy", "-db", "-f", path]
        return self.serve("haproxy", command)

    def madcache(self, upstream, l1, settings=None):
        # MADCACHE_BIN and the caller's own settings must not reach the daemon: it refuses names it does not know.
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("MADCACHE_") and k not in ("CACHE_TTL_SECONDS", "REDIS_URL")}
        env.update(settings or {}, MADCACHE_SERVER_CLIENTS_MAX=str(CLIENTS_MAX))
        if upstream:
            env["REDIS_URL"] = f"redis://127.0.0.1:{upstream}"
        if not l1:
            env["MADCACHE_CACHE_L1"] = "false"
        return self.serve("madcache", lambda port: [
            self.madcache_bin, "--port", str(port), "--workers", "1", "--admin-bind", ""], env)

    def relay(self, upstream, delay_us):
        """A relay to `upstream` that delays each way; returns its port."""
        _, port = self.serve("relay", lambda port: [
            sys.executable, os.path.join(HERE, "relay.py"), str(port), str(upstream), str(delay_us)])
        return port

    def serve(self, name, command, env=None, question=("GET", "ready?")):
        """Starts a server and waits until it answers; another port if someone took the first."""
        for _ in range(START_TRIES):
            port = free_port()
            log_path = os.path.join(self.directory.name, f"{name}-{port}.log")
            with open(log_path, "w") as log:
                process = self.spawn(command(port), "redis" if name == "redis-server" else "other",
                                     stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
            process.log_path = log_path
            if answers(process, port, question):
                return process, port
            end(process)
        raise StartError(f"{name} did not answer on 127.0.0.1:{port} after {START_TRIES} starts; it wrote:\n"
                         + tail(log_path))

    def spawn(self, argv, role="other", **options):
        """A process that this fleet ends, and that the kernel ends should this program be killed."""
        def begin():
            die_with_parent()
            if self.cores:
                os.sched_setaffinity(0, self.cores[role])
        process = subprocess.Popen(argv, preexec_fn=begin, **options)
        self.processes.append(process)
        return process


def answers(process, port, question):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client = Client(port)
            client.call(*question)
            client.close()
            return process.poll() is None
        except (OSError, ReplyError):
            time.sleep(0.02)
    return False


def end(process):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def tail(path):
    with open(path, errors="replace") as log:
        return log.read()[-2000:]


def cores():
    """The last core for Redis, the others for clients and proxies."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise StartError("--pin needs two cores")
    return {"redis": set(usable[-1:]), "other": set(usable[:-1])}


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    """It and the one 10,000 above it, which a node of a cluster takes too, are none that the system gives to outgoing connections."""
    while True:
        port = random.randrange(10_000, 22_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def raise_open_files():
    """As many open files as the system lets us have; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def haproxy_clients_max():
    """HAProxy holds two descriptors per client, so the limit on open files halves what it can take."""
    return min(CLIENTS_MAX, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)


def cpu_ns(pid):
    """User and system time of all threads. schedstat counts nanoseconds; /proc/PID/stat only ticks of 10 ms."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
                total += int(stat.read().split()[0])
        except FileNotFoundError:
            pass  # a thread that ended between the listing and the reading
    return total if total else cpu_ticks_ns(pid)


def cpu_ticks_ns(pid):
    """For kernels without schedstat."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no VmRSS")
