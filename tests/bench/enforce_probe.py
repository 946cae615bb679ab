#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a pod.  "server NAME PORT": answers datagrams with its name.  "client ADDR PORT": for each
line "NAME" on standard input, says "asking" and asks about every 100 us, each time from a new socket,
until NAME answers; then prints when that question was sent (CLOCK_MONOTONIC)."""

import select
import socket
import sys
import time

PACE = 50e-6


def family_of(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def serve(name, port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    print("ready", flush=True)
    while True:
        _, peer = sock.recvfrom(64)
        sock.sendto(name.encode(), peer)


def ask(to, wanted):
    """Asks once; when, if the wanted one answered before the next question is due."""
    with socket.socket(family_of(to[0]), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        began = time.monotonic()
        try:
            sock.sendto(b"?", to)
        except OSError:  # refused: nobody serves it yet
            return None
        if not select.select([sock], [], [], PACE)[0]:
            return None
        try:
            return began if sock.recv(64).decode() == wanted else None
        except ConnectionRefusedError:
            return None


def client(addr, port):
    for line in sys.stdin:
        print("asking", flush=True)
        answered = None
        while answered is None:
            answered = ask((addr, port), line.strip())
        print(f"{answered:.9f}", flush=True)


if sys.argv[1] == "server":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    client(sys.argv[2], int(sys.argv[3]))
