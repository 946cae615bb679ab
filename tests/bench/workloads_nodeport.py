# SPDX-License-Identifier: Apache-2.0
"""A client outside, and a pod behind a node port of its own node: connect, request, close.

    client ---- uplink, node ---- pod          all on one core

`forward` is the same path without translation, `dnat` kube-proxy's rules for iptables-nft with
externalTrafficPolicy Local, which spares it the masquerading.
"""

import json
import subprocess

import lan
from lab import PACKETBENCH, PORT, Pair, make_pod, widen_ports
from signals import held
from tendril import service_object, slice_object, wait_for
from variants import FORWARDING, ROUTED_POD, join, route, routed_pod, with_length
from workload import NotRun, SECTIONS, Workload, workload

NODE_PORT = 30080
NODE, CLIENT = ("192.0.2.1", "2001:db8::1"), ("192.0.2.9", "2001:db8::9")
NUMBER = 2  # of the namespace that serves
POD = [address.format(NUMBER) for address in ROUTED_POD]
RULES = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-EXT - [0:0]
:KUBE-SVL - [0:0]
:KUBE-SEP - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j KUBE-EXT
-A KUBE-EXT -j KUBE-SVL
-A KUBE-SVL -j KUBE-SEP
-A KUBE-SEP -p tcp -m tcp -j DNAT --to-destination {target}
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""


def outside(lab, node):
    """A client on the node's uplink."""
    client = lab.namespace()
    join(node, client, "up0", "eth0", with_length(NODE), with_length(CLIENT))
    widen_ports(client)
    return client


def plain(lab, variant):
    """A node that routes to one pod."""
    node = lab.namespace()
    client = outside(lab, node)
    pod = routed_pod(lab, node, NUMBER)
    node.run("sysctl", "-qw", *FORWARDING)
    return node, Pair(variant, [pod], client, [*POD])


def forward(lab):
    _, pair = plain(lab, "forward")
    for via in NODE:
        route(pair.client, "default", via)
    return pair, PORT


def dnat(lab):
    node, pair = plain(lab, "dnat")
    for program, target in (("iptables", POD[0]), ("ip6tables", f"[{POD[1]}]")):
        try:
            subprocess.run(node.enter(f"{program}-nft-restore"), text=True, check=True,
                           input=RULES.format(port=NODE_PORT, target=f"{target}:{PORT}"))
        except FileNotFoundError:
            raise NotRun(f"there is no {program}-nft-restore") from None
    pair.addresses = [*NODE]
    return pair, NODE_PORT


def tendril(lab):
    node = lab.node()
    client = outside(lab, node.netns)
    for via in CLIENT:
        route(node.netns, "default", via)
    pod = make_pod(node, "server")
    ports = [{"name": "tcp", "port": PORT, "protocol": "TCP"}]
    node.put(service_object("web", "default", ["10.96.0.10", "fd00:96::10"],
                            [dict(ports[0], targetPort=PORT, nodePort=NODE_PORT)], type="NodePort"),
             *(slice_object(f"web-{kind.lower()}", "default", "web", kind, ports, [addr])
               for kind, addr in (("IPv4", pod.v4), ("IPv6", pod.v6))))
    wait_for(lambda: "services are served on up0" in node.log(), "the uplink")
    return Pair("tendril", [pod], client, [*NODE], node=node), NODE_PORT


@workload
class NodePort(Workload):
    name, figures = "nodeport", {"nodeport": "us"}
    title = "connect, 64 bytes there and back, close, from outside through a node port"
    section = SECTIONS[1]
    variants, reference = ("forward", "dnat", "tendril"), "dnat"

    def setup(self, lab, variant, n):
        pair, port = {"forward": forward, "dnat": dnat, "tendril": tendril}[variant](lab)
        lab.serve(pair)
        return pair, port

    def measure(self, target, family, n):
        pair, port = target
        return pair.netbench("crr", family, 2000, port=port)


def remote(lab, mode):
    """The client asks a node whose backend is on another one: all on one link."""
    with held():
        link = lan.Lan()
        lab.callback(link.close)
    nodes = [lab.node(f"--load-balancer-mode={mode}", "--auto-direct-node-routes", start=False,
                      cidrs=lan.Nodes.cidrs(number)) for number in (1, 2)]
    client = lab.namespace()
    for number, netns in ((1, nodes[0].netns), (2, nodes[1].netns), (9, client)):
        link.join(netns, number)
    ports = [{"name": "tcp", "port": PORT, "protocol": "TCP"}]
    for node in nodes:
        for via in link.addresses(9):
            route(node.netns, "default", via)
        node.write("nodes.json", *(lan.node_object(f"n{number}", link.addresses(number),
                                                   lan.Nodes.cidrs(number)) for number in (1, 2)))
        node.start()
    pod = make_pod(nodes[1], "server")
    for node in nodes:
        node.put(service_object("web", "default", ["10.96.0.10", "fd00:96::10"],
                                [dict(ports[0], targetPort=PORT, nodePort=NODE_PORT)], type="NodePort"),
                 *(slice_object(f"web-{kind.lower()}", "default", "web", kind, ports,
                                [{"addresses": [addr], "nodeName": "n2"}])
                   for kind, addr in (("IPv4", pod.v4), ("IPv6", pod.v6))))
        wait_for(lambda node=node: "services are served on eth0" in node.log(), "the uplink")
    for netns in (nodes[0].netns, nodes[1].netns, client):
        lan.settled(netns)
    return Pair(mode, [pod], client, [*link.addresses(1)], node=nodes[0]), NODE_PORT


@workload
class NodePortRemote(Workload):
    name, figures = "nodeport_remote", {"nodeport_remote": "us"}
    title = "the same with the pod on another node: its answers come back through the first node (snat), or not (dsr)"
    section = SECTIONS[1]
    variants, reference = ("snat", "dsr"), "snat"

    def setup(self, lab, variant, n):
        pair, port = remote(lab, variant)
        lab.serve(pair)
        return pair, port

    def measure(self, target, family, n):
        pair, port = target
        return pair.netbench("crr", family, 2000, port=port)


def packetbench():
    done = subprocess.run([PACKETBENCH], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"packetbench: {done.stderr}")
    return json.loads(done.stdout)


@workload
class NodePortPacket(Workload):
    name, figures = "nodeport_packet", {"nodeport_packet": "ns"}
    title = ("one packet of a known connection to a backend on another node: the program alone, at tc and by XDP "
             "(BPF_PROG_TEST_RUN, which takes 20 of it)")
    section = SECTIONS[1]
    variants, reference = ("tc", "xdp"), "tc"
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        return variant

    def measure(self, target, family, n):
        return packetbench()[f"{target}{family}"]


@workload
class Maglev(Workload):
    name = "maglev"
    figures = {"maglev_open": "ns", "random_open": "ns", "maglev_moved": "%", "maglev_uneven": "%"}
    title = ("Maglev: the first packet of a connection from outside, beside a random choice; of 100 backends one is "
             "lost: share of the others' places that move; what the luckiest has above its share")
    section = SECTIONS[1]
    variants, families, reference = ("tendril",), (0,), None
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        return None

    def measure(self, target, family, n):
        got = packetbench()
        return {"maglev_open": got["open_maglev"], "random_open": got["open_random"],
                "maglev_moved": got["maglev_moved"], "maglev_uneven": got["maglev_uneven"]}
