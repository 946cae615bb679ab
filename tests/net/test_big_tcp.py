# SPDX-License-Identifier: Apache-2.0
"""BIG TCP: IPv4 packets larger than 64 KiB between pods made with it, and nowhere else."""

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
        assert (largest > FRAME_MAX) == (size / count > 65536) == (family == 0)
    finally:
        lab.open()


@FAMILIES
def test_the_node_and_the_world_outside_understand_pods_that_have_it(lab, family):
    """A device without it gets segments; what the node sends to a pod may be big."""
    assert 0 < stream(lab.a, lab.outside, OUTSIDE[family]) <= FRAME_MAX
    assert stream(lab.outside, lab.a, lab.a.addresses[family]) > 0
    assert (stream(lab.node.netns, lab.a, lab.a.addresses[family]) > FRAME_MAX) == (family == 0)
    gateway = ["10.200.0.1", "fd00:200::1"][family]
    stream(lab.a, lab.node.netns, gateway)


def test_packets_that_are_translated_are_big_too():
    with Node("--big-tcp", "--socket-services=false") as node:
        client, server = node.pod("client"), node.pod("server")
        ports = [{"name": "p", "port": PORT, "protocol": "TCP"}]
        node.put(service_object("web", "default", ["10.96.0.9"], ports),
                 slice_object("web-4", "default", "web", "IPv4", ports, [server.v4]))
        assert stream(client, server, server.v4, reached_at="10.96.0.9") > FRAME_MAX


def test_it_is_off_unless_asked_for_and_spares_pods_that_are_there():
    with Node() as node:
        old, other = node.pod("old"), node.pod("other")
        assert 0 < stream(old, other, other.v4) <= FRAME_MAX
        node.stop()
        node.start("--big-tcp")
        new = node.pod("new")
        assert 0 < stream(old, new, new.v4) <= FRAME_MAX
        assert stream(new, old, old.v4) > FRAME_MAX
        assert "bigTcp" not in node.log()
        node.stop()
        node.start()
        assert 0 < stream(node.netns, old, old.v4) <= FRAME_MAX


def test_repair_and_restart_keep_it():
    with Node("--big-tcp") as node:
        one, two = node.pod("one"), node.pod("two")
        device = host_if(two)
        for gone in (device, "tendril0"):
            node.netns.ip("link", "del", gone)
            wait_for(lambda: is_up(node, gone), "the device")
        node.stop()
        node.start()
        assert stream(two, one, one.v4) > FRAME_MAX
        assert stream(node.netns, two, two.v4) > FRAME_MAX


def is_up(node, device):
    link = links(node).get(device)
    return link is not None and "LOWER_UP" in link["flags"]
