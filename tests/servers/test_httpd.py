#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""httpd: real clients, what the protocol asks for, and clients that mean no good."""

import http.client
import os
import socket
import tempfile

from harness import LIMIT, SANITIZE, HelpCase, ServerCase, crowd, eventually, main, peer, receive_all, refused, reset, run, scaled


def status_of(answer):
    """The status of raw bytes that begin with an answer; None if they do not."""
    parts = answer.split(None, 2)
    return int(parts[1]) if len(parts) > 2 and parts[0] == b"HTTP/1.1" else None


def unsent(port):
    """The most bytes that wait in the kernel to be sent, or to be acknowledged, in one connection to `port`."""
    most = 0
    with open("/proc/net/tcp", encoding="ascii") as f:
        for line in f.readlines()[1:]:
            _, local, _, state, queues = line.split()[:5]
            if state == "01" and local.endswith(f":{port:04X}"):
                most = max(most, int(queues.split(":")[0], 16))
    return most


class Httpd(HelpCase, ServerCase):
    name = "httpd"

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        cls.addClassCleanup(cls.folder.cleanup)
        cls.files = {"/index.html": b"<p>front page\n", "/a.txt": b"text\n", "/empty": b"", "/sub dir/deep.json": b"{}\n",
                     "/small.bin": os.urandom(32768), "/large.bin": os.urandom(3_000_001)}
        for path, content in cls.files.items():
            os.makedirs(os.path.dirname(cls.root() + path), exist_ok=True)
            with open(cls.root() + path, "wb") as f:
                f.write(content)

    @classmethod
    def root(cls):
        return os.path.join(cls.folder.name, "root")

    def serve_files(self, *arguments, **options):
        return self.start("--root", self.root(), *arguments, **options)

    def client(self, server):
        c = http.client.HTTPConnection(server.host, server.port, timeout=LIMIT)
        self.addCleanup(c.close)
        return c

    def ask(self, server, method, target, headers=None, body=None):
        """One request by a client of its own: the response, and its body."""
        c = self.client(server)
        c.request(method, target, headers=headers or {}, body=body)
        response = c.getresponse()
        return response, response.read()

    def raw(self, server, text):
        """Sends bytes and reads until the server ends the connection."""
        sock = self.connect(server)
        try:
            sock.sendall(text)
        except ConnectionError:
            pass  # it has refused before all was sent
        return receive_all(sock)

    # ---- what it is for ----

    def test_files_over_one_connection(self):
        server = self.serve_files()
        c = self.client(server)
        for path, content in self.files.items():
            c.request("GET", path.replace(" ", "%20") + "?query")
            response = c.getresponse()
            self.assertEqual((response.status, response.read()), (200, content))
            c.request("HEAD", path.replace(" ", "%20"))
            response = c.getresponse()
            self.assertEqual((response.status, response.read()), (200, b""))
            self.assertEqual(int(response.getheader("Content-Length")), len(content))
        server.stop()

    def test_front_page_types_and_modification(self):
        server = self.serve_files()
        response, body = self.ask(server, "GET", "/")
        self.assertEqual(body, self.files["/index.html"])
        self.assertIn("text/html", response.getheader("Content-Type"))
        since = {"If-Modified-Since": response.getheader("Last-Modified")}
        self.assertEqual(self.ask(server, "GET", "/", since)[0].status, 304)
        self.assertEqual(self.ask(server, "GET", "/", {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"})[0].status, 200)
        server.stop()

    def test_nothing_outside_the_root(self):
        with open(os.path.join(self.folder.name, "secret"), "wb") as f:
            f.write(b"secret")
        server = self.serve_files()
        for target in ("/../secret", "/sub%20dir/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/a.txt%00", "/%zz", "/.."):
            response, body = self.ask(server, "GET", target)
            self.assertIn(response.status, (400, 404), target)
            self.assertNotIn(b"secret", body)
        self.assertEqual(self.ask(server, "GET", "/none")[0].status, 404)
        self.assertEqual(self.ask(server, "GET", "/sub%20dir")[0].status, 404)
        server.stop()

    def test_pipelined_requests_are_answered_in_order(self):
        server = self.serve_files()
        asked = [path for path in self.files if " " not in path] * 20
        text = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in asked[:-1])
        text += f"GET {asked[-1]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        sock = self.connect(server)
        sock.sendall(text)
        reader = sock.makefile("rb")
        for path in asked:
            self.assertEqual(reader.readline(), b"HTTP/1.1 200 OK\r\n")
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split()[1])
            self.assertEqual(reader.read(length), self.files[path])
        self.assertEqual(reader.read(), b"")
        server.stop()

    def test_a_request_byte_by_byte(self):
        server = self.start()
        sock = self.connect(server)
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            sock.sendall(bytes([byte]))
        self.assertEqual(status_of(receive_all(sock)), 200)
        server.stop()

    def test_half_close_gets_the_answer(self):
        server = self.serve_files()
        sock = self.connect(server)
        sock.sendall(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        self.assertTrue(receive_all(sock).endswith(self.files["/large.bin"]))
        server.stop()

    @peer("curl")
    def test_curl(self):
        server = self.serve_files()
        url = f"http://{server.host}:{server.port}"
        self.assertEqual(run("curl", "-sS", "--fail", f"{url}/large.bin"), self.files["/large.bin"])
        self.assertEqual(run("curl", "-sS", "--fail", "--http1.0", f"{url}/a.txt"), self.files["/a.txt"])
        self.assertEqual(run("curl", "-sS", "--fail", f"{url}/a.txt", f"{url}/a.txt"), 2 * self.files["/a.txt"])
        self.assertEqual(run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-d", "x=y", f"{url}/"), b"405")
        self.assertIn(b"Allow: GET, HEAD", run("curl", "-sS", "-i", "-X", "DELETE", f"{url}/"))
        server.stop()

    @peer("wrk")
    def test_wrk(self):
        server = self.start()
        said = run("wrk", "-t1", f"-c{scaled(100)}", "-d1", "--timeout", "60s", f"http://{server.host}:{server.port}/").decode()
        self.assertIn("Requests/sec", said)
        self.assertNotIn("Non-2xx", said)
        self.assertNotIn("Socket errors", said)
        server.stop()

    # ---- limits ----

    def test_what_is_no_request_gets_its_status(self):
        server = self.start("--max-head=4000", "--max-body=1000")
        long = b"x" * 20_000
        host = b"Host: x\r\n"
        for text, status in (
                (b"garbage\r\n\r\n", 400),
                (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), 400),  # TLS
                (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
                (b"GET / HTTP/1.1\r\n" + host + host + b"\r\n", 400),
                (b"GET / HTTP/1.1\r\n" + host + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
                (b"GET / HTTP/1.1\r\n" + host + b"Content-Length: -1\r\n\r\n", 400),
                (b"GET / HTTP/2.0\r\n" + host + b"\r\n", 505),
                (b"GET /" + long + b" HTTP/1.1\r\n" + host + b"\r\n", 414),
                (b"GET / HTTP/1.1\r\n" + host + b"X: " + long + b"\r\n\r\n", 431),
                (b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 5000 + b"\r\n", 431),
                (b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 1001\r\n\r\n", 413),
                (b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nfff\r\n" + b"x" * 0xfff + b"\r\n", 413),
                (b"POST / HTTP/1.1\r\n" + host + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 417),
                (b"POST / HTTP/1.1\r\n" + host + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 405),
                (b"OPTIONS * HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n", 405),
                (b"CONNECT x:1 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n", 405),
                (b"\r\n\r\nGET / HTTP/1.0\r\n\r\n", 200)):
            self.assertEqual(status_of(self.raw(server, text)), status, text[:60])
        server.stop()

    def test_random_bytes_do_no_harm(self):
        server = self.start("--timeout=0.5", "--idle=0.5")
        talkers = []
        for size in (1, 10, 100, 1000, 10_000) * 4:
            talkers += crowd(self, server, 1)
            try:
                talkers[-1].sendall(os.urandom(size))
            except ConnectionError:
                pass  # it has refused before all was sent
        for sock in talkers:
            self.assertIn(status_of(receive_all(sock)), (400, 408, 414, 431, None))
        self.assertEqual(self.ask(server, "GET", "/")[0].status, 200)
        server.stop()

    def test_slowloris(self):
        """Requests that never end: each is cut at its deadline, however slowly it goes on, and others are served meanwhile."""
        server = self.start("--timeout=1")
        before = server.descriptors()
        crowded = crowd(self, server, scaled(1000), b"GET / HTTP/1.1\r\nHost: x\r\n")
        self.assertEqual(self.ask(server, "GET", "/")[0].status, 200)
        if not SANITIZE:
            self.assertLess(server.resident(), 64 << 20)

        def drip():  # each byte is progress, and buys no time
            for sock in crowded:
                try:
                    sock.send(b"X")
                except OSError:
                    pass
            return server.descriptors() <= before + 1

        eventually(drip, "all are cut")
        self.assertEqual(status_of(receive_all(crowded[-1])) or 408, 408)
        self.assertEqual(self.ask(server, "GET", "/")[0].status, 200)
        server.stop()

    def test_silence_is_closed(self):
        server = self.start("--idle=0.5")
        for sock in crowd(self, server, scaled(100)):
            self.assertEqual(receive_all(sock), b"")
        server.stop()

    def test_an_unfinished_request_is_told_so(self):
        server = self.start("--timeout=0.5")
        self.assertEqual(status_of(self.raw(server, b"GET / HTTP/1.1\r\n")), 408)
        self.assertEqual(status_of(self.raw(server, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")), 408)
        server.stop()

    def test_slow_readers_are_cut(self):
        server = self.serve_files("--timeout=0.5")
        before = server.descriptors()
        slow = crowd(self, server, scaled(50), b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        if not SANITIZE:
            self.assertLess(server.resident(), 128 << 20)
        self.assertEqual(self.ask(server, "GET", "/a.txt")[1], self.files["/a.txt"])
        eventually(lambda: server.descriptors() <= before + 1, "they are cut")
        for sock in slow:
            sock.close()
        server.stop()

    def test_what_slow_readers_do_not_take_is_not_piled_up_in_the_kernel(self):
        server = self.serve_files("--timeout=1")
        before = server.descriptors()
        crowd(self, server, 10, b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        most = eventually(lambda: unsent(server.port), "it answers")

        def cut():
            nonlocal most
            most = max(most, unsent(server.port))
            return server.descriptors() <= before + 1

        eventually(cut, "they are cut")
        self.assertLess(most, 1 << 20)
        server.stop()

    def test_resets(self):
        server = self.serve_files()
        before = server.descriptors()
        for i in range(scaled(500)):
            sock = self.connect(server)
            sock.sendall((b"", b"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /")[i % 3])
            reset(sock)
        eventually(lambda: server.descriptors() <= before, "all descriptors are closed")
        self.assertEqual(self.ask(server, "GET", "/a.txt")[0].status, 200)
        server.stop()

    # ---- the end ----

    def test_sigterm_lets_a_request_finish(self):
        server = self.start("--grace=1000", "--timeout=1000", "--idle=1000")
        resting, working = self.connect(server), self.connect(server)
        working.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP")
        first = working.recv(20)  # it is read, and the second one has begun
        server.term()
        self.assertEqual(receive_all(resting), b"")
        working.sendall(b"/1.1\r\nHost: x\r\n\r\n")
        answers = first + receive_all(working)
        self.assertEqual(answers.count(b"HTTP/1.1 200 OK"), 2)
        self.assertIn(b"Connection: close", answers)
        server.wait()

    def test_sigterm_cuts_what_does_not_finish(self):
        server = self.start("--grace=0.2", "--timeout=1000")
        crowded = crowd(self, server, scaled(100), b"GET / HTTP")
        server.term()
        for sock in crowded:
            receive_all(sock)
        server.wait()

    def test_a_second_signal_cuts_at_once(self):
        server = self.start("--grace=1000", "--timeout=1000")
        crowded = crowd(self, server, scaled(100), b"GET / HTTP")
        self.assertEqual(self.ask(server, "GET", "/")[0].status, 200)
        server.term()
        eventually(lambda: refused(server), "it does not listen any more")
        server.term()
        for sock in crowded:
            receive_all(sock)
        server.wait()


if __name__ == "__main__":
    main()
