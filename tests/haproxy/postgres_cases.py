"""What must hold on the way to PostgreSQL while its primary dies and comes back. The cases follow each other on one set of servers."""

import time

import wire
from processes import wait_for
from writers import PostgresReader, PostgresWriter

# From a node's promotion until HAProxy has seen that it is no replica any more: two checks a second apart, and a loaded machine.
NOTICE_SECONDS_MAX = 5


class PostgresCases:
    def __init__(self, nodes, haproxy, measured):
        self.nodes = nodes
        self.haproxy = haproxy
        self.measured = measured
        self.writer = PostgresWriter(haproxy.primary_port)
        self.reader = PostgresReader(haproxy.replicas_port)

    def settled(self, replicas=2):
        """Waits until Patroni has one primary and so many replicas, and HAProxy has them too."""

        def as_patroni_says():
            primaries = [node for node in self.nodes if self._answers(node, "/primary")]
            followers = [node for node in self.nodes if self._answers(node, "/replica")]
            if len(primaries) != 1 or len(followers) != replicas:
                return None
            seen = self.haproxy.up("postgres-primary"), self.haproxy.up("postgres-replicas")
            return primaries[0] if seen == ({primaries[0].server}, {node.server for node in followers}) else None

        return wait_for(f"a primary with {replicas} replicas", as_patroni_says, pause=0.1)

    @staticmethod
    def _answers(node, path):
        try:
            return node.answers(path)
        except OSError:
            return False

    @staticmethod
    def node_port(connection):
        return int(connection.query("SELECT inet_server_port()")[0][0])

    def case_each_address_has_its_nodes(self):
        primary = self.settled()
        with wire.Postgres(self.haproxy.primary_port) as connection:
            connection.query("CREATE TABLE tokens (token int)")
            assert self.node_port(connection) == primary.port
        behind = set()
        for _ in range(20):
            with wire.Postgres(self.haproxy.replicas_port) as connection:
                assert connection.query("SELECT pg_is_in_recovery()") == [["t"]]
                behind.add(self.node_port(connection))
        assert behind == {node.port for node in self.nodes if node is not primary}, "both replicas get connections"
        self.writer.start()
        self.reader.start()
        wait_for("writes and reads", lambda: len(self.writer.writes) > 20 and len(self.reader.reads) > 20)

    def case_after_a_primary_is_killed_both_addresses_follow(self):
        old = self.settled()
        at_replicas = self._connections_to_each_replica(old)
        old.kill()
        killed = time.monotonic()
        write = wait_for("a write to another node", lambda: self._write_elsewhere(old, killed))
        promoted = next(node for node in self.nodes if node.port == write.node_port)
        gap = write.acknowledged - max(w.acknowledged for w in self.writer.writes if w.node_port == old.port)
        self.measured.append(f"postgres, primary killed: no write for {gap:.1f} s")
        assert self.settled(replicas=1) is promoted
        for port, connection in at_replicas.items():
            if port == promoted.port:
                wait_for("a reader's connection to the promoted replica is closed", connection.is_closed)
            connection.close()

        old.start()
        restarted = time.monotonic()
        assert self.settled(replicas=2) is promoted
        reads = len(self.reader.reads)
        wait_for("reads at the old primary", lambda: any(r.node_port == old.port for r in self.reader.reads[reads:]))
        self.measured.append(f"postgres: the old primary was a replica {time.monotonic() - restarted:.1f} s after its restart")
        self.writer.end()
        self.reader.end()
        assert not [w for w in self.writer.writes if w.node_port == old.port and w.acknowledged > killed + 0.1]
        wrong = [r for r in self.reader.reads if not r.in_recovery]
        late = [r for r in wrong if not 0 < r.began - killed < gap + NOTICE_SECONDS_MAX]
        self.measured.append(f"postgres: {len(wrong)} of {len(self.reader.reads)} reads came to a replica just promoted")
        assert not late, f"reads at a primary: {late}"

    def _write_elsewhere(self, old, since):
        return next((w for w in self.writer.writes if w.acknowledged > since and w.node_port != old.port), None)

    def _connections_to_each_replica(self, primary):
        """Idle ones, through HAProxy."""
        found = {}
        while len(found) < len(self.nodes) - 1:
            connection = wire.Postgres(self.haproxy.replicas_port)
            port = self.node_port(connection)
            assert port != primary.port
            if port in found:
                connection.close()
            else:
                found[port] = connection
        return found
