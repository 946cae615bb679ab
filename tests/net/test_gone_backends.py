# SPDX-License-Identifier: Apache-2.0
"""Connections to a backend whose pod is gone end at once; others outlive their endpoint.

    client  ------  10.96.0.10, fd00:96::10  port 80  ------  one, extra  port 8080
"""

import re
import time

import pytest

from tendril import Namespace, Node, NodeProcess, Prober, wait_for
from test_services import FAMILIES, PORT, TARGET, VIPS, Lab

ENDED = {"socket": ("Software caused connection abort",), "packet": ("reset",)}


@pytest.fixture(scope="module", params=["socket", "packet"])
def module_lab(request):
    with Node(*(["--socket-services=false"] if request.param == "packet" else [])) as node:
        yield Lab(node, request.param)


@pytest.fixture
def lab(module_lab):
    yield module_lab
    module_lab.clear()


@pytest.fixture
def extra(lab):
    pod = lab.node.pod("extra", labels={"app": "extra"})
    pod.serve(tcp=[TARGET], udp=[TARGET])
    yield pod
    pod.cni("DEL")
    pod.delete()


def end_of(lab, key):
    """How a kept connection ends: packet by packet its client is told when it sends."""
    if lab.layer == "packet":
        lab.client.call("send", id=key)
    return lab.client.call("wait_end", id=key, timeout=3)["result"]  # at once; else it is minutes


@FAMILIES
def test_a_connection_ends_with_its_pod_and_not_with_its_endpoint(lab, extra, family):
    lab.publish(extra)
    assert lab.client.call("hold", id="tcp", addr=VIPS[family], port=PORT)["name"] == "extra"
    # Terminating, not ready, taken out of the service alive: it finishes what it has begun.
    for conditions in ({"ready": False, "serving": True, "terminating": True},
                       {"ready": False, "serving": False}, None):
        listed = [extra] if conditions else []
        lab.publish(lab.one, *listed, conditions={"extra": conditions})
        assert lab.client.call("ping", id="tcp")["result"] == "ok", conditions
    extra.cni("DEL")  # its process still holds the other end
    assert end_of(lab, "tcp") in ENDED[lab.layer]
    assert lab.call(family)["name"] == "one"


class Stranger(Prober, Namespace):
    """A server outside: its addresses are in no pod range."""

    v4, v6, pod_name = "198.51.100.2", "2001:db8::2", "stranger"

    def __init__(self, node):
        super().__init__(f"{node.name}-out")
        self.node = node
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns",
                      self.name)
        for side, device, number in ((node.netns, "uplink", 1), (self, "eth0", 2)):
            side.ip("address", "add", f"198.51.100.{number}/24", "dev", device)
            side.ip("address", "add", f"2001:db8::{number}/64", "dev", device, "nodad")
            side.ip("link", "set", device, "up")
        self.ip("route", "add", node.cidrs[0], "via", "198.51.100.1")
        self.ip("-6", "route", "add", node.cidrs[1], "via", "2001:db8::1")
        self.call("serve", name=self.pod_name, tcp=[TARGET], udp=[])


@pytest.fixture(scope="module")
def stranger(module_lab):
    lab = module_lab
    server = Stranger(lab.node)
    for address in (server.v4, server.v6):
        wait_for(lambda: lab.client.connect(address, TARGET, timeout=0.3)["result"] == "ok",
                 "the uplink")
    yield server
    server.quit()
    lab.node.netns.ip("link", "del", "uplink")
    server.delete()


@FAMILIES
@pytest.mark.parametrize("change", ["another selector", "made again"])
def test_a_backend_that_is_no_pod_of_this_node_may_be_alive(lab, extra, stranger, family, change):
    lab.publish(stranger)
    assert lab.client.call("hold", id="far", addr=VIPS[family], port=PORT)["name"] == "stranger"
    lab.publish(extra)
    assert lab.client.call("hold", id="near", addr=VIPS[family], port=PORT)["name"] == "extra"
    lab.publish(*[lab.one] * (change == "another selector"))
    extra.cni("DEL")
    assert end_of(lab, "near") in ENDED[lab.layer]  # what looked for the one saw the other, too
    assert lab.client.call("ping", id="far")["result"] == "ok"
    lab.publish(stranger)
    assert lab.client.call("ping", id="far")["result"] == "ok"


@FAMILIES
@pytest.mark.parametrize("module_lab", ["socket"], indirect=True)
def test_a_socket_that_is_bound_to_a_device_is_ended_too(lab, extra, family):
    lab.publish(extra)
    held = lab.client.call("hold", id="bound", addr=VIPS[family], port=PORT, device="eth0")
    assert held["name"] == "extra"
    lab.publish(lab.one)
    extra.cni("DEL")
    assert end_of(lab, "bound") in ENDED["socket"]


@FAMILIES
def test_a_connection_waits_for_a_pod_that_is_listed(lab, extra, family):
    lab.publish(lab.one, extra, conditions={"one": {"ready": False, "serving": False}})
    assert lab.client.call("hold", id="tcp", addr=VIPS[family], port=PORT)["name"] == "extra"
    lab.publish(lab.one, extra, conditions={"extra": {"ready": False, "serving": False}})
    extra.cni("DEL")
    assert lab.client.call("wait_end", id="tcp", timeout=0.5)["result"] == "timeout"
    lab.publish(lab.one)
    assert end_of(lab, "tcp") in ENDED[lab.layer]


@FAMILIES
def test_a_connected_udp_socket_is_told_that_its_endpoint_is_gone(lab, extra, family):
    lab.publish(extra)
    assert lab.call(family, "udp", id="udp", connected=True)["name"] == "extra"
    lab.publish(extra, lab.one)
    assert lab.call(family, "udp", id="udp", connected=True)["name"] == "extra"
    lab.publish(lab.one)
    if lab.layer == "packet":  # the flow moves
        assert lab.call(family, "udp", id="udp", connected=True)["name"] == "one"
    else:
        wait_for(lambda: lab.call(family, "udp", id="udp", connected=True, timeout=0.3)["result"]
                 in ("Destination address required", "Software caused connection abort"), "its end")
    lab.client.call("close", id="udp")


@FAMILIES
def test_what_went_while_no_agent_ran(lab, extra, family):
    lab.publish(extra)
    assert lab.client.call("hold", id="tcp", addr=VIPS[family], port=PORT)["name"] == "extra"
    lab.publish(lab.one)
    lab.node.kill()
    extra.ip("link", "del", "eth0")
    lab.node.start()
    extra.cni("DEL")
    assert end_of(lab, "tcp") in ENDED[lab.layer]


@FAMILIES
@pytest.mark.parametrize("module_lab", ["socket"], indirect=True)
def test_connections_of_the_node_itself(lab, extra, family):
    lab.publish(extra)
    process = NodeProcess(lab.node)
    assert process.call("hold", id="tcp", addr=VIPS[family], port=PORT)["name"] == "extra"
    lab.publish(lab.one)
    extra.cni("DEL")
    assert process.call("wait_end", id="tcp")["result"] in ENDED["socket"]
    process.quit()


def test_thousands_of_connections_do_not_hold_up_the_agent(lab, extra):
    """Direct ones, and those to other backends, stay."""
    count = 1000
    lab.publish(extra)
    assert lab.client.call("hold", id="direct", addr=extra.v4, port=TARGET)["result"] == "ok"
    for i in range(count):
        assert lab.client.call("hold", id=f"tcp-{i}", addr=VIPS[0], port=PORT)["name"] == "extra"
    lab.publish(lab.one)
    assert lab.client.call("hold", id="other", addr=VIPS[0], port=PORT)["name"] == "one"
    extra.cni("DEL")
    slowest = 0
    while True:
        began = time.monotonic()
        ended = [int(n) for n in re.findall(r"ended (\d+) connections", lab.node.log())]
        lab.node.api("GET", "/v1/ready")
        slowest = max(slowest, time.monotonic() - began)
        if sum(ended) >= count:
            break
    assert slowest < 0.2
    assert lab.client.call("ping", id="other")["result"] == "ok"
    assert lab.client.call("wait_end", id="direct", timeout=0.2)["result"] == "timeout"
