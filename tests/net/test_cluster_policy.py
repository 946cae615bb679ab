# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicy over real pods: connections over IPv4 and IPv6, new ones and live ones.

    shop/web, shop/cart, ops/probe        node n1                 outside
    10.200.0.x   ===veth===   tendril0, uplink 198.51.100.1   ===veth===   198.51.100.2, .10 (n2)
"""

import concurrent.futures
import json
import subprocess
import time

import pytest

from tendril import (HARNESS, Namespace, cluster_policy_object, namespace_object, node_object,
                     pod_object, policy_object, wait_for)

PORT = 8080
OTHER = 8081
ADDRESSES = {"node": ["198.51.100.1", "2001:db8::1"],
             "n2": ["198.51.100.10", "2001:db8::10"],
             "outside": ["198.51.100.2", "2001:db8::2"]}
OUTSIDE = ["198.51.100.0/29", "2001:db8::/125"]
EVERYONE = {"namespaces": {}}
SHOP = {"namespaces": {"matchLabels": {"team": "shop"}}}
OPS = {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}


def pods(app):
    return {"pods": {"podSelector": {"matchLabels": {"app": app}}}}


def tcp(port):
    return [{"tcp": {"destinationPort": {"number": port}}}]


class Listener:
    """Serves in a namespace that is no pod."""

    def __init__(self, netns, name):
        self.process = subprocess.Popen(netns.enter("python3", HARNESS / "podproc.py"),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.call(op="serve", name=name, tcp=[PORT, OTHER], udp=[PORT])

    def call(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class World:
    def __init__(self, node):
        self.node = node
        self.labels = {"shop/web": {"app": "web"}, "shop/cart": {"app": "cart"},
                       "ops/probe": {"app": "probe"}}
        self.ports = {}
        self.pods = {}
        self.policies = set()
        for key, labels in self.labels.items():
            namespace, name = key.split("/")
            self.pods[name] = node.pod(name, namespace, labels=labels)
            self.pods[name].serve(tcp=[PORT, OTHER], udp=[PORT, OTHER])
        self.addresses = dict(ADDRESSES, **{n: pod.addresses for n, pod in self.pods.items()})
        self.outside = Namespace(f"{node.name}-outside")
        self.wire()
        self.listeners = [Listener(node.netns, "node"), Listener(self.outside, "outside")]
        self.reset()
        # The uplink resolves its first neighbours.
        for name in ("outside", "n2"):
            for addr in self.addresses[name]:
                wait_for(lambda: self.pods["web"].connect(addr, PORT)["result"] == "ok", name)

    def wire(self):
        self.node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0",
                           "netns", self.outside.name)
        for netns, device, names in ((self.node.netns, "uplink", ["node"]),
                                     (self.outside, "eth0", ["outside", "n2"])):
            for addr in sum((ADDRESSES[name] for name in names), []):
                length = "/64" if ":" in addr else "/24"
                netns.ip("addr", "add", addr + length, "dev", device,
                         *(["nodad"] if ":" in addr else []))
            netns.ip("link", "set", device, "up")
        self.outside.ip("route", "add", self.node.cidrs[0], "via", ADDRESSES["node"][0])
        self.outside.ip("-6", "route", "add", self.node.cidrs[1], "via", ADDRESSES["node"][1])

    def reset(self):
        for kind, namespace, name in self.policies:
            self.node.api("DELETE", f"/v1/objects/{kind}/{namespace}/{name}")
        self.policies = set()
        self.node.put(namespace_object("shop", {"team": "shop"}), namespace_object("ops"),
                      node_object("n1", {"role": "worker"}, ADDRESSES["node"]),
                      node_object("n2", {"role": "control"}, ADDRESSES["n2"]),
                      *[self.pod_object(key) for key in self.labels])

    def pod_object(self, key, **more):
        namespace, name = key.split("/")
        return pod_object(name, namespace, more.pop("labels", self.labels[key]),
                          self.pods[name].addresses, **more)

    def apply(self, *policies):
        self.node.put(*policies)
        self.policies |= {(p["kind"], p["metadata"].get("namespace", "-"), p["metadata"]["name"])
                          for p in policies}

    def cluster(self, name, tier, priority, **spec):
        self.apply(cluster_policy_object(name, tier, priority, **spec))

    def close(self):
        for listener in self.listeners:
            listener.close()
        self.outside.delete()

    # ---- probing ----

    def probe(self, source, target, port, proto):
        """Whether source reaches target; both families must agree."""
        call = self.pods[source].connect if proto == "tcp" else self.pods[source].udp
        results = {call(addr, port, timeout=0.25)["result"] for addr in self.addresses[target]}
        assert results in ({"ok"}, {"timeout"}), f"{source} -> {target} {port}/{proto}: {results}"
        return results == {"ok"}

    def expect(self, text):
        """Lines "SOURCE TARGET [PORT/PROTO] yes|no"; each source probes on its own."""
        wanted = {}
        for line in text.strip().splitlines():
            source, target, *port, answer = line.split()
            number, proto = (port[0] if port else f"{PORT}/tcp").split("/")
            wanted[source, target, int(number), proto] = answer == "yes"

        def probes(source):
            return {key: self.probe(*key) for key in wanted if key[0] == source}

        got = {}
        with concurrent.futures.ThreadPoolExecutor() as threads:
            for part in threads.map(probes, self.pods):
                got.update(part)
        assert got == wanted


@pytest.fixture(scope="module")
def module_world(shared_node):
    world = World(shared_node)
    yield world
    world.close()


@pytest.fixture
def world(module_world):
    yield module_world
    module_world.reset()


def test_admin_deny_wins_over_a_policy_that_allows(world):
    world.apply(policy_object("open", "shop", {}, ingress=[{}]))
    world.cluster("p", "Admin", 1, subject=SHOP, ingress=[{"action": "Deny", "from": [OPS]}])
    world.expect("""
        probe cart no
        probe web 8080/udp no
        web cart yes
        web cart 8080/udp yes
        cart probe yes
        web outside yes""")


def test_admin_accept_wins_over_a_policy_that_isolates(world):
    world.apply(policy_object("closed", "shop", {}, policyTypes=["Ingress"]))
    world.cluster("p", "Admin", 1, subject=SHOP,
                  ingress=[{"action": "Accept", "from": [OPS], "protocols": tcp(PORT)}])
    world.expect("""
        probe cart yes
        probe cart 8081/tcp no
        probe cart 8080/udp no
        web cart no""")


def test_priorities_and_then_rules_in_order(world):
    world.cluster("late", "Admin", 10, subject=EVERYONE, ingress=[
        {"action": "Deny", "from": [EVERYONE]}])
    world.cluster("early", "Admin", 5, subject=pods("cart"), ingress=[
        {"action": "Deny", "from": [pods("web")], "protocols": tcp(OTHER)},
        {"action": "Accept", "from": [pods("web")]}])
    world.expect("""
        web cart yes
        web cart 8081/tcp no
        probe cart no
        cart web no""")
    world.cluster("early", "Admin", 20, subject=pods("cart"), ingress=[
        {"action": "Accept", "from": [pods("web")]}])
    world.expect("web cart no")


def test_pass_goes_to_policies_and_then_to_the_baseline_tier(world):
    world.cluster("p", "Admin", 1, subject=EVERYONE, ingress=[
        {"action": "Pass", "from": [SHOP]}, {"action": "Deny", "from": [EVERYONE]}])
    world.cluster("base", "Baseline", 1, subject=EVERYONE, ingress=[
        {"action": "Deny", "from": [pods("cart")]}])
    world.apply(policy_object("np", "shop", {"matchLabels": {"app": "cart"}},
                              ingress=[{"ports": [{"port": PORT}]}]))
    world.expect("""
        web cart yes
        web cart 8081/tcp no
        probe cart no
        cart web no
        web probe yes
        probe web no""")


def test_baseline_is_the_default_that_policies_override(world):
    world.cluster("base", "Baseline", 1, subject=EVERYONE,
                  ingress=[{"action": "Deny", "from": [EVERYONE]}])
    world.expect("web cart no\nprobe web 8080/udp no\nweb outside yes")
    world.apply(policy_object("np", "shop", {"matchLabels": {"app": "cart"}},
                              ingress=[{"from": [{"podSelector": {}}]}]))
    world.expect("web cart yes\nprobe cart no\nprobe web no")


def test_networks(world):
    world.cluster("p", "Admin", 1, subject=pods("web"), egress=[
        {"action": "Deny", "to": [{"networks": OUTSIDE}], "protocols": tcp(PORT)}])
    world.expect("""
        web outside no
        web outside 8081/tcp yes
        web outside 8080/udp yes
        web n2 yes
        cart outside yes""")
    world.cluster("p", "Admin", 1, subject=pods("web"), egress=[
        {"action": "Deny", "to": [{"networks": ["0.0.0.0/0", "::/0"]}]}])
    world.expect("web outside no\nweb cart no\nprobe web yes")


def test_nodes_by_their_labels(world):
    world.cluster("p", "Admin", 1, subject=EVERYONE, egress=[
        {"action": "Deny", "to": [{"nodes": {"matchLabels": {"role": "control"}}}]}])
    world.expect("web n2 no\nweb node yes\nprobe outside yes\ncart web yes")
    world.node.put(node_object("n1", {"role": "control"}, ADDRESSES["node"]),
                   node_object("n2", {"role": "worker"}, ADDRESSES["n2"]))
    world.expect("web n2 yes\nweb node no\nprobe outside yes")


def test_named_port_of_each_destination(world):
    world.node.put(world.pod_object("shop/cart", ports=[("web", PORT, "TCP")]),
                   world.pod_object("ops/probe", ports=[("web", OTHER, "TCP")]))
    world.cluster("p", "Admin", 1, subject=pods("web"), egress=[
        {"action": "Deny", "to": [EVERYONE], "protocols": [{"destinationNamedPort": "web"}]}])
    world.expect("""
        web cart no
        web cart 8081/tcp yes
        web probe yes
        web probe 8081/tcp no""")


def test_more_ports_than_an_entry_holds(world):
    ranges = [{"tcp": {"destinationPort": {"range": {"start": n, "end": n + 1}}}}
              for n in range(8000, 8100, 10)]
    world.cluster("p", "Admin", 1, subject=pods("cart"), ingress=[
        {"action": "Deny", "from": [EVERYONE], "protocols": ranges}])
    world.expect("""
        web cart no
        web cart 8081/tcp no
        web cart 8080/udp yes""")
    for addr in world.addresses["cart"]:
        world.node.netns.run("nsenter", f"--net={world.pods['web'].path}", "ping", "-c1", "-W1",
                             addr)


def test_the_node_and_the_pod_itself_are_not_denied(world):
    world.cluster("p", "Admin", 1, subject=EVERYONE,
                  ingress=[{"action": "Deny", "from": [EVERYONE]}],
                  egress=[{"action": "Deny", "to": [EVERYONE]}])
    world.expect("cart cart yes\nweb cart no\nweb outside yes")
    for addr in world.addresses["cart"]:
        world.node.netns.run("python3", "-c", "import socket\n"
                             f"s = socket.create_connection(('{addr}', {PORT}), 1)\n"
                             "assert s.recv(16) == b'cart\\n'")


@pytest.mark.parametrize("change", ["policy", "priority", "namespace label", "node label"])
def test_a_change_reaches_live_connections(world, change):
    """100 ms after the change is accepted, no byte passes any more."""
    target = "n2" if change == "node label" else "cart"
    accept = {"subject": EVERYONE, "ingress": [{"action": "Accept", "from": [SHOP]}]}
    world.cluster("accept", "Admin", 10, **accept)
    world.cluster("deny", "Admin", 20, subject=EVERYONE, ingress=[
        {"action": "Deny", "from": [pods("web")]}], egress=[
        {"action": "Deny", "to": [{"nodes": {"matchLabels": {"closed": "yes"}}}]}])
    web = world.pods["web"]
    kept = []
    for index, addr in enumerate(world.addresses[target]):
        assert web.call("hold", id=f"live{index}", addr=addr, port=PORT)["result"] == "ok"
        assert web.call("ping", id=f"live{index}")["result"] == "ok"
        kept.append(f"live{index}")
    if change == "policy":
        world.cluster("stop", "Admin", 5, subject=pods("cart"),
                      ingress=[{"action": "Deny", "from": [EVERYONE]}])
    elif change == "priority":
        world.cluster("accept", "Admin", 30, **accept)
    elif change == "namespace label":
        world.node.put(namespace_object("shop", {"team": "other"}))
    else:
        world.node.put(node_object("n2", {"closed": "yes"}, ADDRESSES["n2"]))
    time.sleep(0.1)  # the promise under test, not a wait
    for key in kept:
        assert web.call("ping", id=key, timeout=0.3)["result"] == "timeout"
        web.call("close", id=key)


def test_a_live_connection_survives_an_unrelated_policy(world):
    web = world.pods["web"]
    assert web.call("hold", id="live", addr=world.pods["cart"].v4, port=PORT)["result"] == "ok"
    world.cluster("p", "Admin", 1, subject=EVERYONE, ingress=[
        {"action": "Deny", "from": [OPS]}, {"action": "Accept", "from": [EVERYONE]}])
    assert web.call("ping", id="live")["result"] == "ok"
    web.call("close", id="live")


def test_files_and_views(world):
    policy = cluster_policy_object("filed", "Baseline", 7, subject=pods("cart"),
                                   ingress=[{"action": "Deny", "name": "closed",
                                             "from": [EVERYONE]}])
    world.node.write("cnp.json", policy)
    world.node.wait_object("ClusterNetworkPolicy", "", "filed")
    world.expect("web cart no\ncart web yes")
    listed, = [p for p in world.node.api("GET", "/v1/policies") if p["name"] == "filed"]
    assert (listed["tier"], listed["priority"], listed["selectedEndpoints"]) == ("Baseline", 7, 1)
    assert "/filed  Baseline 7" in world.node.cli("policy", "list").stdout
    assert "/filed" in world.node.cli("endpoint", "get", "shop/cart").stdout
    explained = world.node.cli("policy", "explain", "--from", "shop/web", "--to", "shop/cart",
                               "--port", str(PORT)).stdout
    assert "ClusterNetworkPolicy filed (Baseline tier, priority 7), ingress rule 0 \"closed\"" \
        in explained
    (world.node.objects / "cnp.json").unlink()
    wait_for(lambda: all(o["name"] != "filed" for o in world.node.api("GET", "/v1/objects")),
             "the deletion")
    world.expect("web cart yes")


def test_what_is_not_supported_is_refused_by_name(world):
    policy = cluster_policy_object("named", "Admin", 1, subject=EVERYONE, egress=[
        {"action": "Accept", "to": [{"domainNames": ["example.com"]}]}])
    answer = world.node.api("PUT", "/v1/objects", policy, status=400)
    assert "ClusterNetworkPolicy named: spec.egress[0].to[0].domainNames: not supported" \
        in answer["error"]
