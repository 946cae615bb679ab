# SPDX-License-Identifier: Apache-2.0
"""Traffic that never pauses, inside a pod: each argument is a task, "KIND ADDRESS PORT".

    tcp   one connection, a request and its answer at a time
    open  a new connection every 10 ms, which must seem to lead where it was meant to
    udp   one socket, a datagram and its answer at a time
    ask   a datagram from a new socket every 2 ms
    shut  tries to open a connection and to get a datagram answered every 10 ms: must never succeed

"ready" is printed once every task has done something.  When stdin ends, one line of JSON tells for
each task what it did, what failed and the longest time that something took.
"""

import json
import select
import socket
import sys
import threading
import time

PACE = {"tcp": 0.001, "ask": 0.002}
TIMEOUT = 10.0  # TCP sends again after 200 ms, or 1 s for a SYN


class Task(threading.Thread):
    def __init__(self, kind, addr, port):
        super().__init__(daemon=True)
        self.kind, self.addr, self.port = kind, addr, int(port)
        self.done, self.failed, self.longest = 0, [], 0.0
        self.began = threading.Event()
        self.ends = threading.Event()

    def socket(self, kind, timeout):
        sock = socket.socket(socket.AF_INET6 if ":" in self.addr else socket.AF_INET, kind)
        sock.settimeout(timeout)
        return sock

    def connected(self):
        sock = self.socket(socket.SOCK_STREAM, TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect((self.addr, self.port))
        while not sock.recv(1) == b"\n":
            pass
        return sock

    def tcp(self):
        sock = self.connected()
        while True:
            yield
            sock.sendall(b"x" * 1000)
            left = 1000
            while left:
                part = len(sock.recv(left))
                if not part:
                    raise ConnectionResetError("closed")
                left -= part

    def open(self):
        while True:
            with self.connected() as sock:
                peer = sock.getpeername()[:2]
            if peer != (self.addr, self.port):
                self.failed.append(f"peer {peer}")
            yield

    def ask_once(self, sock, number):
        message = str(number).encode()
        sock.sendto(message, (self.addr, self.port))
        answer = b""
        while not answer.endswith(b" " + message):
            answer, peer = sock.recvfrom(2048)
        if peer[:2] != (self.addr, self.port):
            self.failed.append(f"peer {peer}")

    def udp(self):
        sock = self.socket(socket.SOCK_DGRAM, TIMEOUT)
        while True:
            self.ask_once(sock, self.done)
            yield

    def ask(self):
        while True:
            with self.socket(socket.SOCK_DGRAM, TIMEOUT) as sock:
                self.ask_once(sock, self.done)
            yield

    def shut(self):
        datagrams = self.socket(socket.SOCK_DGRAM, 0)
        waiting = []
        while True:
            yield
            sock = self.socket(socket.SOCK_STREAM, 0)
            sock.connect_ex((self.addr, self.port))
            waiting.append(sock)
            datagrams.sendto(b"?", (self.addr, self.port))
            readable, writable, _ = select.select([datagrams], waiting, [], 0)
            self.failed += ["a datagram was answered"] * len(readable)
            self.failed += ["a connection was opened"] * sum(
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 for sock in writable)
            if len(waiting) > 100:
                waiting.pop(0).close()

    def run(self):
        while not self.ends.is_set():  # a task that failed begins anew
            try:
                at = time.monotonic()
                for _ in getattr(self, self.kind)():
                    self.longest = max(self.longest, time.monotonic() - at)
                    self.done += 1
                    self.began.set()
                    if self.ends.wait(PACE.get(self.kind, 0.01)):
                        return
                    at = time.monotonic()
            except OSError as error:
                self.failed.append(f"{time.monotonic():.3f}: {error!r}")


tasks = [Task(*argument.split()) for argument in sys.argv[1:]]
for task in tasks:
    task.start()
for task in tasks:
    task.began.wait()
print("ready", flush=True)
sys.stdin.read()
for task in tasks:
    task.ends.set()
for task in tasks:
    task.join()
print(json.dumps([{"task": f"{t.kind} {t.addr} {t.port}", "done": t.done, "failed": t.failed,
                   "longest": round(t.longest, 4)} for t in tasks]))
