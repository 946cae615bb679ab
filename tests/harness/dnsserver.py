# SPDX-License-Identifier: Apache-2.0
"""A DNS server that answers each question with one address, and a client that asks it.

    dnsserver.py serve ADDRESS ANSWER TTL   prints a line when it is there, and answers until it is killed
    dnsserver.py ask ADDRESS NAME [COUNT]   labels of NAME in hexadecimal, with dots; waits for each answer
"""

import socket
import struct
import sys

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


def serve(addr, given, ttl):
    sock = socket.socket(family(addr), socket.SOCK_DGRAM)
    sock.bind((addr, PORT))
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


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
