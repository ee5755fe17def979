"""Owns the case of Redis Cluster: what forwarding costs the daemon before three masters, beside what it costs before one
Redis. Ends nothing itself; its fleet does."""

import time

from drive import Row, alternate, preload, redis_benchmark
from report import bar
from systems import StartError, System, cpu_ns
from throughput import GET, set_of
from wire import Client

MASTERS = 3
SLOTS = 16_384
PATIENCE_SECONDS = 20


class ClusterSystem(System):
    """A daemon before several masters: what they cost is counted together."""

    def __init__(self, port, masters, proxy):
        super().__init__("madcache", port, masters[0][0], port, proxy)  # keys find their masters through the daemon
        self.masters = masters

    def cpu_ns(self):
        spent = super().cpu_ns()
        spent["redis"] = sum(cpu_ns(process.pid) for process, _ in self.masters)
        return spent


def cluster(fleet, options, names):
    """GETs and SETs with nothing cached, of one daemon before three masters and one before a single Redis."""
    if "madcache" not in names:
        return [], []
    single = fleet.system("madcache", l1=False)
    masters = joined([fleet.redis(("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{at}.conf"))
                      for at in range(MASTERS)])
    seeds = ",".join(f"127.0.0.1:{port}" for _, port in masters)
    proxy, port = fleet.madcache(None, l1=False, settings={"REDIS_URL": f"redis-cluster://{seeds}"})
    several = ClusterSystem(port, masters, proxy)
    for system in (single, several):
        preload(system, options.keys, options.value_bytes)
    rows = []
    for verb, command in (("GET", GET), ("SET", set_of(options))):
        for pipeline in (1, options.pipeline):
            requests = options.requests if pipeline == 1 else options.requests_pipelined
            pairs = [(Row("cluster", f"{verb} P{pipeline}, {place}", "madcache"), system)
                     for place, system in (("one Redis", single), (f"{MASTERS} masters", several))]
            of_single = pairs[0][0]

            def measure(row, system, number, command=command, pipeline=pipeline, requests=requests,
                        of_single=of_single):
                run = redis_benchmark(fleet, system, command, options.clients, pipeline, requests, options.keys)
                alone = run if row is of_single else of_single.runs[number]
                run.extra["of_single"] = run.cpu_us["proxy"] / alone.cpu_us["proxy"]
                return run
            alternate(options.runs, pairs, measure)
            rows += [row for row, _ in pairs]
    bars = [bar(row, "own CPU / that before one Redis", row.median(lambda run: run.extra["of_single"]),
                options.cluster_own_max) for row in rows if row.variant.endswith("masters")]
    return rows, bars


def joined(masters):
    """Shares the slots out, and waits until all masters know of it."""
    for at, (_, port) in enumerate(masters):
        client = Client(port)
        client.call("CLUSTER", "SET-CONFIG-EPOCH", str(at + 1))
        first, last = SLOTS * at // len(masters), SLOTS * (at + 1) // len(masters) - 1
        client.call("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for _, other in masters[:at]:
            client.call("CLUSTER", "MEET", "127.0.0.1", str(other))
        client.close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(is_up(port, len(masters)) for _, port in masters):
        if time.monotonic() > deadline:
            raise StartError("the masters did not become a cluster")
        time.sleep(0.1)
    return masters


def is_up(port, count):
    client = Client(port)
    info = client.call("CLUSTER", "INFO").decode()
    client.close()
    return "cluster_state:ok" in info and f"cluster_known_nodes:{count}" in info and f"cluster_size:{count}" in info
