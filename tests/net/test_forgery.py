# SPDX-License-Identifier: Apache-2.0
"""A pod's root can open packet and raw sockets and TCP_REPAIR, and can nest namespaces and stacks of
its own.  None of that gets it past policy, and none of it lets it speak for somebody else.

    attacker --X--> victim     denied by the victim's ingress policy and its own egress policy
    victim   -----> attacker   allowed
"""

import socket
import struct

import pytest

from tendril import policy_object, wait_for

PORT = 8080
MARK = b"forged-by-tendril-test"


@pytest.fixture(scope="module")
def pair(shared_node):
    victim = shared_node.pod("victim", labels={"app": "victim"})
    attacker = shared_node.pod("attacker", labels={"app": "attacker"})
    for pod in (victim, attacker):
        pod.serve(tcp=[PORT], udp=[PORT])
    shared_node.put(
        policy_object("victim", "default", {"matchLabels": {"app": "victim"}},
                      policyTypes=["Ingress", "Egress"],
                      egress=[{"to": [{"podSelector": {"matchLabels": {"app": "attacker"}}}]}]),
        policy_object("attacker", "default", {"matchLabels": {"app": "attacker"}},
                      policyTypes=["Ingress", "Egress"],
                      ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "victim"}}}]}]))
    victim.call("sniff")
    for addr in attacker.addresses:
        assert victim.connect(addr, PORT)["result"] == "ok"
    for addr in victim.addresses:
        assert attacker.connect(addr, PORT, timeout=0.2)["result"] == "timeout"
    return attacker, victim


def drops(node):
    return {d["reason"]: d["count"] for d in node.status()["drops"]}


def assert_dropped(pair, send, reasons):
    """send() is dropped for one of the reasons, and nothing of it arrives."""
    attacker, victim = pair
    victim.call("sniff")
    before = drops(attacker.node)
    assert send()["result"] == "ok"
    wait_for(lambda: any(drops(attacker.node).get(r, 0) > before.get(r, 0) for r in reasons),
             f"a drop with {reasons}")
    assert victim.call("sniffed", contains=MARK.hex())["count"] == 0


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def frame(pod, target, proto, payload, source=None, source_mac=None):
    """An Ethernet frame from the pod to the target address, of the target's family."""
    interface = next(i for i in pod.result["interfaces"] if i.get("sandbox"))
    host = next(i for i in pod.result["interfaces"] if not i.get("sandbox"))
    v6 = ":" in target
    source = source or (pod.v6 if v6 else pod.v4)
    ends = [socket.inet_pton(socket.AF_INET6 if v6 else socket.AF_INET, a)
            for a in (source, target)]
    if v6:
        header = struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + ends[0] + ends[1]
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0)
        header = header[:10] + struct.pack("!H", checksum(header + ends[0] + ends[1])) \
            + ends[0] + ends[1]
    return (mac_bytes(host["mac"]) + (source_mac or mac_bytes(interface["mac"]))
            + (b"\x86\xdd" if v6 else b"\x08\x00") + header + payload).hex()


def tcp(sport, dport, flags, seq=1000, ack=1000):
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0) + MARK


def udp(sport, dport):
    return struct.pack("!HHHH", sport, dport, 8 + len(MARK), 0) + MARK


FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
DENIED = ["EGRESS_DENIED", "INGRESS_DENIED", "NOT_OPENED"]


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, 0,
                                   SYN | FIN, SYN | RST | ACK])
def test_no_tcp_segment_opens_a_denied_direction(pair, family, flags):
    attacker, victim = pair
    target = victim.addresses[family]
    assert_dropped(pair, lambda: attacker.call(
        "inject", frame=frame(attacker, target, 6, tcp(PORT, 50000, flags))), DENIED)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_no_datagram_pretends_to_be_a_reply(pair, family):
    attacker, victim = pair
    assert_dropped(pair, lambda: attacker.call(
        "inject", frame=frame(attacker, victim.addresses[family], 17, udp(PORT, 50001))), DENIED)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_tcp_repair_is_no_way_in(pair, family):
    """The attacker's socket believes in a connection; the victim only listens."""
    attacker, victim = pair
    assert_dropped(pair, lambda: attacker.call(
        "repair", local=[attacker.addresses[family], PORT + 100 + family],
        remote=[victim.addresses[family], PORT], send=MARK.decode()), DENIED)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_source_address_must_be_the_pods_own(pair, family):
    attacker, victim = pair
    foreign = "fd00:200::77" if family else "10.200.0.77"
    assert_dropped(pair, lambda: attacker.call(
        "inject", frame=frame(attacker, victim.addresses[family], 17, udp(1, PORT),
                              source=foreign)), ["SPOOFED_ADDRESS"])


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_source_mac_must_be_the_pods_own(pair, family):
    attacker, victim = pair
    assert_dropped(pair, lambda: attacker.call(
        "inject", frame=frame(attacker, victim.addresses[family], 17, udp(1, PORT),
                              source_mac=b"\x02\0\0\0\0\x01")), ["SPOOFED_MAC"])


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_wrong_reset_does_not_end_a_connection(pair, family):
    """The victim's own connection to the attacker lives on after an out-of-window RST of it."""
    attacker, victim = pair
    target = attacker.addresses[family]
    held = victim.call("hold", id=f"h{family}", addr=target, port=PORT)
    port = held["local"][1]
    attacker.call("inject", frame=frame(attacker, victim.addresses[family], 6,
                                        tcp(PORT, port, RST, seq=7)))
    assert victim.call("ping", id=f"h{family}")["result"] == "ok"
    victim.call("close", id=f"h{family}")


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_finished_connection_leaves_no_door(pair, family):
    """After close, the tuple of the victim's old connection admits neither SYN nor data."""
    attacker, victim = pair
    answer = victim.connect(attacker.addresses[family], PORT)
    port = answer["local"][1]
    target = victim.addresses[family]
    for flags in (SYN, PSH | ACK):
        assert_dropped(pair, lambda f=flags: attacker.call(
            "inject", frame=frame(attacker, target, 6, tcp(PORT, port, f))), DENIED)


def discovery(pod, source, kind):
    """An IPv6 discovery message to the gateway with a source link-layer address option."""
    gateway = "fd00:200::1"
    target = socket.inet_pton(socket.AF_INET6, gateway) if kind == 135 else b""
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, gateway)
    mac = mac_bytes(next(i["mac"] for i in pod.result["interfaces"] if i.get("sandbox")))
    body = b"\0\0\0\0" + target + b"\x01\x01" + mac
    pseudo = ends + struct.pack("!IHBB", 4 + len(body), 0, 0, 58)
    payload = struct.pack("!BBH", kind, 0, checksum(pseudo + bytes([kind, 0, 0, 0]) + body)) + body
    whole = bytearray.fromhex(frame(pod, gateway, 58, payload, source=source))
    whole[14 + 7] = 255  # hop limit
    return whole.hex()


def test_invented_sources_take_no_neighbour_entry(pair):
    """Solicitations from a source each fill the node's neighbour table: none but the pod's own."""
    attacker, _ = pair
    before = drops(attacker.node).get("SPOOFED_ADDRESS", 0)
    for i in range(40):
        for kind in (133, 135):
            attacker.call("inject", frame=discovery(attacker, f"fe80::bad:{kind:x}:{i:x}", kind))
    wait_for(lambda: drops(attacker.node).get("SPOOFED_ADDRESS", 0) >= before + 80,
             "80 drops with SPOOFED_ADDRESS")
    assert "fe80::bad:" not in attacker.node.netns.ip("-6", "neigh", "show").stdout


def test_neighbour_messages_are_limited(pair):
    attacker, _ = pair
    before = drops(attacker.node).get("RATE_LIMITED", 0)
    message = discovery(attacker, attacker.v6, 135)

    def flood():
        attacker.call("inject", frame=message, count=1000)  # within a second, on any machine
        return drops(attacker.node).get("RATE_LIMITED", 0) > before
    wait_for(flood, "a drop with RATE_LIMITED")


# ---- stacks inside the attacker's pod ----

@pytest.fixture(scope="module")
def tunnel(pair):
    """The attacker routes what a program of its own writes into a tun device; packets that it
    forwards have no socket."""
    attacker, _ = pair
    attacker.ip("tuntap", "add", "dev", "tun0", "mode", "tun")
    attacker.ip("link", "set", "tun0", "up")
    attacker.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                 "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.tun0.rp_filter=0",
                 "net.ipv4.conf.tun0.accept_local=1")
    yield
    attacker.ip("link", "del", "tun0")


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, PSH | ACK, RST])
def test_no_packet_of_a_tun_device_opens_a_denied_direction(pair, tunnel, family, flags):
    attacker, victim = pair
    whole = frame(attacker, victim.addresses[family], 6, tcp(PORT, 50002, flags))
    packet = whole[2 * 14:]
    assert_dropped(pair, lambda: attacker.call("tunnel", device="tun0", packet=packet), DENIED)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_tun_device_speaks_for_nobody_else(pair, tunnel, family):
    attacker, victim = pair
    whole = frame(attacker, victim.addresses[family], 17, udp(1, PORT),
                  source="fd00:200::77" if family else "10.200.0.77")
    packet = whole[2 * 14:]
    assert_dropped(pair, lambda: attacker.call("tunnel", device="tun0", packet=packet),
                   ["SPOOFED_ADDRESS"])


def nest(attacker, mode):
    """A namespace behind a macvlan of the attacker's eth0, with the attacker's own addresses."""
    node = attacker.node
    nested = node.pod(f"nested-{mode}", wire=False)
    nested.result = attacker.result
    nested.addresses = attacker.addresses
    attacker.ip("link", "add", "link", "eth0", "name", "inner", "netns", nested.name,
                "type", "macvlan", "mode", mode)
    nested.ip("link", "set", "inner", "name", "eth0")
    nested.ip("link", "set", "eth0", "up")
    gateway_mac = next(i["mac"] for i in attacker.result["interfaces"] if not i.get("sandbox"))
    for addr, length, gateway in ((attacker.v4, 32, "10.200.0.1"),
                                  (attacker.v6, 128, "fd00:200::1")):
        nested.ip("addr", "add", f"{addr}/{length}", "dev", "eth0",
                  *(["nodad"] if length == 128 else []))
        nested.ip("neigh", "add", gateway, "lladdr", gateway_mac, "dev", "eth0")
        nested.ip("route", "add", "default", "via", gateway, "dev", "eth0", "onlink")
    return nested


def test_a_nested_macvlan_has_no_mac_of_its_own(pair):
    attacker, victim = pair
    nested = nest(attacker, "bridge")
    try:
        before = drops(attacker.node).get("SPOOFED_MAC", 0)
        for addr in victim.addresses:
            assert nested.connect(addr, PORT, timeout=0.2)["result"] == "timeout"
        assert drops(attacker.node)["SPOOFED_MAC"] >= before + 2
    finally:
        nested.ip("link", "del", "eth0")


def test_a_nested_namespace_has_the_pods_rights_and_no_more(pair):
    """Behind a macvlan that passes through, the inner sockets have the pod's MAC and addresses."""
    attacker, victim = pair
    nested = nest(attacker, "passthru")
    try:
        nested.serve(tcp=[PORT])
        for family in (0, 1):
            target = victim.addresses[family]
            answer = victim.connect(attacker.addresses[family], PORT)
            assert answer["name"] == nested.pod_name, "the victim may open, and gets its answer"
            assert nested.connect(target, PORT, timeout=0.2)["result"] == "timeout"
            assert_dropped(pair, lambda: nested.call(
                "repair", local=[attacker.addresses[family], PORT + 200],
                remote=[target, PORT], send=MARK.decode()), DENIED)
            for flags in (SYN | ACK, PSH | ACK):
                assert_dropped(pair, lambda f=flags: nested.call(
                    "inject", frame=frame(attacker, target, 6, tcp(PORT, 50003, f))), DENIED)
    finally:
        nested.ip("link", "del", "eth0")
