# SPDX-License-Identifier: Apache-2.0
"""A DNS server that answers each question with one address, and a client that asks it.

    dnsserver.py serve ADDRESS ANSWER TTL   prints a line when it is there, and answers until it is killed
    dnsserver.py ask ADDRESS NAME [COUNT]   labels of NAME in hexadecimal, with dots; waits for each answer
    dnsserver.py ask-tcp ADDRESS NAME...    one after another by one TCP connection
"""

import socket
import struct
import sys
import threading

PORT = 53


def question(labels):
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)


def answer(asked, addr, ttl):
    data = socket.inet_pton(socket.AF_INET, addr)
    head = asked[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
    return head + asked[12:] + struct.pack(">3HIH", 0xc00c, 1, 1, ttl, 4) + data


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def serve_connection(connection, given, ttl):
    with connection, connection.makefile("rb") as stream:
        while head := stream.read(2):
            reply = answer(stream.read(int.from_bytes(head, "big")), given, ttl)
            connection.sendall(len(reply).to_bytes(2, "big") + reply)


def serve_tcp(listener, given, ttl):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve_connection, args=(connection, given, ttl), daemon=True).start()


def serve(addr, given, ttl):
    sock = socket.socket(family(addr), socket.SOCK_DGRAM)
    sock.bind((addr, PORT))
    listener = socket.create_server((addr, PORT), family=family(addr))
    threading.Thread(target=serve_tcp, args=(listener, given, int(ttl)), daemon=True).start()
    print("serving", flush=True)
    while True:
        asked, peer = sock.recvfrom(4096)
        sock.sendto(answer(asked, given, int(ttl)), peer)


def ask(addr, name, count="1"):
    labels = [bytes.fromhex(label) for label in name.split(".")]
    sock = socket.socket(family(addr), socket.SOCK_DGRAM)
    sock.settimeout(10)
    for _ in range(int(count)):
        sock.sendto(question(labels), (addr, PORT))
        sock.recv(4096)


def ask_tcp(addr, *names):
    with socket.create_connection((addr, PORT), timeout=10) as sock, sock.makefile("rb") as stream:
        for name in names:
            asked = question([bytes.fromhex(label) for label in name.split(".")])
            sock.sendall(len(asked).to_bytes(2, "big") + asked)
            assert stream.read(int.from_bytes(stream.read(2), "big"))


if __name__ == "__main__":
    {"serve": serve, "ask": ask, "ask-tcp": ask_tcp}[sys.argv[1]](*sys.argv[2:])
