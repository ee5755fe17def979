"""Runs the test suite of Redis itself, as Debian publishes it with the source of its redis-server: first at a redis-server, then at
the daemon before one, before a cluster, and without a Redis. What passes directly must pass at the daemon, but for what
`redis_suite_lacks.py` lists."""

import argparse
import contextlib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import redis_suite_lacks
from servers import Madcache, NotStarted, RedisCluster, RedisServer

UNITS = [
    "dump", "auth", "protocol", "keyspace", "scan", "info", "info-command", "type/string", "type/incr", "type/list",
    "type/list-2", "type/list-3", "type/set", "type/zset", "type/hash", "type/stream", "type/stream-cgroups", "sort",
    "expire", "other", "multi", "quit", "latency-monitor", "pubsub", "pubsubshard", "slowlog", "scripting", "functions",
    "maxmemory", "introspection", "introspection-2", "bitops", "bitfield", "geo", "hyperloglog", "cluster-scripting",
]  # fmt: skip
# Without a Redis: what the engine has. Pub/sub but for keyspace events, which are not sent.
ALONE_UNITS = [
    "keyspace", "scan", "type/string", "type/incr", "type/list", "type/list-2", "type/list-3", "type/set", "type/zset",
    "type/hash", "sort", "expire", "multi", "quit", "pubsubshard", "scripting", "maxmemory", "bitops", "bitfield",
    "hyperloglog",
]  # fmt: skip
# Random tests of Redis's own structures, which take half a minute each.
LONG = ["/Fuzzing dense", "/GEOSEARCH fuzzy test"]
UNIT_SECONDS_MAX = 240
TEST_SECONDS_MAX = 60
# Of each run's own server, below those that the kernel gives to connections.
BASE_PORTS = itertools.cycle(range(20_000, 30_000, 40))
# The suite sends DEBUG, REPLICAOF and the like, which the daemon refuses by default.
SETTINGS = {"MADCACHE_SERVER_DENY_COMMANDS": ""}
OUTCOME = re.compile(r"^\[(ok|err|exception)\]: (.*?)(?: \(\d+ ms\)| in tests/\S+)?$")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

# What the suite takes for granted of a server that it did not start itself: text, and what stands there instead.
CHANGES = {
    # Scripts are tried as functions too.
    "tests/unit/scripting.tcl": [
        ("foreach is_eval {0 1} {", "foreach is_eval [expr {[info exists ::env(SUITE_ALONE)] ? {1} : {0 1}}] {"),
    ],
    # A server without functions, or without one of the parameters, is no reason to end.
    "tests/support/server.tcl": [
        ("    r function flush\n", "    catch {r function flush}\n"),
        ("        r config set $param $val\n", "        catch {r config set $param $val}\n"),
    ],
    "tests/test_helper.tcl": [
        # Without a Redis some parameters, most of them of how values are packed, cannot be set.
        (
            '    [srv $level "client"] {*}$args\n}\n',
            "    if {[info exists ::env(SUITE_ALONE)] && [string equal -nocase [lrange $args 0 1] {config set}]} {\n"
            '        catch {[srv $level "client"] {*}$args} reply\n'
            "        return $reply\n"
            "    }\n"
            '    [srv $level "client"] {*}$args\n}\n',
        ),
        # It looks whether clients are blocked in INFO, which before a cluster is one node's.
        (
            '    status [srv $level "client"] [lindex $args 0]\n',
            "    if {[info exists ::env(SUITE_NODES)] && [lindex $args 0] eq {blocked_clients}} {\n"
            "        set sum 0\n"
            "        foreach port $::env(SUITE_NODES) {\n"
            "            regexp {blocked_clients:(\\d+)} [exec redis-cli -p $port info clients] -> number\n"
            "            incr sum $number\n"
            "        }\n"
            "        return $sum\n"
            "    }\n"
            '    status [srv $level "client"] [lindex $args 0]\n',
        ),
    ],
}


def prepare(source, place):
    """A copy of the suite, with what it wants to find as built beside it."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source / "tests", place / "tests")
    shutil.copy(source / "runtest", place)
    (place / "src").mkdir()
    for name in ["redis-server", "redis-cli", "redis-benchmark", "redis-check-aof", "redis-check-rdb", "redis-sentinel"]:
        (place / "src" / name).symlink_to(shutil.which(name) or name)
    for name, changes in CHANGES.items():
        text = (place / name).read_text()
        for old, new in changes:
            if old not in text:
                sys.exit(f"redis_suite: {name} has changed: {old!r} is not in it")
            text = text.replace(old, new, 1)
        (place / name).write_text(text)


class System:
    """What the suite is run at."""

    def __init__(self, name, tags=(), options=(), units=UNITS):
        self.name, self.tags, self.options, self.units = name, ["-slow", *tags], list(options), units

    @contextlib.contextmanager
    def start(self, logs):
        """Gives the port, more of the environment, and the daemon if there is one."""
        with RedisServer(logs / f"{self.name}-redis.log") as redis:
            if self.name == "direct":
                yield redis.port, {}, None
                return
            with Madcache(redis, logs / f"{self.name}-madcache.log", SETTINGS) as daemon:
                yield daemon.port, {}, daemon


class Cluster(System):
    @contextlib.contextmanager
    def start(self, logs):
        with (
            RedisCluster(logs / f"{self.name}-redis.log") as cluster,
            Madcache(cluster, logs / f"{self.name}-madcache.log", SETTINGS) as daemon,
        ):
            yield daemon.port, {"SUITE_NODES": " ".join(str(node.port) for node in cluster.nodes)}, daemon


class Alone(System):
    @contextlib.contextmanager
    def start(self, logs):
        with Madcache(None, logs / f"{self.name}-madcache.log", SETTINGS) as daemon:
            yield daemon.port, {"SUITE_ALONE": "yes"}, daemon


DIRECT = System("direct")
SYSTEMS = [
    System("through"),
    Cluster("cluster", ["-cluster:skip", "-needs:repl"], ["--cluster-mode", "--singledb"]),
    Alone("alone", ["-needs:repl", "-needs:debug"], ["--ignore-encoding", "--ignore-digest"], ALONE_UNITS),
]


def run_unit(place, system, port, unit, more, log):
    """Every test's outcome by its name."""
    skipped = LONG + redis_suite_lacks.skipped(system.name)
    skip = place / "skipped"
    skip.write_text("\n".join(skipped) + "\n")
    while True:
        output = output_of(place, system, port, unit, more, skip)
        # Somebody else's: the next ones.
        if b"non busy port" not in output and b"address already in use" not in output:
            break
    text = COLOURS.sub("", output.decode(errors="replace"))
    log.write(f"==== {unit}\n{text}\n")
    outcomes = {}
    for line in text.splitlines():
        if found := OUTCOME.match(line):
            outcome, name = found.groups()
            outcomes[f"{unit}: {name if outcome != 'exception' else 'the unit ended early'}"] = outcome == "ok"
    return outcomes


def output_of(place, system, port, unit, more, skip):
    command = [
        "./runtest", "--host", "127.0.0.1", "--port", str(port), "--tags", " ".join(system.tags), "--durable",
        "--clients", "1", "--timeout", str(TEST_SECONDS_MAX), "--baseport", str(next(BASE_PORTS)), "--skipfile", str(skip),
        "--single", f"unit/{unit}", *system.options,
    ]  # fmt: skip
    try:
        ended = subprocess.run(
            command, cwd=place, env=dict(os.environ) | more, capture_output=True, timeout=UNIT_SECONDS_MAX
        )
        return ended.stdout
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"") + b"\n[exception]: it did not end\n"


def run(source, system, units, logs):
    """Outcomes, and what the daemon itself did wrong."""
    place = source.parent / f"suite-{system.name}"
    prepare(source, place)
    begin, outcomes = time.monotonic(), {}
    with (logs / f"{system.name}.log").open("w") as log, system.start(logs) as (port, more, daemon):
        for unit in filter(system.units.__contains__, units):
            outcomes |= run_unit(place, system, port, unit, more, log)
    passed = sum(outcomes.values())
    print(f"{system.name}: {passed} passed, {len(outcomes) - passed} failed, {time.monotonic() - begin:.0f} s", flush=True)
    return outcomes, daemon.problems if daemon else []


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=pathlib.Path, required=True, help="where Redis's source is")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--units", nargs="+", default=UNITS)
    parser.add_argument("--systems", nargs="+", default=[system.name for system in SYSTEMS])
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    source = options.source.resolve()
    try:
        expected, _ = run(source, DIRECT, options.units, options.logs)
        known = {test.split(": ", 1)[1] for test in expected}
        faults = []
        for system in SYSTEMS:
            if system.name in options.systems:
                if options.units == UNITS:
                    unknown = set(redis_suite_lacks.ROWS[system.name]) - known
                    faults += [f"{system.name}: {row!r} is left out, and is no test" for row in sorted(unknown)]
                outcomes, problems = run(source, system, options.units, options.logs)
                faults += [f"{system.name}: {problem}" for problem in problems]
                faults += [
                    f"{system.name}: {test}"
                    for test, passed in outcomes.items()
                    if not passed and expected.get(test, True)
                ]
    except NotStarted as reason:
        sys.exit(f"redis_suite: {reason}")
    for fault in faults:
        print(f"FAILED at {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
