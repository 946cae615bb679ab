# SPDX-License-Identifier: Apache-2.0
"""What a process without privileges does in one pod must not be felt in another.

    flooder  -----> dns     datagrams to as many ports as there are
    client   -----> dns     isolated: its answers need an entry in the connection table
    flooder  -----> subnet  of the node's uplink: the node asks who has each address
"""

import ipaddress
import os
import pathlib
import sys
import threading

import pytest

from tendril import Namespace, Node, policy_object, wait_for

UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
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
            egress=[{"to": [{"podSelector": {"matchLabels": {"app": "dns"}}},
                            {"ipBlock": {"cidr": "10.99.0.0/18"}},
                            {"ipBlock": {"cidr": "fd00:99::/64"}}]}]))
        yield node, *pods


def sent(node, pod):
    return node.api("GET", f"/v1/endpoints/default/{pod.pod_name}")["stats"]["txPackets"]


def refused(node):
    counts = {n["name"]: n["count"] for n in node.status()["notices"]}
    return counts.get("CT_FULL", 0)  # listed once it is not 0


def dropped(node):
    counts = {d["reason"]: d["count"] for d in node.status()["drops"]}
    return counts.get("RATE_LIMITED", 0)


def assert_answered(client, dns, family, questions):
    answers = [client.udp(dns.addresses[family], 53)["result"] for _ in range(questions)]
    assert answers == ["ok"] * questions


@FAMILIES
@pytest.mark.parametrize("rate", [3200, 0], ids=["3200 a second", "unbounded"])
def test_a_flood_does_not_take_the_answers_of_another_pod(lab, family, rate):
    node, flooder, client, dns = lab
    before = refused(node)
    flood = flooder.popen(*UNPRIVILEGED, sys.executable, "-c", FLOOD, dns.addresses[family],
                          str(rate))
    try:
        wait_for(lambda: refused(node) > before + 1000, "a connection table under pressure", 20)
        assert_answered(client, dns, family, 200)
        assert flood.poll() is None
    finally:
        flood.kill()
        flood.wait()
    assert_answered(client, dns, family, 200)


# Each datagram is two fragments, whose ports an entry of the fragment table has to tell.
FRAGMENTS = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM)
while True:
    sock.sendto(b"x" * 1600, (sys.argv[1], 9))
"""


@FAMILIES
def test_a_flood_of_fragments_does_not_take_the_fragments_of_another_pod(lab, family):
    node, flooder, client, dns = lab
    target = dns.addresses[family]
    floods = [flooder.popen(*UNPRIVILEGED, sys.executable, "-c", FRAGMENTS, target)
              for _ in range(os.cpu_count())]
    before = sent(node, flooder)
    try:
        wait_for(lambda: sent(node, flooder) > before + 50_000, "a flood", 20)
        answers = [client.udp(target, 53, size=8000)["result"] for _ in range(200)]
        assert answers == ["ok"] * 200
    finally:
        for flood in floods:
            flood.kill()
            flood.wait()


# Each datagram goes to another address of the uplink's own subnet, where nobody has it.
SCAN = """
import ipaddress, itertools, socket, sys
base = ipaddress.ip_address(sys.argv[1])
sock = socket.socket(socket.AF_INET6 if base.version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
for number in itertools.count():
    try:
        sock.sendto(b"x", (str(base + number % 8192), 9))
    except OSError:
        pass  # an ICMP error for an earlier one
"""

UPLINK = [("10.99.0.1/18", "10.99.0.2/18"), ("fd00:99::1/64", "fd00:99::2/64")]
SCANNED = ["10.99.32.0", "fd00:99::8:0"]


@pytest.fixture(scope="module")
def uplink(lab):
    """A link of the node with a large subnet on it, and a second machine there."""
    node = lab[0]
    outside = Namespace(f"{node.name}-out")
    try:
        node.netns.ip("link", "add", "uplink0", "type", "veth", "peer", "eth0", "netns", outside.name)
        for family in (0, 1):
            node.netns.ip("addr", "add", UPLINK[family][0], "dev", "uplink0", "nodad")
            outside.ip("addr", "add", UPLINK[family][1], "dev", "eth0", "nodad")
        node.netns.ip("link", "set", "uplink0", "up")
        outside.ip("link", "set", "eth0", "up")
        yield outside
    finally:
        outside.delete()


def neighbours(node, family):
    return len(node.netns.ip(f"-{'46'[family]}", "neigh", "show", "dev", "uplink0", "nud",
                             "all").stdout.splitlines())


@FAMILIES
def test_a_scan_of_the_nodes_own_subnet_leaves_its_neighbour_table_room(lab, uplink, family):
    """The table is the kernel's and one for all namespaces: 1,024 entries, and one without an answer
    stays for three seconds."""
    node, flooder = lab[:2]
    before = dropped(node)
    scan = flooder.popen(*UNPRIVILEGED, sys.executable, "-c", SCAN, SCANNED[family])
    try:
        wait_for(lambda: neighbours(node, family) > 200, "a scan that goes on for seconds", 20)
        for number in range(20):
            address = str(ipaddress.ip_interface(UPLINK[family][1]).ip + 1 + number)
            uplink.ip("addr", "add", address, "dev", "eth0", *["nodad"][:family])
            node.netns.run("ping", "-c1", "-W10", address)
        assert dropped(node) > before + 1000
        assert scan.poll() is None
    finally:
        scan.kill()
        scan.wait()


# Adds and deletes an address of eth0 as fast as the kernel takes it; needs NET_ADMIN.
FLIP = """
import socket, struct
index = socket.if_nametoindex("eth0")
def message(type, flags):
    body = struct.pack("BBBBi", 2, 32, 0, 0, index) + struct.pack("HH4s", 8, 2, bytes([192, 0, 2, 7]))
    return struct.pack("IHHII", 16 + len(body), type, 1 | flags, 0, 0) + body
sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
while True:
    sock.send(message(20, 0x400) + message(21, 0))
"""


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return sum(int(ticks) for ticks in fields[11:13]) / os.sysconf("SC_CLK_TCK")


def test_a_pod_that_flips_an_address_takes_little_of_the_agent(lab):
    node, flooder = lab[:2]
    before = cpu_seconds(node.agent.pid)
    flips = [flooder.popen(sys.executable, "-c", FLIP) for _ in range(2)]
    try:
        threading.Event().wait(2.0)  # of flipping: what the agent does meanwhile is measured
        assert cpu_seconds(node.agent.pid) - before < 0.5
        node.pod("newcomer", labels={"app": "newcomer"})
        assert all(flip.poll() is None for flip in flips)
    finally:
        for flip in flips:
            flip.kill()
            flip.wait()
