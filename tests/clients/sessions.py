"""Runs the session of each client, with a fresh redis-server and a fresh daemon in its default settings. Judges nothing itself:
adds up what the sessions count and what the daemon did wrong. `--direct` runs them against redis-server alone, which tells
whether a session or the daemon is to blame."""

import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import time

from servers import Madcache, NotStarted, RedisServer

HERE = pathlib.Path(__file__).resolve().parent
SESSION_SECONDS_MAX = 120
NODE = ["node", "--test", "--test-reporter=spec"]
# Client -> its command, and the pattern of the line in which it counts passes or failures.
CLIENTS = {
    "redis-cli": [str(HERE / "redis_cli.sh")],
    "redis-py": [
        sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:asyncio", "--timeout=30",
        str(HERE / "session.py"),
    ],
    "node-redis": [*NODE, str(HERE / "node/node_redis.mjs")],
    "ioredis": [*NODE, str(HERE / "node/ioredis.mjs")],
}  # fmt: skip
PASSED = re.compile(r"^(?:ℹ pass (\d+)|.*?\b(\d+) passed\b.*)$", re.MULTILINE)
FAILED = re.compile(r"^(?:ℹ fail (\d+)|.*?\b(\d+) (?:failed|errors?)\b.*)$", re.MULTILINE)


def last_count(pattern, text):
    counts = [int(a or b) for a, b in pattern.findall(text)]
    return counts[-1] if counts else 0


def run_client(name, target, log):
    """Returns (passed, problems)."""
    environment = os.environ | {"SESSION_PORT": str(target.port), "PYTHONDONTWRITEBYTECODE": "1"}
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


def session(name, arguments):
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(RedisServer(arguments.logs / f"{name}-redis.log"))
        daemon = None
        if not arguments.direct:
            target = daemon = stack.enter_context(Madcache(target, arguments.logs / f"{name}-madcache.log"))
        passed, problems = run_client(name, target, arguments.logs / f"{name}.log")
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
