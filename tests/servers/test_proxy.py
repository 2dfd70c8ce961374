#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""proxy before echo and httpd: both directions, half-close, turns, servers that are away, deadlines, the end."""

import os
import socket
import threading

from harness import (HelpCase, Server, ServerCase, crowd, eventually, main, peer, receive_all, receive_exactly, refused, reset, run, scaled)


class Proxy(HelpCase, ServerCase):
    name = "proxy"

    def before(self, *servers, arguments=()):
        """A proxy before these servers, which may also be texts host:port."""
        return self.start(*arguments, *[s if isinstance(s, str) else f"{s.host}:{s.port}" for s in servers])

    def other(self, name, *arguments):
        return Server(self, name, *arguments)

    def test_passes_both_directions_and_their_ends(self):
        echo = self.other("echo")
        proxy = self.before(echo)
        sock = self.connect(proxy)
        text = os.urandom(3_000_000)
        sender = threading.Thread(target=lambda: (sock.sendall(text), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        self.assertEqual(receive_all(sock), text)
        sender.join()
        proxy.stop()
        echo.stop()

    def test_many_at_once(self):
        echo = self.other("echo")
        proxy = self.before(echo, arguments=["--grace=0.2"])
        everybody = crowd(self, proxy, scaled(300))
        for i, sock in enumerate(everybody):
            sock.sendall(b"%6d" % i)
        for i, sock in enumerate(everybody):
            self.assertEqual(receive_exactly(sock, 6), b"%6d" % i)
        proxy.stop()
        echo.stop()

    @peer("curl")
    def test_turns_and_servers_that_are_away(self):
        one, two = self.other("httpd"), self.other("httpd")
        closed = socket.socket()  # bound, not listening
        self.addCleanup(closed.close)
        closed.bind(("127.0.0.1", 0))
        proxy = self.before(one, f"127.0.0.1:{closed.getsockname()[1]}", two)
        url = f"http://{proxy.host}:{proxy.port}/"
        for _ in range(6):
            self.assertEqual(run("curl", "-sS", "--fail", url), b"hello, world\n")
        one.stop()
        for _ in range(6):
            self.assertEqual(run("curl", "-sS", "--fail", url), b"hello, world\n")
        two.stop()
        self.assertEqual(receive_all(self.connect(proxy)), b"")
        proxy.stop()

    def test_resets_leave_nothing_behind(self):
        echo = self.other("echo")
        proxy = self.before(echo)
        idle = [s.descriptors() for s in (proxy, echo)]
        for i in range(scaled(300)):
            sock = self.connect(proxy)
            if i % 2 == 0:
                sock.sendall(b"x" * 1000)
            reset(sock)
        eventually(lambda: proxy.descriptors() <= idle[0] and echo.descriptors() <= idle[1], "all descriptors are closed")
        proxy.stop()
        echo.stop()

    def test_silence_ends_both_sides(self):
        echo = self.other("echo", "--idle=1000")
        proxy = self.before(echo, arguments=["--idle=0.5"])
        idle = echo.descriptors()
        for sock in crowd(self, proxy, scaled(100)):
            self.assertEqual(receive_all(sock), b"")
        eventually(lambda: echo.descriptors() <= idle, "the server's side is closed too")
        proxy.stop()
        echo.stop()

    def test_one_direction_is_enough(self):
        """What only flows one way for longer than --idle goes on."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            proxy = self.before("127.0.0.1:%d" % listener.getsockname()[1], arguments=["--idle=0.5"])
            sock = self.connect(proxy)
            there, _ = listener.accept()
            with there:
                for _ in range(12):
                    try:
                        there.sendall(b"tick")
                        got = receive_exactly(sock, 4)
                    except ConnectionError:
                        got = b""
                    if not got:
                        self.skipTest("this machine paused for half a second: silence, for the proxy")
                    threading.Event().wait(0.1)
        proxy.stop()

    def test_sigterm_cuts_both_sides(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            proxy = self.before("127.0.0.1:%d" % listener.getsockname()[1], arguments=["--grace=0.2", "--idle=1000"])
            sock = self.connect(proxy)
            there, _ = listener.accept()
            with there:
                sock.shutdown(socket.SHUT_WR)  # half of it has ended; the other half would go on for ever
                self.assertEqual(there.recv(1), b"")
                proxy.stop()
                self.assertEqual(receive_all(sock), b"")
        self.assertTrue(refused(proxy))


if __name__ == "__main__":
    main()
