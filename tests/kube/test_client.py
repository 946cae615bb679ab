# SPDX-License-Identifier: Apache-2.0
"""tendril-kube between a scripted API server and a scripted agent."""

import functools
import json
import socket
import time

import pytest

import kubeapi
import tendril

PODS, SERVICES = "/api/v1/pods", "/api/v1/services"
NAMESPACES = "/api/v1/namespaces"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"


wait_for = functools.partial(tendril.wait_for, timeout=15)


def keys(api):
    return {(kubeapi.PATHS[path][1], namespace, name) for path, namespace, name in api.objects}


def wait_same(api, agent, **options):
    wait_for(lambda: agent.synced and set(agent.objects) == keys(api), "the agent to know the same",
             **options)


def pod(api, name, address, namespace="shop", **metadata):
    api.put(PODS, name, namespace, metadata=metadata,
            spec={"nodeName": "n1", "containers": [{"name": "c", "image": "x",
                                                    "ports": [{"containerPort": 80}]}],
                  "tolerations": [{}]},
            status={"phase": "Running", "podIPs": [{"ip": address}], "startTime": "then"})


def mangle_once(api, change, cut=False):
    """The next event of a pod is changed on its way; with cut the connection breaks after it."""
    state = {"done": False}

    def mangle(path, line):
        if path != PODS or state["done"]:
            return line, False
        state["done"] = True
        return change(line), cut
    api.mangle = mangle


def fill(api, count=250):
    api.put(NAMESPACES, "shop")
    for number in range(count):
        pod(api, f"pod-{number}", f"10.0.{number // 250}.{number % 250}")


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming list", "pages"])
def test_all_objects_are_handed_on_and_then_what_changes(api, agent, client, streaming):
    api.streaming = streaming
    fill(api)
    client()
    wait_same(api, agent)
    assert api.count("&continue=") == (0 if streaming else 2)
    pod(api, "late", "10.0.9.9")
    api.delete(PODS, "pod-7", "shop")
    wait_same(api, agent)
    pod(api, "late", "10.0.9.10")
    wait_for(lambda: agent.objects["Pod", "shop", "late"]["status"]["podIPs"][0]["ip"] ==
             "10.0.9.10", "the new address")
    assert agent.resets == 1


def test_only_what_the_agent_acts_on_is_handed_on(api, agent, client):
    pod(api, "web", "10.0.0.1", labels={"app": "web"},
        annotations={"tendril.io/policy-audit": "true", "other.io/x": "1"})
    client()
    wait_same(api, agent)
    assert agent.objects["Pod", "shop", "web"] == {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-web", "labels": {"app": "web"},
                     "annotations": {"tendril.io/policy-audit": "true"}},
        "spec": {"nodeName": "n1",
                 "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}


def test_of_a_policy_everything_is_handed_on(api, agent, client):
    """A field that is not known here may close something: the agent must see it."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], "fromTheFuture": [{"a": 1}]}
    api.put(POLICIES, "p", "shop", spec=spec)
    client()
    wait_same(api, agent)
    assert agent.objects["NetworkPolicy", "shop", "p"]["spec"] == spec


def test_a_watch_that_ends_goes_on_where_it_was(api, agent, client):
    fill(api, 3)
    client()
    wait_same(api, agent)
    lists = api.count("sendInitialEvents")
    api.end_watches()
    pod(api, "meanwhile", "10.0.9.1")
    wait_same(api, agent)
    assert api.count("sendInitialEvents") == lists and agent.resets == 1


@pytest.mark.parametrize("how", ["event", "status"])
def test_gone_makes_a_new_list_and_only_differences_are_told(api, agent, client, how):
    fill(api, 20)
    client()
    wait_same(api, agent)
    batches = agent.batches
    if how == "event":
        api.error(410, PODS)
    else:
        lost = []

        def answer(handler, path, query):
            if path == PODS and "resourceVersion" in query and not lost:
                lost.append(1)
                api.status(handler, 410, "too old resource version")
                return True
            return False
        api.answer = answer
        api.end_watches(PODS)
    del api.objects[PODS, "shop", "pod-3"]  # nobody was told
    wait_same(api, agent)
    assert agent.batches - batches <= 2 and agent.resets == 1


def test_compaction_is_survived(api, agent, client):
    fill(api, 5)
    client()
    wait_same(api, agent)
    api.forget_history()
    api.end_watches()
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)


def test_an_error_event_is_tried_again(api, agent, client):
    fill(api, 5)
    client()
    wait_same(api, agent)
    api.error(500, PODS)
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)


def test_streams_may_be_cut_at_every_byte_of_an_event(api, agent, client):
    """Whatever part of an event comes before the connection breaks: the object is told once, whole."""
    fill(api, 2)
    client()
    wait_same(api, agent)
    length = len(json.dumps({"type": "ADDED", "object": {
        "apiVersion": "v1", "kind": "Pod", **api.objects[PODS, "shop", "pod-1"]}}))
    for number, at in enumerate(range(0, length + 1, 23)):
        mangle_once(api, lambda line, at=at: line[:at], cut=True)
        pod(api, "pod-1", f"10.0.8.{number}")
        wait_for(lambda number=number:
                 agent.objects["Pod", "shop", "pod-1"]["status"]["podIPs"][0]["ip"] ==
                 f"10.0.8.{number}", f"the change cut at byte {at}")
    assert agent.resets == 1


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"nonsense\n", b'{"type":"ADDED"}\n',
                                  b'{"type":"ADDED","object":{"metadata":{}}}\n',
                                  b'{"type":7,"object":{}}\n', b"\0\0\n", b"\n",
                                  b"[" * 100000 + b"\n"])
def test_garbage_changes_nothing(api, agent, client, line):
    fill(api, 3)
    one = client()
    wait_same(api, agent)
    mangle_once(api, lambda _: line)
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)
    assert one.process.poll() is None


def test_an_event_of_an_unknown_type_is_passed_over(api, agent, client):
    fill(api, 3)
    client()
    wait_same(api, agent)
    mangle_once(api, lambda line: line.replace(b"MODIFIED", b"RENAMED"))
    pod(api, "pod-1", "10.0.9.9")
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)


def test_an_event_without_end_is_cut_off(api, agent, client):
    fill(api, 3)
    one = client()
    wait_same(api, agent)
    mangle_once(api, lambda _: b"x" * (9 << 20))
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)
    assert "more than" in one.log()


def test_large_objects_pass(api, agent, client):
    pod(api, "large", "10.0.0.1", labels={f"key-{n}": "v" * 60 for n in range(15000)})
    client()
    wait_same(api, agent)
    assert len(agent.objects["Pod", "shop", "large"]["metadata"]["labels"]) == 15000


def test_too_many_requests_waits_as_long_as_the_server_says(api, agent, client):
    fill(api, 2)
    seen = []

    def answer(handler, path, query):
        if path != PODS:
            return False
        seen.append(time.monotonic())
        if len(seen) > 1:
            return False
        api.status(handler, 429, "too many requests", [("Retry-After", "2")])
        return True
    api.answer = answer
    client()
    wait_same(api, agent)
    assert seen[1] - seen[0] >= 1.9


def test_a_rotated_token_is_used(api, agent, client, tmp_path):
    fill(api, 2)
    one = client()
    wait_same(api, agent)
    api.token = "new"
    api.end_watches()
    wait_for(lambda: "HTTP 401" in one.log(), "a refused request")
    assert set(agent.objects) == keys(api)
    (tmp_path / "token").write_text("new")
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)


def test_a_wrong_ca_is_refused(api, agent, client, tmp_path):
    other, _ = kubeapi.make_certificate(tmp_path, "other")
    fill(api, 2)
    one = client("--kubeconfig", api.kubeconfig(tmp_path, cert=other))
    wait_for(lambda: "certificate" in one.log(), "a complaint")
    assert not agent.objects and not api.requests


def test_the_name_in_the_certificate_may_be_another(api, agent, client, tmp_path):
    fill(api, 2)
    client("--kubeconfig", api.kubeconfig(tmp_path, **{"tls-server-name": "kubernetes.default"}))
    wait_same(api, agent)


def test_another_server_is_tried_where_one_does_not_answer(api, agent, client, tmp_path):
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        fill(api, 2)
        client("--kubeconfig", api.kubeconfig(tmp_path), "--api-server",
               f"https://127.0.0.1:{taken.getsockname()[1]}", "--api-server", api.url)
        wait_same(api, agent)


def test_a_server_that_comes_back_is_followed_again(api, agent, client, tmp_path, certificate):
    fill(api, 5)
    client()
    wait_same(api, agent)
    api.close()
    objects, version = api.objects, api.version
    again = kubeapi.FakeApi(tmp_path, port=api.port, cert=certificate)
    try:
        again.objects, again.version = objects, version
        pod(again, "after", "10.0.9.3")
        del again.objects[PODS, "shop", "pod-2"]
        again.forget_history()
        wait_same(again, agent, timeout=40)
        assert agent.resets == 1
    finally:
        again.close()


def test_a_server_that_falls_silent_is_noticed_within_30_seconds(api, agent, client):
    """Its kernel still acknowledges, but it says nothing more."""
    fill(api, 2)
    one = client()
    wait_same(api, agent)
    began = time.monotonic()
    hung = []

    def answer(handler, path, query):
        hung.append(path)
        if path == "/livez":
            time.sleep(25)
            return True
        return False
    api.answer = answer
    wait_for(lambda: "/livez" in hung, "the question whether anybody is there", timeout=20)
    api.answer = None
    wait_for(lambda: "does not answer" in one.log() or api.count("resourceVersion=") > 0,
             "new watches", timeout=30)
    assert time.monotonic() - began < 30
    pod(api, "after", "10.0.9.3")
    wait_same(api, agent)


def test_a_kind_that_the_cluster_has_not_is_no_failure(api, agent, client):
    api.optional = True
    api.put(CLUSTER_POLICIES, "floor", spec={"tier": "Baseline"})
    client()
    wait_same(api, agent)
    assert ("ClusterNetworkPolicy", "", "floor") in agent.objects


def test_the_agent_is_told_the_last_state_where_it_is_slow(api, agent, client):
    fill(api, 3)
    client()
    wait_same(api, agent)
    agent.delay, before = 0.3, agent.batches
    for number in range(200):
        pod(api, "pod-1", f"10.0.7.{number}")
    wait_for(lambda: agent.objects["Pod", "shop", "pod-1"]["status"]["podIPs"][0]["ip"] ==
             "10.0.7.199", "the last change")
    assert agent.batches - before < 10


def test_at_its_start_it_waits_for_its_agent(api, agent, client, tmp_path):
    fill(api, 3)
    agent.close()
    one = client()
    wait_for(lambda: "waiting for the agent" in one.log(), "the client to say so")
    late = kubeapi.FakeAgent(tmp_path / "agent.sock")
    try:
        wait_same(api, late)
        assert one.process.poll() is None
    finally:
        one.stop()
        late.close()


def test_without_its_agent_it_ends(api, agent, client):
    fill(api, 3)
    one = client()
    wait_same(api, agent)
    agent.status = 500
    pod(api, "after", "10.0.9.3")
    assert one.process.wait(timeout=10) == 1
    assert "agent.sock" in one.log()


def test_it_has_no_privileges(api, agent, client):
    fill(api, 1)
    one = client()
    wait_same(api, agent)
    status = dict(line.split(":\t", 1) for line in
                  open(f"/proc/{one.process.pid}/status").read().splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


@pytest.mark.parametrize("change, complaint", [
    (lambda c: c.pop("current-context"), "current-context: missing"),
    (lambda c: c.update({"current-context": "x"}), 'contexts: there is no "x"'),
    (lambda c: c["users"][0].update(user={"exec": {"command": "aws"}}), 'user "u": exec: '),
    (lambda c: c["users"][0].update(user={"username": "a", "password": "b"}),
     'user "u": username: '),
    (lambda c: c["users"][0].update(user={"as": "admin"}), 'user "u": as: '),
    (lambda c: c["clusters"][0]["cluster"].update(server="http://h"), '"http://h" is not https://'),
    (lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "%%%"}),
     "certificate-authority-data: not base64"),
])
def test_a_kubeconfig_that_cannot_be_used_is_refused_by_field(api, agent, client, tmp_path, change,
                                                             complaint):
    path = api.kubeconfig(tmp_path)
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    one = client("--kubeconfig", path)
    assert one.process.wait(timeout=10) == 1
    assert complaint in one.log() and "kubeconfig" in one.log()


def test_in_a_pod_the_service_account_is_needed(tmp_path, client):
    one = client("--api-server", "https://127.0.0.1:1")
    assert one.process.wait(timeout=10) == 1
    assert "KUBERNETES_SERVICE_HOST" in one.log()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["extra"], ["--log-level", "loud"]])
def test_a_wrong_command_line_exits_2(client, arguments):
    assert client(*arguments).process.wait(timeout=10) == 2


# ---- what one node needs ---------------------------------------------------------------------

@pytest.fixture
def node_client(api, agent, client, tmp_path):
    """The client of node n1, which has the pod shop/own; there are two on node n2, and one waits."""
    for name in ("shop", "far"):
        api.put(NAMESPACES, name, metadata={"labels": {"name": name}}, spec={"finalizers": ["x"]})
    pod(api, "own", "10.0.1.1")
    other(api, "near", "shop")
    other(api, "other", "far")
    api.put(PODS, "waits", "shop", spec={}, status={"phase": "Pending"})
    for name in ("n1", "n2"):
        api.put(NODES, name, status={"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]})
    started = client("--kubeconfig", api.kubeconfig(tmp_path), "--node", "n1")
    wait_for(lambda: agent.synced, "all of this node")
    return started


NODES = "/api/v1/nodes"


def other(api, name, namespace, address="10.0.2.1", **metadata):
    api.put(PODS, name, namespace, metadata=metadata, spec={"nodeName": "n2"},
            status={"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]})


def known(agent, kind):
    return {name for object_kind, _, name in agent.objects if object_kind == kind}


def interest(agent, number, pods, nodes=False):
    agent.ask("INTEREST", number=number, pods=pods, nodes=nodes)
    wait_for(lambda: agent.known == number, f"interest {number}")


def test_of_other_nodes_nothing_is_followed_unasked(api, agent, node_client):
    assert agent.node == "n1"
    assert known(agent, "Pod") == {"own"} and known(agent, "Node") == {"n1"}
    assert known(agent, "Namespace") == {"shop", "far"}
    assert agent.objects["Namespace", "", "shop"]["metadata"]["labels"] == {"name": "shop"}


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming list", "pages"])
def test_the_interest_of_the_agent_is_followed(api, agent, node_client, streaming):
    api.streaming = streaming
    interest(agent, 1, ["shop"])
    assert known(agent, "Pod") == {"own", "near"}
    interest(agent, 2, ["shop", "far"], nodes=True)
    assert known(agent, "Pod") == {"own", "near", "other"} and known(agent, "Node") == {"n1", "n2"}
    interest(agent, 3, "all")
    assert known(agent, "Pod") == {"own", "near", "other"} and known(agent, "Node") == {"n1"}
    interest(agent, 4, ["far"])
    assert known(agent, "Pod") == {"own", "other"}
    interest(agent, 5, [])
    assert known(agent, "Pod") == {"own"}
    other(api, "late", "far")
    pod(api, "own-2", "10.0.1.2")
    wait_for(lambda: "own-2" in known(agent, "Pod"), "a pod of this node")
    assert known(agent, "Pod") == {"own", "own-2"}


def test_a_wider_interest_never_takes_a_pod_away(api, agent, node_client):
    interest(agent, 1, ["shop"])
    taken = []
    agent.told = lambda event: taken.append(event) if event["type"] == "DELETED" else None
    interest(agent, 2, "all")
    interest(agent, 3, ["shop"])
    assert [event["object"]["metadata"]["name"] for event in taken] == ["other"]


def test_a_pod_that_gets_a_node_or_ends_is_followed(api, agent, node_client):
    interest(agent, 1, ["shop"])
    pod(api, "waits", "10.0.1.9")
    wait_for(lambda: "waits" in known(agent, "Pod"), "the pod that got this node")
    other(api, "starts", "shop", address="10.0.2.2")
    wait_for(lambda: "starts" in known(agent, "Pod"), "the pod that got another node")
    api.put(PODS, "starts", "shop", spec={"nodeName": "n2"},
            status={"phase": "Succeeded", "podIP": "10.0.2.2"})
    wait_for(lambda: "starts" not in known(agent, "Pod"), "the pod that ended to go")
    api.put(PODS, "host", "shop", spec={"nodeName": "n2", "hostNetwork": True},
            status={"phase": "Running", "podIP": "192.0.2.1"})
    other(api, "last", "shop", address="10.0.2.3")
    wait_for(lambda: "last" in known(agent, "Pod"), "the last pod")
    assert known(agent, "Pod") == {"own", "near", "waits", "last"}


def test_a_pod_that_is_asked_for_comes_before_its_event(api, agent, node_client):
    api.held = {PODS}
    pod(api, "new", "10.0.1.5", labels={"version": "1"})
    agent.ask("POD", metadata={"namespace": "shop", "name": "new"})
    wait_for(lambda: "new" in known(agent, "Pod"), "the pod that was asked for")
    pod(api, "new", "10.0.1.5", labels={"version": "2"})
    agent.ask("POD", metadata={"namespace": "shop", "name": "new"})
    version = (lambda: agent.objects["Pod", "shop", "new"]["metadata"]["labels"]["version"])
    wait_for(lambda: version() == "2", "its newer state")
    seen = []
    agent.told = lambda event: seen.append(version())
    api.release()
    pod(api, "mark", "10.0.1.6")
    wait_for(lambda: "mark" in known(agent, "Pod"), "the events")
    assert "1" not in seen  # the older event of the watch changes nothing
    agent.told = lambda event: None
    api.delete(PODS, "new", "shop")
    wait_for(lambda: "new" not in known(agent, "Pod"), "its end")


@pytest.mark.parametrize("name", ["other", "missing", "../../x", ""])
def test_a_pod_of_another_node_or_of_none_is_not_handed_on(api, agent, node_client, name):
    agent.ask("POD", metadata={"namespace": "far", "name": name})
    agent.ask("POD", metadata={"namespace": "shop", "name": "own"})
    interest(agent, 1, [])
    wait_for(lambda: api.count("/pods/own") == 1, "the question")
    assert known(agent, "Pod") == {"own"} and api.count("..") == 0


def test_a_missing_kind_is_no_problem_once_the_server_says_so(api, agent, client):
    failures = iter([503] * 3)

    def answer(handler, path, _):
        status = next(failures, None) if "clusternetworkpolicies" in path else None
        if status:
            api.status(handler, status, "not now")
        return status is not None
    api.answer = answer
    client()
    wait_for(lambda: agent.synced and agent.problem == "", "no problem", timeout=15)
    assert next(failures, None) is None


# ---- what is written to the API server -------------------------------------------------------

STATUS = "/api/v1/nodes/n1/status"


def refuse(agent, name, message="no such field", **more):
    agent.ask("REFUSED", reason="NotUnderstood", message=message, object={
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop", "name": name,
        "uid": f"uid-{name}", **more})


def conditions(api):
    return [body["status"]["conditions"] for method, path, body in api.written
            if (method, path) == ("PATCH", STATUS)]


def events(api):
    return [(path, body) for method, path, body in api.written if method == "POST"]


def test_the_node_is_told_to_be_reachable_once_the_agent_is_ready(api, agent, node_client):
    assert not api.written
    agent.ask("READY")
    [condition] = wait_for(lambda: conditions(api), "the condition", timeout=15)[0]
    assert (condition["type"], condition["status"], condition["reason"]) == (
        "NetworkUnavailable", "False", "TendrilIsUp")
    agent.ask("READY")
    api.put("/api/v1/nodes", "n1", status={"conditions": [
        {"type": "NetworkUnavailable", "status": "False", "reason": "TendrilIsUp"}]})
    refuse(agent, "marker")
    wait_for(lambda: events(api), "a later line")
    assert len(conditions(api)) == 1


def test_a_condition_that_somebody_sets_while_the_client_runs_is_set_back(api, agent, node_client):
    def controller(status, address):
        api.put(NODES, "n1", status={
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "NetworkUnavailable", "status": status}]})
    controller("False", "192.0.2.8")
    wait_for(lambda: "192.0.2.8" in json.dumps(agent.objects["Node", "", "n1"]), "the change of the Node")
    agent.ask("READY")
    refuse(agent, "marker")
    wait_for(lambda: events(api), "a later line")
    assert conditions(api) == []
    controller("True", "192.0.2.9")
    wait_for(lambda: conditions(api), "the condition", timeout=15)
    assert node_client.process.poll() is None


def test_an_agent_that_was_ready_before_the_client_started(api, agent, client, tmp_path):
    api.put(NODES, "n1", status={})
    agent.ask("READY")
    one = client("--kubeconfig", api.kubeconfig(tmp_path), "--node", "n1")
    wait_for(lambda: conditions(api), "the condition", timeout=15)
    assert one.process.poll() is None


def test_an_event_that_the_api_server_never_takes_holds_up_no_other(api, agent, node_client):
    api.write_status = 500
    refuse(agent, "first")
    refuse(agent, "second")
    wait_for(lambda: len({body["metadata"]["name"] for _, body in events(api)}) == 2, "the second one",
             timeout=30)
    api.write_status = 200
    count = len(events(api))
    refuse(agent, "first")  # it was not written
    wait_for(lambda: any(body["involvedObject"]["name"] == "first" for _, body in events(api)[count:]),
             "the first one again")


def test_a_node_that_is_reachable_already_is_left_alone(api, agent, node_client):
    api.put("/api/v1/nodes", "n1", status={
        "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
        "conditions": [{"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"}]})
    wait_for(lambda: "192.0.2.9" in json.dumps(agent.objects["Node", "", "n1"]), "the change of the Node")
    agent.ask("READY")
    refuse(agent, "marker")
    wait_for(lambda: events(api), "a later line")
    assert conditions(api) == []


def test_an_object_that_is_refused_gets_one_event(api, agent, node_client):
    for _ in range(3):
        refuse(agent, "web")
    refuse(agent, "web", "another message")
    refuse(agent, "guard", namespace="", kind="ClusterNetworkPolicy")
    wait_for(lambda: len(events(api)) == 3, "an event for each object and message")
    (path, first), (_, second), (cluster_path, cluster) = events(api)
    assert path == "/api/v1/namespaces/shop/events" and cluster_path == "/api/v1/namespaces/default/events"
    assert first["involvedObject"] == {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop", "name": "web",
        "uid": "uid-web"}
    assert (first["type"], first["reason"], first["message"]) == ("Warning", "NotUnderstood", "no such field")
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert cluster["metadata"]["namespace"] == "default" and "namespace" not in cluster["involvedObject"]


def test_events_are_few_at_once_and_an_api_server_that_refuses_them_is_no_harm(api, agent, node_client):
    api.write_status = 409  # another node was first
    for number in range(60):
        refuse(agent, f"p{number}")
    pod(api, "marker", "10.0.1.9")
    wait_for(lambda: len(events(api)) >= 20, "the first events")
    wait_for(lambda: ("Pod", "shop", "marker") in agent.objects, "a later pod")
    assert len(events(api)) <= 22


KEY = "tendril.io/wireguard-key"


def announced(api):
    return [body["metadata"]["annotations"][KEY] for method, path, body in api.written
            if (method, path) == ("PATCH", STATUS) and "metadata" in body]


def test_the_node_announces_the_agents_key(api, agent, node_client):
    first, second = "A" * 42 + "E=", "B" * 42 + "E="
    agent.ask("KEY", key=first)
    wait_for(lambda: announced(api) == [first], "the key", timeout=15)
    api.put(NODES, "n1", metadata={"annotations": {KEY: first}}, status={"addresses": [
        {"type": "InternalIP", "address": "192.0.2.9"}]})
    wait_for(lambda: "192.0.2.9" in json.dumps(agent.objects["Node", "", "n1"]), "the change of the Node")
    refuse(agent, "marker")
    wait_for(lambda: events(api), "a later line")
    agent.ask("KEY", key='"},"labels":{"a":"b')  # no base64: not written
    agent.ask("KEY", key=second)
    wait_for(lambda: announced(api) == [first, second], "the new key", timeout=15)
