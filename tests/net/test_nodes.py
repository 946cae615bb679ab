# SPDX-License-Identifier: Apache-2.0
"""Several nodes, each with an agent of its own: routes to each other's pods."""

import json

import pytest

import lan
from tendril import pod_object, policy_object, wait_for

PORT = 8080
PROTOCOL = "85"


@pytest.fixture
def three():
    made = lan.Nodes(3, "--auto-direct-node-routes=true")
    yield made
    made.close()


@pytest.fixture
def two():
    made = lan.Nodes(2, "--auto-direct-node-routes=true")
    yield made
    made.close()


def routes(node):
    """{destination: gateway} of the routes that the agent made."""
    found = {}
    for family in ("-4", "-6"):
        text = node.netns.ip(family, "-j", "route", "show", "proto", PROTOCOL).stdout
        for route in json.loads(text or "[]"):
            found[route["dst"]] = route["gateway"]
    return found


def wanted(number):
    v4, v6 = lan.Lan.addresses(number)
    cidr4, cidr6 = lan.Nodes.cidrs(number)
    return {cidr4: v4, cidr6: v6}


def problems(node):
    return [text for text in node.status()["failures"] if text.startswith("Node ")]


def test_pods_of_three_nodes_reach_each_other(three):
    pods = [node.pod(f"p{number}") for number, node in enumerate(three.all, 1)]
    for pod in pods:
        pod.serve(tcp=[PORT], udp=[PORT])
    for client in pods:
        for server in pods:
            for address in server.addresses:
                assert client.connect(address, PORT)["result"] == "ok", (client, address)
                assert client.udp(address, PORT)["result"] == "ok"


def test_policy_knows_pods_of_other_nodes(two):
    client, other = two.all[0].pod("client"), two.all[0].pod("other")
    server = two.all[1].pod("server")
    server.serve(tcp=[PORT])
    two.tell(None, pod_object("client", labels={"app": "client"}, addresses=client.addresses),
             pod_object("other", labels={"app": "other"}, addresses=other.addresses),
             pod_object("server", labels={"app": "server"}, addresses=server.addresses),
             policy_object("server", "default", {"matchLabels": {"app": "server"}}, ingress=[
                 {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]))
    for address in server.addresses:
        wait_for(lambda at=address: other.connect(at, PORT, timeout=0.2)["result"] == "timeout",
                 "the policy")
        assert client.connect(address, PORT)["result"] == "ok"


def test_nodes_come_go_and_change(two):
    first = two.all[0]
    assert routes(first) == wanted(2)
    changed = two.objects()
    changed[1] = lan.node_object("n2", lan.Lan.addresses(7), lan.Nodes.cidrs(2))
    two.tell(changed)
    moved = dict(zip(lan.Nodes.cidrs(2), lan.Lan.addresses(7)))
    wait_for(lambda: routes(first) == moved, "the new address")
    changed[1] = lan.node_object("n2", lan.Lan.addresses(7), lan.Nodes.cidrs(9))
    two.tell(changed)
    moved = dict(zip(lan.Nodes.cidrs(9), lan.Lan.addresses(7)))
    wait_for(lambda: routes(first) == moved, "the new range")
    two.tell(changed[:1])
    wait_for(lambda: routes(first) == {}, "the node to be gone")
    two.tell()
    wait_for(lambda: routes(first) == wanted(2), "the node to be back")


def test_a_restart_removes_routes_of_nodes_that_went_meanwhile(two):
    first = two.all[0]
    first.kill()
    assert routes(first) == wanted(2)
    first.write("nodes.json", two.objects()[0])
    first.start()
    wait_for(lambda: routes(first) == {}, "the route to go")


def test_routes_stay_while_objects_are_not_known(two):
    first = two.all[0]
    first.kill()
    (first.objects / "nodes.json").write_text("{")
    (first.run_dir / "accepted" / "nodes.json").unlink()
    first.start()
    assert first.status()["warnings"] and routes(first) == wanted(2)
    first.write("nodes.json", two.objects()[0])
    wait_for(lambda: routes(first) == {}, "the route to go")


def test_routes_that_others_remove_come_back(two):
    first = two.all[0]
    for cidr in lan.Nodes.cidrs(2):
        first.netns.ip("route", "del", cidr)
    wait_for(lambda: routes(first) == wanted(2), "the routes to be back")
    first.netns.ip("link", "set", "eth0", "down")
    wait_for(lambda: not any("." in dst for dst in routes(first)), "the kernel to drop them")
    first.netns.ip("link", "set", "eth0", "up")
    first.netns.ip("addr", "replace", f"{lan.Lan.addresses(1)[1]}/64", "dev", "eth0", "nodad")
    wait_for(lambda: routes(first) == wanted(2), "the routes to be back")


def test_routes_of_others_are_left_alone_and_named(two):
    first = two.all[0]
    cidr = "10.200.3.0/24"
    first.netns.ip("route", "add", cidr, "via", "192.0.2.2")
    two.tell(two.objects() + [lan.node_object("n3", lan.Lan.addresses(3), lan.Nodes.cidrs(3))])
    wait_for(lambda: problems(first), "the problem to be told")
    assert problems(first) == [f"Node n3: there is another route to {cidr}"]
    assert first.netns.ip("route", "show", cidr).stdout.split()[2] == "192.0.2.2"
    assert lan.Nodes.cidrs(3)[1] in routes(first)
    listed = first.cli("node", "list", check=True).stdout
    assert "there is another route" in listed and "direct" in listed and "local" in listed
    first.netns.ip("route", "del", cidr)
    wait_for(lambda: not problems(first), "the route to be ours")
    assert routes(first)[cidr] == "192.0.2.3"


@pytest.mark.parametrize("name, addresses, cidrs, text", [
    ("own range", 3, ("10.200.1.0/25",), "overlaps this node's own range"),
    ("twice", 3, lan.Nodes.cidrs(2), "its range is that of node n2"),
    ("part", 3, ("10.200.2.128/25", "fd00:200:0:2::80/121"),
     "10.200.2.128/25 overlaps 10.200.2.0/24 of node n2"),
    ("more", 3, ("10.200.2.0/23",), "10.200.2.0/23 overlaps 10.200.2.0/24 of node n2"),
    ("no address", None, ("10.200.3.0/24",), "no InternalIP"),
    ("not on the link", "198.51.100.3", ("10.200.3.0/24",), "route to 10.200.3.0/24 by 198.51.100.3"),
])
def test_what_cannot_be_is_named_and_the_rest_works(two, name, addresses, cidrs, text):
    first = two.all[0]
    addresses = (lan.Lan.addresses(addresses) if isinstance(addresses, int)
                 else [addresses] if addresses else [])
    two.tell(two.objects() + [lan.node_object("n3", addresses, cidrs)])
    wait_for(lambda: problems(first), "the problem to be told")
    assert problems(first)[0].startswith("Node n3: ") and text in problems(first)[0]
    assert wanted(2).items() <= routes(first).items()
    two.tell()
    wait_for(lambda: not problems(first), "the problem to be over")


def test_of_two_nodes_that_claim_a_range_the_later_is_refused(two):
    """Whatever their names, and also by an agent that starts later."""
    first = two.all[0]
    cidr4, cidr6 = lan.Nodes.cidrs(2)
    two.tell([lan.node_object("a", lan.Lan.addresses(3), (cidr4, cidr6))] + two.objects())
    said = ["Node a: its range is that of node n2"] * 2
    wait_for(lambda: problems(first) == said, "the problem to be told")
    assert routes(first) == wanted(2)
    two.tell([lan.node_object("a", lan.Lan.addresses(3), (cidr4, cidr6)),
              lan.node_object("b", lan.Lan.addresses(4), ("10.200.4.0/24",))] + two.objects())
    wait_for(lambda: "10.200.4.0/24" in routes(first), "another change")
    assert problems(first) == said and wanted(2).items() <= routes(first).items()
    two.tell([lan.node_object("a", lan.Lan.addresses(3), (cidr4, cidr6))] + two.objects())
    wait_for(lambda: routes(first) == wanted(2), "its end")
    first.stop()
    first.start()
    wait_for(lambda: problems(first) == said, "the problem to be told again")
    assert routes(first) == wanted(2)


def test_a_refused_route_is_tried_again_when_an_address_comes(two):
    first = two.all[0]
    two.tell(two.objects() + [lan.node_object("n3", ["198.51.100.3"], ["10.200.3.0/24"])])
    wait_for(lambda: problems(first), "the problem to be told")
    first.netns.ip("addr", "add", "198.51.100.1/24", "dev", "eth0")
    wait_for(lambda: routes(first).get("10.200.3.0/24") == "198.51.100.3", "the route")
    assert not problems(first)


def test_cleanup_removes_them_and_without_the_setting_there_are_none(two):
    first = two.all[0]
    first.stop()
    first.netns.run(*[str(word) for word in first.argv("--cleanup")[2:]])
    assert routes(first) == {}
    first.agent_args = []
    first.start()
    first.wait_object("Node", "", "n2")
    assert routes(first) == {} and not problems(first)
