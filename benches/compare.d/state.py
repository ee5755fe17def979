"""Owns the cases of shared state: what a command costs that L1 answers, and what one costs that runs a script. Each
returns its rows and bars; starts nothing that its fleet does not end."""

import ast
import re

from drive import Row, alternate, preload, redis_benchmark, warm
from report import bar
from systems import DIRECT
from throughput import beside_direct, mads
from wire import key

SUBJECT = "subject:__rand_int__"
CHECK = ["RATELIMIT.CHECK", "bench", SUBJECT, "LIMIT", "100000000", "WINDOW", "60000"]
DENIED = ["RATELIMIT.CHECK", "bench", "denied", "LIMIT", "1", "WINDOW", "3600000"]
SCRIPT_RUNS = ("eval", "evalsha", "eval_ro", "evalsha_ro")


def state(fleet, options, names):
    """VALIDATE of a user session and a denied CHECK, which L1 answers, beside a GET that L1 answers."""
    if "madcache" not in names:
        return [], []
    system = fleet.system("madcache", l1=True)
    preload(system, 1, options.value_bytes)
    warm(system, 1)
    session = system.client()
    token = session.call("SESSION.CREATE", "ann", "DATA", '{"role":"authenticated"}')[0].decode()
    commands = {"GET": ["GET", key(0).decode()], "VALIDATE": ["SESSION.VALIDATE", token], "CHECK denied": DENIED}
    for command in commands.values():
        for _ in range(4):
            session.call(*command)
    session.close()
    rows = []
    for pipeline in (1, options.pipeline):
        pairs = [(Row("state", f"{name} P{pipeline}", "madcache"), command) for name, command in commands.items()]
        gets = pairs[0][0]

        def measure(row, command, number, pipeline=pipeline, gets=gets):
            requests = options.requests if pipeline == 1 else options.requests_pipelined
            before = script_runs(system)
            run = redis_benchmark(fleet, system, command, options.clients, pipeline, requests, 1)
            run.extra["l2_share"] = (script_runs(system) - before) / requests
            of_get = gets.runs[number].cpu_us["proxy"] if row is not gets else run.cpu_us["proxy"]
            run.extra["of_a_get"] = run.cpu_us["proxy"] / of_get
            return run
        alternate(options.runs, pairs, measure)
        rows += [row for row, _ in pairs]
    bars = []
    for row in rows:
        if not row.variant.startswith("GET"):
            bars.append(bar(row, "own CPU / that of a GET hit", row.median(lambda run: run.extra["of_a_get"]),
                            options.state_get_max))
            bars.append(bar(row, "share that L2 saw (else L1 did not answer)",
                            row.median(lambda run: run.extra["l2_share"]), options.hit_l2_share_max))
    return rows, bars


def check(fleet, options, names):
    """RATELIMIT.CHECK that is allowed, beside EVALSHA of the same script with the same keys and arguments."""
    systems = [fleet.system(name, l1=True) for name in (DIRECT, "madcache") if name in names]
    if len(systems) < 2:
        return [], []
    text, arguments = what_is_sent(systems[1], CHECK)
    sha = systems[0].redis_client().call("SCRIPT", "LOAD", text).decode()
    commands = {DIRECT: ["EVALSHA", sha, *arguments], "madcache": CHECK}
    rows = []
    for pipeline in (1, options.pipeline):
        requests = options.check_requests if pipeline == 1 else options.check_requests_pipelined
        pairs = beside_direct([(Row("check", f"CHECK P{pipeline}", s.name), s) for s in systems])
        alternate(options.runs, pairs, lambda row, system, _number, pipeline=pipeline, requests=requests:
                  redis_benchmark(fleet, system, commands[row.system], options.clients, pipeline, requests,
                                  options.keys))
        rows += [row for row, _ in pairs]
    return rows, [bar(row, "own + Redis / EVALSHA at Redis", row.ratio("proxy", "redis"), options.check_sum_max)
                  for row in mads(rows)]


def what_is_sent(system, command):
    """The script that the daemon sends to Redis for `command`, and what follows it in EVAL, as its MONITOR shows them."""
    monitor, session = system.redis_client(), system.client()
    monitor.call("MONITOR")
    session.call(*command)
    while True:
        words = re.findall(rb'"(?:[^"\\]|\\.)*"', monitor.reply())
        name, *rest = (ast.literal_eval("b" + word.decode("latin-1")) for word in words)
        if name.upper() == b"EVAL":
            break
    monitor.close()
    session.close()
    return rest[0], [word.decode() for word in rest[1:]]


def script_runs(system):
    client = system.redis_client()
    runs = sum(client.calls(command) for command in SCRIPT_RUNS)
    client.close()
    return runs
