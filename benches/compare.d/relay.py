"""Owns the distance to a far L2: a TCP relay that hands every byte on after a fixed delay, each way. Drops,
reorders and limits nothing. Run as: relay.py LISTEN_PORT UPSTREAM_PORT DELAY_US."""

import collections
import select
import socket
import sys
import time


class Half:
    """One direction of one connection: bytes with the time at which they may leave."""

    def __init__(self, source, target):
        self.source, self.target, self.waiting = source, target, collections.deque()


def relay(listener, upstream_port, delay):
    halves = {}
    # select(), because epoll rounds its timeout up to whole milliseconds and the delay is one.
    while True:
        due = min((h.waiting[0][0] for h in halves.values() if h.waiting), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select([listener, *halves], [], [], timeout)
        now = time.monotonic()
        for sock in readable:
            if sock is listener:
                accept(listener, upstream_port, halves)
            elif sock in halves:
                receive(sock, halves, now + delay)
        now = time.monotonic()
        for half in list(halves.values()):
            release(half, now, halves)


def accept(listener, upstream_port, halves):
    client, _ = listener.accept()
    upstream = socket.create_connection(("127.0.0.1", upstream_port))
    for sock in (client, upstream):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    halves[client] = Half(client, upstream)
    halves[upstream] = Half(upstream, client)


def receive(sock, halves, due):
    try:
        chunk = sock.recv(1 << 18)
    except OSError:
        chunk = b""
    if chunk:
        halves[sock].waiting.append((due, chunk))
    else:
        close(halves[sock], halves)


def release(half, now, halves):
    while half.waiting and half.waiting[0][0] <= now:
        try:
            half.target.sendall(half.waiting.popleft()[1])
        except OSError:
            close(half, halves)
            return


def close(half, halves):
    for sock in (half.source, half.target):
        if halves.pop(sock, None):
            sock.close()


if __name__ == "__main__":
    listen_port, upstream, delay_us = (int(arg) for arg in sys.argv[1:])
    with socket.create_server(("127.0.0.1", listen_port)) as server:
        relay(server, upstream, delay_us / 1e6)
