#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""httpd with --tls-cert: curl, openssl s_client, Python's ssl; and clients that do not shake hands."""

import os
import re
import ssl
import subprocess
import tempfile
import unittest

from harness import LIMIT, PROGRAMS, ServerCase, crowd, eventually, main, peer, receive_all, receive_exactly, run, scaled

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@peer("openssl")
class HttpdTls(ServerCase):
    name = "httpd"

    @classmethod
    def setUpClass(cls):
        if "--tls-cert" not in run(os.path.join(PROGRAMS, cls.name), "--help").decode():
            print("SKIPPED: built without TLS", flush=True)
            raise unittest.SkipTest("built without TLS")
        cls.folder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        cls.addClassCleanup(cls.folder.cleanup)
        cls.cert, cls.key, cls.large = cls.path("cert.pem"), cls.path("key.pem"), os.urandom(1_000_001)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", cls.key, "-out", cls.cert)
        os.mkdir(cls.path("root"))
        for name, content in (("index.html", b"<p>front page\n"), ("large.bin", cls.large)):
            with open(cls.path("root/" + name), "wb") as f:
                f.write(content)

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def serve(self, *arguments):
        return self.start("--tls-cert", self.cert, "--tls-key", self.key, "--root", self.path("root"), *arguments)

    def secured(self, server):
        context = ssl.create_default_context(cafile=self.cert)
        s = context.wrap_socket(self.connect(server), server_hostname="localhost", suppress_ragged_eofs=False)
        self.addCleanup(s.close)
        return s

    def front_page(self, s):
        s.sendall(GET)
        head = b""
        while b"\r\n\r\n" not in head:
            head += receive_exactly(s, 1)
        self.assertTrue(head.startswith(b"HTTP/1.1 200 "), head)
        self.assertEqual(receive_exactly(s, int(re.search(rb"Content-Length: (\d+)", head)[1])), b"<p>front page\n")

    @peer("curl")
    def test_curl(self):
        server = self.serve()
        url = f"https://localhost:{server.port}"
        curl = ["curl", "--disable", "--noproxy", "*", "-sS", "--fail", "--cacert", self.cert, "--resolve", f"localhost:{server.port}:{server.host}"]
        self.assertEqual(run(*curl, f"{url}/large.bin"), self.large)
        self.assertEqual(run(*curl, "--tls-max", "1.2", f"{url}/", f"{url}/"), 2 * b"<p>front page\n")
        server.stop()

    def s_client(self, server, *arguments):
        return run("openssl", "s_client", "-connect", f"{server.host}:{server.port}", "-servername", "localhost", "-CAfile", self.cert,
                   "-verify_return_error", "-ign_eof", *arguments, stdin=self.request())

    def request(self):
        with open(self.path("request"), "wb") as f:
            f.write(LAST)
        return open(self.path("request"), "rb")  # pylint: disable=consider-using-with

    def test_s_client(self):
        server = self.serve()
        for version in ("-tls1_2", "-tls1_3"):
            self.assertIn(self.large, self.s_client(server, version))
        server.stop()

    def test_s_client_resumes_its_session(self):
        server = self.serve()
        self.assertIn(b"New, TLSv1.3", self.s_client(server, "-sess_out", self.path("session")))
        self.assertIn(b"Reused, TLSv1.3", self.s_client(server, "-sess_in", self.path("session")))
        server.stop()

    def test_keep_alive_and_the_end(self):
        server = self.serve()
        everybody = [self.secured(server) for _ in range(scaled(20))]
        for _ in range(3):
            for s in everybody:
                self.front_page(s)
        everybody[0].sendall(LAST)
        self.assertTrue(receive_all(everybody[0]).endswith(self.large))  # Python tells an end without a close_notify
        server.stop()  # with all others at rest

    def test_who_does_not_shake_hands_is_closed(self):
        server = self.serve("--timeout=0.5")
        before = server.descriptors()
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for first in (b"", hello, hello + os.urandom(20)):
            for sock in crowd(self, server, scaled(50), first):
                receive_all(sock)
        eventually(lambda: server.descriptors() <= before, "all descriptors are closed")
        self.front_page(self.secured(server))
        server.stop()

    def test_what_is_no_tls_is_closed(self):
        server = self.serve("--timeout=1")
        for text in (GET, os.urandom(1000)):
            sock = self.connect(server)
            sock.sendall(text)
            self.assertNotIn(b"HTTP/1.1 200", receive_all(sock))
        self.front_page(self.secured(server))
        server.stop()

    def test_wrong_files_are_refused(self):
        for cert, key in (("/nowhere", self.key), (self.cert, "/nowhere"), (self.key, self.cert)):
            done = subprocess.run([os.path.join(PROGRAMS, self.name), "--port=0", "--tls-cert", cert, "--tls-key", key], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=LIMIT, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"httpd: ", done.stderr)


if __name__ == "__main__":
    main()
