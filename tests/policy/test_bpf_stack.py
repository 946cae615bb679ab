# SPDX-License-Identifier: Apache-2.0
"""The stack of a program and of what it calls must fit into 512 bytes, each function counted in steps of
32 as Linux 6.1 does; newer kernels count in smaller steps and would not notice."""

import re
import subprocess

import pytest

from cli import BUILD

STACK_MAX = 512
STEP = 32


class Function:
    def __init__(self):
        self.stack = 1
        self.calls = set()


def functions(path):
    """Functions of a linked object by name, from its disassembly."""
    text = subprocess.run(["llvm-objdump", "-d", "-r", path], check=True, capture_output=True,
                          text=True).stdout
    found, starts, calls = {}, {}, []
    section = name = None
    for line in text.splitlines():
        if match := re.match(r"Disassembly of section (\S+):", line):
            section = match[1]
        elif (match := re.match(r"([0-9a-f]+) <(\w+)>:", line)) and not match[2].startswith("LBB"):
            name = match[2]
            found[name] = Function()
            starts[section, int(match[1], 16) // 8] = name
        elif name:
            for offset in re.findall(r"r10 - (\d+)|\+= -(\d+)$", line):
                value = int(offset[0] or offset[1])
                if value <= STACK_MAX:
                    found[name].stack = max(found[name].stack, value)
            # A call, relative or by a relocation that follows; or the address of a callback.
            if match := re.match(r"\s+(\d+):\s+85 10 00 00 .*\scall (-?\d+)$", line):
                calls.append([name, section, int(match[1]) + int(match[2]) + 1])
                at = int(match[2]) + 1
            elif match := re.match(r"\s+\d+:\s+18 .*\sr\d+ = (\d+) ll$", line):
                at = int(match[1]) // 8
            elif match := re.match(r"\s+[0-9a-f]+:\s+R_BPF_64_(32|64)\s+(\S+)", line):
                if match[1] == "32":
                    calls.pop()
                if match[1] == "32" or match[2] == ".text":
                    calls.append([name, match[2], at])
    for caller, target, at in calls:
        found[caller].calls.add(target if target in found else starts[target, at])
    return found


def deepest(found, name):
    below = max((deepest(found, call) for call in found[name].calls), default=(0, []))
    return -(-found[name].stack // STEP) * STEP + below[0], [name] + below[1]


@pytest.mark.parametrize("program", ["pods:from_pod", "pods:to_pod", "pods:connect4", "pods:connect6",
                                     "pods:sendmsg4", "pods:sendmsg6", "accel:sock_opened",
                                     "accel:msg_redirect"])
def test_the_stack_fits_on_the_oldest_kernel(program):
    file, name = program.split(":")
    found = functions(BUILD / f"{file}.bpf.o")
    if name in ("from_pod", "to_pod"):
        assert "verdict" in found[name].calls
    stack, path = deepest(found, name)
    assert stack <= STACK_MAX, " -> ".join(path)
