#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Between client and server stands a proxy that means no good: it passes on a few bytes at a time, through sockets with the
smallest buffers to send from, and cuts connections in the middle.  (The smallest ones to receive into would drop packets, and TCP would wait for seconds.)"""

import os
import random
import socket
import tempfile
import threading

from harness import LIMIT, SANITIZE, ServerCase, eventually, main, peer, receive_all, receive_exactly, reset, run, scaled
from test_kv import Client


class Pieces:
    """Passes connections on to `server`, 1 to `most` bytes at a time; with `cut` it resets both ends after so many bytes of an answer."""

    def __init__(self, test, server, most, cut=None):
        self.server, self.most, self.cut = server, most, cut
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.host, self.port = self.listener.getsockname()
        self.random = random.Random(1)
        self.threads = []
        self.begin(self.accept)
        test.addCleanup(self.stop)

    def begin(self, what, *args):
        thread = threading.Thread(target=what, args=args, daemon=True)
        thread.start()
        self.threads.append(thread)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:  # more come there while there are connections; none once the first, which accepts, has ended
            thread.join(LIMIT)
        self.listener.close()

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=LIMIT)

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket()
            for s in (near, far):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.connect((self.server.host, self.server.port))
            left = [2]  # directions that are not through
            lock = threading.Lock()
            self.begin(self.carry, near, far, None, left, lock)
            self.begin(self.carry, far, near, self.cut, left, lock)

    def carry(self, source, sink, cut, left, lock):
        carried = 0
        try:
            while piece := source.recv(self.random.randint(1, self.most)):
                sink.sendall(piece)
                carried += len(piece)
                if cut is not None and carried >= cut:
                    for s in (source, sink):
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        s.shutdown(socket.SHUT_RD)  # the other direction ends
                    break
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (source, sink):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        with lock:
            left[0] -= 1
            if left[0] == 0:
                source.close()
                sink.close()


class EchoInPieces(ServerCase):
    name = "echo"

    def test_all_comes_back(self):
        pieces = Pieces(self, self.start(), 64)
        sent = os.urandom(5000 if SANITIZE else 50_000)

        def talk():
            with pieces.connect() as s:
                sender = threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(socket.SHUT_WR)))
                sender.start()
                got.append(receive_all(s))
                sender.join()

        got = []
        clients = [threading.Thread(target=talk) for _ in range(4)]
        for c in clients:
            c.start()
        for c in clients:
            c.join()
        self.assertEqual(got, [sent] * 4)


class HttpdInPieces(ServerCase):
    name = "httpd"

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = os.urandom(50_000 if SANITIZE else 200_000)
        with open(os.path.join(cls.folder.name, "file"), "wb") as f:
            f.write(cls.file)

    @peer("curl")
    def test_curl(self):
        pieces = Pieces(self, self.start("--root", self.folder.name), 1000)
        url = f"http://{pieces.host}:{pieces.port}/file"
        self.assertEqual(run("curl", "--silent", "--show-error", "--fail", url, url, url), self.file * 3)

    def test_requests_byte_by_byte_and_in_a_row(self):
        pieces = Pieces(self, self.start("--root", self.folder.name), 2)
        with pieces.connect() as s:
            s.sendall(b"HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"HEAD /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answers = receive_all(s)
        self.assertEqual(answers.count(b"HTTP/1.1 200 OK\r\n"), 3)
        self.assertEqual(answers.count(b"HTTP/1.1 404 Not Found\r\n"), 1)

    def test_cut_in_the_middle(self):
        server = self.start("--root", self.folder.name)
        before = server.descriptors()
        pieces = Pieces(self, server, 4000, cut=20_000)
        for _ in range(scaled(50)):
            with pieces.connect() as s:
                s.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertLess(len(receive_all(s)), len(self.file))
        eventually(lambda: server.descriptors() <= before, "the connections are gone")
        with server.connect() as s:
            s.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertEqual(receive_exactly(s, 15), b"HTTP/1.1 200 OK")
            reset(s)
        server.stop()


class KvInPieces(ServerCase):
    name = "kv"

    def test_values(self):
        pieces = Pieces(self, self.start(), 40)
        c = Client(self, pieces)
        self.addCleanup(c.sock.close)
        self.addCleanup(c.reader.close)
        for size in (0, 1, 63, 64, 65, 4096, 30_000):
            value = os.urandom(size)
            self.assertEqual(c("SET", "k", value), "OK")
            self.assertEqual(c("GET", "k"), value)
            self.assertEqual(c("MGET", "k", "none", "k"), [value, None, value])

    @peer("redis-benchmark")
    def test_redis_benchmark(self):
        pieces = Pieces(self, self.start(), 10)
        text = run("redis-benchmark", "-h", pieces.host, "-p", str(pieces.port), "-c", "5", "-n", str(scaled(500)), "-P", "4", "-t", "set,get", "--csv").decode()
        self.assertEqual(len([line for line in text.splitlines() if line.startswith(('"SET"', '"GET"'))]), 2)


if __name__ == "__main__":
    main()
