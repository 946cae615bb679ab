# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy over real pods: each case is real connections, IPv4 and IPv6, before and after."""

import json
import select
import subprocess
import time

import pytest

from tendril import BUILD, namespace_object, pod_object, policy_object, run, wait_for

PORT = 8080
OTHER = 8081


class World:
    """web and cart in shop, probe in ops, all serving two ports over TCP and UDP."""

    def __init__(self, node):
        self.node = node
        self.labels = {"shop/web": {"app": "web"}, "shop/cart": {"app": "cart"},
                       "ops/probe": {"app": "probe"}}
        self.pods = {}
        for key, labels in self.labels.items():
            namespace, name = key.split("/")
            self.pods[key] = node.pod(name, namespace, labels=labels)
            self.pods[key].serve(tcp=[PORT, OTHER], udp=[PORT, OTHER])
        self.web, self.cart, self.probe = self.pods.values()
        node.put(namespace_object("shop", {"team": "shop"}), namespace_object("ops"),
                 *[self.pod_object(key) for key in self.pods])
        self.policies = []

    def pod_object(self, key, **more):
        namespace, name = key.split("/")
        labels = more.pop("labels", self.labels[key])
        return pod_object(name, namespace, labels, self.pods[key].addresses, **more)

    def apply(self, *policies):
        self.node.put(*policies)
        self.policies += policies

    def clear(self):
        for policy in self.policies:
            meta = policy["metadata"]
            self.node.api("DELETE",
                          f"/v1/objects/NetworkPolicy/{meta['namespace']}/{meta['name']}")
        self.policies = []

    def reaches(self, source, target, port=PORT, proto="tcp"):
        return source.reaches(target, port, proto)

    def drops(self, source, target, port=PORT, proto="tcp"):
        return source.is_dropped(target, port, proto)


@pytest.fixture(scope="module")
def module_world(shared_node):
    return World(shared_node)


@pytest.fixture
def world(module_world):
    yield module_world
    module_world.clear()
    module_world.node.put(*[module_world.pod_object(key) for key in module_world.pods])


def ingress(name="policy", pods=None, **spec):
    if pods is None:
        pods = {"matchLabels": {"app": "cart"}}
    return policy_object(name, "shop", pods, **spec)


def test_everyone_reaches_everyone_without_policies(world):
    for source in world.pods.values():
        for target in world.pods.values():
            assert world.reaches(source, target)
            assert world.reaches(source, target, proto="udp")


def test_selected_pod_without_rules_is_closed(world):
    world.apply(ingress())
    assert world.drops(world.web, world.cart)
    assert world.drops(world.web, world.cart, proto="udp")
    assert world.reaches(world.cart, world.web), "egress is not isolated, replies pass"
    assert world.reaches(world.cart, world.web, proto="udp")
    assert world.reaches(world.cart, world.cart), "a pod reaches itself"


def test_empty_rule_opens_and_wins_over_another_policy(world):
    world.apply(ingress("closed"), ingress("open", ingress=[{}]))
    assert world.reaches(world.web, world.cart)
    assert world.reaches(world.probe, world.cart, proto="udp")


def test_pod_selector_means_own_namespace(world):
    world.apply(ingress(ingress=[{"from": [{"podSelector": {}}]}]))
    assert world.reaches(world.web, world.cart)
    assert world.drops(world.probe, world.cart)


def test_namespace_selector_means_all_its_pods(world):
    world.apply(ingress(ingress=[{"from": [{"namespaceSelector": {
        "matchLabels": {"kubernetes.io/metadata.name": "ops"}}}]}]))
    assert world.reaches(world.probe, world.cart)
    assert world.drops(world.web, world.cart)


def test_both_selectors_in_one_peer_are_anded(world):
    peer = {"namespaceSelector": {"matchLabels": {"team": "shop"}},
            "podSelector": {"matchLabels": {"app": "probe"}}}
    world.apply(ingress(ingress=[{"from": [peer]}]))
    assert world.drops(world.web, world.cart)
    assert world.drops(world.probe, world.cart)


def test_two_peers_are_ored(world):
    world.apply(ingress(ingress=[{"from": [
        {"namespaceSelector": {"matchLabels": {"team": "nobody"}}},
        {"podSelector": {"matchLabels": {"app": "web"}}}]}]))
    assert world.reaches(world.web, world.cart)
    assert world.drops(world.probe, world.cart)


def test_port_and_protocol(world):
    world.apply(ingress(ingress=[{"ports": [{"port": PORT}]}]))
    assert world.reaches(world.web, world.cart, PORT)
    assert world.drops(world.web, world.cart, OTHER)
    assert world.drops(world.web, world.cart, PORT, "udp"), "protocol defaults to TCP"


def test_port_range(world):
    world.apply(ingress(ingress=[{"ports": [{"port": OTHER, "endPort": OTHER + 10}]}]))
    assert world.drops(world.web, world.cart, PORT)
    assert world.reaches(world.web, world.cart, OTHER)


def test_named_port_is_the_target_pods_own(world):
    world.node.put(world.pod_object("shop/cart", ports=[("http", OTHER, "TCP")]))
    world.apply(ingress(ingress=[{"ports": [{"port": "http"}]}]))
    assert world.reaches(world.web, world.cart, OTHER)
    assert world.drops(world.web, world.cart, PORT)


def test_ip_block_with_except_covers_pods(world):
    v4, v6 = world.web.v4, world.web.v6
    blocks = [{"ipBlock": {"cidr": "10.200.0.0/24", "except": [f"{v4}/32"]}},
              {"ipBlock": {"cidr": "fd00:200::/112", "except": [f"{v6}/128"]}}]
    world.apply(ingress(ingress=[{"from": blocks}]))
    assert world.drops(world.web, world.cart)
    assert world.reaches(world.probe, world.cart)
    world.apply(ingress("also", ingress=[{"from": [{"ipBlock": {"cidr": f"{v4}/32"}},
                                                   {"ipBlock": {"cidr": f"{v6}/128"}}]}]))
    assert world.reaches(world.web, world.cart), "an except carves its own entry only"


def test_egress(world):
    world.apply(ingress("egress", {"matchLabels": {"app": "web"}}, policyTypes=["Egress"],
                        egress=[{"to": [{"podSelector": {"matchLabels": {"app": "cart"}}}],
                                 "ports": [{"port": PORT}, {"port": PORT, "protocol": "UDP"}]}]))
    assert world.reaches(world.web, world.cart)
    assert world.reaches(world.web, world.cart, proto="udp")
    assert world.drops(world.web, world.cart, OTHER)
    assert world.drops(world.web, world.probe)
    assert world.reaches(world.probe, world.web), "ingress is not isolated, replies pass"
    assert world.reaches(world.probe, world.web, proto="udp")


def test_both_ends_isolated_and_allowed(world):
    allow = [{"podSelector": {"matchLabels": {"app": "web"}}}]
    world.apply(ingress("all", {}, policyTypes=["Ingress", "Egress"],
                        ingress=[{"from": allow}], egress=[{"to": [{"podSelector": {}}]}]))
    for proto in ("tcp", "udp"):
        assert world.reaches(world.web, world.cart, proto=proto)
        assert world.drops(world.cart, world.web, proto=proto)
        assert world.drops(world.probe, world.cart, proto=proto)


def test_the_node_reaches_its_isolated_pods(world):
    world.apply(ingress("all", {}, policyTypes=["Ingress", "Egress"]))
    for addr in world.cart.addresses:
        world.node.netns.run("python3", "-c", "import socket, sys\n"
                             f"s = socket.create_connection(('{addr}', {PORT}), 10)\n"
                             "assert s.recv(16) == b'cart\\n'")
        world.node.netns.run("ping", "-c1", "-W10", addr)
    assert world.drops(world.web, world.cart)


def ping(source, target, seconds=10):
    return [source.node.netns.run("nsenter", f"--net={source.path}", "ping", "-c1", f"-W{seconds}",
                                  addr, check=False).returncode == 0 for addr in target.addresses]


def test_ping_is_policy_too(world):
    assert ping(world.web, world.cart) == [True, True]
    world.apply(ingress(ingress=[{"ports": [{"port": PORT}]}]))
    assert ping(world.web, world.cart, 1) == [False, False]
    assert ping(world.cart, world.web) == [True, True], "its own echo is answered"


def live_connections(world, source, target):
    for index, addr in enumerate(target.addresses):
        assert source.call("hold", id=f"live{index}", addr=addr, port=PORT)["result"] == "ok"
        assert source.call("ping", id=f"live{index}")["result"] == "ok"
    return [f"live{index}" for index in range(len(target.addresses))]


@pytest.mark.parametrize("change", ["policy", "pod label", "namespace label"])
def test_a_change_reaches_live_connections(world, change):
    """100 ms after the change is accepted, no byte passes any more."""
    world.apply(ingress(ingress=[{"from": [{
        "namespaceSelector": {"matchLabels": {"team": "shop"}},
        "podSelector": {"matchLabels": {"app": "web"}}}]}]))
    kept = live_connections(world, world.web, world.cart)
    if change == "policy":
        world.node.put(ingress())
    elif change == "pod label":
        world.node.put(world.pod_object("shop/web", labels={"app": "stranger"}))
    else:
        world.node.put(namespace_object("shop", {"team": "other"}))
    time.sleep(0.1)  # the promise under test, not a wait
    for key in kept:
        assert world.web.call("ping", id=key, timeout=0.3)["result"] == "timeout"
        world.web.call("close", id=key)
    world.node.put(namespace_object("shop", {"team": "shop"}))


def map_entries(node, name):
    dump = json.loads(run("bpftool", "-j", "map", "dump", "pinned",
                          node.bpffs / "maps" / name).stdout)
    return {(" ".join(entry["key"]), " ".join(entry["value"])) for entry in dump}


def test_a_label_among_10000_policies_reaches_live_connections_and_touches_little(world):
    node = world.node
    others = [policy_object(f"p{i}", f"n{i % 100}", {"matchLabels": {"app": "web"}},
                            ingress=[{"from": [{"podSelector": {}}], "ports": [{"port": 1 + i}]}])
              for i in range(10000)]
    node.write("many.json", *others)
    wait_for(lambda: node.status()["policies"] >= 10000, "the policies", timeout=20)
    try:
        world.apply(ingress(ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]))
        kept = live_connections(world, world.web, world.cart)
        before = {name: map_entries(node, name) for name in ("ipcache_map", "policy_map")}
        node.put(world.pod_object("shop/web", labels={"app": "stranger"}))
        time.sleep(0.1)  # the promise under test, not a wait
        for key in kept:
            assert world.web.call("ping", id=key, timeout=0.3)["result"] == "timeout"
            world.web.call("close", id=key)
        # Each address is somebody else now, and the peer that is gone has no entry.
        changed = map_entries(node, "ipcache_map") ^ before["ipcache_map"]
        assert len(changed) == 2 * len(world.web.addresses)
        assert len(map_entries(node, "policy_map") ^ before["policy_map"]) == 1
    finally:
        (node.objects / "many.json").unlink()
        wait_for(lambda: node.status()["policies"] < 10000, "their end", timeout=20)


def test_a_live_connection_survives_an_unrelated_change(world):
    kept = live_connections(world, world.web, world.cart)
    world.apply(ingress("allowing", ingress=[{"from": [{"podSelector": {}}]}]))
    world.apply(policy_object("elsewhere", "ops", {}))
    for key in kept:
        assert world.web.call("ping", id=key)["result"] == "ok"
        world.web.call("close", id=key)


def test_first_packet_of_a_new_pod_is_under_policy(node):
    node.put(policy_object("closed", "default", {}, policyTypes=["Ingress", "Egress"]))
    first = node.pod("first")
    first.serve(tcp=[PORT])
    second = node.pod("second")
    for addr in first.addresses:
        assert second.connect(addr, PORT, timeout=0.2)["result"] == "timeout"


def test_an_address_used_again_brings_no_rights(node):
    """The pod that was allowed is gone; the one that got its address is somebody else."""
    node.put(policy_object("from-friend", "default", {"matchLabels": {"app": "server"}},
                           ingress=[{"from": [{"podSelector": {
                               "matchLabels": {"app": "friend"}}}]}]))
    server = node.pod("server", labels={"app": "server"})
    server.serve(tcp=[PORT])
    friend = node.pod("friend", labels={"app": "friend"})
    assert friend.connect(server.v4, PORT)["result"] == "ok"
    address = friend.v4
    friend.cni("DEL")
    stranger = node.pod("stranger", labels={"app": "x"}, conf={
        "runtimeConfig": {"ips": [f"{address}/24"]}, "capabilities": {"ips": True}})
    assert stranger.v4 == address
    assert stranger.connect(server.v4, PORT, timeout=0.2)["result"] == "timeout"


def test_drop_is_reported_with_both_names(world):
    world.apply(ingress())
    monitor = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "monitor",
                                "--type", "drop"], stdout=subprocess.PIPE, text=True)
    try:
        # The first drops may be over before the monitor is being served.
        wait_for(lambda: world.drops(world.web, world.cart)
                 and select.select([monitor.stdout], [], [], 0)[0], "a line of the monitor")
        line = monitor.stdout.readline()
        assert f"shop/web ({world.web.v4})" in line or f"shop/web ({world.web.v6})" in line
        assert "-> shop/cart (" in line and f" port {PORT} " in line
        assert "INGRESS_DENIED: ingress policy of the receiver does not allow it" in line
    finally:
        monitor.kill()
        monitor.wait()
        monitor.stdout.close()
