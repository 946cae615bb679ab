# SPDX-License-Identifier: Apache-2.0
"""Nodes whose pods reach each other through a tunnel: the network between the nodes knows no pods.
The protocol is TUNNEL_PROTOCOL of the environment, or VXLAN; tests/kernels/boot runs all with Geneve.

    node I: 192.0.2.I, 2001:db8::I on eth0; pods 10.200.I.0/24, fd00:200:0:I::/112
"""

import ipaddress
import json
import os
import struct

import pytest

import lan
from lan import Outside
from tendril import NodeProcess, pod_object, policy_object, service_object, slice_object, wait_for

PORT = 8080
VNI = 84
PROTOCOL = os.environ.get("TUNNEL_PROTOCOL", "vxlan")
DEVICE = f"tendril_{PROTOCOL}"
TUNNEL_PORT = {"vxlan": 8472, "geneve": 6081}[PROTOCOL]
TUNNEL = ("--routing-mode=tunnel", f"--tunnel-protocol={PROTOCOL}")
MODES = {"over IPv4": TUNNEL, "over IPv6": (*TUNNEL, "--underlay-protocol=ipv6")}
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module", params=MODES)
def three(request):
    made = lan.Nodes(3, *MODES[request.param])
    try:
        made.pods = [node.pod(f"p{number}") for number, node in enumerate(made.all, 1)]
        for pod in made.pods:
            pod.serve(tcp=[PORT], udp=[PORT])
        yield made
    finally:
        made.close()


@pytest.fixture
def two():
    made = lan.Nodes(2, *TUNNEL)
    try:
        made.pods = [node.pod(f"p{number}") for number, node in enumerate(made.all, 1)]
        for pod in made.pods:
            pod.serve(tcp=[PORT], udp=[PORT])
        yield made
    finally:
        made.close()


def of(pod, family):
    return [pod.v4, pod.v6][family]


def drops(node, reason):
    return {each["reason"]: each["count"] for each in node.status()["drops"]}.get(reason, 0)


def problems(node):
    return [text for text in node.status()["failures"] if text.startswith(("Node ", "Tunnel"))]


def reach(client, server, family):
    """TCP, datagrams, datagrams in fragments, and ping, and a stream that fills packets."""
    address = of(server, family)
    assert client.connect(address, PORT, send="x" * 30000)["echo"].startswith("xxx")
    for size in (4, 1300, 8000):
        answer = client.udp(address, PORT, size=size)
        assert (answer["result"], answer["name"]) == ("ok", server.pod_name)
    done = client.run("ping", "-n", "-c3", "-i0.01", "-W10", "-s", "3000", address, check=False)
    assert " 0% packet loss" in done.stdout, done.stdout


@FAMILIES
def test_pods_of_three_nodes_reach_each_other(three, family):
    for client in three.pods:
        for server in three.pods:
            if client is not server:
                reach(client, server, family)


@FAMILIES
def test_the_host_reaches_pods_of_other_nodes_and_pods_reach_other_hosts(three, family):
    host, server = NodeProcess(three.all[0], in_cgroup=False), three.pods[1]
    try:
        assert host.call("connect", addr=of(server, family), port=PORT)["name"] == "p2"
        host.call("serve", name="{peer}", tcp=[PORT + 1], udp=[PORT + 1])
        for answer in (server.connect(lan.Lan.addresses(1)[family], PORT + 1),
                       server.udp(lan.Lan.addresses(1)[family], PORT + 1)):
            assert answer["name"].split("/")[0] == of(server, family)
    finally:
        host.quit()


@FAMILIES
def test_policy_knows_pods_of_other_nodes(three, family):
    client, other, server = three.pods
    three.tell(None, pod_object("p1", labels={"app": "client"}, addresses=client.addresses),
               pod_object("p2", labels={"app": "other"}, addresses=other.addresses),
               pod_object("p3", labels={"app": "server"}, addresses=server.addresses),
               policy_object("p3", "default", {"matchLabels": {"app": "server"}}, ingress=[
                   {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]))
    try:
        address = of(server, family)
        wait_for(lambda: other.connect(address, PORT, timeout=0.2)["result"] == "timeout",
                 "the policy")
        reach(client, server, family)
        assert other.udp(address, PORT, timeout=0.2)["result"] == "timeout"
    finally:
        three.tell()
        wait_for(lambda: other.connect(address, PORT, timeout=0.2)["result"] == "ok", "its end")


def test_an_address_without_a_pod_is_refused(three):
    nobody = str(ipaddress.ip_address(three.pods[1].v4) + 50)
    assert three.pods[0].udp(nobody, PORT, connected=True)["result"] == "refused"


def test_pods_know_the_mtu(three):
    overhead = 70 if any("ipv6" in word for word in three.all[0].agent_args) else 50
    for pod in three.pods:
        link = json.loads(pod.ip("-j", "link", "show", "eth0").stdout)[0]
        assert link["mtu"] == 1500 - overhead


# ---- who lies -----------------------------------------------------------------------------------

def inner_frame(source, destination, port=PORT):
    """A UDP packet, as it is inside the tunnel."""
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    datagram = struct.pack(">HHHH", 40000, port, 12, 0) + b"evil"
    ethernet = bytes(6) + b"\2\0\0\0\0\1"
    if source.version == 4:
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 32, 0, 0, 64, 17, 0, source.packed,
                           destination.packed)
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xffff) + (total >> 16)
        head = head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xffff) + head[12:]
        return ethernet + b"\x08\0" + head + datagram
    pseudo = source.packed + destination.packed + struct.pack(">II", 12, 17) + datagram
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    total = (total & 0xffff) + (total >> 16)
    datagram = datagram[:6] + struct.pack(">H", ~total & 0xffff) + datagram[8:]
    return (ethernet + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, 12, 17, 64) + source.packed
            + destination.packed + datagram)


def tunnelled(frame, vni=VNI, valid=True):
    if PROTOCOL == "vxlan":
        head = struct.pack(">II", (8 if valid else 0) << 24, vni << 8)
    else:  # of another version, if not valid
        head = struct.pack(">BBHI", 0 if valid else 1 << 6, 0, 0x6558, vni << 8)
    return (head + frame).hex()


def route(netns, pod, family):
    """By the pod's node, as if the network between the nodes were open."""
    gateway = lan.Lan.addresses(1)[family]
    netns.ip("-6" if family else "-4", "route", "add", of(pod, family), "via", gateway)
    netns.ip("addr", "add", ["10.200.2.10/32", "fd00:200:0:2::a/128"][family], "dev", "lo",
             *(["nodad"] if family else []))


@pytest.fixture
def evil(two):
    """Somebody on the same link who is no node."""
    made = Outside(two.all[0].name + "e")
    try:
        two.lan.join(made, 66)
        lan.settled(made)
        yield made
    finally:
        made.delete()


@FAMILIES
def test_who_lies_is_dropped_counted_and_named(two, evil, family):
    """Of all that they send nothing arrives; each lie has its reason."""
    first, victim = two.all[0], two.pods[0]
    neighbour = NodeProcess(two.all[1], in_cgroup=False)
    here = {"addr": lan.Lan.addresses(1)[0], "port": TUNNEL_PORT}
    pod = of(victim, family)
    other = [str(next(ipaddress.ip_network(cidr).hosts()) + 9)
             for cidr in lan.Nodes.cidrs(2)][family]
    third = [str(next(ipaddress.ip_network(cidr).hosts()) + 9)
             for cidr in lan.Nodes.cidrs(3)][family]
    outside = ["198.51.100.7", "2001:db8:7::7"][family]
    honest = inner_frame(other, pod)
    lies = [
        (evil, tunnelled(honest), "TUNNEL_SOURCE"),  # node 2's pod, but not from node 2
        (neighbour, tunnelled(inner_frame(third, pod)), "TUNNEL_SOURCE"),
        (neighbour, tunnelled(inner_frame(pod, pod)), "TUNNEL_SOURCE"),
        (neighbour, tunnelled(inner_frame(outside, pod)), "TUNNEL_SOURCE"),
        (neighbour, tunnelled(inner_frame(lan.Lan.addresses(1)[family], pod)), "TUNNEL_SOURCE"),
        (neighbour, tunnelled(honest, vni=VNI + 1), "TUNNEL_NETWORK"),
        (neighbour, tunnelled(honest[:-6]), "TRUNCATED"),
        (neighbour, tunnelled(honest[:12] + b"\x08\x06" + bytes(28)), "BAD_HEADER"),  # ARP
        (neighbour, tunnelled(inner_frame(other, third)), "NO_ENDPOINT"),
    ]
    try:
        victim.call("sniff")
        for sender, data, reason in lies:
            before = drops(first, reason)
            sender.call("datagram", data=data, **here)
            wait_for(lambda: drops(first, reason) == before + 1, f"{reason} for {data[:200]}")
        neighbour.call("datagram", data=tunnelled(honest, valid=False), **here)  # the kernel's to drop
        # Without the tunnel, too, nobody has the address of another node's pod.
        before = drops(first, "TUNNEL_SOURCE")
        route(evil, victim, family)
        evil.call("spoof", source=other, addr=pod, port=PORT, data=b"evil".hex())
        wait_for(lambda: drops(first, "TUNNEL_SOURCE") == before + 1, "the bare packet's drop")
        assert victim.call("sniffed", contains=b"evil".hex())["count"] == 0
        neighbour.call("datagram", data=tunnelled(honest), **here)
        wait_for(lambda: victim.call("sniffed", contains=b"evil".hex())["count"] == 1,
                 "what is no lie")
    finally:
        neighbour.quit()


# ---- what changes -------------------------------------------------------------------------------

def test_nodes_come_go_and_change(two):
    first, (client, server) = two.all[0], two.pods
    changed = two.objects()
    moved = lan.Lan.addresses(7)
    for address, length in zip(moved, (24, 64)):
        two.all[1].netns.ip("addr", "add", f"{address}/{length}", "dev", "eth0",
                            *(["nodad"] if ":" in address else []))
    # The kernel takes the source address of the tunnel's packets from the route.
    two.all[1].netns.ip("route", "replace", "192.0.2.0/24", "dev", "eth0", "src", moved[0])
    changed[1] = lan.node_object("n2", moved, lan.Nodes.cidrs(2))
    two.tell(changed)
    for family in (0, 1):
        wait_for(lambda at=of(server, family): client.connect(at, PORT, timeout=0.2)["result"]
                 == "ok", "the new address")
    two.tell(changed[:1])
    wait_for(lambda: client.connect(server.v4, PORT, timeout=0.2)["result"] != "ok",
             "the node to be gone")
    assert first.netns.ip("route", "show", "proto", "85").stdout == ""
    two.tell(changed)
    wait_for(lambda: client.connect(server.v4, PORT, timeout=0.2)["result"] == "ok",
             "the node to be back")


def test_a_node_cannot_take_the_range_of_another(two):
    """Not by a smaller range, a larger one, nor the same: nothing is sent to it."""
    first, (client, server) = two.all[0], two.pods
    for cidrs in (("10.200.2.0/25", "fd00:200:0:2::/113"), ("10.200.2.0/23", "fd00:200:0:2::/111"),
                  lan.Nodes.cidrs(2)):
        two.tell([lan.node_object("a", lan.Lan.addresses(3), cidrs)] + two.objects())
        wait_for(lambda: len(problems(first)) == 2, "both problems to be told")
        assert all(text.startswith("Node a: ") and text.endswith(" of node n2")
                   for text in problems(first)), problems(first)
        for family in (0, 1):
            assert client.connect(of(server, family), PORT)["result"] == "ok"
        two.tell()
        wait_for(lambda: not problems(first), "the problem to be over")


def test_a_killed_agent_is_not_missed_and_a_deleted_device_comes_back(two):
    first, (client, server) = two.all[0], two.pods
    assert client.call("hold", id="h", addr=server.v4, port=PORT)["result"] == "ok"
    first.kill()
    reach(client, server, 0)
    first.start()
    assert client.call("ping", id="h")["result"] == "ok"
    reach(client, server, 1)
    first.netns.ip("link", "del", DEVICE)
    wait_for(lambda: client.connect(server.v4, PORT, timeout=0.2)["result"] == "ok", "the device")
    reach(client, server, 1)
    assert not problems(first)


@FAMILIES
def test_a_narrower_underlay_reaches_running_pods(two, family):
    server, client = two.pods

    def mtu():
        return json.loads(two.all[1].netns.ip("-j", "link", "show", DEVICE).stdout)[0]["mtu"]

    assert mtu() == 1450
    for node in two.all:
        node.netns.ip("link", "set", "eth0", "mtu", "1400")
    wait_for(lambda: mtu() == 1350, "the device's MTU")
    done = client.run("ping", "-n", "-c2", "-i0.01", "-W1", "-Mdo", "-s1360", of(server, family),
                      check=False)
    assert "1350" in done.stdout, done.stdout
    reach(client, server, family)
    reach(server, client, family)


def test_cleanup_leaves_nothing_and_native_mode_neither(two):
    first = two.all[0]
    first.stop()
    args = first.agent_args
    first.agent_args = []
    first.start()
    first.wait_object("Node", "", "n2")
    assert DEVICE not in first.netns.ip("link").stdout
    assert first.netns.ip("route", "show", "proto", "85").stdout == ""
    assert not list((first.bpffs / "links").glob("tunnel-*"))
    first.stop()
    first.agent_args = args
    first.start()
    assert DEVICE in first.netns.ip("link").stdout
    first.stop()
    first.netns.run(*[str(word) for word in first.argv("--cleanup")[2:]])
    assert DEVICE not in first.netns.ip("link").stdout
    first.start()


def test_what_the_kernel_has_not_is_said(two):
    first = two.all[0]
    there = first.netns.ip("link", "add", "probe", "type", "geneve", "id", "1", "remote",
                           "192.0.2.9", "dstport", "7000", check=False)
    if there.returncode == 0:
        first.netns.ip("link", "del", "probe")
    first.stop()
    first.agent_args = ["--routing-mode=tunnel", "--tunnel-protocol=geneve"]
    first.start()
    if there.returncode == 0:
        assert "tendril_geneve" in first.netns.ip("link").stdout and not problems(first)
        return
    missing = "this kernel has no Geneve: load its module (modprobe geneve), or build it with "
    assert problems(first)[0] == f"Tunnel: {missing}CONFIG_GENEVE"
    assert f"tunnel: {missing}" in first.log()


@FAMILIES
def test_firewalls_that_want_established_connections(two, family):
    client, server = two.pods
    for node in two.all:
        node.netns.run("nft", """
            table inet wall { chain forward { type filter hook forward priority 0; policy accept;
                ct state invalid drop
              }
            }
            """)
    reach(client, server, family)
    reach(server, client, family)


def test_a_port_that_is_in_use_is_named_and_tried_again(two):
    first, (client, server) = two.all[0], two.pods
    first.stop()
    first.netns.ip("link", "del", DEVICE)
    other = NodeProcess(first, in_cgroup=False)
    try:
        other.call("serve", name="other", tcp=[], udp=[TUNNEL_PORT])
        first.start()
        assert "Address already in use" in problems(first)[0]
    finally:
        other.quit()
    wait_for(lambda: not problems(first), "the port", timeout=10)
    reach(client, server, 0)


@FAMILIES
def test_a_device_that_is_set_down_comes_up_again(two, family):
    client, server = two.pods
    two.all[0].netns.ip("link", "set", DEVICE, "down")
    wait_for(lambda: client.connect(of(server, family), PORT, timeout=0.2)["result"] == "ok",
             "the device")


def test_a_device_of_somebody_else_is_left_alone_and_named(two):
    first = two.all[0]
    first.stop()
    first.netns.ip("link", "del", DEVICE)
    first.netns.ip("link", "add", DEVICE, "type", "bridge")
    first.start()
    assert problems(first)[0] == f"Tunnel: there is a {DEVICE} that is no {PROTOCOL} device"
    first.netns.ip("link", "del", DEVICE)
    wait_for(lambda: not problems(first), "the device")


@FAMILIES
def test_node_ports_lead_to_pods_of_other_nodes(two, evil, family):
    """A client outside asks node 1, the backend is on node 2."""
    server = two.pods[1]
    ports = [{"name": proto, "port": PORT, "protocol": proto} for proto in ("TCP", "UDP")]
    two.tell(None,
             service_object("web", "default", ["10.96.0.10", "fd00:96::10"], [
                 dict(port, targetPort=PORT, nodePort=30080) for port in ports], type="NodePort"),
             *(slice_object(f"web-{number}", "default", "web", ("IPv4", "IPv6")[number], ports,
                            [of(server, number)]) for number in (0, 1)))
    at = lan.Lan.addresses(1)[family]
    wait_for(lambda: evil.call("connect", addr=at, port=30080)["result"] == "ok", "the service")
    answer = evil.call("connect", addr=at, port=30080, send="x" * 20000)
    assert answer["name"] == "p2" and answer["echo"].startswith("xxx")
    for size in (4, 1300):
        assert evil.call("udp", addr=at, port=30080, size=size)["name"] == "p2"
    # A pod of node 1, and one of node 2 itself.
    for pod in two.pods:
        assert pod.connect(at, 30080)["name"] == "p2"


@FAMILIES
def test_with_masquerade_only_the_outside_sees_the_node(family):
    two = lan.Nodes(2, *TUNNEL, "--masquerade")
    outside = Outside(two.all[0].name + "o")
    try:
        two.lan.join(outside, 99)
        lan.settled(outside)
        outside.call("serve", name="{peer}", tcp=[PORT], udp=[PORT])
        client, server = [node.pod(f"p{number}") for number, node in enumerate(two.all, 1)]
        server.call("serve", name="{peer}", tcp=[PORT], udp=[PORT])
        for ask in (client.connect, client.udp):
            assert ask(lan.Lan.addresses(99)[family], PORT)["name"].split("/")[0] == (
                lan.Lan.addresses(1)[family])
            assert ask(of(server, family), PORT)["name"].split("/")[0] == of(client, family)
        # The pod cuts the question into fragments; the answer comes in one packet.
        fits = [1500 - 28, 1500 - 48][family]
        assert client.udp(lan.Lan.addresses(99)[family], PORT, size=fits)["result"] == "ok"
    finally:
        two.close()
        outside.delete()
