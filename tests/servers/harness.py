# SPDX-License-Identifier: BSD-2-Clause
#
# What the tests of the example servers share.
#
#   Server      one process of one server: started with port 0, awaited by its "listening on" line, ended by SIGTERM with status 0, killed in any case
#   eventually  looks again and again until something holds, for a minute: no test here says how long anything takes
#   scaled      fewer connections under the sanitizers, more with LWP_STRESS
#   peer        a program of somebody else; a test without its peer is skipped, and says so
#
# The environment says where the programs are (LWP_SERVERS) and what they were built with (LWP_SANITIZE: address, thread, or nothing).
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

LIMIT = 60  # seconds after which what ought to come is given up
PROGRAMS = os.environ.get("LWP_SERVERS", "build/debug/examples")
SANITIZE = os.environ.get("LWP_SANITIZE", "")


def scaled(count):
    """So many connections, or as many as descriptors allow."""
    count = count * int(os.environ.get("LWP_STRESS", "1"))
    if SANITIZE:
        count = max(count // 10, 10)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(count, hard - 100)


def eventually(condition, what):
    """Returns the first true value of condition(), which may also raise while things are not there yet."""
    end = time.monotonic() + LIMIT
    error = None
    while True:
        try:
            value = condition()
            error = None
            if value:
                return value
        except (OSError, AssertionError) as e:
            error = e
        if time.monotonic() > end:
            raise AssertionError(f"not within {LIMIT} s: {what}" + (f" (last: {error!r})" if error else ""))
        time.sleep(0.02)


def peer(name):
    """Decorates a test that needs the program `name`."""
    found = shutil.which(name)
    if found is None:
        print(f"SKIPPED: {name} is not installed", flush=True)
    return unittest.skipUnless(found, f"{name} is not installed")


def run(*command, **options):
    """A peer's run to its end; it must succeed.  Its output."""
    done = subprocess.run(command, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=LIMIT * 2, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout.decode(errors='replace')}")
    return done.stdout


class Server:
    """A running server: host, port, pid."""

    def __init__(self, test, name, *arguments, descriptors=None, port=0, env=None):
        self.log = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        if descriptors is not None:
            # By the shell, not by a hook between fork and exec, which is not safe for every Python.
            prefix = ["sh", "-c", f'ulimit -n {descriptors} && exec "$@"', "sh"]
        else:
            prefix = []
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [*prefix, os.path.join(PROGRAMS, name), f"--port={port}", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, env={**os.environ, **(env or {})})
        test.addCleanup(self.kill)
        self.pid = self.process.pid
        self.name = name
        line = self.first_line()
        if not line.startswith(b"listening on "):
            raise AssertionError(f"{name} said {line!r}\n{self.said()}")
        host, port = line.split()[-1].decode().rsplit(":", 1)
        self.host, self.port = host, int(port)
        # Bound, not listening: nobody else is given this port while the test lasts, also when the server has ended.
        place = socket.socket()
        test.addCleanup(place.close)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((self.host, self.port))

    def first_line(self):
        """Its first line; empty if it ended before.  A server that hangs here is ended by the test's own time limit in ctest."""
        return self.process.stdout.readline()

    def said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def connect(self):
        s = socket.create_connection((self.host, self.port), timeout=LIMIT)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def term(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Its end, which must be a good one: status 0, and nothing to say (a sanitizer would)."""
        try:
            status = self.process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end\n{self.said()}") from None
        said = self.said()
        if status != 0 or said:
            raise AssertionError(f"{self.name}: status {status}\n{said}")

    def stop(self):
        self.term()
        self.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if self.said():
            print(f"{self.name} said: {self.said()}", flush=True)
        self.log.close()

    def descriptors(self):
        """Sockets, files and pipes that it has open: not the library's own rings and event counters, of which it makes more when it needs them."""
        count = 0
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                count += not os.readlink(f"/proc/{self.pid}/fd/{number}").startswith("anon_inode:")
            except FileNotFoundError:
                pass  # closed meanwhile
        return count

    def resident(self):
        """Bytes of memory in use."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


class ServerCase(unittest.TestCase):
    """Tests of one server."""

    name = ""

    def start(self, *arguments, **options):
        return Server(self, self.name, *arguments, **options)

    def connect(self, server):
        s = server.connect()
        self.addCleanup(s.close)
        return s


class HelpCase:
    """Beside ServerCase: what every program does."""

    def test_help(self):
        text = run(os.path.join(PROGRAMS, self.name), "--help").decode()
        self.assertIn("usage: " + self.name, text)
        self.assertEqual(subprocess.run([os.path.join(PROGRAMS, self.name), "--no-such-option"], stderr=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, timeout=LIMIT, check=False).returncode, 2)


def receive_exactly(sock, count):
    """Bytes; fewer only at the end of the stream."""
    parts = []
    while count > 0:
        part = sock.recv(min(count, 1 << 16))
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def receive_all(sock):
    """Bytes up to the end of the stream; a reset is one too."""
    parts = []
    try:
        while part := sock.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def reset(sock):
    """Closes with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def crowd(test, server, count, first=b""):
    """So many connections, on each of which `first` was sent."""
    all_of_them = []
    for _ in range(count):
        s = test.connect(server)
        if first:
            s.sendall(first)
        all_of_them.append(s)
    return all_of_them


def refused(server):
    """Whether it does not listen any more."""
    try:
        server.connect().close()
        return False
    except ConnectionRefusedError:
        return True


def gone(sock):
    """Whether the server has ended this connection; reads what comes meanwhile."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def all_gone(sockets):
    return all(gone(s) for s in sockets)


def main():
    unittest.main(verbosity=2)
