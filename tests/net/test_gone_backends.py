# SPDX-License-Identifier: Apache-2.0
"""Connections to a backend whose pod is gone end at once; others outlive their endpoint.

    client  ------  10.96.0.10, fd00:96::10  port 80  ------  one, extra  port 8080
"""

import re
import time

import pytest

from tendril import Node, NodeProcess, wait_for
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
    began = time.monotonic()
    result = lab.client.call("wait_end", id=key, timeout=3)["result"]
    assert time.monotonic() - began < 1, result
    return result


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
        wait_for(lambda: lab.call(family, "udp", id="udp", connected=True)["result"]
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
    assert process.call("wait_end", id="tcp", timeout=3)["result"] in ENDED["socket"]
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
