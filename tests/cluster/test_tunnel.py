# SPDX-License-Identifier: Apache-2.0
"""The real cluster with a VXLAN tunnel between three nodes, to which its running agents are switched.
The last module, for the tunnel stays.

    old-1, old-2, old-3: pods, one a node, that were there before;  new-1, new-2, new-3: made in the tunnel
"""

import json

import pytest

from conftest import wait_for
from test_cluster import get, policy
from test_services import HTTP, UDP, Net, all_of, netexec, service

NODES = (1, 2, 3)
OLD, NEW = ([f"{age}-{node}" for node in NODES] for age in ("old", "new"))
CONFIG = "/run/tendril-config/agent.json"
DEVICE = "tendril_vxlan"


def reach_each_other(net, names):
    for source in names:
        for name in names:
            assert net.answers(source, net.address[name], HTTP) == {name}
            assert net.answers(source, net.address[name], UDP, "udp") == {name}


def switch(cluster):
    """All agents at once."""
    for node in NODES:
        config = json.loads(cluster.run(node, "cat", CONFIG).stdout)
        del config["autoDirectNodeRoutes"]
        cluster.write(node, CONFIG, json.dumps(config | {"routingMode": "tunnel"}))
    cluster.kubectl("-n", "kube-system", "delete", "pod", "-l", "app.kubernetes.io/name=tendril")
    cluster.kubectl("-n", "kube-system", "rollout", "status", "ds/tendril", "--timeout=120s")


def route_to(cluster, node, address):
    return json.loads(cluster.run(node, "ip", "-j", "route", "get", address).stdout)[0]


@pytest.fixture(scope="module")
def net(cluster):
    made = Net(cluster)
    made.make(*(netexec(name, name[-1], "old") for name in OLD))
    reach_each_other(made, OLD)
    assert route_to(cluster, 1, made.address["old-3"])["dev"] == "eth0"
    switch(cluster)
    made.make(*(netexec(name, name[-1], "new") for name in NEW))
    yield made
    made.forget(*OLD, *NEW)


def packets(cluster, node):
    shown = json.loads(cluster.run(node, "ip", "-j", "-s", "link", "show", DEVICE).stdout)[0]
    return shown["stats64"]["tx"]["packets"]


def test_pods_reach_each_other_through_the_tunnel(net):
    """Those that were there before, too, and the nodes reach all of them."""
    before = [packets(net.cluster, node) for node in NODES]
    reach_each_other(net, OLD + NEW)
    for node in NODES:
        assert packets(net.cluster, node) > before[node - 1] + 10
        for name in OLD + NEW:
            assert (route_to(net.cluster, node, net.address[name])["dev"] == DEVICE) == (name[-1] != str(node))
            done = net.cluster.run(node, "curl", "-sS", "-m", "10", f"http://{net.address[name]}:{HTTP}/hostname",
                                   check=False)
            assert done.stdout == name, done.stderr
    assert all(net.cluster.status(node)["failures"] == [] for node in NODES)


def test_services_and_names_through_the_tunnel(net):
    """Backends on all nodes, from all nodes and from outside by each node's port."""
    net.cluster.apply(service("tunnelled", "new", type="NodePort"))
    try:
        ip, at = net.ip("tunnelled"), net.node_port("tunnelled")
        for source in OLD + NEW:
            for protocol in ("http", "udp"):
                all_of(net, source, ip, 80, NEW, protocol)
                for node in NODES:
                    all_of(net, source, f"172.31.77.1{node}", net.node_port("tunnelled", protocol), NEW, protocol)
            assert net.answers(source, "tunnelled.default.svc.cluster.local", 80, tries=4) <= set(NEW)
        for node in NODES:
            seen = set()
            wait_for(lambda node=node, seen=seen: seen.add(net.outside(f"172.31.77.1{node}", at)) or
                     seen >= set(NEW), f"all backends by the port of node {node}")
    finally:
        net.cluster.delete("service/tunnelled")


def test_policy_knows_pods_behind_the_tunnel(net):
    """Of all pods one is let in, and then another, by their labels."""
    cluster, target = net.cluster, net.address["new-1"]

    def who_gets_in():
        return {name for name in OLD + NEW if get(cluster, name, f"http://{target}:{HTTP}/hostname") == "new-1"}
    for chosen in ("old-3", "new-2"):
        cluster.apply(policy("tunnelled", "new", [{"from": [
            {"podSelector": {"matchLabels": {"name": chosen}}}]}]))
        wait_for(lambda chosen=chosen: who_gets_in() == {"new-1", chosen}, f"{chosen} alone to get in")
    cluster.delete("networkpolicy/tunnelled")
    wait_for(lambda: who_gets_in() == {*OLD, *NEW}, "everybody to get in")


@pytest.mark.parametrize("names", [("new-1", "new-3"), ("old-1", "new-3"), ("old-2", "old-3")])
def test_whole_packets_fit_and_larger_ones_are_cut(net, names):
    """New pods have room for the tunnel's headers; those of before still have packets as large as the
    network's between the nodes."""
    source, target = names
    address, size = net.address[target], 5_000_000
    if source in NEW:
        assert net.shell(source, "cat /sys/class/net/eth0/mtu").strip() == "1450"
    net.shell(target, "rm -f /tmp/got; (nc -l 7000 >/tmp/got; touch /tmp/got.done) >/dev/null 2>&1 &")
    wait_for(lambda: ":7000" in net.shell(target, "ss -Hltn"), "the listener")
    net.shell(source, f"head -c {size} /dev/zero | nc -N -w 20 {address} 7000")
    wait_for(lambda: net.shell(target, "stat -c %s /tmp/got").strip() == str(size), "all of it")
    for length in (1390, 1412, 1460, 2000):
        wait_for(lambda length=length: net.dial(source, address, UDP, "udp", "echo " + "x" * length)[0] ==
                 ["x" * length], f"a datagram of {length}")
