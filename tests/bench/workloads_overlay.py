# SPDX-License-Identifier: Apache-2.0
"""Pods of two nodes, and pods that reach the outside: all namespaces on one core.

    client ---- node ---- wire ---- node ---- server          across
    client ---- node ---- wire ---- server                    masquerade

`plain` is the same path with static routes and without netfilter. `vxlan` is plain Linux: on each node a
bridge with the pods, and a VXLAN device in it with static entries. `iptables` masquerades with
iptables-nft. The ends of the `-policy` variants are isolated in both directions.
"""

import subprocess

import lan
from lab import Pair, make_pod, widen_ports
from tendril import pod_object, wait_for
from variants import FORWARDING, ROUTED_POD, both_isolated, join, route, routed_pod, with_length
from workload import Exchanges, NotRun, workload

WIRE = [("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")]


def wired(lab):
    """Two forwarding namespaces on one wire."""
    nodes = [lab.namespace(), lab.namespace()]
    join(*nodes, "eth0", "eth0", with_length(WIRE[0]), with_length(WIRE[1]))
    for node in nodes:
        node.run("sysctl", "-qw", *FORWARDING)
    return nodes


def plain(lab):
    nodes = wired(lab)
    pods = [routed_pod(lab, node, number) for number, node in enumerate(nodes, 1)]
    for number, node in enumerate(nodes, 1):
        other = 3 - number
        for cidr, via in zip((f"10.1.{other}.0/24", f"fd01:{other}::/64"), WIRE[other - 1]):
            route(node, cidr, via)
    return Pair("plain", [pods[1]], pods[0], [address.format(2) for address in ROUTED_POD])


def vxlan(lab):
    """One L2 network of pods over both nodes."""
    pods = []
    for number, node in enumerate(wired(lab), 1):
        node.ip("link", "add", "br0", "type", "bridge")
        node.ip("link", "set", "br0", "up")
        node.ip("link", "add", "vx0", "type", "vxlan", "id", "1", "dstport", "4789", "nolearning",
                "local", WIRE[number - 1][0])
        node.ip("link", "set", "vx0", "mtu", "1450", "master", "br0", "up")
        node.run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "vx0", "dst",
                 WIRE[2 - number][0])
        pod = lab.namespace()
        join(pod, node, "eth0", "pod0", with_length((f"10.1.0.{number}", f"fd01::{number}")), [])
        pod.ip("link", "set", "eth0", "mtu", "1450")
        node.ip("link", "set", "pod0", "master", "br0")
        pods.append(pod)
    return Pair("vxlan", [pods[1]], pods[0], ["10.1.0.2", "fd01::2"])


def tendril(lab, variant, *arguments, policy=False):
    nodes = lan.Nodes(2, *arguments, lan=lan.Cable)
    lab.callback(nodes.close)
    client, server = [make_pod(node, name) for node, name in zip(nodes.all, ("client", "server"))]
    for pod in (client, server):
        widen_ports(pod)
    objects = [pod_object(p.pod_name, "default", {"app": p.pod_name}, p.addresses)
               for p in (client, server)]
    nodes.tell(None, *objects, *([both_isolated()] if policy else []))
    for node in nodes.all:
        for name in ("client", "server"):
            node.wait_object("Pod", "default", name)
    return Pair(variant, [server], client, server.addresses, nodes.all[0].join_cgroup)


BUILDERS = {
    "plain": plain,
    "vxlan": vxlan,
    "native": lambda lab: tendril(lab, "native", "--auto-direct-node-routes"),
    "native-policy": lambda lab: tendril(lab, "native-policy", "--auto-direct-node-routes",
                                         policy=True),
    "overlay": lambda lab: tendril(lab, "overlay", "--routing-mode=tunnel"),
    "overlay-policy": lambda lab: tendril(lab, "overlay-policy", "--routing-mode=tunnel",
                                          policy=True),
}


class Across(Exchanges):
    def setup(self, lab, variant, n):
        return lab.serve(BUILDERS[variant](lab))


@workload
class Native(Across):
    name, figures = "native", {"native_rr": "us", "native_crr": "us"}
    title = "64 bytes there and back, and with a connection each, between pods of two nodes; routed"
    variants, reference = ("plain", "native", "native-policy"), "plain"


@workload
class Overlay(Across):
    name, figures = "overlay", {"overlay_rr": "us", "overlay_crr": "us"}
    title = "64 bytes there and back, and with a connection each, between pods of two nodes; VXLAN"
    variants, reference = ("vxlan", "overlay", "overlay-policy"), "vxlan"


# ---- masquerade ---------------------------------------------------------------------------------

def outside_of(lab, node):
    """A server on the node's uplink, which knows no pods.

    It closes first and would remember each connection (TIME_WAIT). A SYN from a port that it remembers
    may have to be sent again, a second later: what is measured then is how many ports are left."""
    outside = lab.namespace()
    outside.run("sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0")
    join(node, outside, "up0", "eth0", with_length(WIRE[0]), with_length(WIRE[1]))
    return outside


def forwarded(lab, variant):
    node = lab.namespace()
    node.run("sysctl", "-qw", *FORWARDING)
    pod, outside = routed_pod(lab, node, 1), outside_of(lab, node)
    if variant == "forward":
        for cidr, via in zip(("10.1.1.0/24", "fd01:1::/64"), WIRE[0]):
            route(outside, cidr, via)
    else:
        for program in ("iptables", "ip6tables"):
            try:
                subprocess.run(node.enter(f"{program}-nft", "-t", "nat", "-A", "POSTROUTING", "-o",
                                          "up0", "-j", "MASQUERADE", "--random-fully"), check=True)
            except FileNotFoundError:
                raise NotRun(f"there is no {program}-nft") from None
    return Pair(variant, [outside], pod, [*WIRE[1]])


def masqueraded(lab):
    node = lab.node("--masquerade")
    outside = outside_of(lab, node.netns)
    wait_for(lambda: "services are served on up0" in node.log(), "the uplink")
    pod = make_pod(node, "client")
    widen_ports(pod)
    return Pair("tendril", [outside], pod, [*WIRE[1]], node.join_cgroup)


@workload
class Masquerade(Exchanges):
    name, figures = "masquerade", {"masquerade_crr": "us", "masquerade_rr": "us"}
    title = "from a pod to the outside under the node's address: with a connection each, and without"
    variants, reference = ("forward", "iptables", "tendril"), "iptables"

    def setup(self, lab, variant, n):
        return lab.serve(masqueraded(lab) if variant == "tendril" else forwarded(lab, variant))
