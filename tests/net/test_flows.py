# SPDX-License-Identifier: Apache-2.0
"""Observation of flows: who speaks to whom, what was connected before, and that it ends."""

import json
import threading

import pytest

from tendril import (Node, UnixConnection, pod_object, policy_object, run, service_object,
                     slice_object, wait_for)

PORT = 8080
VIP = "10.96.0.7"


class Flows:
    """The stream of GET /v1/flows, read in the background."""

    def __init__(self, node, seconds=None):
        self.connection = UnixConnection(node.socket, timeout=30)
        self.connection.request("GET", "/v1/flows" + (f"?seconds={seconds}" if seconds else ""))
        self.sock = self.connection.sock  # the response takes it away
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.lines = [json.loads(self.response.readline())]
        assert self.lines == [{"observing": True}]
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        try:
            for line in self.response:
                self.lines.append(json.loads(line))
        except (OSError, ValueError, AttributeError):
            pass  # closed from this side

    def find(self, source, destination, port, proto="TCP"):
        return [line for line in list(self.lines) if line.get("protocol") == proto and
                (line["source"], line["destination"], line["port"]) == (source, destination, port)]

    def wait(self, *flow):
        wait_for(lambda: self.find(*flow), f"flow {flow}")
        return self.find(*flow)[-1]

    def close(self):
        try:
            self.sock.shutdown(2)
        except OSError:
            pass  # the other side has ended it
        self.reader.join(5)
        self.response.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class World:
    def __init__(self, node):
        self.node = node
        self.pods = {name: node.pod(name) for name in ("web", "cart", "fast")}
        self.web, self.cart, self.fast = self.pods.values()
        for pod in self.pods.values():
            pod.serve(tcp=[PORT], udp=[PORT])
        self.node.put(*[pod_object(name, labels={"app": name}, addresses=pod.addresses,
                                   accelerate=name != "cart")
                        for name, pod in self.pods.items()])
        wait_for(lambda: node.status()["acceleration"]["state"] == "on", "the self-test")


@pytest.fixture(scope="module")
def world(shared_node):
    return World(shared_node)


def flow_map(node):
    return json.loads(run("bpftool", "-j", "map", "dump", "pinned",
                          node.bpffs / "maps/flow_map").stdout)


def test_openings_are_noted_and_answers_are_not(world):
    with Flows(world.node) as flows:
        for source, target in zip(world.web.addresses, world.cart.addresses):
            assert world.web.connect(target, PORT)["result"] == "ok"
            assert world.web.udp(target, PORT)["result"] == "ok"
            flow = flows.wait(source, target, PORT)
            assert flow["seen"] == ["passed"]
            assert (flow["sourcePod"], flow["destinationPod"]) == ("default/web", "default/cart")
            assert flows.wait(source, target, PORT, "UDP")["seen"] == ["passed"]
        assert not [line for line in flows.lines if line.get("source") in world.cart.addresses]


def test_what_was_connected_before_is_found(world):
    for family, target in (("v4", world.cart.v4), ("v6", world.cart.v6), ("fast", world.fast.v4)):
        world.web.call("hold", id=family, addr=target, port=PORT)
    assert world.web.call("ping", id="fast")["result"] == "ok"
    with Flows(world.node) as flows:
        assert flows.wait(world.web.v4, world.cart.v4, PORT)["seen"] == ["found"]
        assert flows.wait(world.web.v6, world.cart.v6, PORT)["seen"] == ["found"]
        assert flows.wait(world.web.v4, world.fast.v4, PORT)["seen"] == ["found"]
        assert world.web.connect(world.cart.v4, PORT)["result"] == "ok"
        wait_for(lambda: flows.wait(world.web.v4, world.cart.v4, PORT)["seen"] ==
                 ["passed", "found"], "what was found and is seen again")
        assert not [line for line in flows.lines if line.get("source") in world.cart.addresses]
    for family in ("v4", "v6", "fast"):
        world.web.call("close", id=family)


def test_services_are_seen_as_their_backends(world):
    world.node.put(service_object("cart", "default", [VIP], [{"port": 80, "targetPort": PORT}]),
                   slice_object("cart-1", "default", "cart", "IPv4", [{"port": PORT}],
                                [world.cart.v4]))
    world.web.call("hold", id="service", addr=VIP, port=80)
    with Flows(world.node) as flows:
        assert flows.wait(world.web.v4, world.cart.v4, PORT)["seen"] == ["found"]
        assert world.web.connect(VIP, 80)["result"] == "ok"
        wait_for(lambda: "passed" in flows.wait(world.web.v4, world.cart.v4, PORT)["seen"],
                 "the flow to the backend")
        assert not [line for line in flows.lines if line.get("destination") == VIP]
    world.web.call("close", id="service")


def test_denied_flows_are_told_as_such(world):
    world.node.put(policy_object("closed", "default", {"matchLabels": {"app": "cart"}}))
    with Flows(world.node) as flows:
        assert world.web.connect(world.cart.v4, PORT, timeout=0.2)["result"] == "timeout"
        assert flows.wait(world.web.v4, world.cart.v4, PORT)["seen"] == ["denied"]
    world.node.cli("policy", "delete", "default/closed")


def test_the_window_ends_by_itself_and_nothing_is_left(world):
    with Flows(world.node, seconds=1) as flows:
        assert world.web.connect(world.cart.v4, PORT)["result"] == "ok"
        with Flows(world.node) as other:
            other.wait(world.web.v4, world.cart.v4, PORT)  # told, though it came later
            flows.reader.join(10)
            assert flows.lines[-1] == {"end": True, "incomplete": False}
            assert flows.find(world.web.v4, world.cart.v4, PORT)
            assert flow_map(world.node)
    wait_for(lambda: not flow_map(world.node), "an empty flow_map")
    assert world.web.connect(world.cart.v4, PORT)["result"] == "ok"
    assert not flow_map(world.node)


def test_what_does_not_fit_is_said():
    with Node("--max-flows", "128") as node:
        pod = node.pod("web")
        with Flows(node, seconds=2) as flows:
            for port in range(1, 1500):
                pod.udp(pod.v4.rsplit(".", 1)[0] + ".1", port, timeout=0)
            flows.reader.join(10)
            assert flows.lines[-1] == {"end": True, "incomplete": True}


def test_an_agent_that_dies_while_observed_observes_nothing_later(node):
    pod, other = node.pod("web"), node.pod("cart")
    other.serve(tcp=[PORT])
    flows = Flows(node)
    pod.connect(other.v4, PORT)
    flows.wait(pod.v4, other.v4, PORT)
    node.kill()
    node.start()
    flows.close()
    assert pod.connect(other.v4, PORT)["result"] == "ok"
    assert not flow_map(node)


def test_bad_questions_are_refused(world):
    for seconds in ("0", "x", "86401", "-1"):
        answer = world.node.api("GET", f"/v1/flows?seconds={seconds}", status=400)
        assert answer["error"] == "seconds: not a number between 1 and 86400"
