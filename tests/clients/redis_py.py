"""Runs redis-py's own tests directly against redis-server, then through the daemon, and then at a daemon without a Redis, and
compares them test by test: what passes directly must pass through the daemon, and without a Redis too, but for what
`needs_redis.py` lists. Judges the daemon, never redis-py: a test that fails both ways is no matter.

A test that is missing is run again, many times both ways on a machine made busy by that. It is left out of the verdict, and
named, only if redis-server itself fails it there too and the daemon hardly more often. Passing at a second try is no excuse."""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import needs_redis
from servers import Madcache, NotStarted, RedisServer

COMMON = ["commands", "pipeline", "pubsub", "lock", "scripting", "encoding", "monitor", "connection_pool"]
FILES = {
    "sync": [f"tests/test_{name}.py" for name in [*COMMON, "cache"]],
    "asyncio": [f"tests/test_asyncio/test_{name}.py" for name in COMMON],
}
# These two speak to a fixed port, 6380, whatever server the suite is given.
ELSEWHERE = [f"tests/test_commands.py::TestRedisCommands::test_{name}" for name in ("sync", "psync")]
# Bounds for what hangs, not for what is slow: a run takes a minute and a half on two idle cores.
RUN_SECONDS_MAX = 300
TEST_SECONDS_MAX = 30
AGAIN_TESTS_MAX = 40
AGAIN_ROUNDS = 12
AGAIN_AT_ONCE = 6
# The tests send DEBUG, REPLICAOF and the like, which the daemon refuses by default.
SETTINGS = {"MADCACHE_SERVER_DENY_COMMANDS": ""}


@dataclasses.dataclass(frozen=True, order=True)
class Suite:
    kind: str
    protocol: int

    def __str__(self):
        return f"{self.kind}-resp{self.protocol}"


SUITES = [Suite(kind, protocol) for kind in FILES for protocol in (2, 3)]

# Enough of them for the daemon without a Redis: each kind and each protocol.
EMBEDDED_SUITES = [Suite("sync", 3), Suite("asyncio", 2)]


@dataclasses.dataclass
class Run:
    """What one pytest process said: test -> outcome, and what went wrong around the tests."""

    outcomes: dict
    problems: list
    seconds: float

    def passed(self):
        return {test for test, outcome in self.outcomes.items() if outcome == "passed"}


def run_pytest(arguments, suite, port, tests, log):
    url = f"redis://127.0.0.1:{port}/0"
    outcomes_file = log.with_suffix(".outcomes").resolve()
    outcomes_file.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "--tb=native", "--disable-warnings",
        "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "outcome_plugin",
        "-m", "not onlycluster and not redismod", f"--timeout={TEST_SECONDS_MAX}",
        "--protocol", str(suite.protocol), "--redis-url", url, "--redis-mod-url", url,
        *(f"--deselect={test}" for test in ELSEWHERE), *tests,
    ]  # fmt: skip
    environment = os.environ | {
        "OUTCOMES_FILE": str(outcomes_file),
        "PYTHONPATH": str(pathlib.Path(__file__).resolve().parent),
    }
    problems = []
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=arguments.source, env=environment,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            status = process.wait(RUN_SECONDS_MAX)
            # 0: all passed, 1: some failed. Anything else is not a verdict on tests.
            if status not in (0, 1):
                problems.append(f"pytest ended with status {status}, see {log}")
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            problems.append(f"pytest was stopped after {RUN_SECONDS_MAX} s, see {log}")
    lines = outcomes_file.read_text().splitlines() if outcomes_file.exists() else []
    outcomes = dict(json.loads(line) for line in lines if line.endswith("]"))
    return Run(outcomes, problems, time.monotonic() - began)


def run_suite(arguments, suite, way, tests, name):
    """One suite with a redis-server of its own and, unless `way` is direct, a daemon of its own."""
    log = arguments.logs / f"{name}.log"
    try:
        with contextlib.ExitStack() as stack:
            target = daemon = None
            if way != "embedded":
                target = stack.enter_context(RedisServer(arguments.logs / f"{name}-redis.log"))
            if way != "direct":
                target = daemon = Madcache(target, arguments.logs / f"{name}-madcache.log", SETTINGS)
                stack.enter_context(daemon)
            run = run_pytest(arguments, suite, target.port, tests, log)
    except NotStarted as error:
        return Run({}, [str(error)], 0.0)
    if daemon:
        run.problems += daemon.problems
    return run


def run_all(arguments, way, suites):
    with concurrent.futures.ThreadPoolExecutor(len(SUITES)) as pool:
        runs = pool.map(lambda s: run_suite(arguments, s, way, FILES[s.kind], f"{s}-{way}"), suites)
        return dict(zip(suites, runs, strict=True))


def run_again(arguments, suite, tests, other):
    """Runs `tests` many times both ways and returns those whose failure says nothing of the daemon."""
    jobs = [(way, number) for number in range(AGAIN_ROUNDS) for way in ("direct", other)]
    with concurrent.futures.ThreadPoolExecutor(AGAIN_AT_ONCE) as pool:
        runs = list(
            pool.map(lambda j: run_suite(arguments, suite, j[0], tests, f"{suite}-{j[0]}-again{j[1]}"), jobs)
        )
    excused = set()
    for test in tests:
        failed = {"direct": 0, other: 0}
        for (way, _), run in zip(jobs, runs, strict=True):
            failed[way] += run.outcomes.get(test) != "passed"
        flaky = 0 < failed["direct"] and failed[other] <= failed["direct"] + 1
        print(
            f"again: {suite} {test}: of {AGAIN_ROUNDS} runs failed directly {failed['direct']}, {other} madcache "
            f"{failed[other]}{'; flaky on redis-server too' if flaky else ''}"
        )
        if flaky:
            excused.add(test)
    return excused


def compare(arguments, direct, runs, other, may_fail=lambda test: False):
    """Returns what is missing and what was excused, as sets of (suite, test)."""
    missing = {(s, t) for s in runs for t in direct[s].passed() - runs[s].passed() if not may_fail(t)}
    excused = set()
    if 0 < len(missing) <= AGAIN_TESTS_MAX:
        for suite in runs:
            tests = sorted(test for s, test in missing if s == suite)
            if tests:
                excused |= {(suite, test) for test in run_again(arguments, suite, tests, other)}
    return missing - excused, excused


def report_embedded(direct, embedded, missing, excused):
    """Prints what was found of the daemon without a Redis, and returns how many tests passed and what is wrong."""
    wrong = [f"missing without a Redis: {suite} {test}" for suite, test in sorted(missing)]
    wrong += [f"problem: {suite} embedded: {problem}" for suite in embedded for problem in embedded[suite].problems]
    passed_direct = {test for suite in embedded for test in direct[suite].passed()}
    passed = {test for suite in embedded for test in embedded[suite].passed()}
    if set(embedded) == set(EMBEDDED_SUITES):
        wrong += needs_redis.inexact(passed_direct, passed)
    for suite, run in embedded.items():
        print(f"{suite}: without a Redis {len(run.passed())} passed in {run.seconds:.0f} s")
    for suite, test in sorted(excused):
        print(f"flaky: {suite} {test}: redis-server fails it at times, so it is left out")
    for line in wrong:
        print(line)
    listed = sum(needs_redis.row_of(test) is not None for suite in embedded for test in direct[suite].passed())
    print(f"redis-py without a Redis: {listed} tests need one, {len(wrong)} things are wrong")
    return sum(len(run.passed()) for run in embedded.values()), len(wrong)


def report(direct, through, missing, excused):
    for suite in direct:
        print(
            f"{suite}: direct {len(direct[suite].passed())} passed in {direct[suite].seconds:.0f} s, "
            f"through madcache {len(through[suite].passed())} passed in {through[suite].seconds:.0f} s"
        )
        more = sorted(through[suite].passed() - direct[suite].passed())
        if more:
            names = ", ".join(test.rpartition("::")[2] for test in more[:10])
            print(f"more: {suite}: {len(more)} passed through madcache alone: {names}")
    for suite, test in sorted(excused):
        print(f"flaky: {suite} {test}: redis-server fails it at times, so it is left out")
    for suite, test in sorted(missing):
        print(f"missing: {suite} {test}: {through[suite].outcomes.get(test, 'did not run')}")
    problems = [
        f"problem: {suite} {way}: {problem}"
        for way, runs in (("direct", direct), ("through madcache", through))
        for suite in runs
        for problem in runs[suite].problems
    ]
    # A comparison with nothing on one side would find no difference.
    problems += [f"problem: {suite}: nothing passed directly" for suite in direct if not direct[suite].passed()]
    for problem in problems:
        print(problem)
    passed_direct = sum(len(run.passed()) for run in direct.values())
    passed_through = sum(len(run.passed()) for run in through.values())
    names = ", ".join(f"{suite} {test.rpartition('::')[2]}" for suite, test in sorted(missing)[:20]) or "none"
    if len(missing) > 20:
        names += f" and {len(missing) - 20} more"
    print(f"redis-py: direct {passed_direct} passed, through madcache {passed_through} passed, missing: {names}")
    good = passed_direct - len(missing) - len(excused)
    bad = len(missing) + len(problems)
    return good, bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=pathlib.Path, required=True, help="redis-py's unpacked source distribution")
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    names = {str(suite): suite for suite in SUITES}
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(names)}; all, if none is named")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.suites if name not in names]
    if unknown:
        parser.error(f"there is no suite {unknown[0]}; there are: {', '.join(names)}")
    arguments.suites = [names[name] for name in arguments.suites] or SUITES
    arguments.logs = arguments.logs.resolve()
    arguments.logs.mkdir(parents=True, exist_ok=True)
    # The tests wait more than they work, so two ways at once take hardly longer than one.
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        suites = [suite for suite in EMBEDDED_SUITES if suite in arguments.suites]
        embedded = beside.submit(run_all, arguments, "embedded", suites)
        direct = run_all(arguments, "direct", arguments.suites)
        embedded = embedded.result()
    through = run_all(arguments, "through", arguments.suites)
    good, bad = report(direct, through, *compare(arguments, direct, through, "through"))
    found = compare(arguments, direct, embedded, "embedded", lambda test: needs_redis.row_of(test) is not None)
    good_embedded, bad_embedded = report_embedded(direct, embedded, *found)
    print(f"{good + good_embedded} passed, {bad + bad_embedded} failed")
    return 0 if bad + bad_embedded == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
