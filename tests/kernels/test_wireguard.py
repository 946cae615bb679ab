# SPDX-License-Identifier: Apache-2.0
"""Two nodes with strict encryption, on a kernel that has WireGuard: tests/kernels/boot runs it.  What
is on the wire: tests/kernels/encryption."""

import ctypes
import pathlib
import re
import socket
import struct
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import lan  # noqa: E402
from tendril import service_object, slice_object, wait_for  # noqa: E402

PORT = 8080
ANNOTATION = "tendril.io/wireguard-key"
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


class Nodes(lan.Nodes):
    """Nodes that know each other's keys, once they are announced."""

    def __init__(self, count):
        super().__init__(count, "--encryption=wireguard", "--encryption-strict")
        self.pods = [node.pod(f"p{number}") for number, node in enumerate(self.all, 1)]
        for pod in self.pods:
            pod.serve(tcp=[PORT], udp=[PORT])

    def objects(self):
        made = super().objects()
        for each, node in zip(made, self.all):
            key = re.findall(r"public key is (\S+)", node.log())
            if key:
                each["metadata"]["annotations"] = {ANNOTATION: key[-1]}
        return made

    def announce(self, *more):
        self.tell(None, *more)
        for client, server in (self.pods, self.pods[::-1]):
            for address in server.addresses:
                wait_for(lambda at=address: client.udp(at, PORT, timeout=0.5)["result"] == "ok",
                         "the first packet")


@pytest.fixture
def two():
    made = Nodes(2)
    try:
        made.announce()
        yield made
    finally:
        made.close()


# ---- the kernel's list of peers ------------------------------------------------------------------

GENERIC, CONTROL, DUMP, DONE, ERROR = 16, 16, 0x301, 3, 2
GET_FAMILY, FAMILY_ID, FAMILY_NAME = 3, 1, 2
GET_DEVICE, DEVICE_NAME, DEVICE_PEERS, PEER_KEY = 0, 2, 8, 1


def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3fff, data[4:length]
        data = data[(length + 3) & ~3:]


def generic(sock, family, flags, command, attribute, text):
    """The attributes of all answers."""
    text = text.encode() + b"\0"
    body = struct.pack("=BBHHH", command, 1, 0, 4 + len(text), attribute) + text
    body += bytes(-len(body) % 4)
    sock.send(struct.pack("=IHHII", 16 + len(body), family, flags, 1, 0) + body)
    while True:
        data = sock.recv(1 << 20)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            assert kind != ERROR, struct.unpack_from("=i", data, 16)
            if kind == DONE:
                return
            yield from attributes(data[20:length])
            data = data[(length + 3) & ~3:]
        if not flags & 0x300:
            return


def peers(node):
    """How many peers the node's kernel has."""
    with open(node.netns.path, encoding="ascii") as there, open("/proc/self/ns/net",
                                                               encoding="ascii") as here:
        setns(there)
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC)
        finally:
            setns(here)
    with sock:
        family, = struct.unpack("=H", dict(generic(sock, CONTROL, 1, GET_FAMILY, FAMILY_NAME,
                                                   "wireguard"))[FAMILY_ID])
        keys = set()
        for kind, data in generic(sock, family, DUMP, GET_DEVICE, DEVICE_NAME, "tendril_wg"):
            if kind == DEVICE_PEERS:
                keys |= {dict(attributes(each))[PEER_KEY] for _, each in attributes(data)}
    return len(keys)


def setns(file):
    assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) == 0


# ---- new keys ------------------------------------------------------------------------------------

def rotate(nodes, *numbers):
    for number in numbers:
        nodes.all[number].cli("node", "rotate-key")


def tell_one(nodes, number):
    nodes.all[number].write("nodes.json", *nodes.objects())


def both_hear(nodes):
    rotate(nodes, 1)
    nodes.tell()


def its_own_node_hears_late(nodes):
    """By less than others wait."""
    rotate(nodes, 1)
    tell_one(nodes, 0)
    tell_one(nodes, 1)


def its_own_node_hears_first(nodes):
    rotate(nodes, 1)
    tell_one(nodes, 1)
    wait_for(lambda: "a new key is in use" in nodes.all[1].log(), "the key")
    tell_one(nodes, 0)


def both_change(nodes):
    rotate(nodes, 0, 1)
    nodes.tell()


def soon_again(nodes):
    """Less than 5 s after a handshake, which is how long WireGuard waits for the next."""
    for _ in range(2):
        rotate(nodes, 1)
        nodes.tell()
        wait_for(lambda: nodes.pods[0].udp(nodes.pods[1].v4, PORT)["result"] == "ok", "the key")


@pytest.mark.parametrize("change", [both_hear, its_own_node_hears_late, its_own_node_hears_first,
                                    both_change, soon_again])
def test_a_new_key_loses_nothing(two, change):
    """Packets wait, but arrive: a ping each 10 ms in both directions, and TCP.  If both ends change
    their keys at once, what waits is lost; that is less than 0.5 s."""
    client, server = two.pods
    assert client.call("hold", id="h", addr=server.v4, port=PORT)["result"] == "ok"
    pings = [pod.popen("ping", "-n", "-q", "-i0.01", "-c1200", "-W10", other.v6, stdout=-1,
                       text=True) for pod, other in (two.pods, two.pods[::-1])]
    assert client.connect(server.v4, PORT, send="x" * 30000)["result"] == "ok"
    change(two)
    began = [ping.poll() for ping in pings]
    assert client.call("ping", id="h", timeout=10)["result"] == "ok"
    assert client.connect(server.v4, PORT, send="x" * 30000, timeout=10)["result"] == "ok"
    assert began == [None, None], "the pings ended before the change"
    said = [ping.communicate()[0] for ping in pings]
    print(*said)
    for text in said:
        received = int(re.search("1200 packets transmitted, ([0-9]+) received", text)[1])
        assert received >= (1150 if change is both_change else 1200), said
        longest = float(re.search(r"= [\d.]+/[\d.]+/([\d.]+)/", text)[1])
        assert longest < 2000, said
    wait_for(lambda: [peers(node) for node in two.all] == [1, 1], "the old keys to go")


# ---- nodes that go, and cleanup ------------------------------------------------------------------

def test_a_removed_node_leaves_no_peer_and_no_route(two):
    first = two.all[0]
    assert peers(first) == 1
    two.tell(two.objects()[:1])
    wait_for(lambda: peers(first) == 0, "the peer to go")
    assert first.netns.ip("route", "show", "proto", "85").stdout == ""
    assert first.netns.ip("-6", "route", "show", "proto", "85").stdout == ""
    assert two.pods[0].udp(two.pods[1].v4, PORT, timeout=0.3)["result"] != "ok"
    two.announce()
    assert peers(first) == 1


def test_cleanup_removes_device_keys_and_routes(two):
    first = two.all[0]
    old = re.findall(r"public key is (\S+)", first.log())[-1]
    assert first.netns.ip("route", "show", "proto", "85").stdout != ""
    assert (first.run_dir / "wireguard.key").exists()
    first.stop()
    first.netns.run(*[str(word) for word in first.argv("--cleanup")[2:]])
    assert "tendril_wg" not in first.netns.ip("link").stdout
    for family in ("-4", "-6"):
        assert first.netns.ip(family, "route", "show", "proto", "85").stdout == ""
    assert not list(first.dir.glob("run/wireguard*"))
    first.start()
    assert re.findall(r"public key is (\S+)", first.log())[-1] != old


# ---- services ------------------------------------------------------------------------------------

@FAMILIES
def test_services_and_node_ports_lead_to_pods_of_other_nodes(two, family):
    """A pod asks the service, and somebody outside the node port of node 1; the backend is on node 2."""
    client, server = two.pods
    outside = lan.Outside(two.all[0].name + "o")
    try:
        two.lan.join(outside, 66)
        lan.settled(outside)
        ports = [{"name": proto, "port": 80, "protocol": proto} for proto in ("TCP", "UDP")]
        vips = ["10.96.0.10", "fd00:96::10"]
        two.announce(
            service_object("web", "default", vips,
                           [dict(port, targetPort=PORT, nodePort=30080) for port in ports],
                           type="NodePort"),
            *(slice_object(f"web-{number}", "default", "web", ("IPv4", "IPv6")[number],
                           [dict(port, port=PORT) for port in ports],
                           [[server.v4, server.v6][number]]) for number in (0, 1)))
        wait_for(lambda: client.connect(vips[family], 80)["result"] == "ok", "the service")
        for asks, address, port in (
                (client.call, vips[family], 80),
                (client.call, lan.Lan.addresses(1)[family], 30080),
                (outside.call, lan.Lan.addresses(1)[family], 30080)):
            answer = asks("connect", addr=address, port=port, send="x" * 20000)
            assert answer["name"] == "p2" and answer["echo"].startswith("xxx")
            for size in (4, 1200):
                assert asks("udp", addr=address, port=port, size=size)["name"] == "p2"
    finally:
        outside.delete()
