# SPDX-License-Identifier: Apache-2.0
"""Reads pcapng by the book (draft-ietf-opsawg-pcapng), and refuses what the book forbids."""

import struct
from dataclasses import dataclass

SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6
ETHERNET = 1


@dataclass
class Packet:
    time_ns: int
    data: bytes
    length: int
    comment: str


def options(data):
    found, at = {}, 0
    while True:
        code, length = struct.unpack_from("<HH", data, at)
        at += 4
        if code == 0:
            assert length == 0 and at == len(data), "the end of options is the end of the block"
            return found
        assert code not in found and at + length <= len(data)
        found[code] = data[at:at + length]
        padding = data[at + length:at + (length + 3) // 4 * 4]
        assert not any(padding)
        at += length + len(padding)


def blocks(data):
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and length >= 12 and at + length <= len(data), "whole blocks"
        assert struct.unpack_from("<I", data, at + length - 4) == (length,)
        yield kind, data[at + 8:at + length - 4]
        at += length


def read(data):
    """The snap length and the packets of one section with one Ethernet interface."""
    snap, packets = None, []
    for number, (kind, body) in enumerate(blocks(data)):
        if number == 0:
            assert kind == SECTION
            assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
            options(body[16:])
        elif number == 1:
            assert kind == INTERFACE
            link, reserved, snap = struct.unpack_from("<HHI", body)
            assert (link, reserved) == (ETHERNET, 0)
            assert options(body[8:])[9] == b"\x09", "nanoseconds"
        else:
            assert kind == PACKET
            interface, high, low, captured, length = struct.unpack_from("<IIIII", body)
            assert interface == 0 and captured <= length and captured <= snap
            end = 20 + (captured + 3) // 4 * 4
            packets.append(Packet(high << 32 | low, body[20:20 + captured], length,
                                  options(body[end:])[1].decode()))
    return snap, packets
