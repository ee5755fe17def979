"""Owns the load that redis-benchmark cannot make: keys read once, skewed keys, a window on one connection, thousands
of connections that are open before the clock starts, a fixed rate. Reads no server's counters.

Run with a JSON plan as its argument. Connects, answers "ready", waits for a line on standard input, runs, and answers
one line of JSON. A plan: port, connections, requests, mode ("batch", "window", "paced", "hold"), pipeline (batch),
window (window), rate (paced: per second, until the next line on standard input), prime (one GET per connection before
"ready"), workload {"kind": "ping"}, {"kind": "once", "start", "value_bytes"} or {"kind": "keys", "keys",
"value_bytes", "write_share", "read" (what stands before the key, ["GET"]), "hot_keys" with "hot_share" or "zipf"}."""

import collections
import itertools
import json
import random
import select
import socket
import struct
import sys
import time

from wire import encode, key

SILENCE_SECONDS_MAX = 10
clock = time.perf_counter_ns


class Ping:
    """The bare round trip."""

    def __init__(self, _plan):
        pass

    def take(self, count):
        return encode("PING") * count, [len(b"+PONG\r\n")] * count


class Once:
    """GETs of keys that are each read once, in the names that DEBUG POPULATE gives them."""

    def __init__(self, plan):
        self.numbers = itertools.count(plan["start"])
        self.reply_bytes = reply_bytes(plan["value_bytes"])

    def take(self, count):
        names = [b"once:%d" % n for n in itertools.islice(self.numbers, count)]
        payload = b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(n), n) for n in names)
        return payload, [self.reply_bytes] * count


class Keys:
    """GETs and SETs of a fixed set of keys, evenly, by Zipf's law, or with a hot part."""

    def __init__(self, plan):
        self.random = random.Random(plan.get("seed", 1))
        count = plan["keys"]
        value = b"v" * plan["value_bytes"]
        self.gets = [encode(*plan.get("read", ["GET"]), key(n)) for n in range(count)]
        self.sets = [encode("SET", key(n), value) for n in range(count)]
        self.get_bytes = reply_bytes(plan["value_bytes"])
        self.write_share = plan.get("write_share", 0)
        self.weights = list(itertools.accumulate(weights(plan, count)))
        self.numbers = range(count)

    def take(self, count):
        chosen = self.random.choices(self.numbers, cum_weights=self.weights, k=count)
        if not self.write_share:
            return b"".join([self.gets[n] for n in chosen]), [self.get_bytes] * count
        parts, sizes = [], []
        for number in chosen:
            write = self.random.random() < self.write_share
            parts.append((self.sets if write else self.gets)[number])
            sizes.append(5 if write else self.get_bytes)
        return b"".join(parts), sizes


def weights(plan, count):
    if "zipf" in plan:
        return [1 / (rank + 1) ** plan["zipf"] for rank in range(count)]
    hot = plan.get("hot_keys", 0)
    if not hot:
        return [1] * count
    share = plan["hot_share"]
    return [share / hot] * hot + [(1 - share) / (count - hot)] * (count - hot)


def reply_bytes(value_bytes):
    return len(b"$%d\r\n" % value_bytes) + value_bytes + 2


class Connection:
    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), SILENCE_SECONDS_MAX)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A reset instead of TIME_WAIT: 10,000 connections a run would use up the ports of the next.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.pending = 0
        self.sent_ns = 0

    def send(self, workload, count):
        payload, sizes = workload.take(count)
        self.pending = sum(sizes)
        self.sent_ns = clock()
        self.sock.sendall(payload)

    def receive(self):
        """True when the whole batch has been answered. Replies have known lengths, so none is parsed."""
        chunk = self.sock.recv(1 << 16)
        if not chunk or chunk[0] == ord("-") or len(chunk) > self.pending:
            raise SystemExit(f"load: unexpected answer: {chunk[:120]!r}")
        self.pending -= len(chunk)
        return self.pending == 0


class Ring:
    """All connections in one epoll."""

    def __init__(self, connections):
        self.by_fd = {c.sock.fileno(): c for c in connections}
        self.poller = select.epoll()
        for fd in self.by_fd:
            self.poller.register(fd, select.EPOLLIN)

    def answered(self, timeout):
        events = self.poller.poll(timeout, 1024)
        if not events and timeout >= SILENCE_SECONDS_MAX:
            raise SystemExit(f"load: no reply for {SILENCE_SECONDS_MAX} s")
        for fd, _ in events:
            connection = self.by_fd[fd]
            if connection.receive():
                yield connection


def run_batches(plan, connections, workload):
    """Each connection sends a batch, waits for all of it, and sends the next."""
    ring, latencies, pipeline = Ring(connections), [], plan["pipeline"]
    to_send = to_answer = max(1, plan["requests"] // pipeline)
    for connection in connections[:to_send]:
        connection.send(workload, pipeline)
        to_send -= 1
    while to_answer:
        for connection in ring.answered(SILENCE_SECONDS_MAX):
            latencies.append(clock() - connection.sent_ns)
            to_answer -= 1
            if to_send:
                to_send -= 1
                connection.send(workload, pipeline)
    return latencies


def run_window(plan, connections, workload):
    """One connection that keeps `window` requests in flight: as many go out as replies came in."""
    sock, latencies, flight, unread = connections[0].sock, [], collections.deque(), 0
    to_send = plan["requests"]

    def send(count):
        payload, sizes = workload.take(count)
        now = clock()
        flight.extend((size, now) for size in sizes)
        sock.sendall(payload)

    send(plan["window"])
    to_send -= plan["window"]
    while flight:
        chunk = sock.recv(1 << 16)
        if not chunk or chunk[0] == ord("-"):
            raise SystemExit(f"load: unexpected answer: {chunk[:120]!r}")
        unread, done, now = unread + len(chunk), 0, clock()
        while flight and unread >= flight[0][0]:
            size, sent = flight.popleft()
            unread -= size
            done += 1
            latencies.append(now - sent)
        more = min(done, to_send)
        if more:
            to_send -= more
            send(more)
    return latencies


def run_paced(plan, connections, workload):
    """A fixed rate until a line comes on standard input; what the servers cannot take in time is not made up for."""
    ring, latencies, free = Ring(connections), [], collections.deque(connections)
    ring.poller.register(0, select.EPOLLIN)
    ring.by_fd[0] = Stop()
    last, allowance = clock(), 0.0
    while not ring.by_fd[0].came:
        for connection in ring.answered(0.001):
            latencies.append(clock() - connection.sent_ns)
            free.append(connection)
        now = clock()
        allowance = min(allowance + (now - last) * plan["rate"] / 1e9, len(connections))
        last = now
        while allowance >= 1 and free:
            allowance -= 1
            free.popleft().send(workload, 1)
    return latencies


class Stop:
    """Stands in the ring for standard input."""
    came = False

    def receive(self):
        self.came = True
        return False


def summary(latencies, seconds, per_latency):
    latencies.sort()
    count = len(latencies)
    at = lambda share: latencies[min(count - 1, int(count * share))] / 1000 if count else 0.0
    return {"requests": count * per_latency, "seconds": seconds, "p50_us": at(0.5), "p99_us": at(0.99)}


def main():
    plan = json.loads(sys.argv[1])
    connections = [Connection(plan["port"]) for _ in range(plan["connections"])]
    kinds = {"ping": Ping, "once": Once, "keys": Keys}
    workload = kinds[plan["workload"]["kind"]](plan["workload"])
    if plan.get("prime"):
        for connection in connections:
            connection.send(workload, 1)
            while not connection.receive():
                pass
    modes = {"batch": run_batches, "window": run_window, "paced": run_paced, "hold": lambda *_: []}
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    latencies = modes[plan["mode"]](plan, connections, workload)
    per_latency = plan["pipeline"] if plan["mode"] == "batch" else 1
    print(json.dumps(summary(latencies, time.perf_counter() - start, per_latency)), flush=True)


if __name__ == "__main__":
    main()
