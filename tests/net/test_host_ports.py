# SPDX-License-Identifier: Apache-2.0
"""Ports of the node that lead to pods: hostPort in Pod objects, portMappings of the runtime.

    client 192.0.2.9  ---- wire ----  node "one" 192.0.2.1, pods 10.200.1.0/24, without portmap
"""

import pytest

from tendril import NodeProcess, policy_object, pod_object, service_object, slice_object, wait_for
from test_north_south import FAMILIES, TARGET, Lab

PORT = 8081
PROTOCOLS = pytest.mark.parametrize("proto", ["tcp", "udp"])


@pytest.fixture(scope="module")
def lab():
    made = Lab()
    try:
        made.other = made.one.pod("other")
        yield made
    finally:
        made.close()


@pytest.fixture
def pods(lab):
    """Makes pods that go with the test."""
    made = []

    def make(name, *mappings):
        runtime = {"portMappings": [dict({"hostPort": PORT, "containerPort": TARGET, "protocol": "tcp"},
                                         **mapping) for mapping in mappings]}
        pod = lab.one.pod(name, conf={"runtimeConfig": runtime} if mappings else None)
        pod.serve(tcp=[TARGET], udp=[TARGET])
        made.append(pod)
        return pod

    yield make
    for pod in made:
        pod.cni("DEL")
        pod.delete()


def ask(lab, family, proto="tcp", port=PORT, who=None, address=None, **more):
    op = "connect" if proto == "tcp" else "udp"
    return (who or lab.client).call(op, addr=address or lab.address(family), port=port, **more)


@FAMILIES
@PROTOCOLS
def test_a_port_the_runtime_asked_for(lab, pods, family, proto):
    pod = pods("web", {"protocol": proto})
    # From outside, from the node by any of its addresses, from another pod, from the pod itself.
    process = NodeProcess(lab.one)
    loopback = ["127.0.0.1", "::1"][family]
    for who, address in ((lab.client, None), (process, None), (process, loopback),
                         (lab.other, None), (pod, None)):
        answer = ask(lab, family, proto, who=who, address=address)
        assert (answer["result"], answer["name"]) == ("ok", "web"), (who, address)
        assert answer["peer"] == [address or lab.address(family), PORT]
    process.quit()
    other = "udp" if proto == "tcp" else "tcp"
    assert ask(lab, family, other, timeout=0.3, connected=True) if other == "udp" else True
    pod.cni("DEL")
    assert ask(lab, family, proto, timeout=0.3)["result"] in ("refused", "timeout")


@FAMILIES
def test_the_client_is_seen_by_policy(lab, pods, family):
    pods("web", {})
    block = [["192.0.2.128/25", "192.0.2.9/32"], ["2001:db8::ff00/120", "2001:db8::9/128"]][family]
    try:
        for cidr, result in zip(block, ("timeout", "ok")):
            lab.one.put(policy_object("p", "default", {}, policyTypes=["Ingress"], ingress=[
                {"from": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": TARGET}]}]))
            assert ask(lab, family, timeout=0.3)["result"] == result
    finally:
        lab.one.api("DELETE", "/v1/objects/NetworkPolicy/default/p")


def test_the_pod_object_says_so(lab, pods):
    pod = pods("web")
    made = pod_object("web", addresses=pod.addresses)
    ports = [{"containerPort": TARGET, "hostPort": PORT},
             {"containerPort": TARGET, "hostPort": PORT + 1, "protocol": "UDP", "hostIP": "192.0.2.1"},
             {"containerPort": TARGET, "hostPort": PORT + 2, "hostIP": "192.0.2.77"}]
    made["spec"] = {"containers": [{"name": "main", "ports": ports}]}
    lab.one.put(made)
    try:
        assert ask(lab, 0)["name"] == ask(lab, 1)["name"] == "web"
        assert ask(lab, 0, "udp", PORT + 1)["name"] == "web"
        assert ask(lab, 1, "udp", PORT + 1, timeout=0.3)["result"] != "ok", "another address"
        assert ask(lab, 0, port=PORT + 2)["result"] == "refused", "not an address of the node"
        warnings = " ".join(lab.one.status()["warnings"])
        assert (f"host port default/web:192.0.2.77:{PORT + 2}/TCP: the node and the pod have no such "
                "address") in warnings, warnings
        # A pod in the host's network has its ports itself.
        made["spec"]["hostNetwork"] = True
        lab.one.put(made)
        assert ask(lab, 0)["result"] == "refused"
    finally:
        lab.one.api("DELETE", "/v1/objects/Pod/default/web")


def test_host_ports_are_listed(lab, pods):
    pod = pods("web", {}, {"hostPort": PORT + 1, "protocol": "udp"})
    for _ in range(3):
        assert ask(lab, 0)["name"] == "web"
    assert ask(lab, 1)["name"] == "web"
    listed = [row for row in lab.one.api("GET", "/v1/services") if row["type"] == "HostPort"]
    assert [(row["namespace"], row["name"], row["connections"]) for row in listed] == [
        ("default", "web", 4)]
    assert listed[0] == lab.one.api("GET", "/v1/services/default/web")
    fronts = {(front["address"], front["port"], front["protocol"]): front
              for front in listed[0]["frontends"]}
    front = fronts[lab.address(1), PORT, "TCP"]
    assert front["kind"] == "HostPort" and ("127.0.0.1", PORT + 1, "UDP") in fronts
    assert [(end["address"], end["port"], end["pod"], end["connections"])
            for end in front["backends"]] == [(pod.v6, TARGET, "default/web", 1)]
    shown = lab.one.cli("service", "list").stdout
    assert any(line.split()[:2] == ["default/web", "HostPort"] for line in shown.splitlines()), shown
    shown = lab.one.cli("service", "explain", "--from", "default/other", "--to",
                        f"{lab.address(0)}:{PORT}").stdout
    assert shown.startswith("connects: HostPort address of Pod default/web"), shown


def test_conflicts_are_named_and_end(lab, pods):
    """Between pods, and with a node port."""
    def warnings():
        return " ".join(lab.one.status()["warnings"])

    one = pods("first", {"hostPort": 31000})
    pods("second", {"hostPort": 31000}, {"hostPort": 31001})
    assert ask(lab, 0, port=31000)["name"] == "first"
    assert ask(lab, 0, port=31001)["name"] == "second", "the rest works"
    assert "hostPort of Pod default/second: " in warnings()
    assert "port 31000/TCP belongs to Pod default/first" in warnings()
    one.cni("DEL")
    wait_for(lambda: ask(lab, 0, port=31000).get("name") == "second", "its turn")
    assert "hostPort" not in warnings()
    ports = [{"name": "web", "port": 80, "protocol": "TCP", "nodePort": 31001}]
    lab.one.put(service_object("np", "default", ["10.96.3.3"], ports, type="NodePort"),
                slice_object("np-x", "default", "np", "IPv4",
                             [{"name": "web", "port": TARGET, "protocol": "TCP"}], [one.v4]))
    try:
        third = pods("third", {"hostPort": 31002})
        assert ask(lab, 0, port=31002)["name"] == third.pod_name
        wait_for(lambda: "port 31001/TCP belongs to Service default/np" in warnings(), "the conflict")
    finally:
        for kind, name in (("Service", "np"), ("EndpointSlice", "np-x")):
            lab.one.api("DELETE", f"/v1/objects/{kind}/default/{name}")
    wait_for(lambda: ask(lab, 0, port=31001).get("name") == "second", "its own port again")


def test_host_ports_outlive_the_agent(lab, pods):
    pods("web", {})
    assert lab.client.call("hold", id="h", addr=lab.address(0), port=PORT)["name"] == "web"
    lab.one.kill()
    assert ask(lab, 0)["name"] == "web"
    lab.one.start()
    assert ask(lab, 0)["name"] == "web"
    assert lab.client.call("ping", id="h")["result"] == "ok"
    lab.client.call("close", id="h")


@pytest.mark.parametrize("mapping, text", [
    ({"protocol": "icmp"}, "is not tcp, udp or sctp"), ({"hostIP": "here"}, "is not an address"),
    ({"containerPort": 0}, "containerPort"), ({"hostPort": 70000}, "hostPort")])
def test_wrong_mappings_are_refused(lab, pods, mapping, text):
    with pytest.raises(AssertionError, match=text):
        pods("wrong", mapping)
