# SPDX-License-Identifier: Apache-2.0
"""Bandwidth limits: kubernetes.io/egress-bandwidth and ingress-bandwidth.

    client 192.0.2.9 ---- wire ---- node 192.0.2.1: pods "a", "b", by Tendril or behind a bridge

How fast is measured by the receiver: the bytes of some time.  A limit is an upper bound; how much of
it a sender uses is up to TCP, which loses packets here, so the lower bound is loose.
"""

import json
import subprocess
import sys

import pytest

from lan import Outside, Wire, settled
from tendril import Node, Pod, pod_object, wait_for
from test_chained import SUBNETS, Behind, bare_node

LIMIT = 16_000_000  # bits a second
SECONDS = 2
UNUSED = LIMIT / 8 / 10 + 128 * 1024  # what was not used before, and a packet or two that are segmented

SINK = """
import socket, sys, time
sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(sock.getsockname()[1], flush=True)
connection, _ = sock.accept()
got, began = 0, time.monotonic()
while time.monotonic() < began + float(sys.argv[1]):
    got += len(connection.recv(65536))
print(got, time.monotonic() - began)
"""
SOURCE = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
try:
    while True:
        sock.sendall(bytes(65536))
except OSError:
    pass
"""


def rate(sender, receiver, address):
    """Bits a second of one TCP connection, less what was saved up before."""
    sink = subprocess.Popen(receiver.enter(sys.executable, "-c", SINK, str(SECONDS)), text=True,
                            stdout=subprocess.PIPE)
    try:
        port = sink.stdout.readline().strip()
        source = subprocess.Popen(sender.enter(sys.executable, "-c", SOURCE, address, port))
        got, seconds = map(float, sink.communicate(timeout=60)[0].split())
        source.wait(timeout=60)
    finally:
        sink.kill()
        sink.wait()
    return (got - UNUSED) * 8 / seconds


def limited(pod, **limits):
    made = pod_object(pod.pod_name, addresses=pod.addresses)
    made["metadata"]["annotations"] = {f"kubernetes.io/{way}-bandwidth": value
                                       for way, value in limits.items()}
    return made


class Lab:
    def __init__(self, node, make_pod, ranges):
        self.node = node
        self.wire = Wire(self.node.name + "w")
        self.client = Outside(self.node.name + "c")
        self.wire.plug(self.client, ["192.0.2.9/24", "2001:db8::9/64"])
        self.wire.plug(self.node.netns, ["192.0.2.1/24", "2001:db8::1/64"])
        self.client.ip("route", "add", ranges[0], "via", "192.0.2.1")
        self.client.ip("-6", "route", "add", ranges[1], "via", "2001:db8::1")
        self.a, self.b = (make_pod(node, name) for name in "ab")
        for netns in (self.node.netns, self.client):
            settled(netns, "up0")

    def close(self):
        self.node.close()
        self.client.delete()
        self.wire.netns.delete()

    def bandwidth(self, pod):
        shown = self.node.cli("endpoint", "get", f"default/{pod.pod_name}", "-o", "json").stdout
        return json.loads(shown)["bandwidth"]


@pytest.fixture(scope="module")
def lab():
    node = Node()
    made = Lab(node, Pod, node.cidrs)
    yield made
    made.close()


@pytest.fixture(scope="module")
def chained():
    made = Lab(bare_node(), lambda node, name: Behind(node, name, "default"), SUBNETS["cni0"])
    for pod in (made.a, made.b):
        pod.serve(tcp=[9])
        for address in pod.addresses:
            wait_for(lambda at=address: made.client.call("connect", addr=at, port=9,
                                                         timeout=0.5)["result"] == "ok", "the pod")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def fresh(lab):
    lab.node.put(limited(lab.a), limited(lab.b))


FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@FAMILIES
def test_what_a_pod_receives(lab, family):
    lab.node.put(limited(lab.b, ingress="16M"))
    assert LIMIT / 10 < rate(lab.a, lab.b, lab.b.addresses[family]) < 1.1 * LIMIT
    assert LIMIT / 10 < rate(lab.client, lab.b, lab.b.addresses[family]) < 1.1 * LIMIT
    assert rate(lab.b, lab.a, lab.a.addresses[family]) > 2 * LIMIT
    assert rate(lab.client, lab.a, lab.a.addresses[family]) > 2 * LIMIT


@FAMILIES
def test_what_a_pod_sends_out_of_the_node(lab, family):
    outside = ["192.0.2.9", "2001:db8::9"][family]
    lab.node.put(limited(lab.a, egress="16M"))
    assert LIMIT / 10 < rate(lab.a, lab.client, outside) < 1.1 * LIMIT
    assert rate(lab.a, lab.b, lab.b.addresses[family]) > 2 * LIMIT
    assert rate(lab.b, lab.client, outside) > 2 * LIMIT


def test_a_limit_changes_and_goes_while_the_pod_runs(lab):
    lab.node.put(limited(lab.b, ingress="16M", egress="1.5Gi"))
    assert lab.bandwidth(lab.b) == {"ingress": 16_000_000, "egress": 1.5 * 2**30}
    lab.node.put(limited(lab.b, ingress="4e6"))
    assert lab.bandwidth(lab.b) == {"ingress": 4_000_000}
    assert rate(lab.a, lab.b, lab.b.v4) < 1.1 * LIMIT / 4
    lab.node.put(limited(lab.b))
    assert lab.bandwidth(lab.b) == {}
    assert rate(lab.a, lab.b, lab.b.v4) > 2 * LIMIT


def test_a_limit_outlives_the_agent(lab):
    lab.node.put(limited(lab.b, ingress="16M"))
    lab.node.kill()
    assert rate(lab.a, lab.b, lab.b.v4) < 1.1 * LIMIT
    lab.node.start()
    assert rate(lab.a, lab.b, lab.b.v4) < 1.1 * LIMIT


def test_acceleration_does_not_go_round_a_limit(lab):
    objects = [limited(lab.a), limited(lab.b, ingress="16M")]
    for each in objects:
        each["metadata"]["annotations"]["tendril.io/accelerate"] = "true"
    lab.node.put(*objects)
    assert rate(lab.a, lab.b, lab.b.v4) < 1.1 * LIMIT
    lab.node.put(limited(lab.a), limited(lab.b))


@pytest.mark.parametrize("value", ["fast", "10X", "999", "2P", "-1M", "0x10M", "nan", "1e400", "", " 5M",
                                   "5M "])
def test_what_is_no_limit_is_told_and_the_pod_is_known(lab, value):
    lab.node.write("pod.json", limited(lab.b, ingress=value))
    wait_for(lambda: f'Pod default/b: metadata.annotations[kubernetes.io/ingress-bandwidth]: "{value}" is no number of '
                     "bits a second" in lab.node.log(), "the warning")
    assert lab.bandwidth(lab.b) == {}
    (lab.node.objects / "pod.json").unlink()


def test_status_says_where_packets_are_dropped_rather_than_held_back(lab):
    """This kernel may have fq or not: either the uplink has it, or status says why not."""
    lab.node.put(limited(lab.a, egress="16M"))
    wait_for(lambda: "fq" in lab.node.netns.ip("-d", "link", "show", "dev", "up0").stdout
             or any(text.startswith("limits of what pods send are kept by dropping: no fq on up0: ")
                    for text in lab.node.status()["warnings"]), "fq, or the reason")


def unpaced(lab):
    return [text for text in lab.node.status()["warnings"]
            if text.startswith("limits of what pods send are kept by dropping: no fq on up0: ")]


def test_a_queueing_discipline_of_somebody_else_is_noticed_and_left_alone(lab):
    """Limits hold meanwhile, by dropping.  When it goes, fq comes back, if this kernel has it."""
    netns = lab.node.netns
    lab.node.put(limited(lab.a, egress="16M"))
    netns.run("tc", "qdisc", "replace", "dev", "up0", "root", "handle", "7:", "pfifo")
    wait_for(lambda: [text for text in unpaced(lab) if text.endswith("somebody has given it pfifo")],
             "the warning")
    assert " pfifo 7: root" in netns.run("tc", "qdisc", "show", "dev", "up0").stdout
    assert LIMIT / 10 < rate(lab.a, lab.client, "192.0.2.9") < 1.1 * LIMIT
    netns.run("tc", "qdisc", "delete", "dev", "up0", "root")
    wait_for(lambda: "qdisc fq " in netns.run("tc", "qdisc", "show", "dev", "up0").stdout
             or any("this kernel has no fq" in text for text in unpaced(lab)), "fq, or the reason")
    assert LIMIT / 10 < rate(lab.a, lab.client, "192.0.2.9") < 1.1 * LIMIT


@FAMILIES
def test_limits_of_pods_behind_another_plugin(chained, family):
    """The bridge is between pods, and what a pod sends leaves by the host's stack."""
    a, b, node = chained.a, chained.b, chained.node
    outside = ["192.0.2.9", "2001:db8::9"][family]
    node.put(limited(a), limited(b, ingress="16M"))
    assert LIMIT / 10 < rate(a, b, b.addresses[family]) < 1.1 * LIMIT
    assert LIMIT / 10 < rate(chained.client, b, b.addresses[family]) < 1.1 * LIMIT
    assert rate(b, a, a.addresses[family]) > 2 * LIMIT
    node.put(limited(a, egress="16M"), limited(b))
    assert LIMIT / 10 < rate(a, chained.client, outside) < 1.1 * LIMIT
    assert rate(b, chained.client, outside) > 2 * LIMIT
    assert rate(chained.client, a, a.addresses[family]) > 2 * LIMIT
