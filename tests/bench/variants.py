# SPDX-License-Identifier: Apache-2.0
"""The variants: how each is set up, and the scope that takes everything down again.

    lo                 127.0.0.1, ::1: TCP without any network, the limit
    veth               two namespaces, one veth pair
    routed             two namespaces, each with a veth to a forwarding namespace, no netfilter
    bridge             Debian's bridge and host-local plugins, services by iptables-nft
    bridge-legacy      the same with iptables-legacy
    tendril            pods of a Tendril node, no policy
    tendril-policy     both ends isolated, in both directions
    tendril-perpacket  reached by a service that is translated packet by packet
    tendril-accel      both pods ask for acceleration
"""

import contextlib
import itertools
import os
import subprocess
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import tendril  # noqa: E402
from tendril import (Namespace, Node, pod_object, policy_object, service_object,  # noqa: E402
                     slice_object, wait_for)

from workload import NotRun  # noqa: E402

NETBENCH = tendril.BUILD / "tests/bench/netbench"
CPU = 1  # of both ends
PORT = 7000
HTTP_PORT = 7080
VIPS = ["10.96.0.10", "fd00:96::10"]
COUNTER = itertools.count(1)


def address_of(addresses, family):
    return next(a for a in addresses if (":" in a) == (family == 6))


class Pair:
    """Two ends of one variant: where server and client run, and the server's addresses."""

    def __init__(self, variant, server, client, addresses, preexec=None, node=None):
        self.variant, self.server, self.client = variant, server, client
        self.addresses, self.preexec, self.node = addresses, preexec, node

    def netbench(self, name, family, *arguments, address=None):
        """Runs the client's end; returns the numbers it prints, a single one as itself."""
        address = address or address_of(self.addresses, family)
        done = subprocess.run(self.client.enter(NETBENCH, CPU, name, address, PORT, *arguments),
                              check=True, capture_output=True, text=True, timeout=120,
                              preexec_fn=self.preexec)
        numbers = [float(word) for word in done.stdout.split()]
        return numbers[0] if len(numbers) == 1 else numbers


class Lab(contextlib.ExitStack):
    """Whatever a measurement needs; taken down in reverse order when the scope ends.

    A lab inside another hands out the outer one's pairs: those of plain traffic are made once."""

    def __init__(self, outer=None):
        super().__init__()
        self.outer, self.pairs = outer, {}

    def namespace(self):
        made = Namespace(f"tdb{os.getpid()}n{next(COUNTER)}")
        self.callback(made.delete)
        # Connections that have just been closed must not get in each other's way.
        made.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
        return made

    def node(self, *agent_args, **more):
        return self.enter_context(Node(*agent_args, **more))

    def process(self, argv, preexec=None, **more):
        made = subprocess.Popen([str(a) for a in argv], preexec_fn=preexec, **more)
        self.callback(made.wait)
        self.callback(made.kill)
        return made

    def server(self, pair):
        """Starts netbench's server in a pair."""
        process = self.process(pair.server.enter(NETBENCH, CPU, "server", PORT), pair.preexec,
                               stdout=subprocess.PIPE, text=True)
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"no server in {pair.variant}")
        return pair

    def pair(self, variant):
        """The variant's two ends with a server running, shared by all who ask."""
        if self.outer:
            return self.outer.pair(variant)
        if variant not in self.pairs:
            self.pairs[variant] = self.server(BUILDERS[variant](self))
        return self.pairs[variant]


# ---- without a network plugin ----

def join(a, b, a_dev, b_dev, a_addrs, b_addrs):
    a.ip("link", "add", a_dev, "type", "veth", "peer", "name", b_dev, "netns", b.name)
    for ns, dev, addrs in ((a, a_dev, a_addrs), (b, b_dev, b_addrs)):
        for addr in addrs:
            ns.ip("addr", "add", addr, "dev", dev, *(["nodad"] if ":" in addr else []))
        ns.ip("link", "set", "dev", dev, "up")


def build_lo(lab):
    ns = lab.namespace()
    return Pair("lo", ns, ns, ["127.0.0.1", "::1"])


def build_veth(lab):
    a, b = lab.namespace(), lab.namespace()
    join(a, b, "eth0", "eth0", ["10.1.0.1/24", "fd01::1/64"], ["10.1.0.2/24", "fd01::2/64"])
    return Pair("veth", b, a, ["10.1.0.2", "fd01::2"])


def build_routed(lab):
    a, router, b = lab.namespace(), lab.namespace(), lab.namespace()
    for ns, dev, n in ((a, "a", 1), (b, "b", 2)):
        join(ns, router, "eth0", dev, [f"10.1.{n}.2/24", f"fd01:{n}::2/64"],
             [f"10.1.{n}.1/24", f"fd01:{n}::1/64"])
        ns.ip("route", "add", "default", "via", f"10.1.{n}.1")
        ns.ip("-6", "route", "add", "default", "via", f"fd01:{n}::1")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    return Pair("routed", b, a, ["10.1.2.2", "fd01:2::2"])


# ---- Tendril ----

def tendril_pair(lab, variant, *agent_args, policies=(), accelerate=False):
    node = lab.node(*agent_args)
    server, client = node.pod("server"), node.pod("client")
    for pod in (server, client):
        pod.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
    node.put(*[pod_object(p.pod_name, "default", {"app": p.pod_name}, p.addresses,
                          accelerate=accelerate) for p in (server, client)], *policies)
    if accelerate:
        wait_for(lambda: node.status()["acceleration"]["state"] == "on", "acceleration")
    return Pair(variant, server, client, server.addresses, node.join_cgroup, node)


def both_isolated():
    """A policy that isolates both pods in both directions and lets the client reach the server."""
    ports = [{"port": PORT}, {"port": PORT, "protocol": "UDP"}, {"port": HTTP_PORT}]
    ends = {name: [{"podSelector": {"matchLabels": {"app": name}}}]
            for name in ("client", "server")}
    return policy_object("all", "default", {}, policyTypes=["Ingress", "Egress"],
                         ingress=[{"from": ends["client"], "ports": ports}],
                         egress=[{"to": ends["server"], "ports": ports}])


def service_of(name, vips, addresses):
    """A service and its slices whose one endpoint is a pod with these addresses."""
    ports = [{"name": "tcp", "port": PORT, "protocol": "TCP"},
             {"name": "udp", "port": PORT, "protocol": "UDP"},
             {"name": "http", "port": HTTP_PORT, "protocol": "TCP"}]
    return [service_object(name, "default", vips, [dict(p, targetPort=p["port"]) for p in ports]),
            *(slice_object(f"{name}-{kind.lower()}", "default", name, kind, ports,
                           [address_of(addresses, family)])
              for kind, family in (("IPv4", 4), ("IPv6", 6)))]


def build_tendril(lab):
    return tendril_pair(lab, "tendril")


def build_tendril_policy(lab):
    return tendril_pair(lab, "tendril-policy", policies=[both_isolated()])


def build_tendril_perpacket(lab):
    pair = tendril_pair(lab, "tendril-perpacket", "--socket-services=false")
    pair.node.put(*service_of("server", VIPS, pair.addresses))
    pair.addresses = VIPS
    return pair


def build_tendril_accel(lab):
    return tendril_pair(lab, "tendril-accel", accelerate=True)


def build_bridge(lab):
    raise NotRun("not built yet")


BUILDERS = {
    "lo": build_lo,
    "veth": build_veth,
    "routed": build_routed,
    "bridge": build_bridge,
    "tendril": build_tendril,
    "tendril-policy": build_tendril_policy,
    "tendril-perpacket": build_tendril_perpacket,
    "tendril-accel": build_tendril_accel,
}
