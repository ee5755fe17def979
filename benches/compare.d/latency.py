"""Owns the cases whose figure is a time or a share of reads: far-l2, miss, share, multiplexed. Each returns its rows
and bars; starts nothing that its fleet does not end."""

import statistics

from drive import Row, alternate, load, populate, preload, redis_benchmark, warm
from report import bar
from systems import DIRECT
from throughput import GET, beside_direct, mads


def far_l2(fleet, options, names):
    """Hits before an L2 that is 1 ms away, beside going there."""
    direct = fleet.system(DIRECT)
    relay = fleet.relay(direct.redis_port, options.relay_delay_us)
    systems = [(direct, options.far_requests)]
    if "madcache" in names:
        systems.append((fleet.madcache_before(direct, l1=True, upstream_port=relay), options.requests))
    direct.port = relay
    preload(direct, options.keys, options.value_bytes)
    for system, _ in systems:
        warm(system, options.keys)
    rows, bars = [], []
    # A loaded machine queues, and a queue of 50 is longer than the bar even before Redis itself; so the bar, which is
    # about distance, is judged with few connections and the row with all of them stands beside it.
    for clients in (options.far_clients, options.clients):
        pairs = beside_direct([(Row("far-l2", f"GET {clients} conns", s.name), (s, n)) for s, n in systems])
        alternate(options.runs, pairs, lambda _row, subject, _n, clients=clients: redis_benchmark(
            fleet, subject[0], GET, clients, 1, subject[1], options.keys))
        rows += [row for row, _ in pairs]
        for row in mads(row for row, _ in pairs):
            if clients == options.far_clients:
                worst = statistics.median(run.p99_us / to.p50_us for run, to in zip(row.runs, row.direct.runs))
                bars.append(bar(row, "p99 of hits / p50 of going there", worst, options.far_p99_max))
    return rows, bars


def miss(fleet, options, names):
    """What a read that is not in L1 adds for one connection: the first read of each key, and the second, which fills."""
    systems = [fleet.system(name, l1=True) for name in names]
    count = options.latency_requests
    for system in systems:
        populate(system, options.runs * count, options.value_bytes)
    rows, bars = [], []
    for variant in ("first read", "second read"):
        pairs = beside_direct([(Row("miss", f"{variant}, 1 conn", s.name), s) for s in systems])
        alternate(options.runs, pairs, lambda _row, system, number: load(fleet, system, {
            "mode": "batch", "connections": 1, "pipeline": 1, "requests": count,
            "workload": {"kind": "once", "start": number * count, "value_bytes": options.value_bytes}}))
        rows += [row for row, _ in pairs]
    for row in rows:
        if row.direct:
            added = statistics.median(run.p50_us - to.p50_us for run, to in zip(row.runs, row.direct.runs))
            bars.append(bar(row, "added p50, us", added, options.miss_added_us_max))
    return rows, [entry for entry in bars if entry.system == "madcache"]


def share(fleet, options, names):
    """99 % of the reads to 1 % of the keys, from a cold L1: how many of them L2 sees."""
    if "madcache" not in names:
        return [], []
    system = fleet.system("madcache", l1=True)
    keys = options.keys

    def measure(_row, _system, number):
        redis = chill(system, options)
        before = redis.calls("get")
        run = load(fleet, system, {
            "mode": "batch", "connections": options.clients, "pipeline": options.pipeline,
            "requests": options.share_requests,
            "workload": {"kind": "keys", "keys": keys, "hot_keys": keys // 100, "hot_share": 0.99,
                         "seed": number, "value_bytes": options.value_bytes}})
        run.extra["l2_share"] = (redis.calls("get") - before) / options.share_requests
        redis.close()
        return run

    row = Row("share", "99 % of reads to 1 % of keys", "madcache")
    alternate(options.runs, [(row, system)], measure)
    seen = row.median(lambda run: run.extra["l2_share"])
    return [row], [bar(row, "share of reads that L2 saw", seen, options.share_max)]


def multiplexed(fleet, options, names):
    """Hit ratio of one connection with many requests in flight, beside the same mix over pooled connections."""
    if "madcache" not in names:
        return [], []
    system = fleet.system("madcache", l1=True)
    workload = {"kind": "keys", "keys": options.keys, "zipf": options.zipf, "write_share": options.write_share,
                "value_bytes": options.value_bytes}
    shapes = {
        "one": {"mode": "window", "connections": 1, "window": options.window},
        "pool": {"mode": "batch", "connections": options.clients, "pipeline": 1},
    }

    def measure(_row, shape, number):
        redis, session = chill(system, options), system.client()
        hits, misses = l1_counts(session)
        gets = redis.calls("get")
        run = load(fleet, system, dict(
            shapes[shape], requests=options.mixed_requests, workload=dict(workload, seed=number)))
        after_hits, after_misses = l1_counts(session)
        looked_up = (after_hits - hits) + (after_misses - misses)
        run.extra["hit_ratio"] = (after_hits - hits) / looked_up if looked_up else 0.0
        reads = options.mixed_requests * (1 - options.write_share)
        run.extra["spared_l2"] = 1 - (redis.calls("get") - gets) / reads
        session.close()
        redis.close()
        return run

    one = Row("multiplexed", f"1 conn, {options.window} in flight", "madcache")
    pool = Row("multiplexed", f"{options.clients} pooled conns", "madcache")
    alternate(options.runs, [(one, "one"), (pool, "pool")], measure)

    def of_pool(figure):
        return statistics.median(a.extra[figure] / b.extra[figure] if b.extra[figure] > 0 else 0.0
                                 for a, b in zip(one.runs, pool.runs))
    return [one, pool], [
        bar(one, "hit ratio (INFO) / that of the pool", of_pool("hit_ratio"), options.multiplexed_min, at_least=True),
        bar(one, "reads L2 was spared / those of the pool", of_pool("spared_l2"), options.multiplexed_min,
            at_least=True),
    ]


def l1_counts(session):
    """l1_hits and l1_misses of the daemon; zeros where INFO has no such section, which then misses its bar."""
    counts = session.info("madcache")
    return int(counts.get("l1_hits", 0)), int(counts.get("l1_misses", 0))


def chill(system, options):
    """Empties L1 and loads L2 anew; the answer of a read through the daemon shows that the flush has arrived."""
    redis = system.redis_client()
    redis.call("FLUSHALL")
    preload(system, options.keys, options.value_bytes)
    session = system.client()
    session.call("GET", "flushed?")
    session.close()
    return redis
