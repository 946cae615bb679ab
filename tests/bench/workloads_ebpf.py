# SPDX-License-Identifier: Apache-2.0
"""The programs by themselves: nanoseconds a run, instructions; and what watching flows costs."""

import contextlib
import pathlib

import bpf
from lab import Pair
from services import service_objects, vip
from tendril import UnixConnection, wait_for
from workload import Workload, workload

COUNT = 4000
SERVICE = 9  # which one we connect to
INSNS = pathlib.Path(__file__).resolve().parents[1] / "bpf" / "insns.txt"
NAMES = [line.split()[0] for line in INSNS.read_text().splitlines()
         if line and not line.startswith("#")]


def cost(node, name, run):
    """Nanoseconds a run that a program takes while run() goes on, its statistics included."""
    before = bpf.programs(node.bpffs)[name]
    with bpf.statistics():
        run()
    after = bpf.programs(node.bpffs)[name]
    return (after["ns"] - before["ns"]) / max(1, after["runs"] - before["runs"])


@workload
class Ebpf(Workload):
    """About 40 ns of each figure are the kernel's statistics themselves."""

    name = "ebpf"
    figures = {"ebpf_established": "ns", "ebpf_opening": "ns", "ebpf_connect": "ns",
               "ebpf_connect_service": "ns"}
    section = "Control plane"
    title = ("eBPF run time: from_pod per packet of an established connection and of new ones, "
             "connect4 and connect6 without and with a service")
    variants, reference = ("tendril", "tendril-policy"), None
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        pair = lab.pair(variant)
        pair.node.put(*service_objects(SERVICE, [pair.addresses]))
        return pair

    def measure(self, target, family, n):
        connect = f"connect{family}"
        service = Pair(target.variant, target.servers, target.client, [vip(family, SERVICE)],
                       target.preexec, target.node)
        return {
            "ebpf_established": cost(target.node, "from_pod",
                                     lambda: target.netbench("rr", family, 5 * COUNT)),
            "ebpf_opening": cost(target.node, "from_pod",
                                 lambda: target.netbench("connect", family, COUNT)),
            "ebpf_connect": cost(target.node, connect,
                                 lambda: target.netbench("connect", family, COUNT)),
            "ebpf_connect_service": cost(target.node, connect,
                                         lambda: service.netbench("connect", family, COUNT)),
        }


@workload
class Instructions(Workload):
    name = "insns"
    figures = {"insns": "instructions", "insns_verified": "instructions",
               **{f"insns_{name}": "instructions" for name in NAMES}}
    section = "Control plane"
    title = "eBPF instructions loaded, and those the verifier went through: all, each program"
    variants, families, reference = ("tendril",), (0,), None
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        pair = lab.pair("tendril-accel")  # those of acceleration are there only for who asks
        wait_for(lambda: set(NAMES) <= set(bpf.programs(pair.node.bpffs)), "all programs")
        return pair.node

    def measure(self, target, family, n):
        found = bpf.programs(target.bpffs)
        return {"insns": sum(each["instructions"] for each in found.values()),
                "insns_verified": sum(each["verified"] for each in found.values()),
                **{f"insns_{name}": found[name]["instructions"] for name in NAMES}}


@contextlib.contextmanager
def watched(node):
    """Somebody follows all flow events."""
    connection = UnixConnection(node.socket)
    try:
        connection.request("GET", "/v1/events")
        with connection.getresponse() as stream:
            assert stream.status == 200
            yield
    finally:
        connection.close()


@workload
class Events(Workload):
    """events_on: every new connection is told to somebody."""

    name, figures = "events", {"events_off": "us", "events_on": "us"}
    section = "Control plane"
    title = "TCP connect while nobody watches flows, and while somebody does"
    variants, reference = ("tendril", "tendril-policy"), None
    rounds = rounds_limit = 9

    def setup(self, lab, variant, n):
        return lab.pair(variant)

    def measure(self, target, family, n):
        off = target.netbench("connect", family, COUNT)
        with watched(target.node):
            return {"events_off": off, "events_on": target.netbench("connect", family, COUNT)}
