# SPDX-License-Identifier: Apache-2.0
"""Clients outside the cluster, who reach services by the nodes' ports.

    client 192.0.2.9  ----+---- wire ----+----  node "one" 192.0.2.1, pods 10.200.1.0/24
           2001:db8::9                   +----  node "two" 192.0.2.2, pods 10.200.2.0/24
                                                with routes to each other's pods
"""

import json

import pytest

from lan import Outside, Wire, settled
from tendril import Node, NodeProcess, policy_object, service_object, slice_object, wait_for

FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
NODE_PORT, TARGET = 30080, 8080
CLIENT = ["192.0.2.9", "2001:db8::9"]


def make_node(number, *arguments, **more):
    return Node(*arguments, **more, cidrs=(f"10.200.{number}.0/24", f"fd00:200:{number}::/112"))


class Lab:
    def __init__(self, *arguments, served=True):
        self.one, self.two = make_node(1, *arguments), make_node(2, *arguments)
        self.wire = Wire(self.one.name + "w")
        self.client = Outside(self.one.name + "c")
        self.wire.plug(self.client, [f"{CLIENT[0]}/24", f"{CLIENT[1]}/64"])
        for number, node in enumerate((self.one, self.two), 1):
            if served:
                self.publish(0, [], node)
            self.wire.plug(node.netns, [f"192.0.2.{number}/24", f"2001:db8::{number}/64"])
            # Whoever is reached by a node port need not be a neighbour.
            node.netns.ip("route", "add", "default", "via", CLIENT[0])
            node.netns.ip("-6", "route", "add", "default", "via", CLIENT[1])
            other = 3 - number
            node.netns.ip("route", "add", f"10.200.{other}.0/24", "via", f"192.0.2.{other}")
            node.netns.ip("-6", "route", "add", f"fd00:200:{other}::/112", "via",
                          f"2001:db8::{other}")
            if served:
                wait_for(lambda node=node: "services are served on up0" in node.log(), "the uplink")

        for netns in (self.one.netns, self.two.netns, self.client):
            settled(netns, "up0")

    def close(self):
        for each in (self.one, self.two):
            each.close()
        self.client.delete()
        self.wire.netns.delete()

    def publish(self, family, backends, node=None, port=NODE_PORT):
        """The node's port leads to these (address, port)."""
        name, kind = f"web-{port}-{family}", ("IPv4", "IPv6")[family]
        cluster_ip = [f"10.96.{port >> 8}.{port & 255}", f"fd00:96::{port:x}"][family]
        ports = [{"name": proto, "port": 80, "protocol": proto, "nodePort": port}
                 for proto in ("TCP", "UDP")]
        slices = [slice_object(f"{name}-{i}", "default", name, kind,
                               [{"name": p["name"], "port": backends[i][1], "protocol": p["name"]}
                                for p in ports] if i < len(backends) else [],
                               [backends[i][0]] if i < len(backends) else [])
                  for i in range(2)]  # what was there before is replaced
        (node or self.one).put(service_object(name, "default", [cluster_ip], ports,
                                              type="NodePort"), *slices)

    @staticmethod
    def address(family, number=1):
        return [f"192.0.2.{number}", f"2001:db8::{number}"][family]

    def connect(self, family, port=NODE_PORT, **more):
        return self.client.call("connect", addr=self.address(family), port=port, **more)

    def udp(self, family, port=NODE_PORT, **more):
        return self.client.call("udp", addr=self.address(family), port=port, **more)


def test_the_first_node_port_is_served_when_the_agent_has_taken_it():
    lab = Lab(served=False)
    try:
        pod = lab.one.pod("local")
        pod.serve(tcp=[TARGET])
        lab.publish(0, [of(pod, 0)])
        assert lab.connect(0)["result"] == "ok"
    finally:
        lab.close()


# Generic XDP behaves as a driver's; what the agent does without it comes first.
@pytest.fixture(scope="module", params=["off", "generic"], ids=["tc", "XDP"])
def lab(request):
    made = Lab("--no-socket-services", f"--xdp={request.param}")
    made.xdp = request.param
    if made.xdp != "off":
        made.client.run("ethtool", "-K", "up0", "tx", "off", "tso", "off")
        made.two.netns.run("ethtool", "-K", "up0", "tx", "off", "tso", "off")
    try:
        made.local, made.remote = made.one.pod("local"), made.two.pod("remote")
        for pod in (made.local, made.remote):
            pod.serve(tcp=[TARGET], udp=[TARGET])
        yield made
    finally:
        made.close()


def of(pod, family):
    return ([pod.v4, pod.v6][family], TARGET)


def check(lab, family, name):
    """Connections, streams, datagrams, and datagrams in fragments all get there and back."""
    answer = lab.connect(family, send="hello")
    assert (answer["result"], answer["name"], answer["echo"]) == ("ok", name, "hello")
    for size in (4, 1300, 8000):
        answer = lab.udp(family, size=size)
        assert (answer["result"], answer["name"]) == ("ok", name)
        assert answer["peer"] == [lab.address(family), NODE_PORT]
    assert lab.client.call("hold", id="h", addr=lab.address(family), port=NODE_PORT)["result"] == "ok"
    for _ in range(50):
        assert lab.client.call("ping", id="h")["result"] == "ok"
    lab.client.call("close", id="h")


@FAMILIES
def test_a_backend_of_the_node(lab, family):
    lab.publish(family, [of(lab.local, family)])
    check(lab, family, "local")


@FAMILIES
def test_a_backend_of_another_node(lab, family):
    lab.publish(family, [of(lab.remote, family)])
    check(lab, family, "remote")


def sent_on_by_xdp(node):
    return next((each["count"] for each in node.status()["notices"] if each["name"] == "XDP_FORWARDED"), 0)


@FAMILIES
def test_xdp_sends_on_what_is_for_another_node(lab, family):
    before = sent_on_by_xdp(lab.one)
    lab.publish(family, [of(lab.remote, family)])
    check(lab, family, "remote")
    sent_on = sent_on_by_xdp(lab.one) - before
    assert sent_on > 100 if lab.xdp != "off" else sent_on == 0, sent_on
    assert [u["xdp"] for u in lab.one.status()["uplinks"]] == [lab.xdp]


@FAMILIES
def test_both(lab, family):
    lab.publish(family, [of(lab.local, family), of(lab.remote, family)])
    assert {lab.connect(family)["name"] for _ in range(40)} == {"local", "remote"}


def shown_by(lab, family, number, sports):
    return {sport: lab.client.call("connect", addr=lab.address(family, number), port=NODE_PORT + 1,
                                   sport=sport)["name"] for sport in sports}


@FAMILIES
def test_two_nodes_choose_alike_by_maglev_and_a_lost_backend_moves_its_own_flows(lab, family):
    pods = {"local": lab.local, "remote": lab.remote, "more-1": lab.one.pod("more-1"),
            "more-2": lab.two.pod("more-2")}
    sports = range(20000, 20040)
    for name in ("more-1", "more-2"):
        pods[name].serve(tcp=[TARGET])

    def publish(*names):
        ports = [{"name": "tcp", "port": 80, "protocol": "TCP", "nodePort": NODE_PORT + 1}]
        service = service_object("even", "default", [["10.96.9.9", "fd00:96::99"][family]], ports,
                                 type="NodePort")
        service["metadata"]["annotations"] = {"tendril.io/lb-algorithm": "maglev"}
        for node in (lab.one, lab.two):
            node.put(service, slice_object("even-x", "default", "even", ("IPv4", "IPv6")[family],
                                           [{"name": "tcp", "port": TARGET, "protocol": "TCP"}],
                                           [of(pods[name], family)[0] for name in names]))
    try:
        publish(*pods)
        before = shown_by(lab, family, 1, sports)
        assert shown_by(lab, family, 2, sports) == before
        assert len(set(before.values())) >= 3, before
        assert shown_by(lab, family, 1, sports) == before, "not by chance"
        gone = before[sports[0]]
        publish(*(name for name in pods if name != gone))
        after = shown_by(lab, family, 1, sports)
        assert shown_by(lab, family, 2, sports) == after
        assert gone not in after.values()
        moved = sum(after[sport] != name for sport, name in before.items() if name != gone)
        assert moved <= 2, (before, after)
    finally:
        for node in (lab.one, lab.two):
            for kind, name in (("Service", "even"), ("EndpointSlice", "even-x")):
                node.api("DELETE", f"/v1/objects/{kind}/default/{name}")
        for name in ("more-1", "more-2"):
            pods[name].cni("DEL")
            pods[name].delete()


@FAMILIES
def test_policy_sees_the_client(lab, family):
    lab.publish(family, [of(lab.local, family)])
    block = f"{CLIENT[family]}/{(32, 128)[family]}"
    others = ["192.0.2.128/25", "2001:db8::ff00/120"][family]
    lab.one.put(policy_object("p", "default", {}, policyTypes=["Ingress", "Egress"], ingress=[
        {"from": [{"ipBlock": {"cidr": others}}], "ports": [{"port": TARGET}]}]))
    try:
        assert lab.connect(family, timeout=0.3)["result"] == "timeout"
        lab.one.put(policy_object("p", "default", {}, policyTypes=["Ingress", "Egress"], ingress=[
            {"from": [{"ipBlock": {"cidr": block}}],
             "ports": [{"port": TARGET}, {"port": TARGET, "protocol": "UDP"}]}]))
        check(lab, family, "local")
    finally:
        lab.one.api("DELETE", "/v1/objects/NetworkPolicy/default/p")


@FAMILIES
def test_without_an_endpoint_the_client_is_refused_at_once(lab, family):
    lab.publish(family, [])
    assert lab.connect(family)["result"] == "refused"
    assert lab.udp(family, connected=True)["result"] == "refused"


@FAMILIES
def test_a_process_of_the_node_as_backend(lab, family):
    process = NodeProcess(lab.one, in_cgroup=False)
    try:
        process.call("serve", name="host", tcp=[TARGET], udp=[TARGET])
        lab.publish(family, [(lab.address(family), TARGET)])
        answer = lab.connect(family, send="hello")
        assert (answer["name"], answer["echo"]) == ("host", "hello")
    finally:
        process.quit()


@FAMILIES
def test_a_pod_reaches_itself_through_its_nodes_port(lab, family):
    lab.publish(family, [of(lab.local, family)])
    answer = lab.local.connect(lab.address(family), NODE_PORT, send="hello")
    assert (answer["name"], answer["echo"]) == ("local", "hello")
    lab.publish(family, [of(lab.remote, family)])
    assert lab.local.connect(lab.address(family), NODE_PORT)["name"] == "remote"


@FAMILIES
def test_a_narrow_path_to_the_backend_is_found_out(lab, family):
    """The client's packets fit the wire, not the route to the backend: it must be told."""
    ip = [lab.one.netns.ip] if family == 0 else [lambda *a: lab.one.netns.ip("-6", *a)]
    route = [("10.200.2.0/24", "192.0.2.2"), ("fd00:200:2::/112", "2001:db8::2")][family]
    lab.publish(family, [of(lab.remote, family)])
    ip[0]("route", "replace", route[0], "via", route[1], "mtu", "lock", "1300")
    try:
        answer = lab.connect(family, send="x" * 20000)
        assert answer["echo"].startswith("xxx")
        assert lab.client.call("hold", id="n", addr=lab.address(family), port=NODE_PORT)[
            "result"] == "ok"
        assert lab.client.call("ping", id="n")["result"] == "ok"
        lab.client.call("close", id="n")
    finally:
        ip[0]("route", "replace", route[0], "via", route[1])


@FAMILIES
def test_the_host_itself_is_reached_as_before(lab, family):
    assert lab.client.run("ping", "-c1", "-W10", lab.address(family)).returncode == 0
    assert lab.connect(family, port=NODE_PORT + 7)["result"] == "refused"


def test_a_full_table_of_translations_takes_the_next_one():
    lab = Lab("--max-translations=64")
    try:
        pod = lab.one.pod("local")
        pod.serve(tcp=[TARGET])
        lab.publish(0, [of(pod, 0)])
        for i in range(200):
            assert lab.client.call("hold", id=i, addr=lab.address(0), port=NODE_PORT)[
                "result"] == "ok"
        assert lab.client.call("ping", id=199)["result"] == "ok"
    finally:
        lab.close()


def test_a_service_is_served_outside_as_soon_as_it_is_there():
    lab = Lab(served=False)
    try:
        pods = lab.one.pod("local"), lab.two.pod("remote")
        for pod in pods:
            pod.serve(tcp=[TARGET], udp=[TARGET])
        ports = [{"name": proto, "port": TARGET, "protocol": proto} for proto in ("TCP", "UDP")]
        lab.one.put(
            service_object("web", "default", ["10.96.0.10", "fd00:96::10"], [
                dict(port, targetPort=TARGET, nodePort=NODE_PORT) for port in ports], type="NodePort"),
            *(slice_object(f"web-{family}", "default", "web", ("IPv4", "IPv6")[family], ports,
                           [of(pod, family)[0] for pod in pods]) for family in (0, 1)))
        wait_for(lambda: "services are served on up0" in lab.one.log(), "the uplink")
        for family in (0, 1):
            assert {lab.connect(family)["name"] for _ in range(40)} == {"local", "remote"}
            assert lab.udp(family)["peer"] == [lab.address(family), NODE_PORT]
        # Nobody misses a killed agent, and the next one takes over.
        for family in (0, 1):
            assert lab.client.call("hold", id=family, addr=lab.address(family), port=NODE_PORT)[
                "result"] == "ok"
        lab.one.kill()
        for restarted in (False, True):
            if restarted:
                lab.one.start()
            for family in (0, 1):
                for _ in range(20):
                    assert lab.connect(family)["result"] == "ok"
                    assert lab.client.call("ping", id=family)["result"] == "ok"
    finally:
        lab.close()


def test_uplinks_follow_devices_and_addresses():
    lab = Lab()
    try:
        lab.wire.plug(lab.one.netns, ["198.51.100.1/24"], device="up1")
        wait_for(lambda: "services are served on up1" in lab.one.log(), "the second uplink")
        lab.one.netns.ip("addr", "flush", "dev", "up1")
        wait_for(lambda: "no longer served on up1" in lab.one.log(), "its end")
        # Another agent takes over what is attached, and what it is told not to use is let go.
        lab.one.stop()
        lab.one.agent_args.append("--device=up9")
        lab.one.start()
        wait_for(lambda: not list((lab.one.bpffs / "links").glob("uplink-*")), "no link of an uplink")
    finally:
        lab.close()


def test_a_load_balancers_address_alone_is_served_outside():
    """allocateLoadBalancerNodePorts: false"""
    lab = Lab(served=False)
    try:
        pod = lab.one.pod("local")
        pod.serve(tcp=[TARGET])
        vip = "203.0.113.80"
        ports = [{"name": "web", "port": 80, "protocol": "TCP"}]
        service = service_object("web", "default", ["10.96.0.10"], ports, type="LoadBalancer")
        lab.one.put(dict(service, status={"loadBalancer": {"ingress": [{"ip": vip}]}}),
                    slice_object("web-x", "default", "web", "IPv4",
                                 [{"name": "web", "port": TARGET, "protocol": "TCP"}], [pod.v4]))
        lab.client.ip("route", "add", vip, "via", "192.0.2.1")
        wait_for(lambda: "services are served on up0" in lab.one.log(), "the uplink")
        assert lab.client.call("connect", addr=vip, port=80)["name"] == "local"
    finally:
        lab.close()


@pytest.mark.parametrize("mode", ["auto", "native"])
def test_a_device_without_xdp_is_served_by_tc(mode):
    """A veth would lose what XDP sends back."""
    node = make_node(1, f"--xdp={mode}")
    wire = Wire(node.name + "w")
    try:
        wire.plug(node.netns, ["192.0.2.1/24"])
        node.put(service_object("web", "default", ["10.96.1.1"], [{"port": 80, "nodePort": NODE_PORT}],
                                type="NodePort"))
        wait_for(lambda: node.status()["uplinks"], "the uplink")
        status = node.status()
        assert [(u["device"], u["xdp"]) for u in status["uplinks"]] == [("up0", "off")]
        told = any("up0 works without XDP: a veth" in each for each in status["failures"])
        assert told == (mode == "native"), status["failures"]
    finally:
        node.close()
        wire.netns.delete()


def test_xdp_is_attached_once_it_can_be():
    """The device has another XDP program at first, and the agent stays as it is."""
    node, other = make_node(1, "--xdp=generic"), make_node(2, "--xdp=generic")
    wires = [Wire(each.name + "w") for each in (node, other)]
    service = service_object("web", "default", ["10.96.1.1"], [{"port": 80, "nodePort": NODE_PORT}],
                             type="NodePort")

    def xdp(each):
        return [u["xdp"] for u in each.status()["uplinks"]]
    try:
        wires[1].plug(other.netns, ["192.0.2.2/24"])
        other.put(service)
        wait_for(lambda: xdp(other) == ["generic"], "a program of XDP")
        shown = json.loads(other.netns.run("ip", "-j", "-d", "link", "show", "up0").stdout)
        wires[0].plug(node.netns, ["192.0.2.1/24"])
        node.netns.run("bpftool", "net", "attach", "xdpgeneric", "id", str(shown[0]["xdp"]["prog"]["id"]),
                       "dev", "up0", check=True)
        node.put(service)
        wait_for(lambda: xdp(node) == ["off"], "the uplink without XDP")
        assert any("up0 works without XDP" in each for each in node.status()["failures"])
        node.netns.run("bpftool", "net", "detach", "xdpgeneric", "dev", "up0", check=True)
        wait_for(lambda: xdp(node) == ["generic"], "XDP on the uplink", 30)
        assert not any("XDP" in each for each in node.status()["failures"])
    finally:
        for each in (node, other):
            each.close()
        for wire in wires:
            wire.netns.delete()


def test_want_of_xdp_hides_no_other_problem():
    node = make_node(1, "--xdp=native", start=False)
    node.netns.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")
    wire = Wire(node.name + "w")
    try:
        wire.plug(node.netns, ["192.0.2.1/24"])
        node.start()
        node.put(service_object("web", "default", ["10.96.1.1"], [{"port": 80, "nodePort": NODE_PORT}],
                                type="NodePort"))
        wait_for(lambda: node.status()["uplinks"], "the uplink")
        failures = node.status()["failures"]
        assert any("leaves no port" in each for each in failures), failures
    finally:
        node.close()
        wire.netns.delete()
