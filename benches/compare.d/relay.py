"""Owns the distance to a far L2: a TCP relay that hands every byte on after a fixed delay, each way. Drops,
reorders (also between connections) and limits nothing. Run as: relay.py LISTEN_PORT UPSTREAM_PORT DELAY_US."""

import collections
import select
import socket
import sys
import time


class Relay:
    """Connections in pairs, and one queue of what waits: the delay is the same for all, so that what came first, over
    whichever connection, leaves first."""

    def __init__(self, listener, upstream_port, delay):
        self.listener, self.upstream_port, self.delay = listener, upstream_port, delay
        self.peers, self.waiting = {}, collections.deque()
        # Tells of sockets in the order in which they became readable, but rounds its timeout up to whole milliseconds,
        # and the delay is one: so select() waits, for the epoll itself.
        self.ready = select.epoll()
        self.ready.register(listener, select.EPOLLIN)
        self.sockets = {}

    def run(self):
        while True:
            due = self.waiting[0][0] if self.waiting else None
            timeout = None if due is None else max(0.0, due - time.monotonic())
            select.select([self.ready], [], [], timeout)
            for number, _ in self.ready.poll(0):
                if number == self.listener.fileno():
                    self.accept()
                elif number in self.sockets:
                    self.receive(self.sockets[number])
            self.release()

    def accept(self):
        client, _ = self.listener.accept()
        upstream = socket.create_connection(("127.0.0.1", self.upstream_port))
        self.peers[client], self.peers[upstream] = upstream, client
        for sock in (client, upstream):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets[sock.fileno()] = sock
            self.ready.register(sock, select.EPOLLIN)

    def receive(self, sock):
        try:
            chunk = sock.recv(1 << 18)
        except OSError:
            chunk = b""
        if chunk:
            self.waiting.append((time.monotonic() + self.delay, self.peers[sock], chunk))
        else:
            self.close(sock)

    def release(self):
        while self.waiting and self.waiting[0][0] <= time.monotonic():
            _, target, chunk = self.waiting.popleft()
            if target in self.peers:
                try:
                    target.sendall(chunk)
                except OSError:
                    self.close(target)

    def close(self, sock):
        for one in (sock, self.peers.get(sock)):
            if one is not None and self.peers.pop(one, None):
                del self.sockets[one.fileno()]
                self.ready.unregister(one)
                one.close()


if __name__ == "__main__":
    listen_port, upstream, delay_us = (int(arg) for arg in sys.argv[1:])
    with socket.create_server(("127.0.0.1", listen_port)) as server:
        Relay(server, upstream, delay_us / 1e6).run()
