# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows about programs and maps, by bpf(2): run time, instructions, memory.  And
programs that do nothing, to tell what that knowledge costs."""

import contextlib
import ctypes
import os
import pathlib
import platform
import struct

SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
MAP_LOOKUP = 1
PROG_LOAD, OBJ_GET, PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, OBJ_GET_INFO = 5, 7, 11, 13, 15
LINK_CREATE, ENABLE_STATS = 28, 32
# program type, attach type, what says "go on"
TCX_INGRESS, CONNECT4, CONNECT6 = (3, 46, 0), (18, 10, 1), (18, 11, 1)
# struct bpf_prog_info up to verified_insns, struct bpf_map_info up to id
PROG_INFO = struct.Struct("=II8sIIQQQIIQ16sIIQQIIQQIIQIIQQIIIIQQQQI4x")
MAP_INFO = struct.Struct("=II")
MAPS_MAX = 64


def bpf(command, *fields):
    """fields: struct.pack() arguments; returns what the call returns, and the union afterwards."""
    attr = ctypes.create_string_buffer(struct.pack(*fields), 128)
    libc = ctypes.CDLL(None, use_errno=True)
    got = libc.syscall(SYSCALL[platform.machine()], command, attr, len(attr))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got, attr.raw


@contextlib.contextmanager
def descriptor(command, *fields):
    fd, _ = bpf(command, *fields)
    try:
        yield fd
    finally:
        os.close(fd)


def info(fd, buffer):
    bpf(OBJ_GET_INFO, "=IIQ", fd, len(buffer), ctypes.addressof(buffer))
    return buffer.raw


@contextlib.contextmanager
def statistics():
    """While it lasts the kernel counts the runs and the time of every program."""
    with descriptor(ENABLE_STATS, "=I", 0):
        yield


@contextlib.contextmanager
def empty_program(place):
    """The descriptor of a program for one of the places above that lets everything pass."""
    kind, attach_type, goes_on = place
    code = struct.pack("=BBhiBBhi", 0xb7, 0, 0, goes_on, 0x95, 0, 0, 0)  # r0 = goes_on; exit
    code, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    with descriptor(PROG_LOAD, "=IIQQIIQII16sII", kind, 2, ctypes.addressof(code),
                    ctypes.addressof(licence), 0, 0, 0, 0, 0, b"empty", 0, attach_type) as fd:
        yield fd


def attached(fd, where, place):
    """Runs a program at a network device (its index) or a cgroup (a descriptor) while it lasts."""
    return descriptor(LINK_CREATE, "=IIII", fd, where, place[1], 0)


def map_ids(folder):
    """The maps that are pinned in a folder."""
    found = set()
    for path in pathlib.Path(folder).iterdir():
        name = ctypes.create_string_buffer(os.fsencode(path))
        with descriptor(OBJ_GET, "=QII", ctypes.addressof(name), 0, 0) as fd:
            found.add(MAP_INFO.unpack_from(info(fd, ctypes.create_string_buffer(64)))[1])
    return found


def map_has(path, key):
    """Whether a pinned map has an entry; its value may have 256 bytes."""
    name, key = ctypes.create_string_buffer(os.fsencode(path)), ctypes.create_string_buffer(key)
    value = ctypes.create_string_buffer(256)
    with descriptor(OBJ_GET, "=QII", ctypes.addressof(name), 0, 0) as fd:
        try:
            bpf(MAP_LOOKUP, "=I4xQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
            return True
        except FileNotFoundError:
            return False


def program(fd):
    ids = (ctypes.c_uint32 * MAPS_MAX)()
    buffer = ctypes.create_string_buffer(PROG_INFO.size)
    # nr_map_ids and map_ids: where to, and how many fit
    struct.pack_into("=IQ", buffer, 52, MAPS_MAX, ctypes.addressof(ids))
    fields = PROG_INFO.unpack(info(fd, buffer))
    return {"name": fields[11].split(b"\0")[0].decode(), "instructions": fields[4] // 8,
            "maps": set(ids[:fields[9]]), "ns": fields[32], "runs": fields[33],
            "verified": fields[35]}


def programs(pins):
    """{name: program} of those that work on maps pinned in the folder."""
    ours, found, last = map_ids(pins / "maps"), {}, 0
    while True:
        try:
            _, attr = bpf(PROG_GET_NEXT_ID, "=II", last, 0)
        except FileNotFoundError:
            return found
        last = struct.unpack_from("=I", attr, 4)[0]
        try:
            with descriptor(PROG_GET_FD_BY_ID, "=I", last) as fd:
                each = program(fd)
        except FileNotFoundError:  # it has just gone
            continue
        if each["maps"] & ours:
            found[each["name"]] = each
