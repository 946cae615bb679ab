# SPDX-License-Identifier: Apache-2.0
"""An agent that follows Kubernetes: a scripted API server, the real client, the real agent, real pods."""

import concurrent.futures
import json
import signal
import threading

import pytest

from kubenode import CLUSTER_POLICIES, NAMESPACES, NODES, PODS, POLICIES, KubeNode
from tendril import Node, UnixConnection, namespace_object, pod_object, service_object, wait_for

PORT = 8080
SERVICES = "/api/v1/services"


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
        pod = node.kube_pod(name, {"app": name})
        pod.serve(tcp=[PORT])
        pods.append(pod)
    return pods


def wait_reaches(source, target, what):
    wait_for(lambda: source.results(target, PORT, timeout=0.25) == {"ok"}, what)


def wait_denied(source, target, what):
    wait_for(lambda: source.results(target, PORT, timeout=0.25) == {"timeout"}, what)


def deny(node, name="deny", **spec):
    node.api_server.put(POLICIES, name, "shop", spec={
        "podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"], **spec})


def test_a_policy_of_the_api_server_is_enforced_and_its_end_too(node):
    web, cart = pair(node)
    assert web.reaches(cart, PORT)
    deny(node)
    wait_denied(web, cart, "the policy to be enforced")
    deny(node, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}])
    wait_reaches(web, cart, "the rule to be enforced")
    node.api_server.delete(POLICIES, "deny", "shop")
    wait_for(lambda: ("NetworkPolicy", "shop", "deny") not in node.objects_of("kubernetes"),
             "the policy to be gone")
    assert web.reaches(cart, PORT)


def test_pods_that_nobody_guards_are_named_in_status(node):
    def warned():
        return [text for text in node.status()["failures"] if "not wired by Tendril" in text]
    node.api_server.put(NODES, "n1", spec={})
    pair(node)
    node.announce("before", {}, ["10.200.0.77"])
    node.announce("elsewhere", {}, ["10.200.9.77"], node="n2")
    node.announce("starting", {})
    node.api_server.put(PODS, "host", "shop", spec={"nodeName": "n1", "hostNetwork": True},
                        status={"phase": "Running", "podIP": "192.0.2.1"})
    [warning] = wait_for(warned, "the pod that was there before")
    assert warning.startswith("1 pods of this node") and warning.endswith(": shop/before")
    for number in range(6):
        node.announce(f"more-{number}", {}, [f"10.200.0.{100 + number}"])
    wait_for(lambda: warned()[0].startswith("7 pods") and warned()[0].endswith(", ..."), "the others")
    for name in ("before", *(f"more-{number}" for number in range(6))):
        node.api_server.delete(PODS, name, "shop")
    wait_for(lambda: not warned(), "them to be gone")


def test_no_pod_is_added_before_everything_is_known(node):
    answer = node.pod("early", "shop", wire=False).cni("ADD", check=False)
    assert answer["code"] == 11 and "Kubernetes" in json.dumps(answer)
    assert any("Kubernetes" in text for text in node.status()["warnings"])
    node.client_start()
    node.wait_synced()
    node.kube_pod("web", {})


def test_a_client_that_dies_changes_nothing_and_a_new_one_goes_on(node):
    web, cart = pair(node)
    deny(node)
    wait_denied(web, cart, "the policy to be enforced")
    known = node.objects_of("kubernetes")
    node.client_stop(signal.SIGKILL)
    assert node.objects_of("kubernetes") == known and web.is_dropped(cart, PORT)
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
    assert web.is_dropped(cart, PORT)
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
    assert "begin with RESET" in node.batch('{"type":"SYNCED"}', status=409)
    node.client.send_signal(signal.SIGCONT)
    assert node.client.wait(timeout=15) == 1
    assert str(node.run_dir / "kube/kube.sock") in node.kube_log.read_text()
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
    assert web.is_dropped(cart, PORT)
    assert cart.is_dropped(web, PORT)  # its egress is closed, too
    assert "NetworkPolicy shop/future" in node.log()
    assert any("not understood" in text for text in node.status()["warnings"])
    other = node.kube_pod("other", {"app": "other"})
    assert (other.is_dropped if closes_web else other.reaches)(web, PORT)
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
    assert web.is_dropped(cart, PORT) and cart.is_dropped(web, PORT)


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
    assert web.reaches(cart, PORT)
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
    assert web.is_dropped(cart, PORT)


def test_a_policy_that_was_understood_and_is_no_longer_is_closed(node):
    web, cart = pair(node)
    deny(node, ingress=[{}])
    node.wait_object("NetworkPolicy", "shop", "deny")
    assert web.reaches(cart, PORT)
    deny(node, ingress=[{"from": [{"planets": {}}]}])
    wait_denied(web, cart, "the policy to be closed")


def test_an_object_of_a_file_is_not_overwritten(node):
    node.write("web.json", pod_object("web", "shop", {"app": "file"}, ["10.200.0.77"]))
    node.client_start()
    node.wait_synced()
    node.wait_object("Pod", "shop", "web")
    node.announce("web", {"app": "cluster"}, ["10.9.9.9"])
    wait_for(lambda: "already given by web.json" in node.log(), "the refusal")
    assert ("Pod", "shop", "web") not in node.objects_of("kubernetes")


def modified(*objects):
    return [json.dumps({"type": "MODIFIED", "object": one}) for one in objects]


def deleted(kind, namespace, name):
    return json.dumps({"type": "DELETED", "object": {
        "kind": kind, "metadata": {"namespace": namespace, "name": name}}})


def shop_is_known(node):
    """Else pods of shop wait for their Namespace."""
    node.write("shop.json", namespace_object("shop"))
    node.wait_object("Namespace", "", "shop")


def test_an_object_whose_address_was_taken_comes_when_it_is_free(node):
    shop_is_known(node)
    first, second = (pod_object(name, "shop", {}, ["10.9.9.9"]) for name in ("first", "second"))
    answer = json.loads(node.batch('{"type":"RESET"}', *modified(first, second), '{"type":"SYNCED"}'))
    assert "10.9.9.9" in answer["refused"][0]["error"]
    assert node.objects_of("kubernetes") == {("Pod", "shop", "first")}
    node.batch(deleted("Pod", "shop", "first"))
    assert node.objects_of("kubernetes") == {("Pod", "shop", "second")}


def test_an_object_that_moves_its_address_makes_room_for_the_other(node):
    shop_is_known(node)
    first, second = (pod_object(name, "shop", {}, ["10.9.9.9"]) for name in ("first", "second"))
    node.batch('{"type":"RESET"}', *modified(first, second), '{"type":"SYNCED"}')
    node.batch(*modified(pod_object("first", "shop", {}, ["10.9.9.8"])))
    assert node.objects_of("kubernetes") == {("Pod", "shop", "first"), ("Pod", "shop", "second")}


@pytest.mark.parametrize("last", ["deleted", "modified", "reset"])
def test_an_object_that_waits_for_an_address_waits_as_the_api_server_says(node, last):
    shop_is_known(node)
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
    shop_is_known(node)
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
    wait_for(lambda: node.kube()["heardSecondsAgo"] >= 1, "the client to be between two messages")
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


def test_what_the_agent_finds_is_written_to_the_api_server(node):
    node.api_server.put(NODES, "n1", status={})
    deny(node, ingress=from_far({"planets": {}}))
    node.client_start()
    node.wait_synced()

    def written(method):
        return [body for verb, _, body in list(node.api_server.written) if verb == method]
    event = wait_for(lambda: written("POST"), "an event")[0]
    assert event["involvedObject"]["name"] == "deny" and event["involvedObject"]["uid"] == "uid-deny"
    assert event["reason"] == "NotUnderstood" and "planets" in event["message"]
    condition = wait_for(lambda: written("PATCH"), "the condition", timeout=15)[0]["status"]["conditions"][0]
    assert (condition["type"], condition["status"]) == ("NetworkUnavailable", "False")


# ---- ADD waits for its pod -------------------------------------------------------------------

class Adding:
    """An ADD that runs."""

    def __init__(self, node, name, uid=""):
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}"
        self.node = node
        self.pod = node.pod(name, "shop", wire=False, cni_args=args + (
            f";K8S_POD_UID={uid}" if uid else ""))
        self.future = concurrent.futures.ThreadPoolExecutor().submit(self.pod.cni, "ADD", check=False)

    def waits(self):
        """The agent has asked for the pod, and nothing is wired."""
        path = f"/api/v1/namespaces/shop/pods/{self.pod.pod_name}"
        wait_for(lambda: self.node.api_server.count(path), "the question for the pod")
        assert not self.future.done() and self.node.status()["endpoints"] == 0
        return True

    def answer(self):
        return self.future.result(timeout=10)


@pytest.fixture
def waiting_node(tmp_path):
    with KubeNode(tmp_path, "--pod-wait", "3") as made:
        made.api_server.put(NAMESPACES, "shop")
        made.client_start()
        made.wait_synced()
        yield made


def test_a_pod_whose_event_is_late_is_asked_for(waiting_node):
    waiting_node.api_server.held = {PODS}
    waiting_node.announce("web", {"app": "web"})
    deny(waiting_node, podSelector={})
    waiting_node.wait_object("NetworkPolicy", "shop", "deny")
    web = waiting_node.pod("web", "shop")
    assert web.add_seconds < 1.5
    assert waiting_node.api("GET", "/v1/endpoints/shop/web")["labels"] == {"app": "web"}


def test_add_waits_until_the_pod_is_known(waiting_node):
    adding = Adding(waiting_node, "web")
    assert adding.waits()
    waiting_node.announce("web", {"app": "web"})
    assert adding.answer()["ips"]
    assert waiting_node.status()["endpoints"] == 1


def test_add_gives_up_with_code_11_and_a_reason(waiting_node):
    adding = Adding(waiting_node, "web")
    assert adding.waits()
    answer = adding.answer()
    assert answer["code"] == 11 and "has not shown pod shop/web" in json.dumps(answer)
    assert waiting_node.status()["endpoints"] == 0


def test_a_pod_of_the_same_name_that_was_there_before_does_not_count(waiting_node):
    waiting_node.announce("web", {"app": "old"})
    waiting_node.wait_object("Pod", "shop", "web")
    adding = Adding(waiting_node, "web", uid="uid-of-the-new-one")
    assert adding.waits()
    assert "uid-of-the-new-one" in json.dumps(adding.answer())
    assert Adding(waiting_node, "web", uid="uid-web").answer()["ips"]


def test_a_static_pod_is_known_by_the_uid_of_its_kubelet(waiting_node):
    waiting_node.api_server.put(
        PODS, "static", "shop", spec={"nodeName": "n1"}, status={"phase": "Pending"},
        metadata={"annotations": {"kubernetes.io/config.mirror": "0123abcd"}})
    assert Adding(waiting_node, "static", uid="0123abcd").answer()["ips"]


def test_del_ends_an_add_that_waits(waiting_node):
    adding = Adding(waiting_node, "web")
    assert adding.waits()
    adding.pod.cni("DEL")
    assert adding.answer()["code"] == 11
    waiting_node.announce("web", {"app": "web"})
    waiting_node.wait_object("Pod", "shop", "web")
    assert waiting_node.status()["endpoints"] == 0


def test_an_agent_that_stops_answers_the_adds_that_wait(waiting_node):
    adding = Adding(waiting_node, "web")
    assert adding.waits()
    waiting_node.stop()
    assert adding.answer()["code"] == 11


# ---- pods of other nodes ---------------------------------------------------------------------

FAR = "10.99.0.1"


def lists_wait(node):
    """The API server answers no list of pods in one namespace, or of all, until go is set."""
    go = threading.Event()

    def answer(handler, path, query):
        if path.endswith("/pods") and "spec.nodeName=n1" not in query.get("fieldSelector", ""):
            go.wait(timeout=10)
        return False
    node.api_server.answer = answer
    return go


def from_far(selector):
    return [{"from": [selector]}]


@pytest.mark.parametrize("peer, followed", [
    ({"podSelector": {"matchLabels": {"app": "far"}}}, {"near"}),
    ({"namespaceSelector": {"matchLabels": {"team": "far"}}}, {"far"}),
    ({"namespaceSelector": {}}, {"far", "near", "third"}),
    ({"ipBlock": {"cidr": "10.99.0.0/16"}}, set()),
], ids=["own namespace", "another namespace", "every namespace", "no pods"])
def test_only_pods_that_policies_can_tell_apart_are_followed(node, peer, followed):
    for name, team in (("far", "far"), ("third", "third")):
        node.api_server.put(NAMESPACES, name, metadata={"labels": {"team": team}})
    node.announce("near", {"app": "far"}, ["10.99.0.2"], node="n2")
    node.announce("far", {"app": "far"}, [FAR], namespace="far", node="n2")
    node.announce("third", {"app": "far"}, ["10.99.0.3"], namespace="third", node="n2")
    others = lambda: {name for kind, _, name in node.objects_of("kubernetes")
                      if kind == "Pod"} - {"web", "cart"}
    pair(node)
    assert others() == set()
    deny(node, ingress=from_far(peer))
    wait_for(lambda: others() == followed, f"the pods of other nodes: {followed}")
    node.api_server.delete(POLICIES, "deny", "shop")
    wait_for(lambda: others() == set(), "nothing to be followed")


def test_add_waits_for_the_pods_that_its_policies_refer_to(node):
    node.announce("far", {"app": "far"}, [FAR], node="n2")
    deny(node, podSelector={}, ingress=from_far({"podSelector": {"matchLabels": {"app": "far"}}}))
    node.client_start()
    node.wait_synced()
    go = lists_wait(node)
    node.announce("web", {"app": "web"})
    node.wait_object("Pod", "shop", "web")
    adding = Adding(node, "web")
    wait_for(lambda: node.api_server.count("/namespaces/shop/pods?"), "the pods to be asked for")
    assert not adding.future.done()
    go.set()
    assert adding.answer()["ips"]
    assert ("Pod", "shop", "far") in node.objects_of("kubernetes")


def cluster_deny(node, **more):
    node.api_server.put(CLUSTER_POLICIES, "guard", spec={
        "tier": "Admin", "priority": 5, "subject": {"namespaces": {}}, "ingress": [
            {"action": "Deny", "from": [{"namespaces": {"matchLabels": {"team": "far"}}}]}], **more})


def test_a_policy_that_refuses_pods_is_closed_until_they_are_known(node):
    node.api_server.optional = True
    node.api_server.put(NAMESPACES, "far", metadata={"labels": {"team": "far"}})
    web, cart = pair(node)
    assert web.reaches(cart, PORT)
    go = lists_wait(node)
    cluster_deny(node)
    wait_denied(web, cart, "the policy to be closed while it does not know the pods")
    go.set()
    wait_reaches(web, cart, "the policy to be open to others than those")


def test_an_agent_that_starts_again_waits_for_the_pods_of_other_nodes_too(node):
    node.announce("far", {"app": "far"}, [FAR], node="n2")
    web, cart = pair(node)
    deny(node, ingress=from_far({"podSelector": {"matchLabels": {"app": "far"}}}))
    node.wait_object("Pod", "shop", "far")
    node.kill()
    node.client.wait(timeout=15)
    go = lists_wait(node)
    node.start()
    node.client_start()
    wait_for(lambda: node.api_server.count("/namespaces/shop/pods?") > 1, "the pods to be asked for")
    assert node.kube()["state"] == "listing" and web.is_dropped(cart, PORT)
    go.set()
    node.wait_synced()
    assert ("Pod", "shop", "far") in node.objects_of("kubernetes")


def test_a_client_that_starts_again_takes_no_pod_away(node):
    node.announce("far", {"app": "far"}, [FAR], node="n2")
    pair(node)
    deny(node, ingress=from_far({"podSelector": {"matchLabels": {"app": "far"}}}))
    node.wait_object("Pod", "shop", "far")
    node.client_stop(signal.SIGKILL)
    node.announce("gone", {"app": "far"}, ["10.99.0.4"], node="n2")
    go = lists_wait(node)
    node.client_start()
    wait_for(lambda: node.api_server.count("/namespaces/shop/pods?") > 1, "the pods to be asked for")
    assert ("Pod", "shop", "far") in node.objects_of("kubernetes")
    node.api_server.delete(PODS, "far", "shop")
    go.set()
    wait_for(lambda: ("Pod", "shop", "far") not in node.objects_of("kubernetes"),
             "the pod that was deleted meanwhile to go")
    node.wait_object("Pod", "shop", "gone")


# ---- pod CIDRs of the Node object ------------------------------------------------------------

CIDRS = ["10.201.3.0/24", "fd00:201:3::/112"]


def test_pod_cidrs_are_those_of_the_node_object(tmp_path):
    with KubeNode(tmp_path, cidrs=()) as node:
        node.api_server.put(NAMESPACES, "shop")
        node.api_server.put(NODES, "n2", spec={"podCIDRs": ["10.201.4.0/24"]})
        node.api_server.put(NODES, "n1", spec={})
        node.client_start()
        node.wait_synced()
        for name in ("web", "cart"):
            node.announce(name, {})
        answer = node.pod("web", "shop", wire=False).cni("ADD", check=False)
        assert answer["code"] == 11 and "podCIDRs" in json.dumps(answer)
        node.api_server.put(NODES, "n1", spec={"podCIDR": CIDRS[0], "podCIDRs": CIDRS})
        wait_for(lambda: node.status()["podCIDRs"] == CIDRS, "the pod CIDRs of the Node object")
        web = node.pod("web", "shop")
        assert [address.rsplit(".", 1)[0].rsplit(":", 1)[0] for address in web.addresses] == [
            "10.201.3", "fd00:201:3:"]
        web.serve(tcp=[PORT])

        # Without an API server they are remembered, for the pods that are there.
        node.client_stop()
        node.kill()
        node.start()
        assert node.status()["podCIDRs"] == CIDRS
        node.client_start()
        node.wait_synced()
        assert node.pod("cart", "shop").reaches(web, PORT)
        assert "10.201.3.1" in node.netns.run("ip", "address").stdout

        # Others are for the next start; the pods that are there keep their addresses.
        node.api_server.put(NODES, "n1", spec={"podCIDRs": ["10.201.9.0/24"]})
        wait_for(lambda: "from the next start" in node.log(), "a warning")
        assert node.status()["podCIDRs"] == CIDRS


def test_pod_cidrs_of_the_configuration_win(node):
    node.api_server.put(NODES, "n1", spec={"podCIDRs": CIDRS})
    node.client_start()
    node.wait_synced()
    node.wait_object("Node", "", "n1")
    assert set(node.status()["podCIDRs"]) == {"10.200.0.0/24", "fd00:200::/112"}


@pytest.fixture
def external(tmp_path):
    with KubeNode(tmp_path, "--external-ips=true") as made:
        made.api_server.put(NAMESPACES, "shop")
        yield made


def test_thousands_of_conflicts_do_not_cut_the_client_off(external):
    """Each is told for an Event, and a stream with a megabyte unsent is closed."""
    def put(name, address):
        external.api_server.put(SERVICES, name, "shop", spec=service_object(
            name, "shop", [address], [{"port": 80, "protocol": "TCP"}], externalIPs=["203.0.113.80"])["spec"])
    external.api_server.put(NODES, "n1", spec={})
    for number in range(3000):
        put(f"{'a' * 55}-{number}", f"10.96.{number // 250 + 1}.{number % 250 + 1}")
    external.client_start()
    external.wait_synced()
    wait_for(lambda: any("belongs to Service shop/" in text for text in external.status()["failures"]),
             "conflicts")
    put("last", "10.96.99.1")
    wait_for(lambda: ("Service", "shop", "last") in external.objects_of("kubernetes"), "the last Service")
    assert not [text for text in external.status()["warnings"] if "too slow" in text]
