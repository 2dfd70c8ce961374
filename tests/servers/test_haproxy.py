#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""httpd and kv, two processes each, behind HAProxy: both serve, one may go, and another may come in its place."""

import http.client
import signal
import socket
import subprocess
import tempfile
import unittest

from harness import LIMIT, Server, eventually, main, peer

CONFIGURATION = """
defaults
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch
    default-server check inter 200ms fall 2 rise 1
frontend in
    mode {mode}
    bind fd@{fd}
    default_backend out
backend out
    mode {mode}
    balance roundrobin
    {check}
    server one {one}
    server two {two}
"""


class Haproxy(unittest.TestCase):
    def behind(self, mode, check, one, two):
        """The address of a HAProxy before two servers.  It inherits its listening socket: no port is guessed."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.addCleanup(listener.close)
        file = tempfile.NamedTemporaryFile("w", suffix=".cfg")  # pylint: disable=consider-using-with
        self.addCleanup(file.close)
        file.write(CONFIGURATION.format(mode=mode, check=check, fd=listener.fileno(), one=f"{one.host}:{one.port}", two=f"{two.host}:{two.port}"))
        file.flush()
        said = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self.addCleanup(said.close)
        process = subprocess.Popen(["haproxy", "-db", "-f", file.name], pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL,  # pylint: disable=consider-using-with
                                   stdout=said, stderr=said)

        def end():
            process.send_signal(signal.SIGUSR1)
            process.kill()
            process.wait()

        self.addCleanup(end)
        return listener.getsockname()

    def ask(self, address):
        """One request of a client of its own: true if it was answered well."""
        client = http.client.HTTPConnection(*address, timeout=LIMIT)
        try:
            client.request("GET", "/")
            response = client.getresponse()
            return response.status == 200 and response.read() == b"hello, world\n"
        except http.client.HTTPException:
            return False
        finally:
            client.close()

    @peer("haproxy")
    def test_httpd_one_goes_and_another_comes(self):
        one, two = Server(self, "httpd"), Server(self, "httpd")
        address = self.behind("http", "option httpchk GET /", one, two)
        eventually(lambda: all(self.ask(address) for _ in range(20)), "it is answered")
        two.stop()
        eventually(lambda: all(self.ask(address) for _ in range(20)), "the other one answers alone")
        again = Server(self, "httpd", port=one.port)  # shares the port, then has it alone: a new version without a gap
        one.stop()
        eventually(lambda: all(self.ask(address) for _ in range(20)), "the new one answers alone")
        again.stop()

    @peer("haproxy")
    def test_kv_connections_are_shared_out(self):
        one, two = Server(self, "kv"), Server(self, "kv")
        address = self.behind("tcp", "", one, two)

        def process_of_one_more():
            with socket.create_connection(address, timeout=LIMIT) as sock:
                reader = sock.makefile("rb")
                sock.sendall(b"INFO\r\n")
                size = reader.readline()
                if not size.startswith(b"$"):
                    return None
                text = reader.read(int(size[1:]) + 2)
                return int(text.split(b"process_id:")[1].split()[0])

        seen = set()

        def both():
            seen.add(process_of_one_more())
            return {one.pid, two.pid} <= seen

        eventually(both, "both serve")
        one.stop()
        two.stop()


if __name__ == "__main__":
    main()
