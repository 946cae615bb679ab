# SPDX-License-Identifier: Apache-2.0
"""The process that lives in a test pod: obeys JSON lines on stdin, answers on stdout.

Started inside the pod's network namespace and the test's cgroup, so that every socket it opens is
a pod's socket.  One process per pod keeps a probe at a millisecond instead of a fork and an exec.

    {"op": "serve", "name": TEXT, "tcp": [PORT...], "udp": [PORT...]}
        TCP: answers each connection with "NAME\\n", then echoes.  UDP: answers "NAME " + payload.
        {peer} in the name becomes the ADDRESS/PORT that the server sees
    {"op": "connect", "addr": A, "port": N, "timeout": S, "send": TEXT?}
    {"op": "udp", "addr": A, "port": N, "timeout": S, "size": BYTES?, "connected": BOOL?,
     "id": KEY?}                                       with an id: keeps the socket, uses it again
    {"op": "flood", "addr": A, "port": N, "count": N}  opens and resets connections; how many it made
    {"op": "hold", "id": KEY, "addr": A, "port": N,    opens and keeps a connection,
     "device": NAME?}                                  bound to a device
    {"op": "ping", "id": KEY, "timeout": S}            echo over a kept connection
    {"op": "send", "id": KEY}                          writes to a kept connection
    {"op": "wait_end", "id": KEY, "timeout": S}        reads a kept connection until it ends
    {"op": "close", "id": KEY}
    {"op": "sniff"}                                    from now on, keep the frames that arrive;
                                                       forgets what it had
    {"op": "sniffed", "contains": HEX, "begins": HEX?} how many of them contain these bytes, and
                                                       begin with those
    {"op": "inject", "frame": HEX, "count": N?}        sends a frame as it is, from eth0
    {"op": "raw", "addr": A, "proto": N}               an IP packet of this protocol, with 8 bytes
    {"op": "error", "addr": A, "proto": N, "type": N, "code": N, "rest": HEX}   an ICMP error: what is
                                                       in it behind the checksum
    {"op": "datagram", "addr": A, "port": N, "data": HEX}      sends a UDP datagram
    {"op": "spoof", "source": A, "addr": A, "port": N, "data": HEX}   the same, from an address that
                                                       this machine has given itself
    {"op": "tunnel", "device": NAME, "packet": HEX}    hands an IP packet to the pod's own stack as if
                                                       it had come by this tun device
    {"op": "repair", "local": [A, N], "remote": [A, N], "send": TEXT}
        TCP_REPAIR: a socket that believes it is connected, though nobody ever shook hands
    {"op": "rtt", "addr": A, "port": N, "count": N, "cpu": N?}   median round trip, microseconds
"""

import errno
import fcntl
import json
import os
import selectors
import socket
import struct
import sys
import threading
import time

PATIENCE_S = 10.0  # for an answer that must come; where none may come, a test asks for less

NAMES = {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "unreachable",
         errno.ENETUNREACH: "unreachable", errno.EPERM: "not permitted",
         errno.ECONNRESET: "reset", errno.EACCES: "not permitted"}


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def outcome(error):
    if isinstance(error, (socket.timeout, TimeoutError)):
        return "timeout"
    return NAMES.get(error.errno, os.strerror(error.errno) if error.errno else str(error))


class Server(threading.Thread):
    """Echo servers on many ports, one thread, no blocking."""

    def __init__(self, name, tcp, udp):
        super().__init__(daemon=True)
        self.name = name
        self.selector = selectors.DefaultSelector()
        for port in tcp:
            self.add(socket.SOCK_STREAM, port, self.accept)
        for port in udp:
            self.add(socket.SOCK_DGRAM, port, self.answer)

    def name_for(self, peer):
        address = peer[0].removeprefix("::ffff:")
        return self.name.replace("{peer}", f"{address}/{peer[1]}").encode()

    def add(self, kind, port, ready):
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            sock.listen(1024)
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ, ready)

    def accept(self, sock):
        conn, peer = sock.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.setblocking(False)
        try:
            conn.send(self.name_for(peer) + b"\n")
        except OSError:
            conn.close()
            return
        self.selector.register(conn, selectors.EVENT_READ, self.echo)

    def echo(self, conn):
        try:
            data = conn.recv(65536)
            if data:
                conn.sendall(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.selector.unregister(conn)
        conn.close()

    def answer(self, sock):
        data, peer = sock.recvfrom(65536)
        try:
            sock.sendto(self.name_for(peer) + b" " + data, peer)
        except OSError:
            pass

    def run(self):
        while True:
            for key, _ in self.selector.select():
                try:
                    key.data(key.fileobj)
                except OSError:
                    pass


class Pod:
    def __init__(self):
        self.kept = {}
        self.frames, self.sniffer = [], None

    def serve(self, name, tcp=(), udp=()):
        Server(name, tcp, udp).start()
        return {"result": "ok"}

    def flood(self, addr, port, count):
        """Opens and resets that many connections; answers how many were made."""
        made = 0
        for _ in range(count):
            with socket.socket(family(addr), socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                made += sock.connect_ex((addr, port)) == 0
        return {"result": made}

    def open(self, addr, port, timeout, device="", sport=0):
        sock = socket.socket(family(addr), socket.SOCK_STREAM)
        if sport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", sport))
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((addr, port))
            line = b""
            while not line.endswith(b"\n"):
                chunk = sock.recv(4096)
                if not chunk:
                    raise ConnectionResetError(errno.ECONNRESET, "closed")
                line += chunk
        except BaseException:
            sock.close()
            raise
        return sock, line.decode().strip()

    def connect(self, addr, port, timeout=PATIENCE_S, send=None, sport=0):
        """From a port of the caller's choosing it ends by a reset, so that the port may come again."""
        sock, name = self.open(addr, port, timeout, sport=sport)
        if sport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answer = {"result": "ok", "name": name, "peer": list(sock.getpeername()[:2]),
                  "local": list(sock.getsockname()[:2])}
        if send is not None:
            sock.sendall(send.encode())
            answer["echo"] = sock.recv(65536).decode()
        sock.close()
        return answer

    def udp(self, addr, port, timeout=PATIENCE_S, size=4, connected=False, id=None):
        """A kept socket that is connected stays so: it sends where it was connected to at first."""
        kept = self.kept.get(id)
        sock = kept or socket.socket(family(addr), socket.SOCK_DGRAM)
        if id is not None:
            self.kept[id] = sock
        sock.settimeout(timeout)
        payload = b"x" * size
        try:
            if connected:
                if not kept:
                    sock.connect((addr, port))
                sock.send(payload)
            else:
                sock.sendto(payload, (addr, port))
            data, peer = sock.recvfrom(65536)
        finally:
            if id is None:
                sock.close()
        name, _, rest = data.partition(b" ")
        return {"result": "ok" if rest == payload else "corrupt", "name": name.decode(),
                "peer": list(peer[:2])}

    def hold(self, id, addr, port, timeout=PATIENCE_S, device=""):
        self.kept[id], name = self.open(addr, port, timeout, device)
        return {"result": "ok", "name": name, "local": list(self.kept[id].getsockname()[:2])}

    def ping(self, id, timeout=PATIENCE_S):
        sock = self.kept[id]
        sock.settimeout(timeout)
        sock.sendall(b"ping")
        got = b""
        while len(got) < 4:
            chunk = sock.recv(4 - len(got))
            if not chunk:
                return {"result": "closed"}
            got += chunk
        return {"result": "ok" if got == b"ping" else "corrupt"}

    def send(self, id):
        self.kept[id].sendall(b"ping")
        return {"result": "ok"}

    def wait_end(self, id, timeout=PATIENCE_S):
        sock = self.kept[id]
        sock.settimeout(timeout)
        while sock.recv(65536):
            pass
        return {"result": "closed"}

    def close(self, id):
        self.kept.pop(id).close()
        return {"result": "ok"}

    def sniff(self):
        if self.sniffer is None:
            self.sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.sniffer.bind(("eth0", 0))
            self.sniffer.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
            self.sniffer.setblocking(False)
        self.drain()
        self.frames.clear()
        return {"result": "ok"}

    def drain(self):
        """What has arrived by now: no thread that might not have got to it yet."""
        while True:
            try:
                frame, (_, _, kind, _, _) = self.sniffer.recvfrom(65536)
            except BlockingIOError:
                return
            if kind != socket.PACKET_OUTGOING:
                self.frames.append(frame)

    def sniffed(self, contains, begins=""):
        wanted, first = bytes.fromhex(contains), bytes.fromhex(begins)
        self.drain()
        return {"result": "ok", "count": sum(wanted in frame and frame.startswith(first)
                                             for frame in self.frames)}

    def inject(self, frame, count=1):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind(("eth0", 0))
        for _ in range(count):
            sock.send(bytes.fromhex(frame))
        sock.close()
        return {"result": "ok"}

    def raw(self, addr, proto):
        with socket.socket(family(addr), socket.SOCK_RAW, proto) as sock:
            sock.sendto(bytes(8), (addr, 0))
        return {"result": "ok"}

    def error(self, addr, proto, type, code, rest):
        """The kernel makes the checksum of ICMPv6."""
        packet = bytes((type, code, 0, 0)) + bytes.fromhex(rest)
        total = sum(struct.unpack(f">{len(packet) // 2}H", packet))
        total = (total & 0xffff) + (total >> 16)
        total = ~(total + (total >> 16)) & 0xffff
        with socket.socket(family(addr), socket.SOCK_RAW, proto) as sock:
            sock.sendto(packet[:2] + struct.pack(">H", total) + packet[4:], (addr, 0))
        return {"result": "ok"}

    def datagram(self, addr, port, data):
        with socket.socket(family(addr), socket.SOCK_DGRAM) as sock:
            sock.sendto(bytes.fromhex(data), (addr, port))
        return {"result": "ok"}

    def spoof(self, source, addr, port, data):
        with socket.socket(family(addr), socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_IP, 15, 1)  # IP_FREEBIND
            sock.bind((source, 0))
            sock.sendto(bytes.fromhex(data), (addr, port))
        return {"result": "ok"}

    def tunnel(self, device, packet):
        tunsetiff, tun_without_header = 0x400454ca, 0x1001
        tun = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(tun, tunsetiff, struct.pack("16sH22x", device.encode(), tun_without_header))
            os.write(tun, bytes.fromhex(packet))
        finally:
            os.close(tun)
        return {"result": "ok"}

    def repair(self, local, remote, send):
        tcp_repair, tcp_repair_queue, tcp_queue_seq = 19, 20, 21
        sock = socket.socket(family(local[0]), socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, tcp_repair, 1)
        for queue in (1, 2):
            sock.setsockopt(socket.IPPROTO_TCP, tcp_repair_queue, queue)
            sock.setsockopt(socket.IPPROTO_TCP, tcp_queue_seq, 1000)
        sock.bind(tuple(local))
        sock.connect(tuple(remote))
        sock.setsockopt(socket.IPPROTO_TCP, tcp_repair, 0)
        sock.settimeout(PATIENCE_S)
        sock.send(send.encode())
        self.kept["repair"] = sock
        return {"result": "ok"}

    def rtt(self, addr, port, count=2000, size=64, cpu=None):
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        sock, _ = self.open(addr, port, PATIENCE_S)
        sock.setblocking(False)
        selector = selectors.DefaultSelector()
        selector.register(sock, selectors.EVENT_READ)
        payload = b"x" * size
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            sock.send(payload)
            left = size
            while left:
                selector.select(PATIENCE_S)
                try:
                    left -= len(sock.recv(left))
                except BlockingIOError:
                    continue
            times.append(time.perf_counter_ns() - start)
        sock.close()
        times.sort()
        return {"result": "ok", "median_us": times[len(times) // 2] / 1000}


def main():
    pod = Pod()
    for line in sys.stdin:
        command = json.loads(line)
        operation = getattr(pod, command.pop("op"))
        try:
            answer = operation(**command)
        except OSError as error:
            answer = {"result": outcome(error)}
        print(json.dumps(answer), flush=True)


main()
