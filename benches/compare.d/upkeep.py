"""Owns the cases that need no ratio to direct Redis per operation: idle (memory of connections that do nothing) and
invalidation (how soon a second daemon sees a write). Each returns its rows and bars."""

import sys
import time

from drive import Generator, Row, Run, RunError, alternate, preload, warm
from report import bar
from systems import DIRECT, haproxy_clients_max, resident_bytes
from wire import key

SETTLE_SECONDS_MAX = 20
STILL_SECONDS = 3  # Redis itself gives the buffer of an idle client back after two
SEEN_SECONDS_MAX = 5


def idle(fleet, options, names):
    """Resident memory of connections that were used once, and what they do to the next one."""
    rows, bars = [], []
    for name in names:
        count = options.idle_connections
        if name == "haproxy":
            count = min(count, haproxy_clients_max() - 100)
        system = fleet.system(name, l1=True)
        preload(system, options.keys, options.value_bytes)
        warm(system, options.keys)  # what a fill keeps must not be taken for memory of the connections
        pid = (system.proxy or system.redis).pid
        alone = newcomer(system, options.probes)
        empty = settled_bytes(pid)
        holder = Generator(fleet, system.port, {
            "mode": "hold", "connections": count, "pipeline": 1, "prime": True,
            "workload": {"kind": "keys", "keys": options.keys, "value_bytes": options.value_bytes}})
        each = (settled_bytes(pid) - empty) / count
        crowded = newcomer(system, options.probes)
        holder.stop()
        alone.extra["resident_bytes"] = empty
        crowded.extra["bytes_per_connection"] = each
        before, beside = Row("idle", "next conn, alone", name, [alone]), Row("idle", f"beside {count}", name, [crowded])
        rows += [before, beside]
        if name == "madcache":
            bars.append(bar(beside, "resident KiB per connection", each / 1024, options.idle_kib_max))
        print(f"  idle {name}: {each / 1024:.2f} KiB for each of {count}", file=sys.stderr)
    return rows, bars


def settled_bytes(pid):
    """Resident memory once it has stood still for STILL_SECONDS; buffers of idle connections go back late."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    last, since = resident_bytes(pid), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < STILL_SECONDS:
        time.sleep(0.1)
        now = resident_bytes(pid)
        if now != last:
            last, since = now, time.monotonic()
    return last


def newcomer(system, probes):
    """Connect, PING, GET, close, by one client after the other."""
    times = []
    for number in range(probes):
        start = time.perf_counter_ns()
        client = system.client()
        client.call("PING")
        client.call("GET", key(number))
        times.append((time.perf_counter_ns() - start) / 1000)
        client.close()
    return timed(times)


def invalidation(fleet, options, names):
    """A write through one daemon, a reader on another, both under load: when the reader gets the new value."""
    first = fleet.system(DIRECT)
    pair = {DIRECT: (first, first)}
    if "madcache" in names:
        pair["madcache"] = tuple(fleet.madcache_before(first, l1=True) for _ in range(2))
    preload(first, options.keys, options.value_bytes)
    for systems in pair.values():
        for system in systems:
            warm(system, options.keys)

    def measure(_row, name, _number):
        writer, reader = pair[name]
        loads = [Generator(fleet, system.port, paced(options)) for system in (writer, reader)]
        for generator in loads:
            generator.start()
        try:
            run = watch(writer, reader, first, options.invalidation_rounds)
        finally:
            results = [generator.stop() for generator in loads]
        run.ops_per_s = sum(result["requests"] / result["seconds"] for result in results)
        return run

    rows = [Row("invalidation", "until the new value is read", name) for name in pair]
    alternate(options.runs, [(row, row.system) for row in rows], measure)
    bars = []
    for row in rows:
        if row.system == "madcache":
            trip = row.median(lambda run: run.extra["round_trip_us"])
            bars.append(bar(row, "p99, us (one round trip + 5 ms)", row.median(lambda run: run.p99_us),
                            trip + options.invalidation_us_max))
    return rows, bars


def paced(options):
    return {"mode": "paced", "connections": options.clients, "rate": options.invalidation_rate, "prime": True,
            "workload": {"kind": "keys", "keys": options.keys, "value_bytes": options.value_bytes,
                         "write_share": options.write_share}}


def watch(writer, reader, direct, rounds):
    """From the write's reply to the reply that has the new value, and a plain round trip to Redis each time."""
    write, read, plain = writer.client(), reader.client(), direct.redis_client()
    delays, trips, old = [], [], 0
    for number in range(rounds):
        name, value = f"watched:{number % 10}", str(time.monotonic_ns()).encode()
        for _ in range(3):
            read.call("GET", name)  # the second read fills: there must be an old value to serve
        write.call("SET", name, value)
        written = time.perf_counter_ns()
        while read.call("GET", name) != value:
            old += 1
            if time.perf_counter_ns() - written > SEEN_SECONDS_MAX * 1e9:
                raise RunError(f"{name}: the old value was still served {SEEN_SECONDS_MAX} s after its write")
        delays.append((time.perf_counter_ns() - written) / 1000)
        start = time.perf_counter_ns()
        plain.call("GET", name)
        trips.append((time.perf_counter_ns() - start) / 1000)
    for client in (write, read, plain):
        client.close()
    run = timed(delays)
    run.extra = {"round_trip_us": timed(trips).p50_us, "old_reads": old}
    return run


def timed(times_us):
    times = sorted(times_us)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return Run(len(times) / (sum(times) / 1e6), at(0.5), at(0.99))
