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
    api.tell(PODS, "RENAMED", api.objects[PODS, "shop", "pod-1"])
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
