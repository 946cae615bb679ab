# SPDX-License-Identifier: Apache-2.0
"""The programs by themselves: nanoseconds a run, instructions; and what watching flows costs."""

import contextlib
import os
import pathlib
import socket

import bpf
from lab import COUNTER, Pair, entered
from services import service_objects, vip
from signals import held
from tendril import UnixConnection, cgroup2_root, wait_for
from variants import join, tendril_pair
from workload import NotRun, OfAgent, Workload, workload

COUNT = 4000
SERVICE = 9  # which one we connect to
PLACES = {"from_pod": bpf.TCX_INGRESS, "connect4": bpf.CONNECT4, "connect6": bpf.CONNECT6}
INSNS = pathlib.Path(__file__).resolve().parents[1] / "bpf" / "insns.txt"
NAMES = [line.split()[0] for line in INSNS.read_text().splitlines()
         if line and not line.startswith("#")]


def cost(counters, run):
    """Nanoseconds a run that a program takes while run() goes on, its statistics included."""
    before = counters()
    with bpf.statistics():
        run()
    after = counters()
    return (after["ns"] - before["ns"]) / max(1, after["runs"] - before["runs"])


class Loaded:
    """A Tendril pair with its programs, and the pair by way of a service."""

    def __init__(self, lab, variant):
        self.pair = lab.pair(variant)
        self.pair.node.put(*service_objects(SERVICE, [self.pair.addresses]))

    def counters(self, name):
        return lambda: bpf.programs(self.pair.node.bpffs)[name]

    def service(self, family):
        pair = self.pair
        return Pair(pair.variant, pair.servers, pair.client, [vip(family, SERVICE)], pair.preexec,
                    pair.node)


class Empty:
    """A veth pair; programs that do nothing stand at both its ends, where from_pod would, and at the
    client's cgroup. What they take is the statistics."""

    def __init__(self, lab):
        pair = lab.pair("veth")
        self.cgroup = cgroup2_root() / f"tdb{os.getpid()}n{next(COUNTER)}"
        with held():
            self.cgroup.mkdir()
            lab.callback(self.cgroup.rmdir)
        self.programs = {name: lab.enter_context(bpf.empty_program(place))
                         for name, place in PLACES.items()}
        for end in (pair.client, *pair.servers):
            with entered(end):
                self.attach(lab, "from_pod", socket.if_nametoindex("eth0"))
        folder = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
        lab.callback(os.close, folder)
        for name in ("connect4", "connect6"):
            self.attach(lab, name, folder)
        self.pair = Pair("empty", pair.servers, pair.client, pair.addresses, self.join_cgroup)

    def attach(self, lab, name, where):
        try:
            lab.enter_context(bpf.attached(self.programs[name], where, PLACES[name]))
        except OSError as error:
            raise NotRun(f"attaching: {error.strerror} (TCX needs Linux 6.6)") from error

    def join_cgroup(self):
        (self.cgroup / "cgroup.procs").write_text("0")

    def counters(self, name):
        return lambda: bpf.program(self.programs[name])

    def service(self, family):
        return None


@workload
class Ebpf(Workload):
    name = "ebpf"
    figures = {"ebpf_established": "ns", "ebpf_opening": "ns", "ebpf_connect": "ns",
               "ebpf_connect_service": "ns"}
    section = "Control plane"
    title = ("eBPF run time: from_pod per packet of an established connection and of new ones, "
             "connect4 and connect6 without and with a service; `empty`: the statistics alone")
    variants, reference = ("empty", "tendril", "tendril-policy"), None
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        return Empty(lab) if variant == "empty" else Loaded(lab, variant)

    def measure(self, target, family, n):
        packets, connects = target.counters("from_pod"), target.counters(f"connect{family}")
        direct, service = target.pair, target.service(family)
        figures = {
            "ebpf_established": cost(packets, lambda: direct.netbench("rr", family, 5 * COUNT)),
            "ebpf_opening": cost(packets, lambda: direct.netbench("connect", family, COUNT)),
            "ebpf_connect": cost(connects, lambda: direct.netbench("connect", family, COUNT))}
        if service:
            figures["ebpf_connect_service"] = cost(
                connects, lambda: service.netbench("connect", family, COUNT))
        return figures


@workload
class Instructions(OfAgent):
    name = "insns"
    figures = {"insns": "instructions", "insns_verified": "instructions",
               **{f"insns_{name}": "instructions" for name in NAMES}}
    title = "eBPF instructions loaded, and those the verifier went through: all, each program"
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        """A node that needs all of them: those of acceleration, uplinks and tunnel are there only
        where they are asked for."""
        pair = tendril_pair(lab, variant, "--routing-mode=tunnel", accelerate=True)
        join(pair.node.netns, lab.namespace(), "up0", "eth0", ["192.0.2.1/24"], ["192.0.2.2/24"])
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
