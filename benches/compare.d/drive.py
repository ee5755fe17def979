"""Owns the clients of a run: redis-benchmark and load.py, each with a time limit, and what a run of them cost the
servers. Knows no case and no bar."""

import csv
import io
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

from systems import HERE
from wire import encode, key

RUN_SECONDS_MAX = 120  # redis-benchmark spins for ever on a port that nobody answers
DEATH_SECONDS = 0.5  # from a closed connection to the end of the process that closed it


class RunError(Exception):
    """A client did not finish; says which and what it wrote."""


@dataclass
class Run:
    """One measurement of one system. cpu_us: microseconds per operation by role ("redis", "proxy")."""
    ops_per_s: float
    p50_us: float
    p99_us: float
    cpu_us: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)


@dataclass
class Row:
    """The runs of one system in one case. `direct` is the row of Redis itself, run by run beside this one."""
    case: str
    variant: str
    system: str
    runs: list = field(default_factory=list)
    direct: "Row" = None

    def median(self, figure):
        """The median over the runs of figure(run)."""
        return statistics.median(figure(run) for run in self.runs)

    def cpu(self, role):
        return self.median(lambda run: run.cpu_us.get(role, 0.0))

    def ratios(self, roles):
        """CPU of `roles` over direct Redis, for each run; None where there is nothing to compare with."""
        if not self.direct:
            return None
        pairs = zip(self.runs, self.direct.runs)
        return [sum(a.cpu_us.get(role, 0.0) for role in roles) / b.cpu_us["redis"] for a, b in pairs]

    def ratio(self, *roles):
        ratios = self.ratios(roles)
        return statistics.median(ratios) if ratios else None


def alternate(runs, rows, measure):
    """A B C A B C: noise that comes and goes meets every system. `rows` pairs each Row with what measures it."""
    for number in range(runs):
        for row, subject in rows:
            run = measure(row, subject, number)
            row.runs.append(run)
            print(f"  {row.case} {row.variant} {row.system} run {number + 1}: {run.ops_per_s:,.0f} ops/s",
                  file=sys.stderr)


def redis_benchmark(fleet, system, command, clients, pipeline, requests, keys, ca=None):
    """One run of redis-benchmark with what it cost the processes of `system`; over TLS where an authority is named."""
    port = system.tls_port if ca else system.port
    argv = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", str(clients), "-P", str(pipeline),
            "-n", str(requests), "-r", str(keys), "--csv", *(["--tls", "--cacert", ca] if ca else []), *command]
    before = system.cpu_ns()
    process = fleet.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    out = finish(process, "redis-benchmark", system=system).decode(errors="replace")
    after = system.cpu_ns()
    rows = [row for row in csv.reader(io.StringIO(out)) if len(row) == 8 and row[0] != "test"]
    if process.returncode or not rows or "Error from server" in out:
        raise RunError(system.dead(DEATH_SECONDS) or f"{' '.join(argv)}\nended with {process.returncode} and wrote:\n{out[-1000:]}")
    _, rps, _, _, p50, _, p99, _ = rows[-1]
    return Run(float(rps), float(p50) * 1000, float(p99) * 1000, per_op(before, after, requests))


def load(fleet, system, plan):
    """One run of load.py; its connections are open before the CPU time is read."""
    generator = Generator(fleet, system.port, plan)
    before = system.cpu_ns()
    result = generator.run(system)
    after = system.cpu_ns()
    count = result["requests"]
    return Run(count / result["seconds"], result["p50_us"], result["p99_us"], per_op(before, after, count))


class Generator:
    """A load.py whose connections are open. `run` to its end, or `start` and later `stop`."""

    def __init__(self, fleet, port, plan):
        plan = dict(plan, port=port)
        self.process = fleet.spawn([sys.executable, "-B", os.path.join(HERE, "load.py"), json.dumps(plan)],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise RunError("load.py did not connect: " + finish(self.process, "load.py", failed=True))

    def start(self):
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def stop(self):
        """Ends a paced or holding run; returns its result."""
        out = finish(self.process, "load.py", b"stop\n")
        return json.loads(out)

    def run(self, system):
        out = finish(self.process, "load.py", b"go\n", system=system)
        return json.loads(out)


def finish(process, name, line=None, failed=False, system=None):
    """Waits for a client's end, for a bounded time and while the servers of `system` live; returns what it wrote, or
    its complaint if it `failed`."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    while True:
        try:
            out, err = process.communicate(line, 1)
            break
        except subprocess.TimeoutExpired:
            line = None  # it has been sent
            dead = system.dead() if system else None
            if dead or time.monotonic() > deadline:
                process.kill()
                process.communicate()
                raise RunError(dead or f"{name} did not finish within {RUN_SECONDS_MAX} s") from None
    if failed:
        return err.decode(errors="replace")
    if err and process.returncode:
        raise RunError(system and system.dead(DEATH_SECONDS) or f"{name} failed: {err.decode(errors='replace')[-1000:]}")
    return out


def per_op(before, after, count):
    return {role: (after[role] - before[role]) / 1000 / count for role in before}


def preload(system, keys, value_bytes):
    """Puts the keys that redis-benchmark asks for straight into this system's Redis."""
    client = system.redis_client()
    value = b"v" * value_bytes
    client.pipeline([encode("SET", key(number), value) for number in range(keys)])
    client.close()


def populate(system, count, value_bytes):
    """Puts once:0, once:1, ... there: a million keys in a second."""
    client = system.redis_client()
    client.sock.settimeout(RUN_SECONDS_MAX)
    client.call("DEBUG", "POPULATE", count, "once", value_bytes)
    client.close()


def warm(system, keys, passes=4):
    """Reads every key several times through the system, so that a cache which fills on the second read has it."""
    client = system.client()
    for _ in range(passes):
        client.pipeline([encode("GET", key(number)) for number in range(keys)])
    client.close()
