# SPDX-License-Identifier: Apache-2.0
"""BIG TCP: packets larger than 64 KiB between pods made with it, and nowhere else."""

import contextlib
import hashlib
import subprocess

import pytest

from test_endpoint import host_if, links
from test_traffic import FAMILIES, OUTSIDE, Lab
from tendril import Node, service_object, slice_object, wait_for

PORT = 9000
BLOCK = bytes(range(256)) * 4096
BLOCKS = 64
DIGEST = hashlib.sha256(BLOCK * BLOCKS).hexdigest()
FRAME_MAX = 65536 + 14
GATEWAY = ["10.200.0.1", "fd00:200::1"]
SERVICE = ["10.96.0.9", "fd00:96::9"]
REFUSED_AT_FIRST = 20  # while the sender does not know the path

# Says the digest of what it is sent, and the length of the largest frame that came in.
RECEIVER = """
import hashlib, socket, sys, threading
address = sys.argv[1]
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
largest = 0
def sniff():
    global largest
    while True:
        length, _, _, source = sniffer.recvmsg_into([bytearray(64)], 0, socket.MSG_TRUNC)
        if source[0] == 'eth0' and source[2] != socket.PACKET_OUTGOING:
            largest = max(largest, length)
threading.Thread(target=sniff, daemon=True).start()
listener = socket.create_server((address, int(sys.argv[2])),
                                family=socket.AF_INET6 if ':' in address else socket.AF_INET)
print('listening', flush=True)
connection, _ = listener.accept()
digest = hashlib.sha256()
while data := connection.recv(1 << 20):
    digest.update(data)
print(digest.hexdigest(), largest, flush=True)
"""
SENDER = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
connection.settimeout(20)
block = bytes(range(256)) * 4096
for _ in range(int(sys.argv[3])):
    connection.sendall(block)
"""


def stream(sender, receiver, address, reached_at=None):
    """Sends BLOCKS MiB, sees that they arrive as sent; the length of the largest frame."""
    program = subprocess.Popen(receiver.enter("python3", "-c", RECEIVER, address, PORT),
                               stdout=-1, text=True)
    try:
        assert program.stdout.readline() == "listening\n"
        sender.run("python3", "-c", SENDER, reached_at or address, PORT, BLOCKS, timeout=30)
        digest, largest = program.stdout.readline().split()
        assert digest == DIGEST
        return int(largest)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def sent(node, pod):
    stats = next(e["stats"] for e in node.api("GET", "/v1/endpoints")
                 if e["containerId"] == pod.container_id)
    return stats["txBytes"], stats["txPackets"]


def refused(netns):
    """Packets of this node's neighbours that it was to forward and found too big."""
    counters = dict(line.split()[:2] for line in netns.run("nstat", "-asz").stdout.splitlines()
                    if line.startswith("Ip"))
    return int(counters["Ip6InTooBigErrors"]) + int(counters["IpFragFails"])


@contextlib.contextmanager
def none_too_big(netns):
    before = refused(netns)
    yield
    assert refused(netns) == before


def ipv6_routes(pod):
    return [route for route in pod.ip("-6", "route").stdout.splitlines() if " via " in route]


@pytest.fixture(scope="module")
def lab():
    with Node("--big-tcp") as node:
        made = Lab(node)
        yield made
        made.outside.delete()


@FAMILIES
@pytest.mark.parametrize("policy", ["open", "isolated"])
def test_packets_between_pods_are_big(lab, policy, family):
    if policy == "isolated":
        lab.isolate()
    try:
        before = sent(lab.node, lab.a)
        largest = stream(lab.a, lab.b, lab.b.addresses[family])
        size, count = (now - then for now, then in zip(sent(lab.node, lab.a), before))
        assert largest > FRAME_MAX
        assert size / count > 65536
    finally:
        lab.open()


@FAMILIES
def test_the_node_and_the_world_outside_understand_pods_that_have_it(lab, family):
    """A device without it gets segments; what the node sends to a pod may be big."""
    with none_too_big(lab.node.netns):
        assert 0 < stream(lab.a, lab.outside, OUTSIDE[family]) <= FRAME_MAX
    assert stream(lab.outside, lab.a, lab.a.addresses[family]) > 0
    assert stream(lab.node.netns, lab.a, lab.a.addresses[family]) > FRAME_MAX
    stream(lab.a, lab.node.netns, GATEWAY[family])


@FAMILIES
def test_an_uplink_without_offloads_gets_whole_segments(lab, family):
    lab.node.netns.run("ethtool", "-K", "uplink", "tso", "off", "gso", "off")
    try:
        with none_too_big(lab.node.netns):
            assert 0 < stream(lab.a, lab.outside, OUTSIDE[family]) <= 1514
    finally:
        lab.node.netns.run("ethtool", "-K", "uplink", "tso", "on", "gso", "on")


@FAMILIES
def test_a_path_that_is_narrower_than_the_link_of_the_pod(lab, family):
    """The first packets are refused, and those that follow fit."""
    far = [f"{OUTSIDE[family]}/32", f"{OUTSIDE[family]}/128"][family]
    lab.node.netns.ip("route", "add", far, "dev", "uplink", "mtu", "lock", "1300")
    before = refused(lab.node.netns)
    try:
        stream(lab.a, lab.outside, OUTSIDE[family])
        assert 0 < refused(lab.node.netns) - before <= REFUSED_AT_FIRST
    finally:
        lab.node.netns.ip("route", "del", far, "dev", "uplink")


@FAMILIES
def test_the_node_may_send_them_to_another_pod(lab, family):
    """A port that netfilter publishes: forwarded, and back to a pod."""
    table, rule = ("ip", "ip daddr") if family == 0 else ("ip6", "ip6 daddr")
    published = ["192.0.2.9", "2001:db8:9::9"][family]
    lab.node.netns.run("nft", f"""
add table {table} publish
add chain {table} publish in {{ type nat hook prerouting priority dstnat; }}
add rule {table} publish in {rule} {published} dnat to {lab.b.addresses[family]}
add chain {table} publish out {{ type nat hook postrouting priority srcnat; }}
add rule {table} publish out oifname "tendril0" masquerade
""")
    try:
        with none_too_big(lab.node.netns):
            assert stream(lab.a, lab.b, lab.b.addresses[family], published) > FRAME_MAX
    finally:
        lab.node.netns.run("nft", "delete", "table", table, "publish")


def test_packets_that_are_translated_are_big_too():
    with Node("--big-tcp", "--socket-services=false") as node:
        client, server = node.pod("client"), node.pod("server")
        ports = [{"name": "p", "port": PORT, "protocol": "TCP"}]
        node.put(service_object("web", "default", SERVICE, ports),
                 *[slice_object(f"web-{name.lower()}", "default", "web", name, ports, [address])
                   for name, address in zip(("IPv4", "IPv6"), server.addresses)])
        for address, reached_at in zip(server.addresses, SERVICE):
            assert stream(client, server, address, reached_at) > FRAME_MAX


def test_it_is_off_unless_asked_for_and_spares_pods_that_are_there():
    with Node() as node:
        old, other = node.pod("old"), node.pod("other")
        for address in other.addresses:
            assert 0 < stream(old, other, address) <= FRAME_MAX
        node.stop()
        node.start("--big-tcp")
        new = node.pod("new")
        for family in (0, 1):
            assert 0 < stream(old, new, new.addresses[family]) <= FRAME_MAX
            assert stream(new, old, old.addresses[family]) > FRAME_MAX
        assert "bigTcp" not in node.log()
        node.stop()
        node.start()
        for address in old.addresses:
            assert 0 < stream(node.netns, old, address) <= FRAME_MAX


@pytest.mark.parametrize("mtu", [1287, 1288])
def test_links_without_room_for_its_header_have_it_for_ipv4_alone(mtu):
    with Node("--big-tcp", "--mtu", mtu) as node:
        one, two = node.pod("one"), node.pod("two")
        assert stream(one, two, two.v4) > FRAME_MAX
        assert (stream(one, two, two.v6) > FRAME_MAX) == (mtu == 1288)


def test_repair_and_restart_keep_it():
    with Node("--big-tcp") as node:
        one, two = node.pod("one"), node.pod("two")
        before = ipv6_routes(two)
        assert all("mtu 1492" in route for route in before)
        device = host_if(two)
        for gone in (device, "tendril0"):
            node.netns.ip("link", "del", gone)
            wait_for(lambda: is_up(node, gone), "the device")
        node.stop()
        node.start()
        assert ipv6_routes(two) == before
        for family in (0, 1):
            assert stream(two, one, one.addresses[family]) > FRAME_MAX
            assert stream(node.netns, two, two.addresses[family]) > FRAME_MAX


def is_up(node, device):
    link = links(node).get(device)
    return link is not None and "LOWER_UP" in link["flags"]
