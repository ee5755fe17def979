"""What must hold on the way to Redis while masters die, come back, stop and go on. The cases follow each other on one set of servers."""

import contextlib
import queue
import socket
import threading
import time

import wire
from processes import MASTER_NAME, wait_for
from writers import DaemonClient, OldMaster, RedisWriter

# How long the connections of a stuck server may live: two checks of 3 s each, and some for a loaded machine.
CLOSE_SECONDS_MAX = 20


class RedisCases:
    """`measured` collects what the run should print."""

    def __init__(self, nodes, sentinels, haproxy, another_haproxy, daemon, measured):
        self.nodes = nodes
        self.sentinels = list(sentinels)
        self.haproxy = haproxy
        self.another_haproxy = another_haproxy
        self.daemon = daemon
        self.measured = measured
        self.writer = RedisWriter(haproxy.redis_port)
        self.daemon_client = DaemonClient(daemon.port) if daemon else None

    # -- words

    def through(self):
        return wire.Redis(self.haproxy.redis_port, seconds=5)

    def node_behind(self, haproxy=None):
        """The node that a new connection comes to."""
        with wire.Redis((haproxy or self.haproxy).redis_port, seconds=5) as connection:
            port = int(connection.call("CONFIG", "GET", "port")[1])
        return next(node for node in self.nodes if node.port == port)

    def elected(self):
        """The node that all sentinels name, or None while they differ."""
        ports = {sentinel.master_port() for sentinel in self.sentinels}
        return next((node for node in self.nodes if ports == {node.port}), None)

    def settled(self):
        """Waits until there is one master that everybody knows, the other two follow it, and HAProxy has it."""

        def one_master():
            node = self.elected()
            if node is None:
                return None
            others = [other for other in self.nodes if other is not node]
            follow = node.role() == "master" and node.replicas() == 2 and all(other.role() == "slave" for other in others)
            return node if follow and self.haproxy.up("redis") == {node.server} else None

        node = wait_for("one master with two replicas", one_master)
        wait_for("the sentinels see them", lambda: all(s.knows_all() for s in self.sentinels if len(self.sentinels) == 3))
        return node

    def await_write_at_another(self, old, since):
        """Waits until the writer has written to another node than `old`, and gives that one."""

        def landed():
            return next((w for w in reversed(self.writer.writes) if w.acknowledged > since and w.node_port != old.port), None)

        write = wait_for(f"a write to another node than {old.name}", landed)
        return next(node for node in self.nodes if node.port == write.node_port)

    def note_gap(self, what, since):
        times = [since] + [w.acknowledged for w in self.writer.writes if w.acknowledged > since]
        gap = max(later - earlier for earlier, later in zip(times, times[1:]))
        self.measured.append(f"redis, {what}: no write for {gap:.1f} s")

    def writes_at(self, node, since):
        return [w.token for w in self.writer.writes if w.node_port == node.port and w.acknowledged > since]

    @contextlib.contextmanager
    def events(self, channel):
        """Gives a queue of what any sentinel says on `channel`."""
        said = queue.Queue()
        connections = []

        def listen(connection):
            with contextlib.suppress(OSError, ValueError):
                while True:
                    said.put(connection.reply()[2])

        for sentinel in self.sentinels:
            connection = wire.Redis(sentinel.port)
            connection.call("SUBSCRIBE", channel)
            connections.append(connection)
            threading.Thread(target=listen, args=[connection], daemon=True).start()
        try:
            yield said
        finally:
            for connection in connections:
                connection.socket.shutdown(socket.SHUT_RDWR)

    # -- cases

    def case_new_connections_come_to_the_master(self):
        master = self.settled()
        assert master is self.nodes[0]
        assert all(self.node_behind() is master for _ in range(20))
        self.writer.start()
        wait_for("writes", lambda: len(self.writer.writes) > 50)
        if self.daemon:
            self.daemon.start()
            self.daemon_client.start()
            wait_for("the daemon answers", lambda: self.daemon_client.read_back > 50)

    def case_one_sentinel_less_changes_nothing(self):
        master = self.settled()
        gone = self.sentinels.pop()
        with self.through() as idle:
            idle.call("PING")
            began = time.monotonic()
            gone.kill()
            try:
                wait_for("HAProxy sees it", lambda: len(self.haproxy.up(f"{master.server}-votes")) == 2)
                # Twice as long as it takes until a verdict closes connections.
                seen = time.monotonic()
                wait_for("writes go on", lambda: self.writer.writes[-1].acknowledged > seen + 3)
                assert not idle.is_closed() and self.haproxy.up("redis") == {master.server}
            finally:
                gone.start()
                self.sentinels.append(gone)
        self.measured.append(f"redis, a sentinel killed: no write for {self._longest_pause(began):.2f} s")
        self.settled()

    def _longest_pause(self, since):
        times = [w.acknowledged for w in self.writer.writes if w.acknowledged > since]
        return max(later - earlier for earlier, later in zip(times, times[1:]))

    def case_a_killed_master_that_is_restarted_never_gets_a_write(self):
        old = self.settled()
        old.kill()
        killed = time.monotonic()
        new = self.await_write_at_another(old, killed)
        self.note_gap("master killed", killed)

        restarted = time.monotonic()
        old.start()
        wait_for("the old master is back", lambda: old.role() == "master")
        watch = OldMaster(old)
        watch.start()
        # It is what this file is for: both say that they are the master, and the old one does so for seconds.
        assert new.role() == "master"
        self._another_haproxy_finds(new)
        assert watch.is_alive(), "it was demoted before the other HAProxy had started"
        while watch.is_alive():
            assert self.node_behind() is new
        looks = watch.until_demoted()
        self.measured.append(f"redis: the old one said role:master for {time.monotonic() - restarted:.1f} s")
        assert len(looks) > 20, "it was demoted before anything could be seen"
        assert set(looks) == {0}, f"SETs at the old master: {looks}"
        assert not self.writes_at(old, killed)
        assert self.settled() is new

    def _another_haproxy_finds(self, master):
        """One that starts now knows nothing yet, and takes all servers to be up. It must not send anybody to the wrong one."""
        began = time.monotonic()
        self.another_haproxy.start()
        # Twenty in a row: it has made up its mind.
        found = 0
        while found < 20:
            assert time.monotonic() < began + 30, "it finds no master"
            try:
                assert self.node_behind(self.another_haproxy) is master
                found += 1
            except (OSError, wire.Refused):
                found = 0
            if found == 1:
                seconds = time.monotonic() - began
                self.measured.append(f"redis, HAProxy started beside two masters: the right one after {seconds:.1f} s")
        self.another_haproxy.end()

    def case_a_master_that_comes_back_amid_its_failover_never_gets_a_write(self):
        """All sentinels name the old master until its successor is promoted. The successor is held up here, so that this takes a while."""
        old = self.settled()
        with self.events("+selected-slave") as selected:
            old.kill()
            killed = time.monotonic()
            port = int(selected.get(timeout=30).split()[3])
        successor = next(node for node in self.nodes if node.port == port)
        with successor.stopped():
            old.start()
            wait_for("the old master is back", lambda: old.role() == "master")
            votes = f"{old.server}-votes"
            wait_for("the sentinels name it", lambda: self.elected() is old and len(self.haproxy.up(votes)) == 3)
            # Twice as long as a server has to be well before it is let in.
            back = time.monotonic()
            while time.monotonic() < back + 4:
                assert self.haproxy.up("redis") == set(), "the old master is let in"
                time.sleep(0.05)
        assert self.await_write_at_another(old, killed) is successor
        self.note_gap("master back amid its failover, which was held up for 4 s", killed)
        assert not self.writes_at(old, killed)
        assert self.settled() is successor

    def case_a_stopped_master_that_goes_on_never_gets_a_write(self):
        old = self.settled()
        with self.through() as idle:
            idle.call("PING")
            with old.stopped():
                stopped = time.monotonic()
                new = self.await_write_at_another(old, stopped)
                self.note_gap("master stopped", stopped)
                wait_for("a connection to the stopped master is closed", idle.is_closed, CLOSE_SECONDS_MAX)
        watch = OldMaster(old)
        watch.start()
        while watch.is_alive():
            assert self.node_behind() is new
        looks = watch.until_demoted()
        assert len(looks) > 20, "it was demoted before anything could be seen"
        # One write may have been on its way when it was stopped. It was not acknowledged.
        assert max(looks) - min(looks) <= 1, f"SETs at the old master: {looks}"
        assert not self.writes_at(old, stopped + 0.1)
        assert self.settled() is new

    def case_a_master_that_is_replaced_while_it_lives_loses_its_connections(self):
        old = self.settled()
        with self.through() as idle:
            idle.call("PING")
            began = time.monotonic()
            # What the old one acknowledged while its successor is promoted would be lost; README.md says how to avoid it.
            with old.connect() as direct:
                direct.call("CLIENT", "PAUSE", 5000, "WRITE")
            self.sentinels[0].ask("FAILOVER", MASTER_NAME)
            wait_for("a connection to the old master is closed", idle.is_closed, CLOSE_SECONDS_MAX)
            self.measured.append(f"redis, failover on request: closed its connections after {time.monotonic() - began:.1f} s")
        new = self.await_write_at_another(old, began)
        self.note_gap("failover on request", began)
        assert all(self.node_behind() is new for _ in range(50))
        assert old.role() == "master", "it was demoted before anything could be seen"

    def case_no_acknowledged_write_is_lost_that_a_replica_had(self):
        """What only the master had dies with it, whoever stands before it."""
        self.writer.end()
        writes = self.writer.writes
        with self.node_behind().connect() as connection:
            there = connection.pipeline(*(["EXISTS", f"token:{w.token}"] for w in writes))
        lost = [w for w, found in zip(writes, there) if not found]
        self.measured.append(f"redis: {len(writes)} writes acknowledged, {len(lost)} of them lost that no replica had yet")
        assert not [w.token for w in lost if w.replicated], "acknowledged, replicated and lost"

    def case_the_daemon_goes_through_all_of_it(self):
        client = self.daemon_client
        read_back = client.read_back
        wait_for("the daemon answers again", lambda: client.read_back > read_back + 50)
        client.end()
        self.measured.append(f"the daemon: {client.read_back} of {client.number} numbers read back")
        assert not client.outdated, f"numbers written and read: {client.outdated}"
        # What a client library tries again. Where the outcome was unknown its connection was closed.
        assert all(text.startswith("LOADING madcache: not sent") for text in client.refusals), client.refusals
        assert self.daemon.process.poll() is None and "panicked" not in self.daemon.log.read_text()
