# SPDX-License-Identifier: Apache-2.0
"""What a process without privileges does in one pod must not be felt in another.

    flooder  -----> dns     datagrams to as many ports as there are
    client   -----> dns     isolated: its answers need an entry in the connection table
"""

import sys

import pytest

from tendril import Node, policy_object, wait_for

FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])

# Every pair of ports is a flow of its own.  A rate of 0 is as fast as it goes.
FLOOD = """
import itertools, socket, sys, time
target, rate = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in target else socket.AF_INET
began = time.monotonic()
for round in itertools.count():
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        for port in range(1024, 5120):
            sock.sendto(b"x", (target, port))
            if rate and port % 32 == 0:
                sent = round * 4096 + port - 1024
                time.sleep(max(0, began + sent / rate - time.monotonic()))
"""


@pytest.fixture(scope="module")
def lab():
    with Node() as node:  # the connection table has its default size
        pods = [node.pod(name, labels={"app": name}) for name in ("flooder", "client", "dns")]
        pods[2].serve(udp=[53])
        node.put(policy_object("all", "default", {"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["flooder", "client"]}]},
            policyTypes=["Ingress", "Egress"],
            egress=[{"to": [{"podSelector": {"matchLabels": {"app": "dns"}}}]}]))
        yield node, *pods


def refused(node):
    counts = {n["name"]: n["count"] for n in node.status()["notices"]}
    return counts.get("CT_FULL", 0)  # listed once it is not 0


def assert_answered(client, dns, family, questions):
    answers = [client.udp(dns.addresses[family], 53)["result"] for _ in range(questions)]
    assert answers == ["ok"] * questions


@FAMILIES
@pytest.mark.parametrize("rate", [3200, 0], ids=["3200 a second", "unbounded"])
def test_a_flood_does_not_take_the_answers_of_another_pod(lab, family, rate):
    node, flooder, client, dns = lab
    before = refused(node)
    flood = flooder.popen("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                          "--bounding-set=-all", sys.executable, "-c", FLOOD,
                          dns.addresses[family], str(rate))
    try:
        wait_for(lambda: refused(node) > before + 1000, "a connection table under pressure", 20)
        assert_answered(client, dns, family, 200)
        assert flood.poll() is None
    finally:
        flood.kill()
        flood.wait()
    assert_answered(client, dns, family, 200)
