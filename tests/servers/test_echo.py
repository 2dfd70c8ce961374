#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""echo, and what all servers have from serve.hpp: limits, deadlines, descriptors, the end, a shared port."""

import os
import socket
import subprocess

from harness import (LIMIT, SANITIZE, HelpCase, ServerCase, all_gone, crowd, eventually, gone, main, peer, receive_all,
                     receive_exactly, reset, scaled)


class Echo(HelpCase, ServerCase):
    name = "echo"

    def says(self, sock, text=b"hello"):
        sock.sendall(text)
        self.assertEqual(receive_exactly(sock, len(text)), text)

    def test_sends_back_what_it_gets(self):
        server = self.start()
        sock = self.connect(server)
        for size in (1, 1023, 1024, 1025, 100_000):
            self.says(sock, os.urandom(size))
        server.stop()

    def test_half_close_gets_the_rest(self):
        server = self.start()
        sock = self.connect(server)
        text = os.urandom(50_000)
        sock.sendall(text)
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(receive_all(sock), text)
        server.stop()

    @peer("nc")
    def test_nc(self):
        server = self.start()
        with subprocess.Popen(["nc", "-N", server.host, str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nc:
            self.assertEqual(nc.communicate(b"from nc\n", timeout=LIMIT)[0], b"from nc\n")
        server.stop()

    def test_many_at_once(self):
        server = self.start()
        everybody = crowd(self, server, scaled(1000))
        for i, sock in enumerate(everybody):
            sock.sendall(b"%6d" % i)
        for i, sock in enumerate(everybody):
            self.assertEqual(receive_exactly(sock, 6), b"%6d" % i)
        server.stop()

    def test_idle_connections_are_closed(self):
        server = self.start("--idle=0.5")
        self.assertTrue(eventually(lambda everybody=crowd(self, server, scaled(200)): all_gone(everybody), "all are closed"))
        server.stop()

    def test_who_takes_nothing_is_closed(self):
        server = self.start("--timeout=0.5")
        before = server.descriptors()
        slow = crowd(self, server, scaled(50))
        with server.connect() as last:  # all are accepted when it is
            last.sendall(b"x")
            self.assertEqual(last.recv(1), b"x")
        for sock in slow:
            sock.setblocking(False)

        def stuffed():  # again and again: there is much room for its answers between it and us
            for sock in slow:
                try:
                    while True:
                        sock.send(b"x" * 65536)
                except OSError:
                    pass
            return server.descriptors() <= before

        eventually(stuffed, "the slow readers are closed")
        if not SANITIZE:
            self.assertLess(server.resident(), 200 << 20)
        self.says(self.connect(server))
        server.stop()

    def test_resets_and_strangers_leave_nothing_behind(self):
        server = self.start()
        before = server.descriptors()
        for i in range(scaled(500)):
            sock = self.connect(server)
            if i % 2 == 0:
                sock.sendall(b"x" * 100)
            reset(sock)
        eventually(lambda: server.descriptors() <= before, "all descriptors are closed")
        self.says(self.connect(server))
        server.stop()

    def test_max_clients_wait_for_their_turn(self):
        server = self.start("--max-clients=5")
        inside = crowd(self, server, 5)
        for sock in inside:
            self.says(sock)
        waiting = crowd(self, server, 20, b"me too")
        inside.pop().close()
        for _ in waiting:  # each that is served makes room for another, in the order in which they came
            first = waiting.pop(0)
            self.assertEqual(receive_exactly(first, 6), b"me too")
            first.close()
        server.stop()

    def test_without_descriptors_it_waits_and_goes_on(self):
        server = self.start("--max-clients=100000", descriptors=48, env={"LWP_VCPUS": "2"})
        everybody = crowd(self, server, 60, b"hello")
        served = [sock for sock in everybody[:8] if receive_exactly(sock, 5) == b"hello"]
        self.assertEqual(len(served), 8)  # those that came first
        for sock in everybody[:40]:
            sock.close()
        for sock in everybody[40:]:  # those for which there was no descriptor
            self.assertEqual(receive_exactly(sock, 5), b"hello")
        server.stop()

    def test_sigterm_closes_what_rests(self):
        server = self.start("--grace=1000", "--idle=1000")
        everybody = crowd(self, server, scaled(100))
        for sock in everybody:
            self.says(sock)
        server.term()
        for sock in everybody:
            self.assertEqual(receive_all(sock), b"")
        server.wait()

    def test_processes_share_a_port(self):
        one = self.start()
        two = self.start(port=one.port)
        before = [server.descriptors() for server in (one, two)]
        everybody = crowd(self, one, 64)
        for sock in everybody:
            self.says(sock)
        for server, idle in zip((one, two), before):
            self.assertGreater(server.descriptors(), idle)  # the kernel would have to toss 64 coins alike
        one.stop()
        left = [sock for sock in everybody if not gone(sock)]
        self.assertTrue(left)
        for sock in left:
            sock.setblocking(True)
            sock.settimeout(LIMIT)
            self.says(sock)
        self.says(self.connect(two))
        two.stop()

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            done = subprocess.run([os.path.join(os.environ.get("LWP_SERVERS", "build/debug/examples"), "echo"), "--port", str(port)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"in use", done.stderr)


if __name__ == "__main__":
    main()
