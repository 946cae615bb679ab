# SPDX-License-Identifier: Apache-2.0
"""ClusterNetworkPolicy from file and API to real pods: what the truth tables (scenarios/tiers.yaml)
do not ask."""

import pytest

from tendril import cluster_policy_object, namespace_object, pod_object, wait_for

PORT = 8080
EVERYONE = {"namespaces": {}}
CART = {"pods": {"podSelector": {"matchLabels": {"app": "cart"}}}}


class World:
    def __init__(self, node):
        self.node = node
        self.web, self.cart = (node.pod(name, "shop", labels={"app": name})
                               for name in ("web", "cart"))
        self.cart.serve(tcp=[PORT], udp=[PORT])
        node.put(namespace_object("shop"),
                 *[pod_object(pod.pod_name, "shop", {"app": pod.pod_name}, pod.addresses)
                   for pod in (self.web, self.cart)])

    def reaches(self, proto="tcp"):
        """Whether web reaches cart."""
        return self.web.reaches(self.cart, PORT, proto)

    def drops(self):
        return self.web.is_dropped(self.cart, PORT)

    def delete(self, name):
        self.node.api("DELETE", f"/v1/objects/ClusterNetworkPolicy/-/{name}")


@pytest.fixture(scope="module")
def world(shared_node):
    return World(shared_node)


def test_more_ports_than_an_entry_holds(world):
    """Denied ports in port_map, before the entry of any protocol that allows the rest."""
    ranges = [{"tcp": {"destinationPort": {"range": {"start": n, "end": n + 1}}}}
              for n in range(8000, 8100, 10)]
    world.node.put(cluster_policy_object("many", "Admin", 1, subject=CART, ingress=[
        {"action": "Deny", "from": [EVERYONE], "protocols": ranges}]))
    assert world.drops()
    assert world.reaches("udp")
    for addr in world.cart.addresses:
        world.node.netns.run("nsenter", f"--net={world.web.path}", "ping", "-c1", "-W10", addr)
    world.delete("many")
    assert world.reaches()


def test_files_and_views(world):
    world.node.write("cnp.json", cluster_policy_object(
        "filed", "Baseline", 7, subject=CART, ingress=[
        {"action": "Deny", "name": "closed", "from": [EVERYONE]}]))
    world.node.wait_object("ClusterNetworkPolicy", "", "filed")
    assert world.drops()
    listed, = world.node.api("GET", "/v1/policies")
    assert (listed["tier"], listed["priority"], listed["selectedEndpoints"]) == ("Baseline", 7, 1)
    assert world.node.api("GET", "/v1/policies/-/filed") == listed
    assert "/filed  Baseline 7" in world.node.cli("policy", "list").stdout
    assert "/filed" in world.node.cli("endpoint", "get", "shop/cart").stdout
    explained = world.node.cli("policy", "explain", "--from", "shop/web", "--to", "shop/cart",
                               "--port", str(PORT)).stdout
    assert "ClusterNetworkPolicy filed (Baseline tier, priority 7), ingress rule 0 \"closed\"" \
        in explained
    (world.node.objects / "cnp.json").unlink()
    wait_for(lambda: world.node.api("GET", "/v1/policies") == [], "the deletion")
    assert world.reaches()


def test_what_is_not_supported_is_refused_by_name(world):
    policy = cluster_policy_object("named", "Admin", 1, subject=EVERYONE, egress=[
        {"action": "Accept", "to": [{"domainNames": ["example.com"]}]}])
    answer = world.node.api("PUT", "/v1/objects", policy, status=400)
    assert "ClusterNetworkPolicy named: spec.egress[0].to[0].domainNames: not supported" \
        in answer["error"]


def test_an_agent_that_starts_again_keeps_what_was_denied(world):
    world.node.put(cluster_policy_object("kept", "Admin", 1, subject=CART, ingress=[
        {"action": "Deny", "from": [EVERYONE]}]))
    assert world.drops()
    world.node.kill()
    assert world.drops()
    world.node.start()
    assert world.drops()
    world.delete("kept")
    assert world.reaches()
