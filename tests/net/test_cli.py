# SPDX-License-Identifier: Apache-2.0
"""The command line against a real agent: what is stored, names that are completed, events of one pod.

    pod "web": the client      pod "cart": closed by policy
"""

import json
import select
import subprocess

import pytest
import yaml

from tendril import BUILD, Node, UnixConnection, pod_object, policy_object

PORT = 8080
CLOSED = policy_object("closed", "default", {"matchLabels": {"app": "cart"}}, policyTypes=["Ingress"])


class World:
    def __init__(self):
        self.node = Node()
        self.web, self.cart = (self.node.pod(name) for name in ("web", "cart"))
        self.cart.serve(tcp=[PORT])
        self.node.put(CLOSED, *[pod_object(name, labels={"app": name}, addresses=pod.addresses)
                                for name, pod in (("web", self.web), ("cart", self.cart))])


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.node.close()


def test_get_shows_what_is_stored(world):
    cli = world.node.cli
    assert cli("get", "pods", "-o", "name").stdout == "Pod/default/cart\nPod/default/web\n"
    listed = cli("get", "policies", "-o", "wide").stdout.splitlines()
    assert listed[1].startswith("default/closed  NetworkPolicy") and listed[1].endswith("  api")
    stored = yaml.safe_load(cli("get", "netpol", "closed", "-o", "yaml").stdout)
    assert stored["spec"] == CLOSED["spec"]
    assert cli("get", "pods", "-n", "other", "-o", "name").stdout == ""


def test_the_shell_completes_what_the_agent_has(world):
    def offered(*words):
        return set(subprocess.run([BUILD / "tendril", "complete", *words], capture_output=True, text=True,
                                  env={"TENDRIL_SOCKET": str(world.node.socket)}).stdout.split())
    assert offered("endpoint", "get", "") == {"default/web", "default/cart"}
    assert offered("policy", "delete", "d") == {"default/closed"}
    assert offered("get", "pods", "-n", "") == {"default"}


def test_monitor_shows_the_drops_of_one_pod(world):
    process = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "monitor", "--verdict",
                                "deny", "--to", "cart", "-n", "default", "--port", str(PORT), "-o", "json"],
                               stdout=subprocess.PIPE, text=True)
    try:
        # The stream may begin after the first attempts: each attempt is one more chance.
        for _ in range(20):
            assert world.web.connect(world.cart.v4, PORT, timeout=0.25)["result"] == "timeout"
            if select.select([process.stdout], [], [], 0.1)[0]:
                break
        event = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    assert event["type"] == "drop" and event["destination"]["pod"] == "default/cart"
    assert event["destination"]["port"] == PORT and event["source"]["pod"] == "default/web"


def test_explain_names_the_policy(world):
    done = world.node.cli("policy", "explain", "web", "cart", "--port", str(PORT))
    assert done.stdout.startswith("deny") and "NetworkPolicy default/closed" in done.stdout
    assert world.node.cli("status").returncode == 0


# ---- status --wait ----

def waiting(node, *more):
    return subprocess.Popen([BUILD / "tendril", "--socket", node.socket, "status", "-o", "json", *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_status_waits_for_an_agent_that_has_yet_to_start():
    with Node(start=False) as node:
        process = waiting(node, "--wait")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        node.start()
        out, err = process.communicate(timeout=5)
        assert (process.returncode, err, json.loads(out)["ready"]) == (0, "", True)


def test_status_waits_until_what_is_wrong_is_mended():
    with Node("--kubernetes=true") as node:
        process = waiting(node, "--wait=60s")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        for line in ("RESET", "SYNCED"):
            connection = UnixConnection(node.run_dir / "kube/kube.sock")
            connection.request("POST", "/v1/sources/kubernetes", f'{{"type":"{line}"}}\n')
            assert connection.getresponse().status == 200
        out, _ = process.communicate(timeout=5)
        assert process.returncode == 0 and json.loads(out)["failures"] == []


def test_status_says_what_is_wrong_when_the_time_is_up():
    with Node("--kubernetes=true") as node:
        process = waiting(node, "--wait=1")
        out, _ = process.communicate(timeout=5)
        assert process.returncode == 1 and any("Kubernetes" in text
                                               for text in json.loads(out)["failures"])
        node.stop()
        process = waiting(node, "--wait=1s")
        assert "no agent answers" in process.communicate(timeout=5)[1]
        assert process.returncode == 1
    process = waiting(node, "--wait=soon")
    assert "is not a time" in process.communicate(timeout=5)[1]
    assert process.returncode == 2
