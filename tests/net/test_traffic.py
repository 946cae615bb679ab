# SPDX-License-Identifier: Apache-2.0
"""What real traffic needs beside a verdict: sizes, fragments, errors, the world outside.

    pod a, pod b                node                       outside
    10.200.0.x   ===veth===   tendril0, uplink  ===veth===  198.51.100.2
    fd00:200::x                198.51.100.1                 2001:db8::2
"""

import hashlib
import struct
import subprocess
import sys

import pytest

from test_forgery import frame
from tendril import Namespace, Node, policy_object

PORT = 8080
OUTSIDE = ["198.51.100.2", "2001:db8::2"]
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


class Lab:
    def __init__(self, node):
        self.node = node
        self.a = node.pod("a", labels={"app": "a"})
        self.b = node.pod("b", labels={"app": "b"})
        for pod in (self.a, self.b):
            pod.serve(tcp=[PORT], udp=[PORT])
        self.outside = Namespace(f"{node.name}-outside")
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns",
                      self.outside.name)
        for ns, device, addrs in ((node.netns, "uplink", ("198.51.100.1/24", "2001:db8::1/64")),
                                  (self.outside, "eth0", ("198.51.100.2/24", "2001:db8::2/64"))):
            for addr in addrs:
                ns.ip("addr", "add", addr, "dev", device,
                      *(["nodad"] if ":" in addr else []))
            ns.ip("link", "set", device, "up")
        self.outside.ip("route", "add", node.cidrs[0], "via", "198.51.100.1")
        self.outside.ip("-6", "route", "add", node.cidrs[1], "via", "2001:db8::1")

    def isolate(self, **spec):
        """Both directions of both pods isolated, and what is between them allowed."""
        peers = [{"podSelector": {}}]
        self.node.put(policy_object("all", "default", {}, policyTypes=["Ingress", "Egress"],
                                    **{"ingress": [{"from": peers}], "egress": [{"to": peers}],
                                       **spec}))

    def open(self):
        for policy in self.node.api("GET", "/v1/policies"):
            self.node.api("DELETE", f"/v1/objects/NetworkPolicy/{policy['namespace']}/"
                                    f"{policy['name']}")


@pytest.fixture(scope="module")
def module_lab(shared_node):
    lab = Lab(shared_node)
    yield lab
    lab.outside.delete()


@pytest.fixture(params=["open", "isolated"])
def lab(module_lab, request):
    if request.param == "isolated":
        module_lab.isolate()
    yield module_lab
    module_lab.open()


@FAMILIES
def test_fragmented_datagrams_arrive_whole(lab, family):
    for size in (1400, 4000, 20000, 60000):
        assert lab.a.udp(lab.b.addresses[family], PORT, size=size)["result"] == "ok"


@FAMILIES
def test_a_large_stream_arrives_as_it_was_sent(lab, family):
    """GSO packets of 64 KiB and more pass unbroken; 256 MiB, compared by digest."""
    addr = lab.b.addresses[family]
    receiver = lab.b.popen("python3", "-c", f"""
import hashlib, socket
listener = socket.create_server(('{addr}', 9000),
                                family=socket.AF_INET6 if ':' in '{addr}' else socket.AF_INET)
print('listening', flush=True)
conn, _ = listener.accept()
digest = hashlib.sha256()
while data := conn.recv(1 << 20):
    digest.update(data)
print(digest.hexdigest(), flush=True)
""", stdout=-1, text=True)
    assert receiver.stdout.readline() == "listening\n"
    block = bytes(range(256)) * 4096
    sender = lab.a.popen("python3", "-c", f"""
import socket
conn = socket.create_connection(('{addr}', 9000))
block = bytes(range(256)) * 4096
for _ in range(256):
    conn.sendall(block)
""")
    assert sender.wait(30) == 0
    digest = hashlib.sha256()
    for _ in range(256):
        digest.update(block)
    assert receiver.stdout.readline().strip() == digest.hexdigest()
    receiver.wait(5)
    receiver.stdout.close()


@FAMILIES
def test_port_unreachable_comes_back(lab, family):
    """The ICMP error of the pod's own datagram passes, isolated or not."""
    answer = lab.a.udp(lab.b.addresses[family], 9, connected=True)
    assert answer["result"] == "refused"


@FAMILIES
def test_closed_tcp_port_refuses(lab, family):
    assert lab.a.connect(lab.b.addresses[family], 9)["result"] == "refused"


@FAMILIES
def test_syn_cookies_are_an_answer(lab, family):
    """A SYN-ACK that no socket sent: the listener keeps no request when it answers by cookie."""
    lab.b.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    try:
        before = cookies_sent(lab.b)
        for _ in range(5):
            assert lab.a.connect(lab.b.addresses[family], PORT)["result"] == "ok"
        assert cookies_sent(lab.b) == before + 5
    finally:
        lab.b.run("sysctl", "-qw", "net.ipv4.tcp_syncookies=1")


def cookies_sent(pod):
    names, values = (line.split() for line in pod.run("cat", "/proc/net/netstat").stdout
                     .splitlines() if line.startswith("TcpExt:"))
    return int(values[names.index("SyncookiesSent")])


def test_jumbo_packets_pass_whole():
    with Node("--mtu", "9000") as node:
        one, two = node.pod("one"), node.pod("two")
        two.serve(udp=[PORT])
        assert [i["mtu"] for i in one.result["interfaces"]] == [9000, 9000]
        for addr, headers in ((two.v4, 28), (two.v6, 48)):
            one.run("ping", "-c1", "-W10", "-M", "do", "-s", 9000 - headers, addr)
            assert one.run("ping", "-c1", "-W1", "-M", "do", "-s", 9001 - headers, addr,
                           check=False).returncode != 0
            assert one.udp(addr, PORT, size=30000)["result"] == "ok"


@FAMILIES
def test_the_node_and_its_pods_reach_each_other(module_lab, family):
    lab = module_lab
    addr = lab.a.addresses[family]
    lab.node.netns.run("python3", "-c", f"import socket; s = socket.create_connection(('{addr}', "
                       f"{PORT}), 1); assert s.recv(9) == b'a\\n'")
    gateway = next(r["gw"] for r in lab.a.result["routes"] if (":" in r["gw"]) == bool(family))
    lab.node.netns.run("nsenter", f"--net={lab.a.path}", "ping", "-c1", "-W10", gateway)


SERVER = f"""
import socket
listener = socket.create_server(('::', {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
print('listening', flush=True)
while True:
    conn, peer = listener.accept()
    conn.sendall(b'outside\\n')
    conn.close()
"""


@FAMILIES
def test_pods_reach_outside_and_outside_reaches_pods(module_lab, family):
    lab = module_lab
    server = subprocess.Popen(lab.outside.enter("python3", "-c", SERVER), stdout=-1, text=True)
    try:
        assert server.stdout.readline() == "listening\n"
        reach_in = ["python3", "-c", "import socket; s = socket.create_connection(("
                    f"'{lab.a.addresses[family]}', {PORT}), 0.5); assert s.recv(9) == b'a\\n'"]
        assert lab.a.connect(OUTSIDE[family], PORT)["name"] == "outside"
        lab.outside.run(*reach_in)
        # Isolated for ingress: answers from outside still come in, openings do not.
        block = {"ipBlock": {"cidr": "198.51.100.0/24" if family == 0 else "2001:db8::/64"}}
        lab.isolate(ingress=[], egress=[{"to": [block]}])
        assert lab.a.connect(OUTSIDE[family], PORT)["name"] == "outside"
        assert lab.outside.run(*reach_in, check=False).returncode != 0
        # Allowed in, not allowed to open: the other way round.
        lab.isolate(ingress=[{"from": [block]}], egress=[])
        lab.outside.run(*reach_in)
        assert lab.a.connect(OUTSIDE[family], PORT, timeout=0.3)["result"] == "timeout"
    finally:
        lab.open()
        server.kill()
        server.wait()
        server.stdout.close()


ASK = """
import socket, sys
kind, addr = sys.argv[1:]
with socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET,
                   socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as sock:
    sock.settimeout(10)
    try:
        sock.connect((addr, 80))
        sock.send(b"x")
        sock.recv(1)
    except ConnectionRefusedError:
        print("refused")
"""


@FAMILIES
def test_an_address_without_a_pod_refuses_at_once(module_lab, family):
    """By TCP and UDP, from a pod, the node and outside."""
    lab = module_lab
    nobody = ["10.200.0.250", "fd00:200::fa"][family]
    assert lab.a.connect(nobody, 80)["result"] == "refused"
    assert lab.a.udp(nobody, 80, connected=True)["result"] == "refused"
    for namespace in (lab.node.netns, lab.outside):
        for kind in ("tcp", "udp"):
            assert namespace.run(sys.executable, "-c", ASK, kind, nobody).stdout == "refused\n"


@FAMILIES
def test_policy_holds_by_a_route_to_the_pods_device(module_lab, family):
    """An admin's route leads around tendril0, where packets from outside are judged as a rule."""
    lab = module_lab
    addr = lab.a.addresses[family]
    host_end = next(i["name"] for i in lab.a.result["interfaces"] if not i.get("sandbox"))
    reach_in = ["python3", "-c", f"import socket; s = socket.create_connection(('{addr}', {PORT}), "
                "0.5); assert s.recv(9) == b'a\\n'"]
    block = {"ipBlock": {"cidr": "198.51.100.0/24" if family == 0 else "2001:db8::/64"}}
    gateway = next(r["gw"] for r in lab.a.result["routes"] if (":" in r["gw"]) == bool(family))
    mac = next(i["mac"] for i in lab.a.result["interfaces"] if i.get("sandbox"))
    route = ["-6" if family else "-4", "route", "add", addr, "dev", host_end, "src", gateway]
    # There is no link-local address that would ask for the neighbour.
    lab.node.netns.ip("neigh", "replace", addr, "lladdr", mac, "dev", host_end)
    lab.node.netns.ip(*route)
    try:
        lab.outside.run(*reach_in)
        lab.node.netns.run(*reach_in)
        lab.isolate(ingress=[], egress=[{}])
        assert lab.outside.run(*reach_in, check=False).returncode != 0
        lab.node.netns.run(*reach_in)
        lab.isolate(ingress=[{"from": [block]}], egress=[{}])
        lab.outside.run(*reach_in)
    finally:
        lab.open()
        route[2] = "del"
        lab.node.netns.ip(*route)


def sctp(kind, marker):
    """A chunk of a kind (1 INIT, 2 INIT ACK); the checksum is not what is tested here."""
    return struct.pack("!HHII", 7000, 7001, 0, 0) + struct.pack("!BBH", kind, 0, 20) + marker


@FAMILIES
def test_sctp_is_its_own_protocol(module_lab, family):
    """Kernel without SCTP sockets: INIT and INIT ACK made by hand."""
    lab = module_lab
    lab.b.call("sniff")
    lab.a.call("sniff")
    addr = lab.b.addresses[family]

    def arrives(marker):
        marker = (f"{marker}-{family}-").encode().ljust(16, b"x")
        lab.a.call("inject", frame=frame(lab.a, addr, 132, sctp(1, marker)))
        # The two directions share the path: what b then sends arrives after what a sent.
        lab.a.udp(addr, PORT)
        return lab.b.call("sniffed", contains=marker.hex())["count"] == 1

    assert arrives("open")
    selector = {"matchLabels": {"app": "b"}}
    udp_too = {"ports": [{"port": PORT, "protocol": "UDP"}]}
    lab.node.put(policy_object("b", "default", selector, ingress=[
        {"ports": [{"port": 7001, "protocol": "TCP"}]}, udp_too]))
    assert not arrives("tcp-only")
    lab.node.put(policy_object("b", "default", selector, ingress=[
        {"ports": [{"port": 7001, "protocol": "SCTP"}]}, udp_too]))
    assert arrives("sctp")
    # The answer passes though a is isolated, as part of the association it opened.
    lab.node.put(policy_object("a", "default", {"matchLabels": {"app": "a"}},
                               policyTypes=["Ingress"]))
    assert arrives("again")
    marker = b"init-ack-%d------" % family
    payload = struct.pack("!HHII", 7001, 7000, 0, 0) + struct.pack("!BBH", 2, 0, 20) + marker
    lab.b.call("inject", frame=frame(lab.b, lab.a.addresses[family], 132, payload))
    lab.b.udp(lab.a.addresses[family], PORT, timeout=0.1)
    assert lab.a.call("sniffed", contains=marker.hex())["count"] == 1
    lab.open()
