"""haproxy/state-pillar.cfg before three Redis with three sentinels and three PostgreSQL under Patroni, all real, while nodes are
killed, stopped and restarted. With MADCACHE_BIN=FILE that daemon stands in front. Prints a line per case, what it measured, and what the
servers said if a case fails. Ends every process that it started. Standard library only.

    python3 tests/haproxy/failover.py --logs DIRECTORY
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback

import wire
from postgres_cases import PostgresCases
from processes import CONFIGURATION, NODES, Daemon, Etcd, HAProxy, PatroniNode, Place, RedisNode, SentinelNode, wait_for
from redis_cases import RedisCases

SECONDS_OF = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Examples for HAProxy close what is idle for 30 s to 1 h; the connections of a caching proxy are idle for longer.
IDLE_SECONDS_MIN = 7 * 86400


class Run:
    """Starts the servers, runs the cases, ends the servers."""

    def __init__(self, logs):
        self.place = Place(logs)
        first = RedisNode(self.place, 1)
        self.redis = [first] + [RedisNode(self.place, number, first) for number in NODES[1:]]
        self.sentinels = [SentinelNode(self.place, number, first) for number in NODES]
        self.etcd = Etcd(self.place)
        self.patroni = [PatroniNode(self.place, number, self.etcd) for number in NODES]
        self.haproxy = HAProxy(self.place, self.redis, self.sentinels, self.patroni)
        self.another_haproxy = HAProxy(self.place, self.redis, self.sentinels, self.patroni, "another-haproxy")
        self.daemon = Daemon(self.place, self.haproxy) if os.environ.get("MADCACHE_BIN") else None
        self.alone = [RedisNode(self.place, "alone", password="swordfish")]
        self.its_sentinel = [SentinelNode(self.place, "alone", self.alone[0])]
        self.haproxy_alone = HAProxy(self.place, self.alone, self.its_sentinel, [], "haproxy-alone")
        self.measured = []
        self.passed = self.failed = 0

    def servers(self):
        proxies = [self.haproxy, self.another_haproxy, self.haproxy_alone, *([self.daemon] if self.daemon else [])]
        return [*proxies, *self.patroni, self.etcd, *self.sentinels, *self.its_sentinel, *self.redis, *self.alone]

    def start_postgres(self):
        """The first node makes the cluster, so that the others do not race for it."""
        self.etcd.start()
        wait_for("etcd", lambda: wire.Connection(self.etcd.port).close() is None)
        self.patroni[0].start()
        wait_for("a first primary", lambda: self.patroni[0].answers("/primary"), pause=0.1)
        for node in self.patroni[1:]:
            node.start()

    def cases(self, only):
        """PostgreSQL takes a while to start, so it does that beside the cases of Redis."""
        starting = threading.Thread(target=self.start_postgres, daemon=True)
        if only != "redis":
            starting.start()
        for node in self.redis:
            node.start()
        # A sentinel looks for replicas at its start, and then only ten seconds later.
        wait_for("two replicas of the first Redis", lambda: self.redis[0].replicas() == 2)
        for sentinel in self.sentinels:
            sentinel.start()
        self.case("haproxy accepts the file, with no environment and with this one", self.file_is_valid)
        self.case("nothing in the file cuts idle connections", self.file_cuts_nothing_idle)
        self.case("one node is enough, and passwords are sent", self.one_node_with_passwords)
        self.haproxy.start()
        if only != "postgres":
            self.redis_cases()
        if only != "redis":
            starting.join()
            with Idle(self.haproxy) as idle:
                self.postgres_cases()
                self.case("idle connections are not cut", lambda: self.measured.append(idle.still_work()))
        self.case("the statistics answer", self.statistics_answer)

    def redis_cases(self):
        cases = RedisCases(self.redis, self.sentinels, self.haproxy, self.another_haproxy, self.daemon, self.measured)
        for run in (
            cases.case_new_connections_come_to_the_master,
            cases.case_one_sentinel_less_changes_nothing,
            cases.case_a_killed_master_that_is_restarted_never_gets_a_write,
            cases.case_a_master_that_comes_back_amid_its_failover_never_gets_a_write,
            cases.case_a_stopped_master_that_goes_on_never_gets_a_write,
            cases.case_a_master_that_is_replaced_while_it_lives_loses_its_connections,
            cases.case_no_acknowledged_write_is_lost_that_a_replica_had,
        ):
            self.case(f"redis: {name_of(run)}", run)
        if self.daemon:
            self.case("redis: the daemon goes through all of it", cases.case_the_daemon_goes_through_all_of_it)
        else:
            print("left out: MADCACHE_BIN names no daemon to stand in front")

    def postgres_cases(self):
        cases = PostgresCases(self.patroni, self.haproxy, self.measured)
        for run in (cases.case_each_address_has_its_nodes, cases.case_after_a_primary_is_killed_both_addresses_follow):
            self.case(f"postgres: {name_of(run)}", run)

    def case(self, name, run):
        began = time.monotonic()
        try:
            run()
        except Exception:  # pylint: disable=broad-except
            self.failed += 1
            print(f"not ok {name} ({time.monotonic() - began:.1f} s)\n{traceback.format_exc()}", flush=True)
        else:
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)

    # -- cases of the file and of HAProxy itself

    def file_is_valid(self):
        bare = {name: value for name, value in os.environ.items() if name not in self.haproxy.variables}
        for environment in (bare, bare | self.haproxy.variables, bare | {"REDIS_PASSWORD": "a", "SENTINEL_PASSWORD": "b"}):
            done = subprocess.run(
                ["haproxy", "-c", "-f", str(CONFIGURATION)], env=environment, capture_output=True, text=True, check=False
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0 and "[WARNING]" not in said, said

    @staticmethod
    def file_cuts_nothing_idle():
        text = CONFIGURATION.read_text()
        tcp, stats = text.split("\nfrontend stats\n")
        for setting in ("client", "server", "tunnel"):
            ((count, unit),) = re.findall(rf"^\s*timeout {setting} (\d+)([smhd])$", tcp, re.MULTILINE)
            assert int(count) * SECONDS_OF[unit] >= IDLE_SECONDS_MIN, f"timeout {setting} {count}{unit}"
        assert re.search(r"^\s*option tcpka$", tcp, re.MULTILINE)
        assert "mode http" in stats, "the split was not where it should be"

    def one_node_with_passwords(self):
        for server in [*self.alone, *self.its_sentinel]:
            server.start()

        def answer():
            with wire.Redis(self.haproxy_alone.redis_port, seconds=5) as connection:
                connection.call("AUTH", "swordfish")
                return connection.call("PING") == "PONG"

        self.haproxy_alone.start({"SENTINEL_MAJORITY": "1", "REDIS_PASSWORD": "swordfish", "SENTINEL_PASSWORD": "swordfish"})
        wait_for("the only Redis", answer)
        self.haproxy_alone.end()
        # The same without them: it must have been the passwords.
        self.haproxy_alone.start({"SENTINEL_MAJORITY": "1"})
        wait_for("its checks", lambda: not self.haproxy_alone.up("redis") and not self.haproxy_alone.up("redis-1-votes"))
        for server in [self.haproxy_alone, *self.its_sentinel, *self.alone]:
            server.end()

    def statistics_answer(self):
        status, page = self.haproxy.get("/")
        assert status == 200 and "Statistics Report" in page and "redis-1-votes" in page
        status, metrics = self.haproxy.get("/metrics")
        assert status == 200 and 'haproxy_server_status{proxy="redis",server="redis-1"' in metrics
        assert self.haproxy.get("/healthz")[0] == 200

    # -- the end

    def end(self):
        for server in self.servers():
            server.end()
        self.place.remove()

    def show_logs(self):
        for server in self.servers():
            lines = server.log.read_text(errors="replace").splitlines()
            print(f"---- {server.log} ends with:", *lines[-15:], sep="\n")


class Idle:
    """Connections of the kinds that stay silent for long: a link, one that tracks keys, a subscriber."""

    def __init__(self, haproxy):
        self.began = time.monotonic()
        wait_for("a master behind HAProxy", lambda: len(haproxy.up("redis")) == 1)
        self.link, self.tracking, self.subscriber = (wire.Redis(haproxy.redis_port) for _ in range(3))
        self.haproxy = haproxy

    def __enter__(self):
        self.link.call("SET", "idle", "before")
        # Redirected, so that RESP2 is enough: the subscriber hears of the keys that the other has read.
        number = self.subscriber.call("CLIENT", "ID")
        self.tracking.call("CLIENT", "TRACKING", "ON", "REDIRECT", number)
        self.tracking.call("GET", "idle")
        self.subscriber.call("SUBSCRIBE", "__redis__:invalidate")
        return self

    def __exit__(self, *_):
        for connection in (self.link, self.tracking, self.subscriber):
            connection.close()

    def still_work(self):
        silent = time.monotonic() - self.began
        assert self.link.call("SET", "idle", "after") == "OK"
        assert self.subscriber.reply() == ["message", "__redis__:invalidate", ["idle"]]
        assert self.tracking.call("GET", "idle") == "after"
        return f"idle connections were silent for {silent:.1f} s"


def name_of(run):
    return run.__name__.removeprefix("case_").replace("_", " ")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--logs", required=True)
    arguments.add_argument("--only", choices=("redis", "postgres"))
    arguments = arguments.parse_args()
    # The end of the run must come also where tests/run stops it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = Run(arguments.logs)
    try:
        run.cases(arguments.only)
    except Exception:  # pylint: disable=broad-except
        run.failed += 1
        traceback.print_exc()
    finally:
        run.end()
    for line in run.measured:
        print(f"measured: {line}")
    if run.failed:
        run.show_logs()
    print(f"{run.passed} passed, {run.failed} failed")
    return 1 if run.failed else 0


if __name__ == "__main__":
    sys.exit(main())
