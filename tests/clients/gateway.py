"""Loads the example gateway with wrk: two of it, each before a daemon of its own, over one redis-server. A user's limit holds
over both, whoever counts; a login outlives a change of gateway and of daemon; a logout is seen by both. GATEWAY_BIN names the
example, MADCACHE_BIN the daemon. Depends on no speed: wrk ends after a number of responses."""

import argparse
import collections
import contextlib
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from servers import Madcache, NotStarted, RedisServer, Server

HERE = pathlib.Path(__file__).resolve().parent
# As in the example: searches of a user, logins of an address.
SEARCHES, LOGINS, WINDOW_SECONDS = 60, 20, 60
USERS = 8
CONNECTIONS = 16
RESPONSES = 6_000  # per load; many times what is allowed
WRK_SECONDS_MAX = 90
PATIENCE_SECONDS = 15


class Failed(Exception):
    """What the gateway did wrong."""


class Gateway(Server):
    """The example before a daemon. It says itself on which port it listens."""

    def __init__(self, daemon, log):
        super().__init__("gateway", log)
        self.daemon = daemon

    def command(self):
        return [os.environ["GATEWAY_BIN"]]

    def environment(self):
        return super().environment() | {"LISTEN": "127.0.0.1:0", "REDIS_URL": f"redis://127.0.0.1:{self.daemon.port}"}

    def _ready(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log.read_text(errors="replace"))
            if found:
                self.port = int(found.group(1))
                return True
            time.sleep(0.02)
        return False

    def ask(self, method, path, token=None):
        """Returns (status, headers, body)."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def knows(self, token, user):
        status, _, body = self.ask("GET", "/whoami", token)
        return status == 200 and json.loads(body)["user"] == user


class Wrk:
    """A load on one gateway that runs until its responses are in."""

    def __init__(self, gateway, tokens, log):
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{WRK_SECONDS_MAX}s", "--timeout", f"{PATIENCE_SECONDS}s",
                 "-s", str(HERE / "gateway.lua"), f"http://127.0.0.1:{gateway.port}/", "--",
                 str(RESPONSES), str(SEARCHES), str(WINDOW_SECONDS), *tokens],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def result(self):
        """(status -> count, remaining -> count) of its responses."""
        while self.process.poll() is None and "enough" not in self.log.read_text(errors="replace"):
            time.sleep(0.02)
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(PATIENCE_SECONDS)
        text = self.log.read_text(errors="replace")
        line = text.strip().rpartition("\n")[2]
        if status != 0 or not line.startswith("{"):
            raise Failed(f"wrk ended with {status}: {text[-500:]}")
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            raise Failed(f"fewer than {RESPONSES} responses within {WRK_SECONDS_MAX} s: {text[-500:]}") from None
        [thread] = found["threads"]
        if thread["wrong"] or found["socket_errors"]:
            raise Failed(f"{thread['wrong']} wrong responses ({thread['example']}), {found['socket_errors']} socket errors")
        statuses = {int(status): count for status, count in thread["statuses"].items()}
        return collections.Counter(statuses), collections.Counter(thread["remaining"])


def expect(what, condition, seen=""):
    if not condition:
        raise Failed(f"{what}: {seen}")
    print(f"good: {what}", flush=True)


def until(what, condition):
    """For what is promised soon and not at once."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: still not so after {PATIENCE_SECONDS} s")
        time.sleep(0.02)
    print(f"good: {what}", flush=True)


def log_in(gateways):
    """Logs everyone in, in turns on both gateways, until the limit of logins is used up."""
    tokens = {}
    for number in range(LOGINS):
        user = f"user{number % USERS}"
        status, headers, body = gateways[number % 2].ask("POST", f"/login/{user}")
        if status != 200 or headers["RateLimit-Limit"] != str(LOGINS):
            raise Failed(f"login {number}: {status} {dict(headers)}")
        tokens[user] = body
    print(f"good: {LOGINS} logins over both gateways", flush=True)
    return tokens


def logins_are_limited(gateways, began):
    """One more is refused by both, unless some of the window is over."""
    for gateway in gateways:
        status, headers, _ = gateway.ask("POST", "/login/late")
        if status == 200 and time.time() - began > WINDOW_SECONDS / LOGINS:
            return print("left out: logging in took so long that one more fits", flush=True)
        wait = int(headers.get("Retry-After") or 0)
        expect("a login more is told to wait", status == 429 and 0 < wait <= 2 * WINDOW_SECONDS, (status, dict(headers)))


def limits_hold_under_load(gateways, tokens, logs):
    """Two loads at once use up each user's searches, of which each gateway let one pass before: together as many as the limit says."""
    began = time.time()
    for gateway in gateways:
        status, headers, _ = gateway.ask("GET", "/search", next(iter(tokens.values())))
        expect("a search passes", status == 200, (status, dict(headers)))
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(Wrk(gateway, [*tokens.values(), "nobody.nothing"], logs / f"wrk-{number}.log"))
            for number, gateway in enumerate(gateways)
        ]
        results = [load.result() for load in loads]
    ended = time.time()
    statuses = results[0][0] + results[1][0]
    remaining = results[0][1] + results[1][1]
    print(f"wrk: {dict(statuses)} in {ended - began:.1f} s", flush=True)
    expect("only 200, 401 and 429 are answered", set(statuses) == {200, 401, 429}, statuses)
    expect("every gateway denies some", all(r[0][429] for r in results), results)
    statuses[200] += len(gateways)
    remaining.update(str(SEARCHES - 1 - passed) for passed in range(len(gateways)))
    nobody = statuses.total() / (USERS + 1)
    expect("whoever is not logged in gets a 401, and nobody else", abs(statuses[401] - nobody) <= 2 * CONNECTIONS, statuses)
    allowed = USERS * SEARCHES
    if began // WINDOW_SECONDS == ended // WINDOW_SECONDS:
        expect("as many searches pass as the limit says", statuses[200] == allowed, statuses)
        once_each = {str(left): USERS for left in range(SEARCHES)}
        expect("no two searches of a user got the same place", dict(remaining) == once_each, remaining)
    else:
        # Of the window before, what counts still becomes less by limit / window each second.
        regained = USERS * (math.ceil(ended - began) + 1) * SEARCHES / WINDOW_SECONDS
        expect("as many searches pass as the limit says", allowed <= statuses[200] <= allowed + regained, statuses)


def logins_outlive_a_daemon(gateways, daemons, tokens, logs):
    first, second = gateways
    for number, (user, token) in enumerate(tokens.items()):
        if not (first.knows(token, user) and second.knows(token, user)):
            raise Failed(f"login {number} is not known to both gateways")
    print("good: each gateway knows who logged in at the other", flush=True)
    user, token = next(iter(tokens.items()))
    with Wrk(second, tokens.values(), logs / "wrk-while-a-daemon-ends.log") as load:
        daemons[0].stop()
        expect("a login is kept without the daemon that it was made through", second.knows(token, user))
        status, _, _ = first.ask("GET", "/whoami", token)
        expect("the gateway whose daemon has ended says so", status == 503, status)
        daemons[0].start_again()
        until("a login is kept over a change of daemon", lambda: first.knows(token, user))
        statuses, _ = load.result()
    expect("the other gateway's load notices nothing of it", set(statuses) <= {200, 429}, statuses)


def logouts_are_seen(gateways, tokens):
    first, second = gateways
    for user, token in list(tokens.items())[:2]:
        first.knows(token, user)
        status, _, _ = second.ask("POST", "/logout", token)
        expect("a logout is answered", status == 200, status)
        status, _, _ = second.ask("GET", "/whoami", token)
        expect("a logout is seen where it was made", status == 401, status)
        until("a logout is seen through the other daemon", lambda token=token: first.ask("GET", "/whoami", token)[0] == 401)


class Daemon(Madcache):
    """One that can be ended in between, and started again on the same port."""

    def stop(self):
        status = self._end()
        if status != 0:
            self.problems.append(f"madcache ended with status {status} after SIGTERM")

    def start_again(self):
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, env=self.environment(),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if not self._ready():
            raise NotStarted(f"the daemon did not start again; {self.log} ends with:\n{self.tail()}")


def check(logs):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer(logs / "redis.log"))
        daemons = [stack.enter_context(Daemon(redis, logs / f"madcache-{number}.log")) for number in range(2)]
        gateways = [
            stack.enter_context(Gateway(daemon, logs / f"gateway-{number}.log")) for number, daemon in enumerate(daemons)
        ]
        began = time.time()
        tokens = log_in(gateways)
        logins_are_limited(gateways, began)
        limits_hold_under_load(gateways, tokens, logs)
        logins_outlive_a_daemon(gateways, daemons, tokens, logs)
        logouts_are_seen(gateways, tokens)
    problems = [problem for daemon in daemons for problem in daemon.problems]
    if problems:
        raise Failed("; ".join(problems))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=pathlib.Path, required=True)
    logs = parser.parse_args().logs.resolve()
    logs.mkdir(parents=True, exist_ok=True)
    try:
        check(logs)
    except (Failed, NotStarted, OSError, subprocess.TimeoutExpired) as failure:
        print(f"gateway: {failure}")
        print("0 passed, 1 failed")
        return 1
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
