"""Owns the case of TLS: the daemon with TLS on its clients' side, beside a Redis with TLS, both with one ECDSA certificate that
openssl makes here. Redis behind the daemon is reached by plain text, so that its cost is that of the daemon's own TLS."""

import os
import subprocess

from drive import Row, alternate, preload, redis_benchmark, warm
from report import bar
from systems import DIRECT, free_port
from throughput import GET, beside_direct, mads, set_of


def tls(fleet, options, names):
    """GET hits and forwarded GETs and SETs over TLS, beside Redis with TLS."""
    certificate = certificate_in(fleet.directory.name)
    direct = secure_redis(fleet, certificate)
    systems = [("hit", direct), ("forward", direct)]
    if "madcache" in names:
        systems += [("hit", secure_daemon(fleet, certificate, l1=True)),
                    ("forward", secure_daemon(fleet, certificate, l1=False))]
    for _, system in systems[1:]:
        preload(system, options.keys, options.value_bytes)
        warm(system, options.keys)
    rows = []
    for kind, verb, command in (("hit", "GET", GET), ("forward", "GET", GET), ("forward", "SET", set_of(options))):
        for pipeline in (1, options.pipeline):
            requests = options.requests if pipeline == 1 else options.requests_pipelined
            pairs = beside_direct([(Row("tls", f"{kind} {verb} P{pipeline}", system.name), system)
                                   for of, system in systems if of == kind])
            alternate(options.runs, pairs, lambda _row, system, _number, command=command, pipeline=pipeline,
                      requests=requests: redis_benchmark(fleet, system, command, options.clients, pipeline, requests,
                                                         options.keys, ca=certificate["ca"]))
            rows += [row for row, _ in pairs]
    bars = [bar(row, "own CPU / direct", row.ratio("proxy"), options.tls_own_max) for row in mads(rows)]
    return rows, bars


def certificate_in(directory):
    """An authority and what it signs for this machine."""
    path = {name: os.path.join(directory, name) for name in ("ca", "ca.key", "cert", "key", "request", "names")}
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with open(path["names"], "w") as names:
        names.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for step in (
        ["req", "-x509", *curve, "-keyout", path["ca.key"], "-out", path["ca"], "-days", "2", "-subj", "/CN=bench"],
        ["req", *curve, "-keyout", path["key"], "-out", path["request"], "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", path["request"], "-CA", path["ca"], "-CAkey", path["ca.key"], "-CAcreateserial",
         "-out", path["cert"], "-days", "2", "-extfile", path["names"]],
    ):
        subprocess.run(["openssl", *step], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path


def secure_redis(fleet, certificate):
    port = free_port()
    system = fleet.system(DIRECT, redis_options=[
        "--tls-port", str(port), "--tls-cert-file", certificate["cert"], "--tls-key-file", certificate["key"],
        "--tls-ca-cert-file", certificate["ca"], "--tls-auth-clients", "no"])
    system.tls_port = port
    return system


def secure_daemon(fleet, certificate, l1):
    port = free_port()
    system = fleet.system("madcache", l1=l1, settings={
        "MADCACHE_SERVER_TLS_PORT": str(port), "MADCACHE_SERVER_TLS_CERT_FILE": certificate["cert"],
        "MADCACHE_SERVER_TLS_KEY_FILE": certificate["key"]})
    system.tls_port = port
    return system
