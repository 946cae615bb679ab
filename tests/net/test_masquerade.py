# SPDX-License-Identifier: Apache-2.0
"""Pods reach the outside under their node's address.

    pods 10.200.1.0/24 - node "one" 192.0.2.1 ---+
    pods 10.200.2.0/24 - node "two" 192.0.2.2 ---+-- wire -- 192.0.2.254 router -- 198.51.100.9
                                                 |                                 "outside"
                                                 +-- 192.0.2.9 "beside"
    one's second uplink 203.0.113.1 -- wire -- 203.0.113.9 "other"

Nobody but the nodes has a route to pods.
"""

import subprocess

import pytest

import lan
import tendril
from lan import Outside, Wire, settled
from tendril import (Namespace, Node, NodeProcess, policy_object, service_object, slice_object, wait_for)

FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
PORT = 8080
OUTSIDE = ["198.51.100.9", "2001:db8:51::9"]
ROUTER = ["192.0.2.254", "2001:db8::254"]
BESIDE = ["192.0.2.9", "2001:db8::9"]
OTHER = ["203.0.113.9", "2001:db8:113::9"]
NETBENCH = tendril.BUILD / "tests/bench/netbench"
SNAT_PORTS = range(16384, 30000)


def node_address(family, number=1):
    return [f"192.0.2.{number}", f"2001:db8::{number}"][family]


class Lab:
    def __init__(self):
        cidrs = lan.Nodes.cidrs
        self.nodes = [Node("--masquerade", "--auto-direct-node-routes", start=False,
                           cidrs=cidrs(number)) for number in (1, 2)]
        self.one, self.two = self.nodes
        name = self.one.name
        self.wire, self.far, self.wire2 = Wire(name + "w"), Wire(name + "f"), Wire(name + "v")
        self.router = Namespace(name + "r")
        self.outside, self.beside = Outside(name + "o"), Outside(name + "b")
        self.other = Outside(name + "t")
        self.wire.plug(self.router, [f"{ROUTER[0]}/24", f"{ROUTER[1]}/64"], device="near")
        self.far.plug(self.router, ["198.51.100.254/24", "2001:db8:51::254/64"], device="far")
        self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.far.plug(self.outside, [f"{OUTSIDE[0]}/24", f"{OUTSIDE[1]}/64"])
        self.default_route(self.outside, "198.51.100.254", "2001:db8:51::254")
        self.wire.plug(self.beside, [f"{BESIDE[0]}/24", f"{BESIDE[1]}/64"])
        self.wire2.plug(self.other, [f"{OTHER[0]}/24", f"{OTHER[1]}/64"])
        for number, node in enumerate(self.nodes, 1):
            self.wire.plug(node.netns, [f"{node_address(0, number)}/24",
                                        f"{node_address(1, number)}/64"])
            self.default_route(node.netns, *ROUTER)
        for node in self.nodes:
            node.write("nodes.json", *(lan.node_object(
                f"n{number}", [node_address(0, number), node_address(1, number)], cidrs(number))
                for number in (1, 2)))
            node.start()
            self.wait_uplink(node, "up0")
        self.wire2.plug(self.one.netns, ["203.0.113.1/24", "2001:db8:113::1/64"], device="up1")
        self.wait_uplink(self.one, "up1")
        for netns, device in ((self.router, "near"), (self.router, "far"), (self.outside, "up0"),
                              (self.beside, "up0"), (self.other, "up0"), (self.one.netns, "up0"),
                              (self.one.netns, "up1"), (self.two.netns, "up0")):
            settled(netns, device)
        for host in (self.outside, self.beside, self.other):
            host.call("serve", name="{peer}", tcp=[PORT], udp=[PORT])
        self.pod, self.peer = self.one.pod("pod"), self.two.pod("peer")
        self.peer.serve(tcp=[PORT], udp=[PORT])

    @staticmethod
    def default_route(netns, v4, v6):
        netns.ip("route", "replace", "default", "via", v4)
        netns.ip("-6", "route", "replace", "default", "via", v6)

    @staticmethod
    def wait_uplink(node, device):
        wait_for(lambda: f"services are served on {device}" in node.log(), "the uplink")

    def close(self):
        for node in self.nodes:
            node.close()
        for host in (self.outside, self.beside, self.other, self.router):
            host.delete()
        for wire in (self.wire, self.far, self.wire2):
            wire.netns.delete()


@pytest.fixture(scope="module")
def lab():
    made = Lab()
    yield made
    made.close()


def source(answer, name="name"):
    """Address and port that the server saw."""
    assert answer["result"] == "ok", answer
    address, port = answer[name].split("/")
    return address, int(port)


def ping(pod, address, *options, count=1):
    return pod.run("ping", "-n", "-c", str(count), "-i", "0.01", "-W", "10", *options, address,
                   check=False)


@FAMILIES
def test_tcp_and_udp_come_from_the_node(lab, family):
    for host in (OUTSIDE[family], BESIDE[family]):
        answer = lab.pod.connect(host, PORT, send="hello")
        address, port = source(answer)
        assert address == node_address(family) and port in SNAT_PORTS
        assert answer["echo"] == "hello" and answer["peer"] == [host, PORT]
        for size in (4, 1300):
            answer = lab.pod.udp(host, PORT, size=size)
            address, port = source(answer)
            assert address == node_address(family) and port in SNAT_PORTS
            assert answer["peer"] == [host, PORT]


@FAMILIES
def test_a_connection_lives_and_dies(lab, family):
    assert lab.pod.call("hold", id="h", addr=OUTSIDE[family], port=PORT)["result"] == "ok"
    for _ in range(100):
        assert lab.pod.call("ping", id="h")["result"] == "ok"
    lab.pod.call("close", id="h")
    ports = {source(lab.pod.connect(OUTSIDE[family], PORT))[1] for _ in range(50)}
    assert len(ports) > 40


def counted(netns, name):
    """A counter of the namespace's TCP (nstat)."""
    return int(netns.run("nstat", "-asz", name).stdout.split()[-2])


@FAMILIES
def test_short_connections_do_not_use_up_the_ports(lab, family):
    """Several times as many as there are ports, and the server remembers each of them (TIME_WAIT):
    none waits for a second SYN."""
    lab.pod.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
    server = subprocess.Popen(lab.outside.enter(NETBENCH, 0, "server", PORT + 20),
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "ready\n"
        lab.pod.run(NETBENCH, 0, "crr", OUTSIDE[family], PORT + 20, 10 * len(SNAT_PORTS), timeout=60)
        assert counted(lab.outside, "TcpExtTW") >= 10 * len(SNAT_PORTS)
        assert counted(lab.pod, "TcpExtTCPSynRetrans") == 0
        # What a busy machine sends again although the other end has it is of no translation any more.
        assert {drop["reason"] for drop in lab.one.status()["drops"]} <= {"NOT_OPENED"}
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@FAMILIES
def test_fragments_in_both_directions(lab, family):
    for _ in range(5):
        assert source(lab.pod.udp(OUTSIDE[family], PORT, size=8000))[0] == node_address(family)
    assert ping(lab.pod, OUTSIDE[family], "-s", "5000", count=5).returncode == 0


@FAMILIES
def test_ping(lab, family):
    done = ping(lab.pod, OUTSIDE[family], count=20)
    assert done.returncode == 0 and " 0% packet loss" in done.stdout


@FAMILIES
def test_routers_on_the_way_are_seen(lab, family):
    done = ping(lab.pod, OUTSIDE[family], "-t", "2")
    assert f"From {ROUTER[family]} icmp_seq=1 Time" in done.stdout, done.stdout
    assert lab.pod.udp(OUTSIDE[family], PORT + 1, connected=True)["result"] == "refused"


@FAMILIES
def test_a_narrow_path_is_found_out(lab, family):
    lab.router.ip("link", "set", "far", "mtu", "1300")
    try:
        done = ping(lab.pod, OUTSIDE[family], "-M", "do", "-s", "1350")
        assert "1300" in done.stdout, done.stdout
        answer = lab.pod.connect(OUTSIDE[family], PORT, send="x" * 20000)
        assert answer["echo"].startswith("xxx")
    finally:
        lab.router.ip("link", "set", "far", "mtu", "1500")
        lab.pod.ip("route", "flush", "cache")
        lab.pod.ip("-6", "route", "flush", "cache")


@FAMILIES
def test_pods_and_nodes_of_the_cluster_see_the_pod(lab, family):
    own = [lab.pod.v4, lab.pod.v6][family]
    assert lab.pod.connect([lab.peer.v4, lab.peer.v6][family], PORT)["name"] == "peer"
    host = NodeProcess(lab.two, in_cgroup=False)
    try:
        host.call("serve", name="{peer}", tcp=[PORT + 2], udp=[PORT + 2])
        assert source(lab.pod.connect(node_address(family, 2), PORT + 2))[0] == own
        assert source(lab.pod.udp(node_address(family, 2), PORT + 2))[0] == own
    finally:
        host.quit()


@FAMILIES
def test_each_uplink_has_its_own_address(lab, family):
    assert source(lab.pod.connect(OTHER[family], PORT))[0] == ["203.0.113.1",
                                                               "2001:db8:113::1"][family]
    assert source(lab.pod.connect(OUTSIDE[family], PORT))[0] == node_address(family)
    assert ping(lab.pod, OTHER[family]).returncode == 0


@FAMILIES
def test_policy_holds_for_answers(lab, family):
    lab.one.put(policy_object("p", "default", {}, policyTypes=["Ingress", "Egress"], egress=[
        {"to": [{"ipBlock": {"cidr": f"{OUTSIDE[family]}/{(32, 128)[family]}"}}]}]))
    try:
        assert source(lab.pod.connect(OUTSIDE[family], PORT))[0] == node_address(family)
        assert source(lab.pod.udp(OUTSIDE[family], PORT))[0] == node_address(family)
        assert ping(lab.pod, OUTSIDE[family]).returncode == 0
        assert lab.pod.connect(BESIDE[family], PORT, timeout=0.2)["result"] == "timeout"
    finally:
        lab.one.api("DELETE", "/v1/objects/NetworkPolicy/default/p")


@FAMILIES
def test_a_killed_agent_is_not_missed(lab, family):
    assert lab.pod.call("hold", id="k", addr=OUTSIDE[family], port=PORT)["result"] == "ok"
    lab.one.kill()
    try:
        assert source(lab.pod.connect(OUTSIDE[family], PORT))[0] == node_address(family)
        assert lab.pod.call("ping", id="k")["result"] == "ok"
    finally:
        lab.one.start()
    assert lab.pod.call("ping", id="k")["result"] == "ok"
    assert source(lab.pod.connect(OUTSIDE[family], PORT))[0] == node_address(family)
    lab.pod.call("close", id="k")


@FAMILIES
def test_the_uplinks_address_may_change(lab, family):
    """What is open ends with a reset, and datagrams go on from the new address."""
    new, length = [("203.0.113.7", 25), ("2001:db8:113::7", 64)][family]
    old, old_length = [("203.0.113.1", 24), ("2001:db8:113::1", 64)][family]
    assert lab.pod.call("hold", id=f"a{family}", addr=OTHER[family], port=PORT)["result"] == "ok"
    assert source(lab.pod.udp(OTHER[family], PORT, id=f"u{family}"))[0] == old
    ip = lab.one.netns.ip
    ip("addr", "add", f"{new}/{length}", "dev", "up1", *(["nodad"] if family else []))
    ip("addr", "del", f"{old}/{old_length}", "dev", "up1")
    try:
        wait_for(lambda: lab.pod.udp(OTHER[family], PORT, timeout=0.1, id=f"u{family}").get("name", "")
                 .startswith(new), "the new address")
        assert lab.pod.call("ping", id=f"a{family}")["result"] == "reset"
    finally:
        ip("addr", "add", f"{old}/{old_length}", "dev", "up1", *(["nodad"] if family else []))
        ip("addr", "del", f"{new}/{length}", "dev", "up1")
        wait_for(lambda: lab.pod.udp(OTHER[family], PORT, timeout=0.1, id=f"u{family}").get("name", "")
                 .startswith(old), "the old address")


def test_what_has_no_ports_does_not_leave(lab):
    def dropped():
        drops = {drop["reason"]: drop["count"] for drop in lab.one.status()["drops"]}
        return drops.get("NO_MASQUERADE", 0)

    before = dropped()
    lab.pod.call("raw", addr=OUTSIDE[0], proto=47)
    wait_for(lambda: dropped() == before + 1, "the drop")


@FAMILIES
def test_a_service_whose_backend_is_outside(lab, family):
    """Translated twice: by from_pod to the backend, and then to the node."""
    node = Node("--masquerade", "--no-socket-services", cidrs=lan.Nodes.cidrs(5))
    try:
        lab.wire.plug(node.netns, [f"{node_address(0, 5)}/24", f"{node_address(1, 5)}/64"])
        lab.default_route(node.netns, *ROUTER)
        lab.wait_uplink(node, "up0")
        settled(node.netns, "up0")
        ports = [{"name": proto, "port": PORT, "protocol": proto} for proto in ("TCP", "UDP")]
        vip = ["10.96.0.10", "fd00:96::10"]
        node.put(service_object("web", "default", vip, ports),
                 *(slice_object(f"web-{number}", "default", "web", ("IPv4", "IPv6")[number], ports,
                                [OUTSIDE[number]]) for number in (0, 1)))
        pod = node.pod("pod")
        wait_for(lambda: pod.connect(vip[family], PORT, timeout=0.2)["result"] == "ok", "the service")
        answer = pod.connect(vip[family], PORT, send="hello")
        assert source(answer)[0] == node_address(family, 5) and answer["echo"] == "hello"
        answer = pod.udp(vip[family], PORT)
        assert source(answer)[0] == node_address(family, 5)
        assert answer["peer"] == [vip[family], PORT]
    finally:
        node.close()


@FAMILIES
def test_services_that_end_end_no_other_connection(lab, family):
    """To an outside server that has been the backend of a service, too."""
    ports = [{"name": "TCP", "port": PORT + 5, "protocol": "TCP"}]
    kind = ("IPv4", "IPv6")[family]
    assert lab.pod.call("hold", id=f"s{family}", addr=OUTSIDE[family], port=PORT)["result"] == "ok"
    lab.one.put(service_object("gone", "default", [["10.96.0.11", "fd00:96::11"][family]], ports),
                slice_object("gone", "default", "gone", kind,
                             [dict(ports[0], port=PORT)], [OUTSIDE[family]]))
    lab.one.put(slice_object("gone", "default", "gone", kind, ports, []))
    for name in ("Service/default/gone", "EndpointSlice/default/gone"):
        lab.one.api("DELETE", f"/v1/objects/{name}")
    for _ in range(20):
        assert lab.pod.call("ping", id=f"s{family}")["result"] == "ok"
    lab.pod.call("close", id=f"s{family}")


@FAMILIES
def test_a_firewall_that_wants_established_connections(lab, family):
    lab.one.netns.run("nft", """
        table inet wall { chain forward { type filter hook forward priority 0; policy drop;
            ct state invalid drop
            ct state established,related accept
            iifname "tdl*" accept
          }
        }
        """)
    try:
        assert lab.pod.call("hold", id=f"w{family}", addr=OUTSIDE[family], port=PORT)["result"] == "ok"
        for _ in range(20):
            assert lab.pod.call("ping", id=f"w{family}")["result"] == "ok"
        assert source(lab.pod.udp(OUTSIDE[family], PORT))[0] == node_address(family)
        assert ping(lab.pod, OUTSIDE[family], count=3).returncode == 0
    finally:
        lab.one.netns.run("nft", "delete", "table", "inet", "wall")


@FAMILIES
def test_flows_keep_their_ports_when_the_range_changes(lab, family):
    """A restart reads the range anew, and may resize the table."""
    assert lab.pod.call("hold", id=f"r{family}", addr=OUTSIDE[family], port=PORT)["result"] == "ok"
    seen = source(lab.pod.udp(OUTSIDE[family], PORT, id=f"v{family}"))
    for ports, size, new in (("30000 60999", 131072, range(16384, 30000)),
                             ("16384 40000", 98304, range(40001, 65536)),
                             ("32768 60999", None, SNAT_PORTS)):
        lab.one.stop()
        lab.one.netns.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={ports}")
        lab.one.start(*([f"--max-translations={size}"] if size else []))
        lab.wait_uplink(lab.one, "up0")
        assert lab.pod.call("ping", id=f"r{family}")["result"] == "ok"
        assert source(lab.pod.udp(OUTSIDE[family], PORT, id=f"v{family}")) == seen
        assert source(lab.pod.connect(OUTSIDE[family], PORT))[1] in new
        capacity = {each["name"]: each["capacity"] for each in lab.one.status()["maps"]}["nat_map"]
        assert capacity == (size or 65536)
    lab.pod.call("close", id=f"r{family}")


def test_a_default_route_past_the_uplinks_is_told():
    node, wires = Node("--masquerade", "--device=up0", start=False), []
    try:
        for number in (0, 1):
            wires.append(Wire(f"{node.name}w{number}"))
            wires[number].plug(node.netns, [f"10.9.{number}.1/24"], device=f"up{number}")
        node.netns.ip("route", "add", "default", "via", "10.9.0.254")
        node.start()
        Lab.wait_uplink(node, "up0")
        assert not node.status()["failures"]
        node.netns.ip("route", "replace", "default", "via", "10.9.1.254")
        wait_for(lambda: any("default route leads to up1" in text for text in node.status()["failures"]),
                 "the warning")
        node.netns.ip("route", "replace", "default", "via", "10.9.0.254")
        wait_for(lambda: not node.status()["failures"], "the end of the warning")
    finally:
        node.close()
        for wire in wires:
            wire.netns.delete()


def test_a_node_without_ports_says_so():
    node = Node("--masquerade", start=False)
    try:
        node.netns.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
        node.start()
        assert any("ip_local_port_range" in text for text in node.status()["failures"])
    finally:
        node.close()


def test_the_whole_of_ipv6_may_be_excluded(lab):
    lab.one.stop()
    lab.one.agent_args.append("--non-masquerade-cidr=::/0")
    lab.one.start()
    try:
        lab.wait_uplink(lab.one, "up0")
        assert source(lab.pod.connect(OUTSIDE[0], PORT))[0] == node_address(0)
        assert lab.pod.connect(OUTSIDE[1], PORT, timeout=0.2)["result"] == "timeout"
    finally:
        lab.one.stop()
        lab.one.agent_args.pop()
        lab.one.start()


def test_ranges_that_are_excluded_see_the_pod():
    node = Node("--masquerade", "--non-masquerade-cidr=192.0.2.0/25",
                "--non-masquerade-cidr=2001:db8::/120")
    wire, near = Wire(node.name + "w"), Outside(node.name + "c")
    try:
        wire.plug(node.netns, ["192.0.2.1/24", "2001:db8::1/64"])
        wire.plug(near, ["192.0.2.9/24", "192.0.2.200/24", "2001:db8::9/64", "2001:db8::1:9/64"])
        near.ip("route", "add", "10.200.0.0/24", "via", "192.0.2.1")
        near.ip("-6", "route", "add", "fd00:200::/112", "via", "2001:db8::1")
        Lab.wait_uplink(node, "up0")
        settled(node.netns, "up0")
        settled(near, "up0")
        near.call("serve", name="{peer}", tcp=[PORT])
        pod = node.pod("pod")
        for address, seen in (("192.0.2.9", pod.v4), ("192.0.2.200", "192.0.2.1"),
                              ("2001:db8::9", pod.v6), ("2001:db8::1:9", "2001:db8::1")):
            assert source(pod.connect(address, PORT))[0] == seen
    finally:
        node.close()
        near.delete()
        wire.netns.delete()
