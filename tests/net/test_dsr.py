# SPDX-License-Identifier: Apache-2.0
"""Direct server return: a client outside asks one node, and the node of the backend answers.

    client 192.0.2.9, 2001:db8::9      node I: 192.0.2.I, 2001:db8::I on eth0
    all on one link                            pods 10.200.I.0/24, fd00:200:0:I::/112
"""

import ipaddress
import json
import struct

import pytest

import lan
from lan import Outside
from tendril import Node, NodeProcess, policy_object, service_object, slice_object, wait_for
from test_overlay import VNI, inner_frame, tunnelled

FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
NODE_PORT, TARGET = 30080, 8080
CLIENT = lan.Lan.addresses(9)
VIP = ["203.0.113.80", "2001:db8:80::80"]
DSR, TUNNEL = "--load-balancer-mode=dsr", "--routing-mode=tunnel"
DIRECT = "--auto-direct-node-routes"
MODES = {"native": (DIRECT,), "VXLAN": (TUNNEL,),
         "VXLAN over IPv6": (TUNNEL, "--underlay-protocol=ipv6"), "XDP": (DIRECT, "--xdp=generic")}
PROTOCOLS = ("TCP", "UDP")


class Lab(lan.Nodes):
    """Two nodes with a pod each, "p1" and "p2", which tell the peer that they see."""

    def __init__(self, *arguments):
        self.client = None
        self.narrow = "--underlay-protocol=ipv6" in arguments  # for fragments
        super().__init__(2, DSR, *arguments)
        try:
            self.one, self.two = self.all
            self.client = Outside(self.one.name + "c")
            self.lan.join(self.client, 9)
            lan.settled(self.client)
            for node in self.all:
                # Whoever is reached by a node port need not be a neighbour.
                node.netns.ip("route", "add", "default", "via", CLIENT[0])
                node.netns.ip("-6", "route", "add", "default", "via", CLIENT[1])
            self.pods = [node.pod(f"p{number}") for number, node in enumerate(self.all, 1)]
            for number, pod in enumerate(self.pods, 1):
                self.serve(pod, f"p{number}")
            if "--xdp=generic" in arguments:
                for netns in (self.client, self.two.netns):
                    netns.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off")
            self.publish(0, [])
            for node in self.all:
                wait_for(lambda node=node: "services are served on eth0" in node.log(), "the uplink")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def serve(pod, name):
        pod.call("serve", name=name + "@{peer}", tcp=[TARGET], udp=[TARGET])

    def publish(self, family, backends, ready=True, annotations=None, **spec):
        """The node port, and VIP, lead to these (address, number of its node)."""
        ports = [{"name": proto, "port": 80, "protocol": proto, "nodePort": NODE_PORT}
                 for proto in PROTOCOLS]
        service = service_object(f"web-{family}", "default",
                                 [["10.96.0.10", "fd00:96::10"][family]], ports,
                                 **{"type": "LoadBalancer", **spec})
        service["metadata"]["annotations"] = annotations or {}
        service["status"] = {"loadBalancer": {"ingress": [{"ip": VIP[family]}]}}
        endpoints = [{"addresses": [address], "nodeName": f"n{number}",
                      "conditions": {"ready": ready, "serving": True, "terminating": not ready}}
                     for address, number in backends]
        for node in self.all:
            node.put(service, slice_object(
                f"web-{family}-x", "default", f"web-{family}", ("IPv4", "IPv6")[family],
                [{"name": proto, "port": TARGET, "protocol": proto} for proto in PROTOCOLS],
                endpoints))

    def of(self, family, *numbers):
        """The pods of these nodes, as backends."""
        return [([self.pods[n - 1].v4, self.pods[n - 1].v6][family], n) for n in numbers]

    def connect(self, family, address=None, port=NODE_PORT, **more):
        return self.client.call("connect", addr=address or lan.Lan.addresses(1)[family], port=port,
                                **more)

    def udp(self, family, address=None, port=NODE_PORT, **more):
        return self.client.call("udp", addr=address or lan.Lan.addresses(1)[family], port=port, **more)

    def answers_of(self, number, family, address=None, port=NODE_PORT):
        """How many packets from the service's address the client has had from this node."""
        source = ipaddress.ip_address(address or lan.Lan.addresses(1)[family])
        target = ipaddress.ip_address(CLIENT[family])
        return self.client.call("sniffed",
                                begins=mac(self.client) + mac(self.all[number - 1].netns),
                                contains=(source.packed + target.packed).hex() + f"{port:04x}")[
                                    "count"]

    def close(self):
        if self.client:
            self.client.delete()
        super().close()


def mac(netns):
    link = json.loads(netns.ip("-j", "link", "show", "eth0").stdout)[0]
    return link["address"].replace(":", "")


def drops(node, reason):
    return {each["reason"]: each["count"] for each in node.status()["drops"]}.get(reason, 0)


@pytest.fixture(scope="module", params=MODES)
def lab(request):
    made = Lab(*MODES[request.param])
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def native():
    made = Lab(DIRECT)
    try:
        yield made
    finally:
        made.close()


def check(lab, family, name, address=None, port=NODE_PORT):
    """Connections, streams, datagrams and fragments get there and back; the server sees the client."""
    where = {"address": address, "port": port}
    seen = f"{name}@{CLIENT[family]}/"
    at = address or lan.Lan.addresses(1)[family]
    answer = lab.connect(family, send="hello", **where)
    assert (answer["result"], answer["echo"]) == ("ok", "hello")
    assert answer["name"] == seen + str(answer["local"][1]), "the port is the client's own, too"
    for size in (4, 1300) if lab.narrow else (4, 1300, 8000):
        answer = lab.udp(family, size=size, **where)
        assert (answer["result"], answer["peer"]) == ("ok", [at, port]), (size, answer)
        assert answer["name"].startswith(seen)
    assert lab.client.call("hold", id="h", addr=at, port=port)["name"].startswith(seen)
    for _ in range(50):
        assert lab.client.call("ping", id="h")["result"] == "ok"
    lab.client.call("close", id="h")


@FAMILIES
def test_the_backends_node_answers_the_client(lab, family):
    lab.publish(family, lab.of(family, 2))
    lab.client.call("sniff")
    check(lab, family, "p2")
    assert lab.answers_of(1, family) == 0
    assert lab.answers_of(2, family) > 50


@FAMILIES
def test_a_load_balancers_address(lab, family):
    lab.publish(family, lab.of(family, 2))
    lab.client.ip("-6" if family else "-4", "route", "replace", VIP[family], "via",
                  lan.Lan.addresses(1)[family])
    lab.client.call("sniff")
    check(lab, family, "p2", VIP[family], 80)
    assert lab.answers_of(1, family, VIP[family], 80) == 0
    assert lab.answers_of(2, family, VIP[family], 80) > 50


@FAMILIES
def test_a_backend_of_the_first_node_and_both(lab, family):
    lab.publish(family, lab.of(family, 1))
    check(lab, family, "p1")
    lab.publish(family, lab.of(family, 1, 2))
    assert {lab.connect(family)["name"].split("@")[0] for _ in range(40)} == {"p1", "p2"}


@FAMILIES
def test_what_does_not_fit_into_the_tunnel_is_told_to_the_client(lab, family):
    """Streams get through, and so does the second datagram."""
    lab.publish(family, lab.of(family, 2))
    for size in (20000, 60000):
        answer = lab.connect(family, send="x" * size)
        assert answer["echo"].startswith("xxx")
    assert lab.client.call("hold", id="n", addr=lan.Lan.addresses(1)[family], port=NODE_PORT)[
        "result"] == "ok"
    assert lab.client.call("ping", id="n")["result"] == "ok"
    lab.client.call("close", id="n")
    wait_for(lambda: lab.udp(family, size=1440, timeout=0.5)["result"] == "ok", "the datagram")


def too_big(family, port):
    """An ICMP error of the client's about an answer that it has had at this port; from the IP header."""
    client, service = (ipaddress.ip_address(each[family]) for each in (CLIENT, lan.Lan.addresses(1)))
    datagram = struct.pack(">HHHH", NODE_PORT, port, 8, 0)
    if family == 0:
        answer = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, service.packed, client.packed)
        return 1, 3, 4, struct.pack(">HH", 0, 1300) + answer + datagram
    answer = struct.pack(">IHBB", 6 << 28, 8, 17, 64) + service.packed + client.packed
    return 58, 2, 0, struct.pack(">I", 1300) + answer + datagram


@FAMILIES
def test_an_error_about_an_answer_reaches_the_endpoint(lab, family):
    lab.publish(family, lab.of(family, 2))
    port = int(lab.udp(family, id=f"e{family}")["name"].split("/")[1])
    lab.client.call("error", addr=lan.Lan.addresses(1)[family], **dict(zip(
        ("proto", "type", "code", "rest"), (*too_big(family, port)[:3], too_big(family, port)[3].hex()))))
    ip = ["-6"] if family else []
    wait_for(lambda: "mtu 1300" in lab.pods[1].ip(*ip, "route", "get", CLIENT[family]).stdout,
             "the endpoint's new path MTU")


@FAMILIES
def test_policy_sees_the_client(lab, family):
    lab.publish(family, lab.of(family, 2))
    block = f"{CLIENT[family]}/{(32, 128)[family]}"
    node = f"{lan.Lan.addresses(1)[family]}/{(32, 128)[family]}"

    def admit(cidr):
        lab.two.put(policy_object("p", "default", {}, policyTypes=["Ingress", "Egress"], ingress=[
            {"from": [{"ipBlock": {"cidr": cidr}}],
             "ports": [{"port": TARGET, "protocol": proto} for proto in PROTOCOLS]}]))
    try:
        admit(node)
        before = drops(lab.two, "INGRESS_DENIED")
        assert lab.connect(family, timeout=0.3)["result"] == "timeout"
        assert drops(lab.two, "INGRESS_DENIED") > before
        admit(block)
        check(lab, family, "p2")
    finally:
        lab.two.api("DELETE", "/v1/objects/NetworkPolicy/default/p")


@FAMILIES
def test_a_process_of_the_other_node_as_backend(lab, family):
    """It is asked, and answers, through the first node."""
    process = NodeProcess(lab.two, in_cgroup=False)
    first = lan.Lan.addresses(1)[family]
    try:
        process.call("serve", name="host@{peer}", tcp=[TARGET], udp=[TARGET])
        lab.publish(family, [(lan.Lan.addresses(2)[family], 2)])
        for answer in (lab.connect(family), lab.udp(family)):
            assert answer["name"].startswith(f"host@{first}/"), answer
    finally:
        process.quit()


@FAMILIES
def test_without_an_endpoint_the_client_is_refused_at_once(lab, family):
    lab.publish(family, [])
    assert lab.connect(family)["result"] == "refused"
    assert lab.udp(family, connected=True)["result"] == "refused"


@FAMILIES
def test_a_backend_that_only_terminates_serves_while_there_is_no_other(lab, family):
    lab.publish(family, lab.of(family, 2), ready=False)
    check(lab, family, "p2")


@FAMILIES
def test_a_client_inside_the_cluster_is_answered_by_whom_it_asked(lab, family):
    """The pods of the second node ask the first."""
    lab.publish(family, lab.of(family, 2))
    answer = lab.pods[1].connect(lan.Lan.addresses(1)[family], NODE_PORT)
    assert answer["result"] == "ok", answer


@FAMILIES
def test_source_ranges_are_checked_where_the_client_asks(lab, family):
    lab.client.ip("-6" if family else "-4", "route", "replace", VIP[family], "via",
                  lan.Lan.addresses(1)[family])
    other = ["198.51.100.0/24", "2001:db8:99::/64"][family]
    lab.publish(family, lab.of(family, 2), loadBalancerSourceRanges=[other])
    before = drops(lab.one, "SOURCE_RANGE")
    assert lab.connect(family, VIP[family], 80, timeout=0.3)["result"] == "timeout"
    assert drops(lab.one, "SOURCE_RANGE") > before
    own = f"{CLIENT[family]}/{(32, 128)[family]}"
    lab.publish(family, lab.of(family, 2), loadBalancerSourceRanges=[own])
    check(lab, family, "p2", VIP[family], 80)


@FAMILIES
def test_fragments_as_long_as_packets_may_be(lab, family):
    """They are fragmented again between the nodes, which IPv6 does not do."""
    lab.publish(family, lab.of(family, 2))
    lab.client.ip("-6" if family else "-4", "route", "flush", "cache")
    before = drops(lab.one, "TOO_BIG")
    result = lab.udp(family, size=8000, timeout=0.3 if lab.narrow else 10)["result"]
    assert result == ("timeout" if lab.narrow else "ok")
    assert (drops(lab.one, "TOO_BIG") > before) == lab.narrow


@FAMILIES
def test_with_maglev_it_does_not_matter_which_node_is_asked(lab, family):
    """Two of three endpoints are on the second node."""
    more = lab.two.pod("more")
    try:
        lab.serve(more, "more")
        lab.publish(family, lab.of(family, 1, 2) + [([more.v4, more.v6][family], 2)],
                    annotations={"tendril.io/lb-algorithm": "maglev"})
        chosen = [[lab.connect(family, lan.Lan.addresses(number)[family], sport=sport)["name"]
                   for sport in range(20000, 20030)] for number in (1, 2)]
        assert chosen[0] == chosen[1]
        assert {name.split("@")[0] for name in chosen[0]} == {"p1", "p2", "more"}
        lab.publish(family, lab.of(family, 1, 2) + [([more.v4, more.v6][family], 2)],
                    sessionAffinity="ClientIP")
        assert len({lab.connect(family)["name"].split("@")[0] for _ in range(20)}) == 1
    finally:
        more.cni("DEL")
        more.delete()
        lab.two.pods.remove(more)


@FAMILIES
def test_datagrams_go_on_to_another_endpoint_when_theirs_is_gone(lab, family):
    for number in (2, 1, 2):
        lab.publish(family, lab.of(family, number))
        wait_for(lambda number=number: lab.udp(family, id=f"u{family}", timeout=0.5).get(
            "name", "").startswith(f"p{number}@"), f"the endpoint on node {number}")


# ---- who lies -----------------------------------------------------------------------------------

@FAMILIES
def test_who_lies_is_dropped_and_counted(lab, family):
    """Of all that they send nothing arrives; each lie has its reason."""
    first, victim, client = lab.one, lab.pods[0], lab.client
    neighbour = NodeProcess(lab.two, in_cgroup=False)
    here = {"addr": lan.Lan.addresses(1)[lab.narrow], "port": 8472}
    outside = ["198.51.100.7", "2001:db8:7::7"][family]
    asked = lan.Lan.addresses(2)[family]
    own, other = [([pod.v4, pod.v6][family]) for pod in lab.pods]
    tunnel = TUNNEL in first.agent_args

    def inside(source, destination=asked, port=NODE_PORT, vni=VNI + 1):
        return tunnelled(inner_frame(source, destination, port), vni)

    lies = [
        (client, inside(outside), "DSR_SOURCE"),  # no node has sent it
        (client, inside(outside, VIP[family], 80), "DSR_SOURCE"),
        (neighbour, inside(other), "DSR_SOURCE"),  # a pod is no client outside
        (neighbour, inside(own), "DSR_SOURCE"),
        (neighbour, inside(asked), "DSR_SOURCE"),  # nor is a node
        (neighbour, inside(lan.Lan.addresses(1)[family]), "DSR_SOURCE"),
        (neighbour, inside(outside, own, TARGET), "NO_SERVICE"),  # a pod is no service
        (neighbour, inside(outside, other, TARGET), "NO_SERVICE"),
        (neighbour, inside(outside, lan.Lan.addresses(1)[family], TARGET), "NO_SERVICE"),
        (neighbour, inside(outside, port=NODE_PORT + 1), "NO_SERVICE"),
        (neighbour, inside(outside, lan.Lan.addresses(3)[family]), "NO_SERVICE"),
        (neighbour, inside(outside, vni=VNI + 2), "TUNNEL_NETWORK"),
        (neighbour, inside(outside, vni=VNI), "TUNNEL_SOURCE" if tunnel else "TUNNEL_NETWORK"),
    ]
    lab.publish(family, lab.of(family, 1))
    try:
        victim.call("sniff")
        for sender, data, reason in lies:
            before = drops(first, reason)
            sender.call("datagram", data=data, **here)
            wait_for(lambda: drops(first, reason) == before + 1, f"{reason} for {data}")
        assert victim.call("sniffed", contains=b"evil".hex())["count"] == 0
        neighbour.call("datagram", data=inside(outside), **here)
        wait_for(lambda: victim.call("sniffed", contains=b"evil".hex())["count"] == 1,
                 "what is no lie")
    finally:
        neighbour.quit()


# ---- what changes -------------------------------------------------------------------------------

def test_killed_agents_are_not_missed_and_the_next_ones_take_over(native):
    lab = native
    for family in (0, 1):
        lab.publish(family, lab.of(family, 2))
        assert lab.client.call("hold", id=family, addr=lan.Lan.addresses(1)[family],
                               port=NODE_PORT)["result"] == "ok"
    for node in lab.all:
        node.kill()
    for started in (False, True):
        if started:
            for node in lab.all:
                node.start()
        for family in (0, 1):
            assert lab.connect(family)["name"].startswith(f"p2@{CLIENT[family]}/")
            assert lab.udp(family)["name"].startswith("p2@")
            assert lab.client.call("ping", id=family)["result"] == "ok"


def test_a_connection_whose_endpoint_is_gone_is_reset(native):
    lab = native
    for family in (0, 1):
        lab.publish(family, lab.of(family, 2))
        assert lab.client.call("hold", id=family, addr=lan.Lan.addresses(1)[family],
                               port=NODE_PORT)["result"] == "ok"
    lab.pods[1].cni("DEL")
    lab.publish(0, [])
    lab.publish(1, [])
    for family in (0, 1):
        assert lab.client.call("ping", id=family)["result"] == "reset"
        assert lab.connect(family)["result"] == "refused"


def test_the_mode_may_be_changed(native):
    """Also while flows are known; the tunnel goes and comes with it."""
    lab = native
    lab.publish(0, lab.of(0, 2))
    assert lab.udp(0, id="u")["name"].startswith(f"p2@{CLIENT[0]}/")
    assert [node.status()["loadBalancerMode"] for node in lab.all] == ["dsr", "dsr"]
    assert "tendril_vxlan" in lab.one.netns.ip("link").stdout
    for node in lab.all:
        node.stop()
        node.agent_args.remove(DSR)
        node.start()
    lab.publish(0, lab.of(0, 2))
    first = lan.Lan.addresses(1)[0]
    wait_for(lambda: lab.udp(0, id="u", timeout=0.5).get("name", "").startswith(f"p2@{first}/"),
             "SNAT")
    assert lab.connect(0)["name"].startswith(f"p2@{first}/")
    assert [node.status()["loadBalancerMode"] for node in lab.all] == ["snat", "snat"]
    assert "tendril_vxlan" not in lab.one.netns.ip("link").stdout


def test_dsr_is_refused_with_encryption():
    with pytest.raises(AssertionError, match="loadBalancerMode dsr is not for encryption wireguard"):
        with Node(DSR, "--encryption=wireguard"):
            pass
