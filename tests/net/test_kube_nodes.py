# SPDX-License-Identifier: Apache-2.0
"""Pods of two nodes of one API server: who may connect before a node has heard of a new pod."""

import os
import time

import pytest

import starts
from kubenode import CLUSTER_POLICIES, NAMESPACES, PODS, POLICIES, KubeNodes
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


def known(node, namespace, name):
    return ("Pod", namespace, name) in node.objects_of("kubernetes")


@pytest.fixture
def guarded(two):
    """The two nodes, and a pod of shop on the first one that serves, behind the policy."""
    cart = two.all[0].kube_pod("cart", {"app": "cart"})
    cart.serve(tcp=[PORT])
    far = two.all[1].kube_pod("far", {}, "far")
    refuse_far(two)
    wait_for(lambda: far.results(cart, PORT, timeout=0.25) == {"timeout"}, "the policy to be enforced")
    shop = two.all[1].kube_pod("web", {})
    wait_for(lambda: shop.results(cart, PORT, timeout=0.25) == {"ok"}, "the pods that it does not refuse to be known")
    return two, cart


def test_a_pod_that_the_other_node_has_not_heard_of_is_refused(guarded):
    two, cart = guarded
    two.api_server.held = {PODS}
    late_far = two.all[1].kube_pod("late-far", {}, "far")
    late_shop = two.all[1].kube_pod("late-web", {})
    assert not known(two.all[0], "far", "late-far")
    assert late_far.is_dropped(cart, PORT)
    assert late_shop.is_dropped(cart, PORT)
    two.api_server.release()
    wait_for(lambda: late_shop.results(cart, PORT, timeout=0.25) == {"ok"}, "the pod to be known")
    assert known(two.all[0], "far", "late-far") and late_far.is_dropped(cart, PORT)


def test_a_pod_whose_namespace_is_not_known_yet_is_refused(guarded):
    two, cart = guarded
    two.api_server.held = {NAMESPACES}
    two.api_server.put(NAMESPACES, "young", metadata={"labels": {"team": "far"}})
    two.all[1].write("young.json", namespace_object("young"))  # the pod's own node knows it
    two.all[1].wait_object("Namespace", "", "young")
    pod = two.all[1].kube_pod("p", {}, "young")
    two.all[0].kube_pod("witness", {})
    wait_for(lambda: known(two.all[0], "shop", "witness"), "a later pod to be known")
    assert pod.is_dropped(cart, PORT)
    two.api_server.release()
    wait_for(lambda: known(two.all[0], "young", "p"), "the pod of the new namespace to be known")
    assert pod.is_dropped(cart, PORT)


# ---- many starts -----------------------------------------------------------------------------

STARTS = int(os.environ.get("POD_STARTS", "1000"))
TRIES = 3  # connections of each pod to each server before its event


def from_pods(**labels):
    return [{"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": labels}}]}]


class Crowd:
    """Pods on both nodes that connect from their first moment on to servers on both.

    cart lets in pods with the label app=friend, open lets in everybody; the cluster policy refuses pods
    of the namespace far.  So of the kinds below, (namespace, app), each server has its own to let in.
    """

    KINDS = (("shop", "friend"), ("shop", "other"), ("far", "friend"), ("far", "other"))
    SERVERS = {"cart": {("shop", "friend")}, "open": {("shop", "friend"), ("shop", "other")}}

    def __init__(self, nodes):
        self.nodes, self.api = nodes, nodes.api_server
        self.servers, self.leaked, self.denied, self.learned = [], [], [], []
        for node in nodes.all:
            for name in self.SERVERS:
                pod = node.kube_pod(f"{name}-{node.kube_name}", {"app": name})
                pod.serve(tcp=[PORT])
                self.servers += [(name, address) for address in pod.addresses]
        self.api.put(POLICIES, "cart", "shop", spec={
            "podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"],
            "ingress": from_pods(app="friend")})
        refuse_far(nodes)
        for node in nodes.all:
            node.wait_object("NetworkPolicy", "shop", "cart")
            wait_for(lambda node=node: not node.status()["kubernetes"].get("closedPolicies") and
                     known(node, "shop", "cart-n1") and known(node, "shop", "cart-n2"),
                     "the policies and the pods to be known")

    def connect(self):
        return [(name, starts.Attempt(address, PORT)) for name, address in self.servers]

    def wait_learned(self, kind):
        """Until the nodes have heard of the pod's address: all its connections open at once."""
        began = time.monotonic()
        while True:
            tries = [one for server, one in self.connect() if kind in self.SERVERS[server]]
            late = starts.wait_opened(tries, 0.05)
            for one in tries:
                one.sock.close()
            if not late:
                break
            assert time.monotonic() - began < 10, "the nodes do not hear of the pod"
        self.learned.append(time.monotonic() - began)

    def start(self, number):
        namespace, app = kind = self.KINDS[number % len(self.KINDS)]
        node = self.nodes.all[number // len(self.KINDS) % 2]
        name = f"p{number}"
        netns = starts.enter_new_netns()
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"
        node.announce(name, {"app": app}, namespace=namespace)
        added = node.cni("ADD", name, netns, node.conf, args=args)
        addresses = [ip["address"].split("/")[0] for ip in added["ips"]]
        early = [one for _ in range(TRIES) for one in self.connect()]
        node.announce(name, {"app": app}, addresses, namespace)
        if kind in set().union(*self.SERVERS.values()):
            self.wait_learned(kind)
        late = self.connect()
        allowed = [one for server, one in late if kind in self.SERVERS[server]]
        self.denied += [(kind, one.addr) for one in starts.wait_opened(allowed, 10.0)]
        self.leaked += [(kind, server, one.addr) for server, one in early + late
                        if kind not in self.SERVERS[server] and one.opened()]
        for _, one in early + late:
            one.sock.close()
        node.cni("DEL", name, netns, node.conf, args=args)
        self.api.delete(PODS, name, namespace)


def test_no_start_of_many_leaks_and_none_is_denied(two):
    crowd = Crowd(two)
    starts.Starts(crowd.start, STARTS, 8).finish()
    assert (crowd.leaked, crowd.denied) == ([], [])
    crowd.learned.sort()
    print("learned after", *(f"{crowd.learned[len(crowd.learned) * part // 100] * 1000:.0f} ms"
                             for part in (50, 90, 99)))
