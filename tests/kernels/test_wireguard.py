# SPDX-License-Identifier: Apache-2.0
"""Two nodes with strict encryption, on a kernel that has WireGuard: tests/kernels/boot runs it.  What
is on the wire: tests/kernels/encryption."""

import ctypes
import ipaddress
import os
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import lan  # noqa: E402
from tendril import BUILD, Namespace, service_object, slice_object, wait_for  # noqa: E402

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
SET_DEVICE, PRIVATE_KEY, PUBLIC_KEY, LISTEN_PORT = 1, 3, 4, 6
PEER_ENDPOINT, PEER_ALLOWED, ALLOWED_FAMILY, ALLOWED_ADDRESS, ALLOWED_LENGTH = 4, 9, 1, 2, 3


def attributes(data):
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3fff, data[4:length]
        data = data[(length + 3) & ~3:]


def attribute(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def nest(kind, data):
    return attribute(kind | 0x8000, data)


def generic(sock, family, flags, command, kind, name, more=b""):
    """The attributes of all answers."""
    body = struct.pack("=BBH", command, 1, 0) + attribute(kind, name.encode() + b"\0") + more
    sock.send(struct.pack("=IHHII", 16 + len(body), family, flags, 1, 0) + body)
    while True:
        data = sock.recv(1 << 20)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            assert kind != ERROR or not any(data[16:20]), struct.unpack_from("=i", data, 16)
            if kind == DONE:
                return
            yield from attributes(data[20:length])
            data = data[(length + 3) & ~3:]
        if not flags & 0x300:
            return


def wireguard(netns, flags, command, device, more=b""):
    """The attributes of WireGuard's answers."""
    with open(netns.path, encoding="ascii") as there, open("/proc/self/ns/net",
                                                           encoding="ascii") as here:
        setns(there)
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, GENERIC)
        finally:
            setns(here)
    with sock:
        family, = struct.unpack("=H", dict(generic(sock, CONTROL, 1, GET_FAMILY, FAMILY_NAME,
                                                   "wireguard"))[FAMILY_ID])
        return list(generic(sock, family, flags, command, DEVICE_NAME, device, more))


def peers(node):
    """How many peers the node's kernel has."""
    return len({dict(attributes(each))[PEER_KEY]
                for kind, data in wireguard(node.netns, DUMP, GET_DEVICE, "tendril_wg")
                if kind == DEVICE_PEERS for _, each in attributes(data)})


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


# ---- speed ---------------------------------------------------------------------------------------

class Plain:
    """Two machines with a pod each, static routes, and WireGuard set up by hand."""

    def __init__(self):
        self.lan, self.made, self.pods = lan.Lan(), [], []
        keys = []
        for number in (1, 2):
            node, pod = (Namespace(f"plain{kind}{number}") for kind in ("node", "pod"))
            self.made += [node, pod]
            self.pods.append(pod)
            self.lan.join(node, number)
            node.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
            node.ip("link", "add", "pod0", "mtu", "1440", "type", "veth", "peer", "name", "eth0",
                    "mtu", "1440", "netns", pod.name)
            node.ip("addr", "add", f"10.9.{number}.1/24", "dev", "pod0")
            pod.ip("addr", "add", f"10.9.{number}.2/24", "dev", "eth0")
            node.ip("link", "set", "pod0", "up")
            pod.ip("link", "set", "eth0", "up")
            pod.ip("route", "add", "default", "via", f"10.9.{number}.1")
            node.ip("link", "add", "wg0", "mtu", "1440", "type", "wireguard")
            wireguard(node, 5, SET_DEVICE, "wg0", attribute(PRIVATE_KEY, os.urandom(32))
                      + attribute(LISTEN_PORT, struct.pack("=H", 51820)))
            keys.append(dict(wireguard(node, DUMP, GET_DEVICE, "wg0"))[PUBLIC_KEY])
            node.ip("link", "set", "wg0", "up")
            node.ip("route", "add", f"10.9.{3 - number}.0/24", "dev", "wg0")
        for number, node in ((1, self.made[0]), (2, self.made[2])):
            other = 3 - number
            endpoint = (struct.pack("=H", socket.AF_INET) + struct.pack(">H", 51820)
                        + ipaddress.ip_address(f"192.0.2.{other}").packed + bytes(8))
            allowed = (attribute(ALLOWED_FAMILY, struct.pack("=H", socket.AF_INET))
                       + attribute(ALLOWED_ADDRESS, bytes([10, 9, other, 0]))
                       + attribute(ALLOWED_LENGTH, b"\x18"))
            peer = (attribute(PEER_KEY, keys[other - 1]) + attribute(PEER_ENDPOINT, endpoint)
                    + nest(PEER_ALLOWED, nest(0, allowed)))
            wireguard(node, 5, SET_DEVICE, "wg0", nest(DEVICE_PEERS, nest(0, peer)))
        self.addresses = ["10.9.1.2", "10.9.2.2"]

    def close(self):
        for each in self.made:
            each.delete()
        self.lan.close()


def test_speed(two):
    """Pod to pod over Tendril's encryption, beside WireGuard by the kernel alone; reported only, and
    an emulated machine tells no more than the ratio."""
    plain = Plain()
    ends = {"Tendril": (*two.pods, two.pods[1].v4), "plain": (*plain.pods, plain.addresses[1])}
    netbench, found, servers = BUILD / "tests/bench/netbench", {}, []
    try:
        for _, server, _ in ends.values():
            servers.append(server.popen(netbench, 0, "server", 7000) if hasattr(server, "popen")
                           else subprocess.Popen(server.enter(netbench, 0, "server", 7000)))
        for client, _, address in ends.values():
            wait_for(lambda ns=client, at=address: ns.run(
                netbench, 0, "rr", at, 7000, 10, check=False).returncode == 0, "the other end")
        for _ in range(5):
            for name, (client, _, address) in ends.items():
                for what, more in (("rr", [300]), ("stream", [8, 1])):
                    said = client.run(netbench, 0, what, address, 7000, *more).stdout.split()
                    found.setdefault((what, name), []).append(float(said[0]))
        lines = []
        for what, unit in (("rr", "us"), ("stream", "MiB/s")):
            ours, plains = (statistics.median(found[what, name]) for name in ends)
            ratio = ours / plains
            lines.append(f"MEASURED {what}: Tendril {ours:.1f} {unit}, WireGuard alone {plains:.1f} "
                         f"{unit}, ratio {ratio:.3f}\n")
        pathlib.Path("/tmp/measured").write_text("".join(lines), encoding="ascii")
    finally:
        for each in servers:
            each.kill()
            each.wait()
        plain.close()
