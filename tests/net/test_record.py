# SPDX-License-Identifier: Apache-2.0
"""tendril policy record over real pods: what is recorded, once applied, lets the same traffic pass
and nothing else.

    pods "web", "cart", "dns", "probe" in shop; the node itself
"""

import signal
import subprocess

import pytest

from test_flows import Flows
from tendril import (BUILD, pod_object, policy_object, service_object, slice_object, wait_for)

PORT = 8080
OTHER = 8081
VIP = "10.96.0.8"


class World:
    def __init__(self, node):
        self.node = node
        self.pods = {name: node.pod(name, "shop") for name in ("web", "cart", "dns", "probe")}
        self.web, self.cart, self.dns, self.probe = self.pods.values()
        for pod in self.pods.values():
            pod.serve(tcp=[PORT, OTHER], udp=[53, PORT])
        node.put(*[pod_object(name, "shop", {"app": name, "pod-template-hash": "x"}, pod.addresses,
                              accelerate=name in ("web", "cart"))
                   for name, pod in self.pods.items()],
                 service_object("cart", "shop", [VIP], [{"port": 80, "targetPort": PORT}]),
                 slice_object("cart-1", "shop", "cart", "IPv4", [{"port": PORT}],
                              [self.cart.v4]))
        wait_for(lambda: node.status()["acceleration"]["state"] == "on", "the self-test")

    def record(self, *argv, traffic=lambda: None, output="yaml"):
        """Records while the traffic runs; an interrupt ends the window."""
        process = subprocess.Popen([BUILD / "tendril", "--socket", self.node.socket, "policy",
                                    "record", *(["-o", "json"] if output == "json" else []),
                                    *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        first = process.stderr.readline()
        assert "observing for" in first, first
        traffic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0, err
        return out, err


@pytest.fixture(scope="module")
def world(shared_node):
    return World(shared_node)


def ok(answer):
    return answer["result"] == "ok"


def test_what_is_recorded_lets_the_same_traffic_pass_and_nothing_else(world, tmp_path):
    world.web.call("hold", id="old", addr=world.cart.v4, port=OTHER)  # idle, accelerated
    assert ok(world.web.call("ping", id="old"))

    def traffic():
        for family in ("v4", "v6"):
            assert ok(world.web.connect(getattr(world.cart, family), PORT))
            assert ok(world.web.udp(getattr(world.dns, family), 53))
        assert ok(world.probe.connect(VIP, 80)), "a service, seen as its backend"

    out, err = world.record("--for", "2s", traffic=lambda: (traffic(), wait_flows(world)))
    assert "4 policies" in err
    file = tmp_path / "recorded.yaml"
    file.write_text(out)
    validated = world.node.cli("policy", "validate", file)
    assert "ok, 4 objects" in validated.stdout
    world.node.cli("policy", "apply", "-f", file)
    traffic()
    assert ok(world.web.call("ping", id="old")), "what was connected before lives on"
    assert ok(world.web.connect(world.cart.v4, OTHER))
    for source, target, port in (("web", "cart", 9999), ("web", "dns", PORT),
                                 ("web", "probe", PORT), ("cart", "web", PORT),
                                 ("probe", "cart", OTHER), ("dns", "cart", PORT)):
        for addr in world.pods[target].addresses:
            answer = world.pods[source].connect(addr, port, timeout=0.2)
            assert answer["result"] == "timeout", (source, target, port, answer)
    assert world.web.udp(world.cart.v4, 53, timeout=0.2)["result"] == "timeout"
    world.node.cli("policy", "delete", "-f", file)
    world.web.call("close", id="old")


def wait_flows(world):
    """Until the observation has told of a flow that came last."""
    with Flows(world.node) as flows:
        flows.wait(world.probe.v4, world.cart.v4, PORT)


def test_only_for_the_pods_that_were_asked_for(world):
    out, err = world.record("shop/web", output="json",
                            traffic=lambda: ok(world.web.connect(world.cart.v4, PORT)))
    assert '"recorded-web"' in out and "recorded-cart" not in out
    assert "1 policies" in err
    out, _ = world.record("-n", "shop")
    assert out.count("kind: NetworkPolicy") == 4


def test_audited_pods_record_what_policy_would_cut(world):
    world.node.put(policy_object("closed", "shop", {"matchLabels": {"app": "cart"}}),
                   pod_object("cart", "shop", {"app": "cart"}, world.cart.addresses, audit=True))

    def traffic():
        assert ok(world.web.connect(world.cart.v4, PORT))
        with Flows(world.node) as flows:
            wait_for(lambda: "audited" in flows.wait(world.web.v4, world.cart.v4, PORT)["seen"],
                     "the audited flow")

    out, _ = world.record("shop/cart", traffic=traffic)
    assert "app: web" in out and "port: 8080" in out
    world.node.cli("policy", "delete", "shop/closed")


@pytest.mark.parametrize("argv, status, text", [
    (["--for", "never"], 2, '"never" is not a time such as 60s, 5m or 1h, up to a day'),
    (["--for", "25h"], 2, '"25h" is not a time such as 60s, 5m or 1h, up to a day'),
    (["-n", "nowhere"], 1, "namespace nowhere has no pods on this node"),
    (["shop/nobody"], 1, "shop/nobody is not a pod of this node"),
    (["a/b/c"], 2, "a/b/c: must be NAMESPACE/NAME"),
])
def test_bad_questions_are_refused_at_once(world, argv, status, text):
    done = world.node.cli("policy", "record", *argv, check=False)
    assert done.returncode == status and text in done.stderr


def test_without_an_agent_it_says_so(tmp_path):
    done = subprocess.run([BUILD / "tendril", "--socket", tmp_path / "no.sock", "policy",
                           "record"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no agent answers" in done.stderr and "is tendrild running?" in done.stderr
