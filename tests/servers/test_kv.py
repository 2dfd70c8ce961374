#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kv: redis-cli and redis-benchmark, the commands, keys that go by themselves, and clients that mean no good."""

import os

from harness import SANITIZE, HelpCase, ServerCase, all_gone, crowd, eventually, main, peer, receive_all, reset, run, scaled


class Client:
    """RESP2 over one connection: each call reads its reply to the end."""

    def __init__(self, test, server):
        self.sock = test.connect(server)
        self.reader = self.sock.makefile("rb")

    @staticmethod
    def encode(*words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

    def __call__(self, *words):
        self.sock.sendall(self.encode(*words))
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the stream ended")
        kind, text = line[:1], line[1:-2]
        if kind == b"+":
            return text.decode()
        if kind == b"-":
            return RuntimeError(text.decode())
        if kind == b":":
            return int(text)
        if kind == b"$":
            return None if text == b"-1" else self.reader.read(int(text) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(text))]
        raise AssertionError(f"no reply: {line!r}")


class Kv(HelpCase, ServerCase):
    name = "kv"

    def client(self, server):
        return Client(self, server)

    def refuses(self, reply, text):
        self.assertIsInstance(reply, RuntimeError)
        self.assertIn(text, str(reply))

    def test_commands(self):
        server = self.start()
        c = self.client(server)
        self.assertEqual(c("PING"), "PONG")
        self.assertEqual(c("ping", "x"), b"x")
        self.assertEqual(c("SET", "k", b"\0\r\n\xff"), "OK")
        self.assertEqual(c("GET", "k"), b"\0\r\n\xff")
        self.assertIsNone(c("GET", "none"))
        self.assertIsNone(c("SET", "k", "v", "NX"))
        self.assertIsNone(c("SET", "new", "v", "XX"))
        self.assertEqual(c("SET", "k", "w", "XX", "GET"), b"\0\r\n\xff")
        self.assertEqual(c("INCR", "n"), 1)
        self.assertEqual(c("INCRBY", "n", 41), 42)
        self.assertEqual(c("DECR", "n"), 41)
        self.refuses(c("INCR", "k"), "not an integer")
        c("SET", "n", 2**63 - 1)
        self.refuses(c("INCR", "n"), "overflow")
        self.assertEqual(c("MSET", "a", 1, "b", 2, "c", 3), "OK")
        self.assertEqual(c("MGET", "a", "none", "c"), [b"1", None, b"3"])
        self.assertEqual(c("EXISTS", "a", "a", "none"), 2)
        self.assertEqual(c("DEL", "a", "b", "none"), 2)
        self.assertEqual(c("DBSIZE"), 3)
        self.assertIn(b"keys=3", c("INFO"))
        self.assertEqual(c("CONFIG", "GET", "save"), [b"save", b""])
        self.assertEqual(c("SELECT", 0), "OK")
        self.refuses(c("SELECT", 1), "out of range")
        self.refuses(c("MSET", "a", 1, "b"), "wrong number")
        self.refuses(c("GET"), "wrong number of arguments for 'get'")
        self.refuses(c("SET", "a", "b", "XX", "NX"), "syntax")
        self.refuses(c("SET", "a", "b", "EX"), "syntax")
        self.refuses(c("SET", "a", "b", "EX", 0), "invalid expire")
        self.refuses(c("NO\r\nSUCH"), "unknown command 'NO??SUCH'")
        self.assertEqual(c("FLUSHALL"), "OK")
        self.assertEqual(c("DBSIZE"), 0)
        self.assertEqual(c("QUIT"), "OK")
        self.assertEqual(receive_all(c.sock), b"")
        server.stop()

    def test_deadlines_can_be_asked_and_taken_back(self):
        server = self.start()
        c = self.client(server)
        self.assertEqual(c("TTL", "k"), -2)
        c("SET", "k", "v")
        self.assertEqual(c("TTL", "k"), -1)
        self.assertEqual(c("EXPIRE", "k", 1000), 1)
        self.assertTrue(0 < c("TTL", "k") <= 1000)
        self.assertTrue(0 < c("PTTL", "k") <= 1_000_000)
        c("SET", "k", "w", "KEEPTTL")
        self.assertTrue(0 < c("TTL", "k") <= 1000)
        self.assertEqual(c("PERSIST", "k"), 1)
        self.assertEqual(c("PERSIST", "k"), 0)
        c("SETEX", "k", 1000, "v")
        c("SET", "k", "w")  # a new value lives for ever
        self.assertEqual(c("TTL", "k"), -1)
        self.assertEqual(c("EXPIRE", "k", -1), 1)
        self.assertIsNone(c("GET", "k"))
        self.assertEqual(c("EXPIRE", "k", 1000), 0)
        self.refuses(c("EXPIRE", "k", 2**62), "invalid expire")
        server.stop()

    def test_keys_go_by_themselves(self):
        server = self.start()
        c = self.client(server)
        for i in range(500):
            self.assertEqual(c("SET", f"short{i}", i, "PX", 1 + i % 50), "OK")
            self.assertEqual(c("SET", f"long{i}", i, "EX", 100_000), "OK")
        # DBSIZE looks at no key: the LWPs that sleep until a deadline have taken them out.
        eventually(lambda: c("DBSIZE") == 500, "those whose time has come are gone, and no others")
        self.assertIsNone(c("GET", "short0"))
        self.assertEqual(c("GET", "long0"), b"0")
        self.assertEqual(c("PEXPIRE", "long0", 1), 1)  # earlier than what is slept for
        eventually(lambda: c("DBSIZE") == 499, "one more is gone")
        server.stop()

    def test_requests_in_pieces_and_in_heaps(self):
        server = self.start()
        c = self.client(server)
        for byte in Client.encode("SET", "k", "v" * 10):
            c.sock.sendall(bytes([byte]))
        self.assertEqual(c.reply(), "OK")
        c.sock.sendall(b"PING\r\n\r\nGET k\n" + b"".join(Client.encode("INCR", "n") for _ in range(5000)))
        self.assertEqual(c.reply(), "PONG")
        self.assertEqual(c.reply(), b"v" * 10)
        self.assertEqual([c.reply() for _ in range(5000)], list(range(1, 5001)))
        large = os.urandom(900_000)
        self.assertEqual(c("SET", "large", large), "OK")
        self.assertEqual(c("GET", "large"), large)
        server.stop()

    def test_counters_of_many_clients(self):
        server = self.start()
        clients = [self.client(server) for _ in range(scaled(100))]
        for _ in range(20):
            for c in clients:
                c.sock.sendall(Client.encode("INCR", "n") + Client.encode("MSET", "x", 1, "y", 1))
            for c in clients:
                self.assertIsInstance(c.reply(), int)
                self.assertEqual(c.reply(), "OK")
        self.assertEqual(clients[0]("GET", "n"), b"%d" % (20 * len(clients)))
        server.stop()

    @peer("redis-cli")
    def test_redis_cli(self):
        server = self.start()
        cli = ("redis-cli", "-h", server.host, "-p", str(server.port))
        self.assertEqual(run(*cli, "SET", "k", "v", "EX", "100"), b"OK\n")
        self.assertEqual(run(*cli, "GET", "k"), b"v\n")
        self.assertIn(b"connected_clients:1", run(*cli, "INFO"))
        self.assertEqual(run(*cli, "DBSIZE"), b"1\n")
        server.stop()

    @peer("redis-benchmark")
    def test_redis_benchmark(self):
        server = self.start()
        count = str(scaled(10_000))
        said = run("redis-benchmark", "-h", server.host, "-p", str(server.port), "-n", count, "-t", "ping,set,get,incr,mset", "-q").decode()
        for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET"):
            self.assertRegex(said, name + r"[^\r\n]*: [\d.]+ requests per second")
        said = run("redis-benchmark", "-h", server.host, "-p", str(server.port), "-n", count, "-P", "16", "-d", "1000", "-t", "set,get", "-q")
        self.assertIn(b"requests per second", said)
        server.stop()

    # ---- limits ----

    def test_what_is_no_request_ends_the_connection(self):
        server = self.start("--max-request=10000")
        for text, complaint in (
                (b"*x\r\n", b"invalid multibulk length"),
                (b"*-1\r\n", b"invalid multibulk length"),
                (b"*99999999999\r\n", b"invalid multibulk length"),
                (b"*1\r\n+PING\r\n", b"invalid bulk length"),
                (b"*1\r\n$-5\r\n", b"invalid bulk length"),
                (b"*1\r\n$10001\r\n", b"invalid bulk length"),
                (b"*1\r\n$" + b"1" * 100, b"invalid bulk length"),
                (b"*1\r\n$4\r\nPINGxx", b"does not end where it says"),
                (b"*2\r\n$9000\r\n" + b"x" * 9000 + b"\r\n$5000\r\n" + b"x" * 3000, b"request too long"),
                (b"x" * 20_000, b"request too long"),
                (b"PING\r\n*x\r\n", b"+PONG\r\n-ERR Protocol error")):
            sock = self.connect(server)
            try:
                sock.sendall(text)
            except ConnectionError:
                pass
            self.assertIn(complaint, receive_all(sock), text[:40])
        server.stop()

    def test_random_bytes_do_no_harm(self):
        server = self.start("--timeout=0.5", "--idle=0.5")
        talkers = []
        for size in (1, 10, 100, 1000, 10_000) * 4:
            talkers += crowd(self, server, 1)
            try:
                talkers[-1].sendall(os.urandom(size))
            except ConnectionError:
                pass  # it has ended this before all was sent
        for sock in talkers:
            receive_all(sock)
        self.assertEqual(self.client(server)("PING"), "PONG")
        server.stop()

    def test_unfinished_and_silent_clients_are_closed(self):
        server = self.start("--timeout=0.5", "--idle=0.5")
        crowded = crowd(self, server, scaled(500), b"*2\r\n$3\r\nGET\r\n$100\r\n") + crowd(self, server, scaled(100))
        eventually(lambda: all_gone(crowded), "all are closed")
        self.assertEqual(self.client(server)("PING"), "PONG")
        server.stop()

    def test_slow_readers_are_closed(self):
        server = self.start("--timeout=0.5")
        c = self.client(server)
        c("SET", "k", "x" * 500_000)
        before = server.descriptors()
        slow = crowd(self, server, scaled(30), Client.encode("GET", "k") * 100)
        self.assertEqual(self.client(server)("PING"), "PONG")  # connected after them: all are accepted
        eventually(lambda: server.descriptors() <= before + 1, "they are closed")
        if not SANITIZE:
            self.assertLess(server.resident(), 200 << 20)
        self.assertEqual(c("PING"), "PONG")
        for sock in slow:
            reset(sock)
        server.stop()

    def test_memory_has_a_limit(self):
        server = self.start("--max-memory=10")
        c = self.client(server)
        replies = [c("SET", f"k{i}", "x" * 100_000) for i in range(200)]
        self.assertEqual(replies[0], "OK")
        self.refuses(replies[-1], "OOM")
        self.assertEqual(c("SET", "k0", "small"), "OK")  # what takes no more is possible
        c("FLUSHALL")
        self.assertEqual(c("SET", "k", "x" * 100_000), "OK")
        # One value, named often, is a reply that is larger than all of the memory.
        self.refuses(c("MGET", *["k"] * 1000), "too long")
        server.stop()

    # ---- the end ----

    def test_sigterm_finishes_what_has_begun(self):
        server = self.start("--grace=1000", "--timeout=1000")
        resting, working = self.client(server), self.client(server)
        self.assertEqual(resting("PING"), "PONG")
        request = Client.encode("ECHO", "x" * 1000)
        working.sock.sendall(Client.encode("PING") + request[:500])
        self.assertEqual(working.reply(), "PONG")
        server.term()
        self.assertEqual(receive_all(resting.sock), b"")
        working.sock.sendall(request[500:])
        self.assertEqual(working.reply(), b"x" * 1000)
        self.assertEqual(receive_all(working.sock), b"")
        server.wait()

    def test_processes_share_a_port(self):
        one = self.start()
        two = self.start(port=one.port)
        clients = [self.client(one) for _ in range(64)]
        for c in clients:
            self.assertEqual(c("PING"), "PONG")
        pids = {[line for line in c("INFO").split(b"\r\n") if line.startswith(b"process_id")][0] for c in clients}
        self.assertEqual(len(pids), 2)
        one.stop()
        two.stop()


if __name__ == "__main__":
    main()
