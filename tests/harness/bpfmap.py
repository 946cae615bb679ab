# SPDX-License-Identifier: Apache-2.0
"""Pinned maps by bpf(2), for tests that write what the agent would."""

import ctypes
import ipaddress
import os
import platform
import struct

SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
LOOKUP, UPDATE, NEXT_KEY, OBJ_GET = 1, 2, 4, 7


def bpf(command, attr):
    attr = ctypes.create_string_buffer(attr, 128)
    got = ctypes.CDLL(None, use_errno=True).syscall(SYSCALL[platform.machine()], command, attr,
                                                    len(attr))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got


class Map:
    """A pinned map, whose keys and values are bytes."""

    def __init__(self, path):
        name = ctypes.create_string_buffer(os.fsencode(path))
        self.fd = bpf(OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))
        with open(f"/proc/self/fdinfo/{self.fd}") as file:
            info = dict(line.split(":\t") for line in file.read().splitlines())
        self.key_size, self.value_size = int(info["key_size"]), int(info["value_size"])

    def close(self):
        os.close(self.fd)

    def element(self, command, key, value, flags=0):
        key = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
        bpf(command, struct.pack("=I4xQQQ", self.fd, ctypes.addressof(key) if key else 0,
                                 ctypes.addressof(value), flags))

    def put(self, key, value):
        self.element(UPDATE, key, ctypes.create_string_buffer(value, self.value_size))

    def get(self, key):
        value = ctypes.create_string_buffer(self.value_size)
        self.element(LOOKUP, key, value)
        return value.raw

    def keys(self):
        key, following = None, ctypes.create_string_buffer(self.key_size)
        while True:
            try:
                self.element(NEXT_KEY, key, following)
            except FileNotFoundError:
                return
            key = following.raw
            yield key


def address(text):
    """16 bytes, IPv4 as IPv4-mapped."""
    parsed = ipaddress.ip_address(text)
    return parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed
