# SPDX-License-Identifier: Apache-2.0
"""An agent that follows Kubernetes: a scripted API server, the real client, the real agent, real pods."""

import json
import signal
import subprocess

import pytest

from kubeapi import FakeApi
from tendril import BUILD, Node, UnixConnection, pod_object, wait_for

PODS, NAMESPACES = "/api/v1/pods", "/api/v1/namespaces"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"
PORT = 8080


class KubeNode(Node):
    """A node whose objects come from an API server, by tendril-kube."""

    def __init__(self, folder):
        self.api_server = FakeApi(folder)
        self.kubeconfig = self.api_server.kubeconfig(folder)
        self.kube_log = folder / "kube.log"
        self.client = None
        super().__init__("--kubernetes=true")

    def client_start(self):
        self.client = subprocess.Popen(
            [BUILD / "tendril-kube", "--kubeconfig", self.kubeconfig, "--socket", self.socket],
            stderr=open(self.kube_log, "a"), stdin=subprocess.DEVNULL)

    def client_stop(self, signum=signal.SIGTERM):
        self.client.send_signal(signum)
        self.client.wait(timeout=10)
        self.client = None

    def kube(self):
        return self.status()["kubernetes"]

    def wait_synced(self):
        wait_for(lambda: self.kube()["state"] == "synced", "all objects of the API server")

    def objects_of(self, source):
        return {(o["kind"], o["namespace"], o["name"]) for o in self.api("GET", "/v1/objects")
                if o["source"] == source}

    def announce(self, pod, labels):
        """The Pod object, as its kubelet reports it."""
        made = pod_object(pod.pod_name, pod.pod_namespace, labels, pod.addresses)
        self.api_server.put(PODS, pod.pod_name, pod.pod_namespace, metadata={"labels": labels},
                            spec=made["spec"], status=made["status"])

    def batch(self, *lines, status=200):
        connection = UnixConnection(self.socket)
        try:
            connection.request("POST", "/v1/sources/kubernetes",
                               "".join(line + "\n" for line in lines))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == status, text
            return text
        finally:
            connection.close()

    def close(self):
        if self.client:
            self.client.kill()
            self.client.wait()
        self.api_server.close()
        super().close()


@pytest.fixture
def node(tmp_path):
    with KubeNode(tmp_path) as made:
        made.api_server.put(NAMESPACES, "shop")
        yield made


def pair(node):
    """shop/web and shop/cart, wired, serving and known to the API server."""
    node.client_start()
    node.wait_synced()
    pods = []
    for name in ("web", "cart"):
        pod = node.pod(name, "shop")
        pod.serve(tcp=[PORT])
        node.announce(pod, {"app": name})
        node.wait_object("Pod", "shop", name)
        pods.append(pod)
    return pods


def results(source, target):
    return {source.connect(addr, PORT, timeout=0.25)["result"] for addr in target.addresses}


def reaches(source, target):
    """Whether it does, by both families; they must agree."""
    found = results(source, target)
    assert found in ({"ok"}, {"timeout"}), found
    return found == {"ok"}


def wait_reaches(source, target, what):
    wait_for(lambda: results(source, target) == {"ok"}, what)


def wait_denied(source, target, what):
    wait_for(lambda: results(source, target) == {"timeout"}, what)


def deny(node, name="deny", **spec):
    node.api_server.put(POLICIES, name, "shop", spec={
        "podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"], **spec})


def test_a_policy_of_the_api_server_is_enforced_and_its_end_too(node):
    web, cart = pair(node)
    assert reaches(web, cart)
    deny(node)
    wait_denied(web, cart, "the policy to be enforced")
    deny(node, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    wait_reaches(web, cart, "the rule to be enforced")
    node.api_server.delete(POLICIES, "deny", "shop")
    wait_for(lambda: ("NetworkPolicy", "shop", "deny") not in node.objects_of("kubernetes"),
             "the policy to be gone")
    assert reaches(web, cart)


def test_no_pod_is_added_before_everything_is_known(node):
    answer = node.pod("early", "shop", wire=False).cni("ADD", check=False)
    assert answer["code"] == 11 and "Kubernetes" in json.dumps(answer)
    assert any("Kubernetes" in text for text in node.status()["warnings"])
    node.client_start()
    node.wait_synced()
    node.pod("web", "shop")


def test_a_client_that_dies_changes_nothing_and_a_new_one_goes_on(node):
    web, cart = pair(node)
    deny(node)
    wait_denied(web, cart, "the policy to be enforced")
    known = node.objects_of("kubernetes")
    node.client_stop(signal.SIGKILL)
    assert node.objects_of("kubernetes") == known and not reaches(web, cart)
    node.api_server.delete(POLICIES, "deny", "shop")
    node.client_start()
    wait_reaches(web, cart, "the policy that was deleted meanwhile to be gone")
    assert node.objects_of("kubernetes") == known - {("NetworkPolicy", "shop", "deny")}


def test_an_agent_that_starts_again_keeps_what_is_in_force_until_it_knows(node):
    web, cart = pair(node)
    deny(node)
    wait_denied(web, cart, "the policy to be enforced")
    node.kill()
    assert node.client.wait(timeout=15) == 1  # it has lost its agent
    node.client = None
    node.start()
    assert not reaches(web, cart)
    assert node.pod("early", "shop", wire=False).cni("ADD", check=False)["code"] == 11
    node.api_server.delete(POLICIES, "deny", "shop")
    node.client_start()
    node.wait_synced()
    wait_reaches(web, cart, "the policy that was deleted meanwhile to be gone")


def test_a_client_notices_that_its_agent_is_another_one(node):
    """It starts so fast again that no request fails in between."""
    node.client_start()
    node.wait_synced()
    node.client.send_signal(signal.SIGSTOP)
    node.kill()
    node.start()
    node.client.send_signal(signal.SIGCONT)
    assert node.client.wait(timeout=15) == 1
    assert "begin with RESET" in node.kube_log.read_text()
    node.client_start()
    node.wait_synced()


@pytest.mark.parametrize("spec, closes_web", [
    ({"podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"],
      "ingress": [{"from": [{"planets": {"matchLabels": {"name": "mars"}}}]}]}, False),
    ({"podSelector": {"matchLabels": {"app": "cart"}}, "fromTheFuture": True}, False),
    ({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Resembles",
                                            "values": ["cart"]}]}}, True),
    ({"podSelector": "nonsense"}, True),
], ids=["unknown peer", "unknown field", "unknown operator", "damaged selector"])
def test_a_policy_that_is_not_understood_lets_nothing_through(node, spec, closes_web):
    web, cart = pair(node)
    node.api_server.put(POLICIES, "future", "shop", spec=spec)
    wait_for(lambda: node.kube()["closedPolicies"] == 1, "the policy to be closed")
    assert not reaches(web, cart)
    assert reaches(cart, web) is False  # its egress is closed, too
    assert "NetworkPolicy shop/future" in node.log()
    assert any("not understood" in text for text in node.status()["warnings"])
    other = node.pod("other", "shop")
    node.announce(other, {"app": "other"})
    node.wait_object("Pod", "shop", "other")
    assert reaches(other, web) is not closes_web
    node.api_server.delete(POLICIES, "future", "shop")
    wait_reaches(web, cart, "the policy to be gone")
    assert node.kube()["closedPolicies"] == 0


def test_a_cluster_policy_that_is_not_understood_lets_nothing_through(node):
    web, cart = pair(node)
    node.client_stop()
    node.api_server.optional = True
    node.api_server.put(CLUSTER_POLICIES, "future", spec={
        "tier": "Galactic", "priority": 5, "subject": {"namespaces": {}}})
    node.client_start()
    wait_for(lambda: node.kube()["closedPolicies"] == 1, "the policy to be closed")
    assert not reaches(web, cart) and not reaches(cart, web)


def test_a_closed_cluster_policy_is_asked_before_one_of_highest_priority(node):
    web, cart = pair(node)
    node.client_stop()
    node.api_server.optional = True
    everyone = {"namespaces": {}}
    node.api_server.put(CLUSTER_POLICIES, "accept", spec={
        "tier": "Admin", "priority": 0, "subject": everyone,
        "ingress": [{"action": "Accept", "from": [everyone]}],
        "egress": [{"action": "Accept", "to": [everyone]}]})
    node.client_start()
    node.wait_object("ClusterNetworkPolicy", "", "accept")
    assert reaches(web, cart)
    node.api_server.put(CLUSTER_POLICIES, "future", spec={"tier": "Galactic", "subject": everyone})
    wait_denied(web, cart, "the policy that is not understood to be closed")
    node.api_server.delete(CLUSTER_POLICIES, "future")
    wait_reaches(web, cart, "the policy to be gone")


@pytest.mark.parametrize("metadata", [{"labels": 5}, {"annotations": {"tendril.io/x": []}},
                                      {"uid": {}}, {"creationTimestamp": 1}],
                         ids=lambda metadata: next(iter(metadata)))
def test_a_policy_whose_metadata_are_damaged_lets_nothing_through(node, metadata):
    web, cart = pair(node)
    node.batch(json.dumps({"type": "MODIFIED", "object": {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "damaged", "namespace": "shop", "labels": {"a": 5}, **metadata},
        "spec": {"podSelector": {"matchLabels": {"app": "cart"}}, "ingress": "nonsense"}}}))
    assert node.kube()["closedPolicies"] == 1
    assert not reaches(web, cart)


def test_a_policy_that_was_understood_and_is_no_longer_is_closed(node):
    web, cart = pair(node)
    deny(node, ingress=[{}])
    node.wait_object("NetworkPolicy", "shop", "deny")
    assert reaches(web, cart)
    deny(node, ingress=[{"from": [{"planets": {}}]}])
    wait_denied(web, cart, "the policy to be closed")


def test_an_object_of_a_file_is_not_overwritten(node):
    node.write("web.json", pod_object("web", "shop", {"app": "file"}, ["10.200.0.77"]))
    node.client_start()
    node.wait_synced()
    node.wait_object("Pod", "shop", "web")
    node.api_server.put(PODS, "web", "shop", metadata={"labels": {"app": "cluster"}}, spec={},
                        status={"podIPs": [{"ip": "10.9.9.9"}]})
    wait_for(lambda: "already given by web.json" in node.log(), "the refusal")
    assert ("Pod", "shop", "web") not in node.objects_of("kubernetes")


def modified(*objects):
    return [json.dumps({"type": "MODIFIED", "object": one}) for one in objects]


def deleted(kind, namespace, name):
    return json.dumps({"type": "DELETED", "object": {
        "kind": kind, "metadata": {"namespace": namespace, "name": name}}})


def test_an_object_whose_address_was_taken_comes_when_it_is_free(node):
    first, second = (pod_object(name, "shop", {}, ["10.9.9.9"]) for name in ("first", "second"))
    answer = json.loads(node.batch('{"type":"RESET"}', *modified(first, second), '{"type":"SYNCED"}'))
    assert "10.9.9.9" in answer["refused"][0]["error"]
    assert node.objects_of("kubernetes") == {("Pod", "shop", "first")}
    node.batch(deleted("Pod", "shop", "first"))
    assert node.objects_of("kubernetes") == {("Pod", "shop", "second")}


def test_an_object_that_moves_its_address_makes_room_for_the_other(node):
    first, second = (pod_object(name, "shop", {}, ["10.9.9.9"]) for name in ("first", "second"))
    node.batch('{"type":"RESET"}', *modified(first, second), '{"type":"SYNCED"}')
    node.batch(*modified(pod_object("first", "shop", {}, ["10.9.9.8"])))
    assert node.objects_of("kubernetes") == {("Pod", "shop", "first"), ("Pod", "shop", "second")}


@pytest.mark.parametrize("last", ["deleted", "modified", "reset"])
def test_an_object_that_waits_for_an_address_waits_as_the_api_server_says(node, last):
    first, second = (pod_object(name, "shop", {}, ["10.9.9.9"]) for name in ("first", "second"))
    node.batch('{"type":"RESET"}', *modified(first, second), '{"type":"SYNCED"}')
    if last == "deleted":
        node.batch(deleted("Pod", "shop", "second"))
    elif last == "modified":
        node.batch(*modified(pod_object("second", "shop", {}, ["10.9.9.7"])))
    else:
        node.batch('{"type":"RESET"}', *modified(first), '{"type":"SYNCED"}')
    node.batch(deleted("Pod", "shop", "first"))
    assert node.objects_of("kubernetes") == (
        {("Pod", "shop", "second")} if last == "modified" else set())


def test_files_and_the_api_server_wait_for_each_others_addresses(node):
    node.write("a.json", pod_object("file", "shop", {}, ["10.9.9.9"]))
    node.wait_object("Pod", "shop", "file")
    node.batch('{"type":"RESET"}', *modified(pod_object("cluster", "shop", {}, ["10.9.9.9"])),
               '{"type":"SYNCED"}')
    assert node.objects_of("kubernetes") == set()
    (node.objects / "a.json").unlink()
    wait_for(lambda: node.objects_of("kubernetes") == {("Pod", "shop", "cluster")},
             "the API server's object to have the address")
    node.write("b.json", pod_object("file", "shop", {}, ["10.9.9.9"]))
    wait_for(lambda: "b.json" in node.log(), "the file to be refused")
    node.batch(deleted("Pod", "shop", "cluster"))
    assert ("Pod", "shop", "file") in node.objects_of("b.json")


def test_what_the_api_server_ails_is_in_status(node):
    node.client_start()
    node.wait_synced()
    node.api_server.token = "another"
    node.api_server.end_watches()
    wait_for(lambda: any("HTTP 401" in text for text in node.status()["warnings"]), "a warning",
             timeout=15)


def test_a_silent_client_is_in_status(node):
    node.client_start()
    node.wait_synced()
    node.client.send_signal(signal.SIGSTOP)
    wait_for(lambda: node.kube()["state"] == "silent", "silence to be noticed", timeout=25)
    assert any("silent" in text for text in node.status()["warnings"])
    node.client.send_signal(signal.SIGCONT)
    wait_for(lambda: node.kube()["state"] == "synced", "the client to be heard of", timeout=15)


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"type":"ADDED"}', '{"type":"DELETED"}',
                                  '{"type":"RENAMED","object":{}}', '{"type":"MODIFIED","object":1}'])
def test_a_malformed_batch_is_refused_with_its_line(node, line):
    node.batch('{"type":"RESET"}')
    text = node.batch('{"type":"STATUS","object":{"problem":""}}', line, status=400)
    assert "line 2" in text


@pytest.mark.parametrize("item, refused", [
    ({"kind": "Pod", "metadata": {"name": "UPPER", "namespace": "shop"}}, 1), ({}, 1),
    ({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}}, 0)],
    ids=["damaged", "empty", "not about the network"])
def test_an_object_that_cannot_be_taken_is_refused_for_itself(node, item, refused):
    good = pod_object("good", "shop", {}, ["10.9.9.9"])
    answer = json.loads(node.batch('{"type":"RESET"}',
                                   json.dumps({"type": "MODIFIED", "object": item}),
                                   json.dumps({"type": "MODIFIED", "object": good}),
                                   '{"type":"SYNCED"}'))
    assert len(answer["refused"]) == refused and answer["applied"] == 1
    assert node.objects_of("kubernetes") == {("Pod", "shop", "good")}


def test_an_agent_that_does_not_follow_kubernetes_refuses():
    with Node() as plain:
        connection = UnixConnection(plain.socket)
        connection.request("POST", "/v1/sources/kubernetes", '{"type":"RESET"}\n')
        response = connection.getresponse()
        assert response.status == 409 and b"kubernetes" in response.read()
        connection.close()
        assert "kubernetes" not in plain.status()
