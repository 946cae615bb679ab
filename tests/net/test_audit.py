# SPDX-License-Identifier: Apache-2.0
"""Audit mode over real pods: what policy would drop at an audited end passes and is told.

    pod "web": the client      pod "cart": closed by policy, audited by its annotation
    pod "till": closed too, enforced
"""

import json
import os
import pathlib
import signal
import subprocess
import threading

import pytest

from tendril import BUILD, Node, pod_object, policy_object, run, wait_for

PORT = 8080
CLOSED = policy_object("closed", "default", {"matchExpressions": [
    {"key": "app", "operator": "In", "values": ["cart", "till"]}]},
    policyTypes=["Ingress", "Egress"])


class World:
    def __init__(self, directory):
        self.config = directory / "agent.json"
        self.configure(audit=False)
        self.node = Node("--config", self.config)
        self.pods = {name: self.node.pod(name) for name in ("web", "cart", "till")}
        self.web, self.cart, self.till = self.pods.values()
        for pod in self.pods.values():
            pod.serve(tcp=[PORT], udp=[PORT])
        self.put_pods()
        wait_for(lambda: self.node.status()["acceleration"]["state"] == "on", "the self-test")

    def put_pods(self, audited=("cart",), accelerated=()):
        self.node.put(*[pod_object(name, labels={"app": name}, addresses=pod.addresses,
                                   audit=name in audited, accelerate=name in accelerated)
                        for name, pod in self.pods.items()])

    def configure(self, **settings):
        self.config.write_text(json.dumps(settings))

    def reload(self, audit):
        self.configure(audit=audit)
        self.node.agent.send_signal(signal.SIGHUP)
        wait_for(lambda: self.node.status()["audit"]["node"] == audit, "the reload")

    def reaches(self, source, target, proto="tcp"):
        return source.reaches(target, PORT, proto)

    def drops(self, source, target):
        return source.is_dropped(target, PORT)

    def endpoint(self, name):
        return self.node.api("GET", f"/v1/endpoints/default/{name}")


@pytest.fixture(scope="module")
def module_world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("audit"))
    yield made
    made.node.close()


@pytest.fixture
def world(module_world):
    yield module_world
    module_world.reload(audit=False)
    module_world.put_pods()
    run(BUILD / "tendril", "--socket", module_world.node.socket, "policy", "delete",
        "default/closed", check=False)


class Monitor:
    """`tendril monitor`, line by line."""

    def __init__(self, node, *argv):
        self.process = subprocess.Popen([BUILD / "tendril", "--socket", node.socket, "monitor",
                                         *argv], stdout=subprocess.PIPE, text=True)
        wait_for(self.has_asked, "monitor")
        node.status()  # answered after the monitor's request, which came first

    def has_asked(self):
        """It has a socket and sleeps: on a busy machine it may have the one long before it has sent its
        request, and what happens until then is not told to it."""
        process = pathlib.Path(f"/proc/{self.process.pid}")
        return (any("socket:" in os.readlink(fd) for fd in process.glob("fd/*"))
                and (process / "wchan").read_text() != "0")

    def __enter__(self):
        return self

    def line_with(self, *words):
        late = threading.Timer(20, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                if all(word in line for word in words):
                    return line
        finally:
            late.cancel()
        raise AssertionError(f"the monitor ended before it said {words}")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_an_audited_pod_lets_pass_and_tells(world):
    world.node.put(CLOSED)
    before = world.endpoint("cart")["stats"]
    with Monitor(world.node, "--type", "audit", "-o", "json") as monitor:
        for proto in ("tcp", "udp"):
            assert world.reaches(world.web, world.cart, proto)
            event = json.loads(monitor.line_with('"INGRESS_DENIED"', proto.upper()))
            assert event["type"] == "audit" and event["direction"] == "ingress"
            assert event["source"]["pod"] == "default/web"
            assert event["destination"]["pod"] == "default/cart"
        assert world.reaches(world.cart, world.web), "its egress is audited as well"
        event = json.loads(monitor.line_with('"EGRESS_DENIED"'))
        assert event["direction"] == "egress" and event["source"]["pod"] == "default/cart"
    after = world.endpoint("cart")["stats"]
    assert after["wouldDrops"] >= before["wouldDrops"] + 6
    assert after["drops"] == before["drops"]
    assert world.endpoint("cart")["audit"] and not world.endpoint("till")["audit"]
    status = world.node.status()
    assert status["audit"] == {"node": False, "endpoints": 1}
    assert any(n["name"] == "WOULD_DROP" for n in status["notices"])


def test_monitor_and_views_say_it_in_words(world):
    world.node.put(CLOSED)
    with Monitor(world.node) as monitor:
        assert world.reaches(world.web, world.cart)
        line = monitor.line_with("WOULD DROP", "default/web", "default/cart")
        assert "ingress INGRESS_DENIED: ingress policy of the receiver does not allow it" in line
    assert "not enforced on 1 endpoint" in world.node.cli("status", check=False).stdout
    assert "both (audit)" in world.node.cli("endpoint", "list").stdout
    assert "would be dropped (audit)" in world.node.cli("endpoint", "get", "default/cart").stdout


def test_the_enforced_end_is_enforced_as_ever(world):
    world.node.put(CLOSED)
    assert world.drops(world.web, world.till)
    assert world.drops(world.cart, world.till), "what the audited end lets go, till refuses"
    assert world.drops(world.till, world.cart), "till may not send"


def test_the_nodes_setting_and_back_on_live_connections(world):
    world.reload(audit=True)
    world.node.put(CLOSED)
    for target in (world.cart, world.till):
        assert world.reaches(world.web, target) and world.reaches(world.web, target, "udp")
    assert "audit mode" in world.node.cli("status", check=False).stdout
    for family in ("v4", "v6"):
        world.web.call("hold", id=family, addr=getattr(world.till, family), port=PORT)
        assert world.web.call("ping", id=family)["result"] == "ok"
    world.reload(audit=False)
    for family in ("v4", "v6"):
        assert world.web.call("ping", id=family, timeout=0.3)["result"] == "timeout"
        world.web.call("close", id=family)
    assert world.drops(world.web, world.till)
    assert world.reaches(world.web, world.cart), "the annotation is the pod's own"


def test_accelerated_connections_stay_while_audited_and_end_after(world):
    world.put_pods(audited=("cart",), accelerated=("web", "cart"))
    wait_for(lambda: world.endpoint("cart")["accelerate"], "the annotation")
    before = world.endpoint("web")["stats"]["accelConnections"]
    world.web.call("hold", id="fast", addr=world.cart.v4, port=PORT)
    assert world.web.call("ping", id="fast")["result"] == "ok"
    assert world.endpoint("web")["stats"]["accelConnections"] == before + 1
    told = world.endpoint("cart")["stats"]["wouldDrops"]
    with Monitor(world.node, "--type", "audit", "-o", "json") as monitor:
        world.node.put(CLOSED)
        event = json.loads(monitor.line_with('"INGRESS_DENIED"'))
        assert event["source"]["pod"] == "default/web"
    for _ in range(3):
        assert world.web.call("ping", id="fast")["result"] == "ok"
    stats = world.endpoint("web")["stats"]
    assert stats["accelConnections"] == before + 1
    assert world.endpoint("cart")["stats"]["wouldDrops"] > told
    world.put_pods(audited=(), accelerated=("web", "cart"))
    assert world.web.call("wait_end", id="fast")["result"] != "timeout"
    world.web.call("close", id="fast")
