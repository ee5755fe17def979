"""Owns the cases whose figure is CPU per operation: hit, forward, embedded, read-once, evalsha, connections. Each returns its
rows and bars; starts nothing that its fleet does not end."""

import statistics

from drive import Row, alternate, load, populate, preload, redis_benchmark, warm
from report import bar
from systems import DIRECT

GET = ["GET", "key:__rand_int__"]
SCRIPT = "return redis.call('get', KEYS[1])"


def hit(fleet, options, names):
    """GETs of keys that are in L1, beside GETs of Redis."""
    systems = [fleet.system(name, l1=True) for name in (DIRECT, "madcache") if name in names]
    for system in systems:
        preload(system, options.keys, options.value_bytes)
        warm(system, options.keys)
    rows = []
    for pipeline, own_max in ((1, options.hit_own_max), (options.pipeline, options.hit_own_pipelined_max)):
        rows += grid(fleet, options, "hit", f"GET P{pipeline}", systems, GET, pipeline, watch_l2=True)
    bars = []
    for row in mads(rows):
        own_max = options.hit_own_max if row.variant.endswith(" P1") else options.hit_own_pipelined_max
        bars.append(bar(row, "own CPU / direct", row.ratio("proxy"), own_max))
        seen = row.median(lambda run: run.extra["l2_share"])
        bars.append(bar(row, "share of reads that L2 saw (else these were no hits)", seen, options.hit_l2_share_max))
    return rows, bars


def forward(fleet, options, names):
    """GETs and SETs of all systems with nothing cached."""
    systems = [fleet.system(name, l1=False) for name in names]
    for system in systems:
        preload(system, options.keys, options.value_bytes)
    rows = []
    for verb, command in (("GET", GET), ("SET", set_of(options))):
        for pipeline in (1, options.pipeline):
            rows += grid(fleet, options, "forward", f"{verb} P{pipeline}", systems, command, pipeline)
    bars = []
    for row in mads(rows):
        plain = row.variant.endswith(" P1")
        own_max = options.forward_own_max if plain else options.forward_own_pipelined_max
        sum_max = options.forward_sum_max if plain else options.forward_sum_pipelined_max
        bars.append(bar(row, "own CPU / direct", row.ratio("proxy"), own_max))
        bars.append(bar(row, "own + Redis / direct", row.ratio("proxy", "redis"), sum_max))
    return rows, bars


def embedded(fleet, options, names):
    """GETs and SETs of a daemon without a Redis, beside Redis."""
    systems = [fleet.system(DIRECT)]
    if "madcache" in names:
        systems.append(fleet.madcache_alone())
    for system in systems:
        preload(system, options.keys, options.value_bytes)
    rows = []
    for verb, command in (("GET", GET), ("SET", set_of(options))):
        for pipeline in (1, options.pipeline):
            rows += grid(fleet, options, "embedded", f"{verb} P{pipeline}", systems, command, pipeline)
    bars = []
    for row in mads(rows):
        plain = row.variant.endswith(" P1")
        own_max = options.embedded_own_max if plain else options.embedded_own_pipelined_max
        bars.append(bar(row, "own CPU / direct", row.ratio("proxy"), own_max))
    return rows, bars


def set_of(options):
    return ["SET", "key:__rand_int__", "v" * options.value_bytes]


def grid(fleet, options, case, variant, systems, command, pipeline, watch_l2=False):
    """One variant of a redis-benchmark case over all systems, alternating."""
    requests = options.requests if pipeline == 1 else options.requests_pipelined

    def measure(_row, system, _number):
        before = system.redis_client().calls("get") if watch_l2 else 0
        run = redis_benchmark(fleet, system, command, options.clients, pipeline, requests, options.keys)
        if watch_l2:
            run.extra["l2_share"] = (system.redis_client().calls("get") - before) / requests
        return run

    pairs = beside_direct([(Row(case, variant, system.name), system) for system in systems])
    alternate(options.runs, pairs, measure)
    return [row for row, _ in pairs]


def read_once(fleet, options, names):
    """GETs of keys that are read a single time, with L1 on: what a cache costs where it does not help."""
    systems = [fleet.system(name, l1=True) for name in (DIRECT, "madcache") if name in names]
    variants = ((1, options.once_requests), (options.pipeline, options.once_requests_pipelined))
    for system in systems:
        populate(system, options.runs * sum(count for _, count in variants), options.value_bytes)
    rows, bars, first = [], [], 0
    for pipeline, count in variants:
        def measure(_row, system, number, first=first, pipeline=pipeline, count=count):
            return load(fleet, system, {
                "mode": "batch", "connections": options.clients, "pipeline": pipeline, "requests": count,
                "workload": {"kind": "once", "start": first + number * count, "value_bytes": options.value_bytes}})
        pairs = beside_direct([(Row("read-once", f"GET P{pipeline}", s.name), s) for s in systems])
        alternate(options.runs, pairs, measure)
        first += options.runs * count
        rows += [row for row, _ in pairs]
    for row in mads(rows):
        bars.append(bar(row, "own + Redis / direct", row.ratio("proxy", "redis"), options.once_sum_max))
    return rows, bars


def evalsha(fleet, options, names):
    """EVALSHA of a one-line script: a barrier may cost a round trip. On loopback, and before an L2 that is far."""
    near = [fleet.system(name, l1=True) for name in names]
    far = [fleet.system(name, l1=True) for name in names if name == DIRECT]
    relay = fleet.relay(far[0].redis_port, options.relay_delay_us)
    if "madcache" in names:
        far.append(fleet.madcache_before(far[0], l1=True, upstream_port=relay))
    far[0].port = relay
    for system in near + far:
        preload(system, options.keys, options.value_bytes)
        warm(system, options.keys)  # a link without entries would need no barrier
    sha = near[0].redis_client().call("SCRIPT", "LOAD", SCRIPT).decode()
    for system in near + far:
        system.redis_client().call("SCRIPT", "LOAD", SCRIPT)
    script_reads = {"kind": "keys", "keys": options.keys, "value_bytes": options.value_bytes,
                    "read": ["EVALSHA", sha, "1"]}
    rows, bars = [], []
    for place, systems, count in (("loopback", near, options.latency_requests), ("far L2", far, options.far_requests)):
        ping = Row("evalsha", f"PING 1 conn, {place}", DIRECT)
        pairs = [(ping, systems[0])]
        pairs += beside_direct([(Row("evalsha", f"1 conn, {place}", s.name), s) for s in systems])
        # Not redis-benchmark: its times come in steps of 8 us, and the round trip is three of them.
        alternate(options.runs, pairs, lambda row, system, _, ping=ping, count=count: load(fleet, system, {
            "mode": "batch", "connections": 1, "pipeline": 1, "requests": count,
            "workload": {"kind": "ping"} if row is ping else script_reads}))
        rows += [row for row, _ in pairs]
        for row in mads(row for row, _ in pairs):
            added = statistics.median(run.p50_us - direct.p50_us for run, direct in zip(row.runs, row.direct.runs))
            limit = ping.median(lambda run: run.p50_us) + options.evalsha_hop_us
            bars.append(bar(row, "added p50, us (one round trip)", added, limit))
    pairs = beside_direct([(Row("evalsha", f"{options.clients} conns", s.name), s) for s in near])
    alternate(options.runs, pairs, lambda _row, system, _number: redis_benchmark(
        fleet, system, ["EVALSHA", sha, "1", "key:__rand_int__"], options.clients, 1, options.requests, options.keys))
    return rows + [row for row, _ in pairs], bars


def connections(fleet, options, names):
    """CPU per operation from 1 to 10,000 connections that are open before the clock starts."""
    direct = fleet.system(DIRECT)
    subjects = [("", direct)]
    if "madcache" in names:
        subjects += [("forwarded", fleet.system("madcache", l1=False)), ("hits", fleet.system("madcache", l1=True))]
    for _, system in subjects:
        preload(system, options.keys, options.value_bytes)
        warm(system, options.keys)
    rows = []
    for count in options.connection_counts:
        requests = options.connection_requests if count > 1 else options.connection_requests // 3

        def measure(_row, system, _number, count=count, requests=requests):
            return load(fleet, system, {
                "mode": "batch", "connections": count, "pipeline": 1, "requests": requests, "prime": True,
                "workload": {"kind": "keys", "keys": options.keys, "value_bytes": options.value_bytes}})
        pairs = beside_direct([(Row("connections", f"{count} conns {kind}".strip(), system.name), system)
                               for kind, system in subjects])
        alternate(options.runs, pairs, measure)
        rows += [row for row, _ in pairs]
    return rows, flatness(rows, options)


def flatness(rows, options):
    """Flat: from 50 connections to N the daemon's ratio to direct grows by no more than the tolerance."""
    by_name = {(row.variant.partition(" ")[2], int(row.variant.split()[0])): row for row in mads(rows)}
    bars = []
    for (kind, count), row in by_name.items():
        base = by_name.get((kind, 50))
        if base and count != 50:
            growth = row.ratio("proxy") / base.ratio("proxy")
            bars.append(bar(row, "own / direct, over the same at 50 conns", growth, options.flat_max))
    return bars


def beside_direct(pairs):
    direct = next(row for row, _ in pairs if row.system == DIRECT)
    for row, _ in pairs:
        if row is not direct:
            row.direct = direct
    return pairs


def mads(rows):
    return [row for row in rows if row.system == "madcache"]
