"""Runs the session of each client, with a fresh redis-server or Redis Cluster and a fresh daemon in its default settings. Judges
nothing itself: adds up what the sessions count and what the daemon did wrong. `--direct` runs them against redis-server alone,
which tells whether a session or the daemon is to blame."""

import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from servers import Madcache, NotStarted, RedisCluster, RedisServer, free_port

HERE = pathlib.Path(__file__).resolve().parent
SESSION_SECONDS_MAX = 120
NODE = ["node", "--test", "--test-reporter=spec"]
PYTEST = [
    sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:asyncio", "--timeout=30",
]  # fmt: skip
REDIS_PY = [*PYTEST, str(HERE / "session.py")]
# Client -> its command, and the pattern of the line in which it counts passes or failures. Those in -tls speak TLS, those in
# -cluster to a daemon before a Redis Cluster of three masters.
CLIENTS = {
    "redis-cli": [str(HERE / "redis_cli.sh")],
    "redis-py": REDIS_PY,
    "redis-py-tls": REDIS_PY,
    "node-redis": [*NODE, str(HERE / "node/node_redis.mjs")],
    "ioredis": [*NODE, str(HERE / "node/ioredis.mjs")],
    "redis-cli-cluster": [str(HERE / "redis_cli_cluster.sh")],
    "redis-py-cluster": [*PYTEST, str(HERE / "cluster_session.py")],
    "node-cluster": [*NODE, str(HERE / "node/cluster.mjs")],
}
PASSED = re.compile(r"^(?:ℹ pass (\d+)|.*?\b(\d+) passed\b.*)$", re.MULTILINE)
FAILED = re.compile(r"^(?:ℹ fail (\d+)|.*?\b(\d+) (?:failed|errors?)\b.*)$", re.MULTILINE)


def last_count(pattern, text):
    counts = [int(a or b) for a, b in pattern.findall(text)]
    return counts[-1] if counts else 0


def run_client(name, where, log):
    """Returns (passed, problems). `where` is what the client is told of its server."""
    environment = os.environ | where | {"PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        try:
            status = subprocess.run(
                CLIENTS[name], env=environment, timeout=SESSION_SECONDS_MAX,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            status = f"none after {SESSION_SECONDS_MAX} s"
    text = log.read_text(encoding="utf-8", errors="replace")
    passed, failed = last_count(PASSED, text), last_count(FAILED, text)
    problems = []
    if failed or status != 0 or passed == 0:
        problems += [f"{name}: exit status {status}, {failed} failed, see {log}"] * max(failed, 1)
    return passed, problems


def certificate(directory):
    """An authority and what it signs for this machine; returns their files: (authority, certificate, key)."""
    ca, ca_key, cert, key, request, names = (
        str(directory / name) for name in ("ca.crt", "ca.key", "cert.crt", "cert.key", "request", "names")
    )
    pathlib.Path(names).write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", encoding="ascii")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for step in (
        ["req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=sessions"],
        ["req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert, "-days", "2",
         "-extfile", names],
    ):  # fmt: skip
        subprocess.run(["openssl", *step], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return ca, cert, key


def session(name, arguments):
    with contextlib.ExitStack() as stack:
        server = RedisCluster if name.endswith("-cluster") else RedisServer
        target = stack.enter_context(server(arguments.logs / f"{name}-redis.log"))
        daemon, where, settings = None, {}, {}
        if name.endswith("-tls") and not arguments.direct:
            directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="madcache-test-")))
            ca, cert, key = certificate(directory)
            where = {"SESSION_CA": ca, "SESSION_PORT": str(free_port())}
            settings = {
                "MADCACHE_SERVER_TLS_PORT": where["SESSION_PORT"],
                "MADCACHE_SERVER_TLS_CERT_FILE": cert,
                "MADCACHE_SERVER_TLS_KEY_FILE": key,
            }
        if not arguments.direct:
            log = arguments.logs / f"{name}-madcache.log"
            target = daemon = stack.enter_context(Madcache(target, log, settings))
        where = {"SESSION_PORT": str(target.port)} | where
        passed, problems = run_client(name, where, arguments.logs / f"{name}.log")
    if daemon:
        problems += [f"{name}: {problem}" for problem in daemon.problems]
    if problems:
        print((arguments.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-6000:])
    return passed, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    parser.add_argument("--direct", action="store_true", help="against redis-server, without the daemon")
    parser.add_argument("clients", nargs="*", default=list(CLIENTS), help=", ".join(CLIENTS))
    arguments = parser.parse_args()
    arguments.logs = arguments.logs.resolve()
    arguments.logs.mkdir(parents=True, exist_ok=True)
    passed_sum, problems_all = 0, []
    for name in arguments.clients:
        began = time.monotonic()
        try:
            passed, problems = session(name, arguments)
        except NotStarted as error:
            passed, problems = 0, [f"{name}: {error}"]
        print(f"{name}: {passed} checks good, {len(problems)} not, {time.monotonic() - began:.1f} s")
        passed_sum += passed
        problems_all += problems
    for problem in dict.fromkeys(problems_all):
        print(f"problem: {problem}")
    print(f"{passed_sum} passed, {len(problems_all)} failed")
    return 1 if problems_all else 0


if __name__ == "__main__":
    sys.exit(main())
