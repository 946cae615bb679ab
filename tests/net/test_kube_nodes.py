# SPDX-License-Identifier: Apache-2.0
"""Pods of two nodes of one API server: who may connect before a node has heard of a new pod."""

import pytest

from kubenode import CLUSTER_POLICIES, NAMESPACES, PODS, KubeNodes
from tendril import namespace_object, wait_for

PORT = 8080


@pytest.fixture
def two(tmp_path):
    made = KubeNodes(tmp_path, 2)
    made.api_server.put(NAMESPACES, "shop")
    made.api_server.put(NAMESPACES, "far", metadata={"labels": {"team": "far"}})
    yield made
    made.close()


def refuse_far(nodes):
    """No pod of a namespace of team "far" may connect to pods of shop."""
    nodes.api_server.put(CLUSTER_POLICIES, "guard", spec={
        "tier": "Admin", "priority": 5,
        "subject": {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "far"}}}]}]})


def results(source, target):
    return {source.connect(addr, PORT, timeout=0.25)["result"] for addr in target.addresses}


def known(node, namespace, name):
    return ("Pod", namespace, name) in node.objects_of("kubernetes")


@pytest.fixture
def guarded(two):
    """The two nodes, and a pod of shop on the first one that serves, behind the policy."""
    cart = two.all[0].kube_pod("cart", {"app": "cart"})
    cart.serve(tcp=[PORT])
    far = two.all[1].kube_pod("far", {}, "far")
    refuse_far(two)
    wait_for(lambda: results(far, cart) == {"timeout"}, "the policy to be enforced")
    shop = two.all[1].kube_pod("web", {})
    wait_for(lambda: results(shop, cart) == {"ok"}, "the pods that it does not refuse to be known")
    return two, cart


def test_a_pod_that_the_other_node_has_not_heard_of_is_refused(guarded):
    two, cart = guarded
    two.api_server.held = {PODS}
    late_far = two.all[1].kube_pod("late-far", {}, "far")
    late_shop = two.all[1].kube_pod("late-web", {})
    assert not known(two.all[0], "far", "late-far")
    assert results(late_far, cart) == {"timeout"}
    assert results(late_shop, cart) == {"timeout"}
    two.api_server.release()
    wait_for(lambda: results(late_shop, cart) == {"ok"}, "the pod to be known")
    assert known(two.all[0], "far", "late-far") and results(late_far, cart) == {"timeout"}


def test_a_pod_whose_namespace_is_not_known_yet_is_refused(guarded):
    two, cart = guarded
    two.api_server.held = {NAMESPACES}
    two.api_server.put(NAMESPACES, "young", metadata={"labels": {"team": "far"}})
    two.all[1].write("young.json", namespace_object("young"))  # the pod's own node knows it
    two.all[1].wait_object("Namespace", "", "young")
    pod = two.all[1].kube_pod("p", {}, "young")
    two.all[0].kube_pod("witness", {})
    wait_for(lambda: known(two.all[0], "shop", "witness"), "a later pod to be known")
    assert results(pod, cart) == {"timeout"}
    two.api_server.release()
    wait_for(lambda: known(two.all[0], "young", "p"), "the pod of the new namespace to be known")
    assert results(pod, cart) == {"timeout"}
