# SPDX-License-Identifier: Apache-2.0
"""Packets between pods of two nodes bypass the hosts' stacks, unless something there has to see them.

    pod p1 - node 192.0.2.1 --- wire --- node 192.0.2.2 - pod p2
                                  +--- 192.0.2.66 "evil"
"""

import json

import pytest

import lan
from lan import Outside
from tendril import policy_object, pod_object, wait_for

PORT = 8080
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
MODES = {"native": "--auto-direct-node-routes", "VXLAN": "--routing-mode=tunnel"}


class Pair:
    def __init__(self, *arguments):
        self.nodes = lan.Nodes(2, *arguments)
        self.all, self.first = self.nodes.all, self.nodes.all[0]
        self.client, self.server = [node.pod(f"p{number}")
                                    for number, node in enumerate(self.all, 1)]
        self.other = self.first.pod("p0")
        for pod in (self.client, self.server):
            pod.serve(tcp=[PORT], udp=[PORT])
        # The neighbours are known after this, and the first packets have gone by the stack.
        for family in (0, 1):
            self.talk(family)

    def talk(self, family):
        address = of(self.server, family)
        assert self.client.connect(address, PORT, send="x" * 30000)["echo"].startswith("xxx")
        assert self.server.connect(of(self.client, family), PORT)["result"] == "ok"
        assert self.client.udp(address, PORT, size=1000)["result"] == "ok"

    def forwarded(self):
        return sum(map(forwarded, self.all))

    def close(self):
        self.nodes.close()


@pytest.fixture(scope="module", params=MODES)
def pair(request):
    made = Pair(MODES[request.param])
    yield made
    made.close()


def of(pod, family):
    return [pod.v4, pod.v6][family]


def forwarded(node):
    """Packets that the node's stack has forwarded."""
    text = node.netns.run("cat", "/proc/net/snmp", "/proc/net/snmp6").stdout
    lines = [line.split() for line in text.splitlines()]
    names, values = [line for line in lines if line[0] == "Ip:"]
    return (int(values[names.index("ForwDatagrams")])
            + sum(int(line[1]) for line in lines if line[0] == "Ip6OutForwDatagrams"))


def routing(node):
    return node.status()["hostRouting"]


def is_mode(node, mode, seconds=20):
    try:
        return wait_for(lambda: routing(node)["mode"] == mode and routing(node), f"mode {mode}",
                        timeout=seconds)
    except AssertionError as late:
        raise AssertionError(f"{late}: {routing(node)}") from None


@FAMILIES
def test_nothing_passes_the_hosts_stacks(pair, family):
    for node in pair.all:
        assert routing(node) == {"mode": "bpf", "reason": ""}
    before = pair.forwarded()
    pair.talk(family)
    done = pair.client.run("ping", "-n", "-c3", "-i0.01", "-W10", of(pair.server, family))
    assert " 0% packet loss" in done.stdout
    assert pair.forwarded() == before


@FAMILIES
def test_packets_are_counted_once_and_flows_reported(pair, family):
    def counters():
        return {name: next(each for each in node.api("GET", "/v1/endpoints") if each["name"] == name)
                for node, name in zip(pair.all, ("p1", "p2"))}

    before = counters()
    pair.client.run("ping", "-n", "-c5", "-i0.01", "-W10", of(pair.server, family))
    after = counters()
    for name in ("p1", "p2"):
        for key in ("rxPackets", "txPackets"):
            assert 5 <= after[name]["stats"][key] - before[name]["stats"][key] < 10, (name, key)


@FAMILIES
def test_each_node_counts_as_a_router(pair, family):
    """A packet that would die at the second node is answered by that node, not delivered."""
    answers = {}
    for ttl in (1, 2, 3):
        done = pair.client.run("ping", "-n", "-c1", "-W10", "-t", str(ttl), of(pair.server, family),
                               check=False)
        answers[ttl] = done.stdout
    assert "exceeded" in answers[1] and "exceeded" in answers[2], answers
    assert "1 received" in answers[3] and "exceeded" not in answers[3], answers


RULES = {
    "nft inet forward": ("nft 'add table inet wall; add chain inet wall way { type filter hook forward "
                         "priority 0; }; add rule inet wall way counter'",
                         "nft delete table inet wall", "chain way of nft's table inet wall"),
    "nft ip prerouting": ("nft 'add table ip wall; add chain ip wall way { type filter hook prerouting "
                          "priority -300; }; add rule ip wall way counter'",
                          "nft delete table ip wall", "chain way of nft's table ip wall"),
    "nft ip6 postrouting": ("nft 'add table ip6 wall; add chain ip6 wall way { type nat hook "
                            "postrouting priority 100; }; add rule ip6 wall way counter'",
                            "nft delete table ip6 wall", "chain way of nft's table ip6 wall"),
    "nft netdev ingress": ("nft 'add table netdev wall; add chain netdev wall way { type filter hook "
                           "ingress device eth0 priority 0; }; add rule netdev wall way counter'",
                           "nft delete table netdev wall", "chain way of nft's table netdev wall"),
    "nft that drops all": ("nft 'add table ip6 wall; add chain ip6 wall way { type filter hook forward "
                           "priority 0; policy drop; }'",
                           "nft delete table ip6 wall", "chain way of nft's table ip6 wall"),
    "iptables-nft": ("iptables-nft -t nat -A POSTROUTING -o eth0 -j ACCEPT",
                     "iptables-nft -t nat -F", "chain POSTROUTING of nft's table ip nat"),
    "iptables-legacy": ("iptables-legacy -A FORWARD -j ACCEPT", "iptables-legacy -F FORWARD",
                        "chain FORWARD of iptables-legacy's table filter"),
    "ip6tables-legacy": ("ip6tables-legacy -t mangle -A PREROUTING -j ACCEPT",
                         "ip6tables-legacy -t mangle -F",
                         "chain PREROUTING of ip6tables-legacy's table mangle"),
    "iptables-legacy that drops all": ("iptables-legacy -P FORWARD DROP",
                                       "iptables-legacy -P FORWARD ACCEPT",
                                       "chain FORWARD of iptables-legacy's table filter"),
    "IPsec": ("ip xfrm policy add src 198.51.100.1 dst 198.51.100.2 dir fwd",
              "ip xfrm policy flush", "IPsec has policies"),
    "reverse path": ("ip link add other type veth peer name end; ip addr add 198.51.100.1/24 dev other;"
                     "ip link set other up; sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
                     "ip link del other; sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
                     "net.ipv4.conf.eth0.rp_filter is 1, and there are 2 uplinks"),
}


@pytest.mark.parametrize("what", RULES)
def test_rules_of_others_are_noticed_and_obeyed(pair, what):
    """As long as they are there; connections live on."""
    add, remove, reason = RULES[what]
    drops = "drops all" in what
    assert pair.client.call("hold", id=what, addr=pair.server.v6, port=PORT)["result"] == "ok"
    pair.first.netns.run("sh", "-c", add)
    try:
        assert reason in is_mode(pair.first, "legacy")["reason"]
        if not drops:
            before = forwarded(pair.first)
            pair.talk(0)
            assert pair.client.call("ping", id=what)["result"] == "ok"
            assert forwarded(pair.first) >= before + 10
        assert routing(pair.all[1])["mode"] == "bpf"
    finally:
        pair.first.netns.run("sh", "-c", remove)
    assert is_mode(pair.first, "bpf")["reason"] == ""
    assert pair.client.call("ping", id=what)["result"] == "ok"
    pair.client.call("close", id=what)
    before = forwarded(pair.first)
    pair.talk(1)
    assert forwarded(pair.first) == before


def test_chains_without_rules_and_of_the_node_itself_matter_to_nobody(pair):
    pair.first.netns.run("sh", "-c", "iptables-nft -t nat -L; iptables-nft -N KUBE-CANARY;"
                         "iptables-nft -A INPUT -j ACCEPT; iptables-nft -A OUTPUT -j ACCEPT")
    try:
        with pytest.raises(AssertionError):
            is_mode(pair.first, "legacy", 0.5)
    finally:
        pair.first.netns.run("nft", "flush", "ruleset")


def test_the_command_line_tells(pair):
    line, = [line for line in pair.first.cli("status", check=True).stdout.splitlines()
             if line.startswith("Host routing")]
    assert line.split()[-1] == "bpf"


def test_an_agent_finds_the_rules_that_are_there():
    made = Pair(MODES["native"])
    try:
        made.first.stop()
        made.first.netns.run("sh", "-c", RULES["nft inet forward"][0])
        made.first.start()
        assert routing(made.first)["mode"] == "legacy"
    finally:
        made.close()


@pytest.mark.parametrize("mode", ["bpf", "legacy"])
def test_the_setting_decides_alone(mode):
    made = Pair(MODES["native"], f"--host-routing={mode}")
    try:
        if mode == "bpf":
            for node in made.all:
                node.netns.run("sh", "-c", RULES["nft inet forward"][0])
        assert routing(made.first) == {"mode": mode, "reason": "as configured"}
        before = made.forwarded()
        made.talk(0)
        assert (made.forwarded() == before) == (mode == "bpf")
    finally:
        made.close()


@FAMILIES
def test_nobody_on_the_wire_is_a_pod_of_the_node(pair, family):
    """Or the node itself, for its pods; who has another address is judged by that."""
    first, victim = pair.first, pair.client
    own = ["192.0.2.101", "2001:db8::101"][family]
    evil = Outside(first.name + "e")

    def drops(reason):
        return {each["reason"]: each["count"] for each in first.status()["drops"]}.get(reason, 0)

    try:
        pair.nodes.lan.join(evil, 66 + family)  # the port of the first goes when it likes
        lan.settled(evil)
        gateway = lan.Lan.addresses(1)[family]
        link, = json.loads(first.netns.ip("-j", "link", "show", "dev", "eth0").stdout)
        # Nobody answers who asks for a neighbour in the node's own name.
        evil.ip("neigh", "replace", gateway, "lladdr", link["address"], "dev", "eth0")
        evil.ip("-6" if family else "-4", "route", "add", of(victim, family), "via", gateway)
        victim.call("sniff")
        first.netns.ip("addr", "add", own, "dev", "eth0", *(["nodad"] if family else []))
        wait_for(lambda: own in first.status()["nodeAddresses"], "the node's other address")
        for source in (of(pair.other, family), own):
            before = drops("SPOOFED_ADDRESS")
            evil.ip("addr", "add", source, "dev", "lo", *(["nodad"] if family else []))
            evil.call("spoof", source=source, addr=of(victim, family), port=PORT,
                      data=b"evil".hex())
            wait_for(lambda: drops("SPOOFED_ADDRESS") == before + 1, f"the drop of {source}")
            evil.ip("addr", "del", source, "dev", "lo")
        assert victim.call("sniffed", contains=b"evil".hex())["count"] == 0
        evil.call("datagram", addr=of(victim, family), port=PORT, data=b"good".hex())
        wait_for(lambda: victim.call("sniffed", contains=b"good".hex())["count"], "the good")
        pair.nodes.tell(None, pod_object("p1", labels={"app": "client"}, addresses=victim.addresses),
                        policy_object("p1", "default", {"matchLabels": {"app": "client"}},
                                      ingress=[]))
        wait_for(lambda: pair.server.connect(of(victim, family), PORT, timeout=0.2)["result"]
                 == "timeout", "the policy")
        before = drops("INGRESS_DENIED")
        evil.call("datagram", addr=of(victim, family), port=PORT, data=b"late".hex())
        wait_for(lambda: drops("INGRESS_DENIED") == before + 1, "the denied packet")
        assert victim.call("sniffed", contains=b"late".hex())["count"] == 0
    finally:
        pair.nodes.tell()
        first.netns.ip("addr", "del", own, "dev", "eth0")
        evil.delete()
    wait_for(lambda: pair.server.connect(of(victim, family), PORT, timeout=0.2)["result"] == "ok",
             "the policy's end")
