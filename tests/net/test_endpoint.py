# SPDX-License-Identifier: Apache-2.0
"""The life of an endpoint: wired, checked, damaged by others and put back, released, and kept over
the agent's own death.

    node netns: tendril0 (gateways, pod routes), tdlN ==== eth0 of each pod netns
"""

import array
import json
import os
import random
import shutil
import socket
import threading
import time

import pytest

import tendril
from tendril import wait_for


def call(node, path, body, netns=None):
    """One request of the plugin, without the plugin; the status and the answer."""
    text = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: {len(text)}\r\n"
            "Connection: close\r\n\r\n").encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(node.socket))
        rights = []
        fd = os.open(netns, os.O_RDONLY) if netns else None
        if fd is not None:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        try:
            sock.sendmsg([head + text], rights)
        finally:
            if fd is not None:
                os.close(fd)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    if not answer:
        raise ConnectionError("the agent died")
    return int(answer.split()[1]), json.loads(answer.split(b"\r\n\r\n", 1)[1])


def endpoints(node):
    return {e["containerId"]: e for e in node.api("GET", "/v1/endpoints")}


def host_if(pod):
    return pod.result["interfaces"][0]["name"]


def reaches(source, address, seconds=10, size=56):
    return source.run("ping", "-c", "1", "-W", seconds, "-s", size, address,
                      check=False).returncode == 0


def small_ping(source, address, seconds=10):
    """One that fits an MTU of 68."""
    return reaches(source, address, seconds, 20)


def links(node):
    return {link["ifname"]: link for link in json.loads(node.netns.ip("-j", "link").stdout)}


def veths(node):
    return [name for name in links(node) if name.startswith("tdl")]


def assert_clean(node):
    """Nothing of any endpoint is left."""
    wait_for(lambda: not endpoints(node), "no endpoint")
    assert veths(node) == []
    assert list((node.run_dir / "endpoints").iterdir()) == []
    assert list((node.run_dir / "deleted").iterdir()) == []
    usage = {m["name"]: m["used"] for m in node.status()["maps"]}
    assert usage.get("endpoint_map", 0) == 0, usage


@pytest.fixture(scope="module")
def pair():
    """A node with two pods, for tests that leave them as they were."""
    with tendril.Node() as node:
        yield node, node.pod("one"), node.pod("two")


def both_ways(pair, seconds=10):
    node, one, two = pair
    return all(reaches(source, address, seconds) for source, address in (
        (one, two.v4), (one, two.v6), (node.netns, one.v4), (node.netns, one.v6),
        (one, "10.200.0.1"), (one, "fd00:200::1")))


def test_pods_and_node_reach_each_other(pair):
    assert both_ways(pair)


def test_check_passes_on_what_add_made(pair):
    _, one, _ = pair
    assert one.cni("CHECK", conf=dict(one.conf, prevResult=one.result)) == {}


def test_repeated_add_gives_the_same_result(pair):
    node, one, _ = pair
    assert one.cni("ADD") == one.result
    assert len(endpoints(node)) == 2


def flush(node, interface):
    """ip asks for the addresses and then deletes each; it fails (255) if the kernel or the agent took
    one away in between, as happens to the link-local one while the agent repairs."""
    wait_for(lambda: node.netns.ip("addr", "flush", "dev", interface, check=False).returncode == 0,
             f"no address on {interface}")


# What others break on the host's side, and how.
HOST_DAMAGE = {
    "veth down": lambda n, p: n.netns.ip("link", "set", host_if(p), "down"),
    "veth MAC": lambda n, p: n.netns.ip("link", "set", host_if(p), "address", "02:00:00:00:00:99"),
    "veth deleted": lambda n, p: n.netns.ip("link", "del", host_if(p)),
    "veth address": lambda n, p: flush(n, host_if(p)),
    "filter": lambda n, p: n.netns.run("tc", "filter", "del", "dev", host_if(p), "ingress"),
    "egress filter": lambda n, p: n.netns.run("tc", "filter", "del", "dev", host_if(p), "egress"),
    "qdisc": lambda n, p: n.netns.run("tc", "qdisc", "del", "dev", host_if(p), "clsact"),
    "gateway IPv4": lambda n, p: n.netns.ip("addr", "del", "10.200.0.1/32", "dev", "tendril0"),
    "gateway IPv6": lambda n, p: n.netns.ip("addr", "del", "fd00:200::1/128", "dev", "tendril0"),
    "route IPv4": lambda n, p: n.netns.ip("route", "del", "10.200.0.0/24"),
    "route IPv6": lambda n, p: n.netns.ip("-6", "route", "del", "fd00:200::/112"),
    "tendril0 down": lambda n, p: n.netns.ip("link", "set", "tendril0", "down"),
    "tendril0 renamed": lambda n, p: n.netns.ip("link", "set", "tendril0", "name", "mine0"),
    "tendril0 deleted": lambda n, p: n.netns.ip("link", "del", "tendril0"),
}


@pytest.mark.parametrize("damage", HOST_DAMAGE)
def test_damage_on_the_host_is_put_back(pair, damage):
    node, one, _ = pair
    before = node.log().count("put back")
    HOST_DAMAGE[damage](node, one)
    wait_for(lambda: both_ways(pair, 1), f"repair of: {damage}")
    wait_for(lambda: endpoints(node)[one.container_id]["state"] == "ready", "state ready")
    if damage != "veth address":
        wait_for(lambda: node.log().count("put back") > before, "the report")
    assert one.cni("CHECK", conf=dict(one.conf, prevResult=one.result)) == {}


@pytest.mark.parametrize("family,cidr", [("-4", "10.200.0.0/24"), ("-6", "fd00:200::/112")])
def test_route_that_somebody_replaced_is_reported(node, family, cidr):
    """It is not ours to take away; the node does not reach its pods, and STATUS says so."""
    def status():
        return node.cni("STATUS", "any", None, node.conf, check=False)

    node.netns.ip(family, "route", "replace", cidr, "dev", "lo")
    wait_for(lambda: f"a route to {cidr} through another device" in node.log(), "the report")
    assert status()["code"] == 51
    node.netns.ip(family, "route", "del", cidr, "dev", "lo")
    assert status() == {}
    assert "tendril0" in node.netns.ip(family, "route", "show", cidr).stdout


NFT = """
table {family} filter {{
    chain FORWARD {{ type filter hook forward priority 0; policy drop; {rule} }}
}}"""


def nft(node, family, rule=""):
    node.netns.run("nft", "-f", "-", input="flush ruleset\n" + NFT.format(family=family, rule=rule))


LEFTOVERS = {
    "iptables-nft": ("KUBE-SERVICES", "iptables-nft -t nat -N KUBE-SERVICES"),
    "ip6tables-nft": ("cali-INPUT", "ip6tables-nft -N cali-INPUT"),
    "iptables-legacy": ("KUBE-SERVICES", "iptables-legacy -t nat -N KUBE-SERVICES"),
    "ip6tables-legacy": ("FLANNEL-FWD", "ip6tables-legacy -N FLANNEL-FWD"),
    "kube-proxy of nft": ("table kube-proxy", "nft add table ip kube-proxy; "
                                              "add chain ip kube-proxy services"),
    "IPVS": ("kube-ipvs0", "ip link add kube-ipvs0 type bridge"),
    "flannel": ("flannel.1", "ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1"),
    "bridge": ("cni0", "ip link add cni0 type bridge"),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_leftovers_of_other_networks_are_named_and_left_alone(node, what):
    name, command = LEFTOVERS[what]

    def named():
        return [text for text in node.status()["warnings"] if name in text]
    # What a kubelet makes for itself is none.
    node.netns.run("iptables-nft", "-t", "nat", "-N", "KUBE-MARK-MASQ")
    assert not named() and not any("KUBE" in text for text in node.status()["warnings"])
    node.netns.run(*command.split())
    text, = named()
    assert "doc/kubernetes.md" in text
    assert text not in node.status()["failures"]
    assert name.split()[-1] in node.netns.run("sh", "-c", "ip link; iptables-nft-save; ip6tables-nft-save; "
                                              "iptables-legacy-save; ip6tables-legacy-save; "
                                              "nft list tables").stdout


@pytest.mark.parametrize("how", ["nft ip", "nft ip6", "nft inet", "iptables-legacy",
                                 "ip6tables-legacy"])
def test_forward_chain_that_drops_is_reported(node, how):
    """An admin's will: never undone.  Where rules may accept pods it is no failure of the node."""
    def warnings():
        return [w for w in node.status()["warnings"] if "drops" in w]

    def status():
        return node.cni("STATUS", "any", None, node.conf, check=False)

    program, _, family = how.partition(" ")
    assert warnings() == [] and status() == {}
    if family:
        nft(node, family)
    else:
        node.netns.run(program, "-P", "FORWARD", "DROP")
    assert len(warnings()) == 1 and "drops everything: pods reach nothing" in warnings()[0]
    assert (how.split()[0] if family else program) in warnings()[0]
    assert status()["code"] == 51 and "drops everything" in json.dumps(status())
    if family:
        nft(node, family, "iifname tdl* accept;")
    else:
        node.netns.run(program, "-A", "FORWARD", "-i", "tdl+", "-j", "ACCEPT")
    assert len(warnings()) == 1 and "drops what no rule of it accepts" in warnings()[0]
    assert status() == {}
    if family:
        node.netns.run("nft", "flush", "ruleset")
    else:
        node.netns.run(program, "-P", "FORWARD", "ACCEPT")
    assert warnings() == [] and status() == {}


POD_DAMAGE = {
    "address": lambda p: p.ip("addr", "del", f"{p.v4}/24", "dev", "eth0"),
    "IPv6 address": lambda p: p.ip("addr", "del", f"{p.v6}/112", "dev", "eth0"),
    "default route": lambda p: p.ip("route", "del", "default"),
    "IPv6 default route": lambda p: p.ip("-6", "route", "del", "default"),
    "down and up": lambda p: (p.ip("link", "set", "eth0", "down"),
                              p.ip("link", "set", "eth0", "up")),
}


@pytest.mark.parametrize("damage", POD_DAMAGE)
def test_damage_in_the_pod_is_put_back(pair, damage):
    node, _, two = pair
    POD_DAMAGE[damage](two)
    wait_for(lambda: both_ways(pair, 1), f"repair of: {damage}")
    wait_for(lambda: endpoints(node)[two.container_id]["state"] == "ready", "state ready")


def test_interface_that_the_pod_takes_down_is_reported(pair):
    node, one, two = pair
    two.ip("link", "set", "eth0", "down")
    broken = wait_for(lambda: endpoints(node)[two.container_id]["state"] == "broken", "broken")
    assert broken and "eth0 is down in the pod" in node.log()
    assert endpoints(node)[two.container_id]["reason"] == "eth0 is down in the pod"
    answer = two.cni("CHECK", conf=dict(two.conf, prevResult=two.result), check=False)
    assert answer["code"] == 102 and "eth0 is down" in answer["msg"] + answer.get("details", "")
    two.ip("link", "set", "eth0", "up")
    wait_for(lambda: endpoints(node)[two.container_id]["state"] == "ready", "ready again")
    assert both_ways(pair)


def test_tendril0_that_was_renamed_is_found_at_the_start(pair):
    node, _, _ = pair
    index = links(node)["tendril0"]["ifindex"]
    node.kill()
    node.netns.ip("link", "set", "tendril0", "name", "mine0")
    node.start()
    assert links(node)["tendril0"]["ifindex"] == index
    assert both_ways(pair)


@pytest.mark.parametrize("name", ["tendril.sock", "kube/kube.sock", "http/http.sock"])
def test_socket_file_that_was_removed_is_made_again(pair, name):
    node, _, _ = pair
    (node.run_dir / name).unlink()
    # Said once it listens: between bind() and listen() it is there already, and refuses.
    wait_for(lambda: f"{name} was removed; put back" in node.log(), "the socket")
    assert (node.run_dir / name).exists() and node.status()["ready"]


def test_a_folder_of_a_socket_that_was_removed_is_made_again_and_watched(pair):
    node, _, _ = pair
    path = node.run_dir / "kube/kube.sock"
    for _ in range(2):
        # Away in one step: the agent may put the socket back between two steps of rmtree().
        shutil.rmtree(path.parent.rename(node.run_dir / "removed"))
        wait_for(path.exists, "the socket")
    path.unlink()
    wait_for(path.exists, "the socket in the new folder")


def test_pins_of_links_that_were_removed_are_made_again(pair):
    node, _, _ = pair
    names = sorted(p.name for p in (node.bpffs / "links").iterdir())
    assert "connect4" in names
    for name in names:
        (node.bpffs / "links" / name).unlink()
    wait_for(lambda: sorted(p.name for p in (node.bpffs / "links").iterdir()) == names, "the pins")
    shown = json.loads(tendril.run("bpftool", "-j", "cgroup", "show", node.cgroup).stdout)
    assert {"connect4", "connect6"} <= {program["name"] for program in shown}
    assert both_ways(pair)


def pins_of_maps(node):
    shown = {path.name: json.loads(tendril.run("bpftool", "-j", "map", "show", "pinned", path).stdout)
             for path in (node.bpffs / "maps").iterdir()}
    return {name: entry["id"] for name, entry in shown.items()}


@pytest.mark.parametrize("damage", ["maps", "folder", "version", "everything"])
def test_pins_of_maps_that_were_removed_are_made_again(node, damage):
    """Or the next agent would begin with empty maps: a policy would be gone until it is read."""
    one, two = node.pod("one"), node.pod("two")
    kept = pins_of_maps(node)
    if damage == "maps":
        for path in (node.bpffs / "maps").iterdir():
            path.unlink()
    elif damage == "version":
        (node.bpffs / "version").unlink()
    else:
        gone = node.bpffs / "maps" if damage == "folder" else node.bpffs
        shutil.rmtree(gone, ignore_errors=True)
    unused = {"accel_peer_map", "accel_sock"}  # of no program that is loaded

    def is_back():
        return (node.bpffs / "version").exists() and (node.bpffs / "maps").is_dir() and {
            name: number for name, number in pins_of_maps(node).items() if name not in unused} == {
                name: number for name, number in kept.items() if name not in unused}
    wait_for(is_back, "the pins")
    node.kill()
    node.start()
    assert reaches(one, two.v4) and reaches(one, two.v6)
    assert one.cni("CHECK", conf=dict(one.conf, prevResult=one.result)) == {}


@pytest.mark.parametrize("mtu", [1200, 68])
def test_mtu_below_that_of_ipv6_costs_ipv6_and_nothing_else(pair, mtu):
    """The kernel takes IPv6 off such a device, with its settings: that is no namespace gone."""
    node, one, two = pair
    two.ip("link", "set", "eth0", "mtu", mtu)
    wait_for(lambda: endpoints(node)[two.container_id]["state"] == "broken", "broken")
    assert endpoints(node)[two.container_id]["reason"] == f"eth0 has MTU {mtu}: IPv6 needs 1280"
    assert small_ping(two, one.v4)
    two.ip("addr", "del", f"{two.v4}/24", "dev", "eth0")
    wait_for(lambda: small_ping(node.netns, two.v4, 1), "repair of IPv4 alone")
    two.ip("link", "set", "eth0", "mtu", 1500)
    wait_for(lambda: endpoints(node)[two.container_id]["state"] == "ready", "ready again")
    wait_for(lambda: both_ways(pair, 1), "both families")


def test_host_end_that_was_renamed_is_found_and_named_as_before(pair):
    node, one, two = pair
    name = host_if(one)
    for restart in (False, True):
        if restart:
            node.kill()
        node.netns.ip("link", "set", name, "name", "stolen0")
        if restart:
            node.start()
        wait_for(lambda: name in links(node), "the name")
        wait_for(lambda: both_ways(pair, 1), "repair")
        wait_for(lambda: endpoints(node)[one.container_id]["state"] == "ready", "state ready")


def test_pod_whose_namespace_only_a_descriptor_holds_is_not_gone(node):
    """Neither a name nor a process leads to it, and its interface was deleted: it lives."""
    pod = node.pod("hidden")
    fd = os.open(pod.path, os.O_RDONLY)
    tendril.run("ip", "netns", "del", pod.name)
    node.netns.ip("link", "del", host_if(pod))
    wait_for(lambda: endpoints(node)[pod.container_id]["state"] == "broken", "broken")
    assert endpoints(node)[pod.container_id]["reason"] == (
        "the interface was removed, and its namespace cannot be found")
    os.close(fd)
    assert_clean(node)


def test_add_with_an_mtu_below_that_of_ipv6_says_so(node):
    pod = node.pod("small", wire=False)
    answer = pod.cni("ADD", conf=dict(pod.conf, mtu=1200), check=False)
    assert answer["code"] == 7, answer
    assert "mtu: 1200 is less than the 1280 of IPv6" in answer["msg"] + answer["details"]
    assert_clean(node)


def test_check_names_the_difference(pair):
    node, one, _ = pair
    other = dict(one.result, ips=[dict(one.result["ips"][0], address="10.200.0.99/24")])
    answer = one.cni("CHECK", conf=dict(one.conf, prevResult=other), check=False)
    assert answer["code"] == 102 and one.v4 in answer["msg"] + answer.get("details", "")
    status, answer = call(node, "/v1/cni/check", {"containerId": "nobody", "ifname": "eth0"},
                          one.path)
    assert status != 200 and answer["code"] == 3  # unknown container


def test_mac_that_the_pod_changes_is_followed(pair):
    node, one, _ = pair
    one.ip("link", "set", "eth0", "address", "02:00:00:00:00:42")
    wait_for(lambda: endpoints(node)[one.container_id]["mac"] == "02:00:00:00:00:42", "new MAC")
    assert both_ways(pair)


def test_war_over_a_link_ends_in_broken_not_in_a_loop(node):
    pod = node.pod("fought-over")

    def fight():
        node.netns.ip("link", "set", host_if(pod), "down", check=False)
        return endpoints(node)[pod.container_id]["state"] == "broken"

    wait_for(fight, "broken")
    assert endpoints(node)[pod.container_id]["reason"] == "somebody keeps changing it back"
    assert node.log().count("put back") < 20
    assert "somebody keeps changing it back" in node.log()
    wait_for(lambda: endpoints(node)[pod.container_id]["state"] == "ready", "peace", timeout=15)
    assert reaches(node.netns, pod.v4)


def test_pod_that_vanished_is_released_without_del(node):
    pod = node.pod("gone")
    tendril.run("ip", "netns", "del", pod.name)
    assert_clean(node)


def test_gc_removes_what_is_not_valid(node):
    keep, drop = node.pod("keep"), node.pod("drop")
    status, _ = call(node, "/v1/cni/gc", {"network": "tendril", "validAttachments": [
        {"containerID": 7}]})
    assert status == 400 and len(endpoints(node)) == 2
    status, answer = call(node, "/v1/cni/gc", {"network": "another", "validAttachments": []})
    assert (status, answer) == (200, {"removed": 0})
    status, answer = call(node, "/v1/cni/gc", {"network": "tendril", "validAttachments": [
        {"containerID": keep.container_id, "ifname": "eth0"}]})
    assert (status, answer) == (200, {"removed": 1})
    wait_for(lambda: list(endpoints(node)) == [keep.container_id], "one endpoint")
    assert reaches(node.netns, keep.v4) and not reaches(node.netns, drop.v4, 1)


def test_delegated_address_outside_the_pod_cidrs(node):
    pod = node.pod("delegated", wire=False)
    body = {"containerId": pod.container_id, "ifname": "eth0", "netns": pod.path,
            "ipam": {"ips": [{"address": "10.88.0.9/16", "gateway": "10.88.0.1"},
                             {"address": "fd88::9/64"}], "routes": [{"dst": "192.0.2.0/24"}]}}
    status, answer = call(node, "/v1/cni/add", body, pod.path)
    assert status == 200, answer
    assert answer["ips"][1]["gateway"] == "fe80::1"
    pod.result = answer
    other = node.pod("other")
    for address in ("10.88.0.9", "fd88::9"):
        assert reaches(node.netns, address) and reaches(other, address)
    assert "192.0.2.0/24" in pod.ip("route").stdout
    body["containerId"] = "second"
    status, answer = call(node, "/v1/cni/add", body, other.path)
    assert status != 200 and "10.88.0.9 belongs to another pod" in answer["error"]
    body["ipam"] = {"ips": [{"address": "10.200.0.1/24"}]}
    status, answer = call(node, "/v1/cni/add", body, other.path)
    assert status != 200 and "10.200.0.1 is the node's own" in answer["error"]
    node.netns.ip("route", "del", "10.88.0.9")
    wait_for(lambda: reaches(node.netns, "10.88.0.9", 1), "repair of the host route")
    node.kill()
    node.start()
    assert reaches(node.netns, "10.88.0.9")
    node.kill()
    node.netns.ip("route", "replace", "10.88.0.9", "dev", "lo")  # somebody else's in its place
    node.start()
    assert "there is a route to 10.88.0.9/32 through another device" in node.log()
    assert reaches(other, "10.88.0.9")  # policy and the other pods know it all the same
    node.netns.ip("route", "del", "10.88.0.9")
    assert call(node, "/v1/cni/status", {})[0] == 200  # puts ours back
    assert reaches(node.netns, "10.88.0.9")
    assert call(node, "/v1/cni/del", {"containerId": pod.container_id, "ifname": "eth0"})[0] == 200
    assert "10.88.0.9" not in node.netns.ip("route").stdout


def test_second_interface_of_a_pod_is_refused_by_name(node):
    """The second would answer from the first: it is refused, and the first is untouched."""
    pod = node.pod("twice")
    answer = pod.cni("ADD", ifname="net1", check=False)
    assert answer["code"] == 4, answer
    assert "net1: this network namespace has the interface eth0" in answer["msg"] + answer["details"]
    assert "net1" not in pod.ip("link").stdout
    assert len(node.api("GET", "/v1/endpoints")) == 1
    assert pod.cni("DEL", ifname="net1") == {}
    assert reaches(node.netns, pod.v4)


def test_restart_keeps_pods_and_policy_untouched(node):
    pods = [node.pod(f"p{i}") for i in range(3)]
    before = {c: (e["slot"], e["addresses"], e["mac"]) for c, e in endpoints(node).items()}
    indexes = {name: link["ifindex"] for name, link in links(node).items()}
    for end in (node.kill, node.stop):
        end()
        node.start()
        for pod in pods:  # at once: the agent has not looked at them all yet
            assert pod.cni("ADD") == pod.result
            assert pod.cni("CHECK", conf=dict(pod.conf, prevResult=pod.result)) == {}
        assert {c: (e["slot"], e["addresses"], e["mac"])
                for c, e in endpoints(node).items()} == before
        assert {name: link["ifindex"] for name, link in links(node).items()} == indexes
    assert reaches(pods[0], pods[1].v4) and reaches(node.netns, pods[2].v6)
    assert node.pod("fresh").v4 not in [p.v4 for p in pods]


def test_changes_while_the_agent_is_down_are_settled_at_start(node):
    stays, goes, cut = node.pod("stays"), node.pod("goes"), node.pod("cut")
    node.kill()
    assert goes.cni("DEL") == {}
    tendril.run("ip", "netns", "del", cut.name)
    node.netns.ip("link", "set", host_if(stays), "down")
    node.netns.ip("route", "del", "10.200.0.0/24")
    stays.ip("addr", "del", f"{stays.v4}/24", "dev", "eth0")
    node.start()
    wait_for(lambda: list(endpoints(node)) == [stays.container_id], "one endpoint")
    assert reaches(node.netns, stays.v4) and reaches(stays, "10.200.0.1")
    wait_for(lambda: veths(node) == [host_if(stays)], "one link")


def test_damaged_state_file_is_set_aside(node):
    good, bad = node.pod("good"), node.pod("bad")
    slot = endpoints(node)[bad.container_id]["slot"]
    node.kill()
    path = node.run_dir / "endpoints" / f"{slot}.json"
    path.write_text(path.read_text()[:-40])
    (node.run_dir / "endpoints" / "9.json.tmp").write_text("{")
    node.start()
    assert list(endpoints(node)) == [good.container_id]
    assert f"{slot}.json: line 1" in node.log()
    assert path.with_suffix(".json.corrupt").exists()
    wait_for(lambda: veths(node) == [host_if(good)], "one link")  # nobody's: cut off
    assert reaches(node.netns, good.v4)
    assert bad.add()["ips"]
    assert reaches(node.netns, bad.v4)


def test_link_worker_that_dies_is_replaced(node):
    pod = node.pod("victim")
    children = open(f"/proc/{node.agent.pid}/task/{node.agent.pid}/children").read().split()
    workers = [c for c in children
               if open(f"/proc/{c}/comm").read().strip() == "tendril-links"]
    assert len(workers) == 1
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{workers[0]}/status").read()
                  .splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == 1 << 12  # CAP_NET_ADMIN alone
    os.kill(int(workers[0]), 9)
    wait_for(lambda: "the link worker died" in node.log(), "a new link worker")
    assert pod.cni("DEL") == {}
    assert_clean(node)


def test_other_pod_cidrs_after_a_restart(node):
    old = node.pod("old")
    node.stop()
    node.cidrs = ("10.201.0.0/24", "fd00:201::/112")
    node.start()
    new = node.pod("new")
    assert new.v4.startswith("10.201.0.") and new.v6.startswith("fd00:201::")
    for source, address in ((old, new.v4), (new, old.v6), (node.netns, old.v4),
                            (node.netns, new.v6), (old, "10.201.0.1")):
        assert reaches(source, address)
    text = node.netns.ip("route").stdout + node.netns.ip("addr").stdout
    assert "10.200.0.0/24" not in text and "10.200.0.1/32" not in text
    assert f"{old.v4} dev tendril0" in text
    assert old.cni("DEL") == {}
    assert old.v4 not in node.netns.ip("route").stdout


@pytest.mark.parametrize("value", [0, 1, 2])
def test_reverse_path_filter_does_not_part_pod_and_node(node, value):
    for name in ("all", "default"):
        node.netns.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{name}/rp_filter")
    pod = node.pod("p")
    assert reaches(node.netns, pod.v4) and reaches(pod, "10.200.0.1")


def test_namespaces_where_new_devices_have_no_ipv6(node):
    pod = node.pod("p", wire=False)
    for netns in (node.netns, pod):
        netns.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    pod.add()
    assert reaches(node.netns, pod.v6) and reaches(pod, "fd00:200::1")
    node.netns.ip("link", "del", "tendril0")
    wait_for(lambda: reaches(node.netns, pod.v6, 1), "repair of tendril0")


def test_mtu_follows_the_default_route(node):
    node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "far")
    node.netns.ip("link", "set", "uplink", "mtu", "1400", "up")
    node.netns.ip("route", "add", "default", "dev", "uplink")
    pod = node.pod("p")
    assert [i["mtu"] for i in pod.result["interfaces"]] == [1400, 1400]
    assert "mtu 1400" in pod.ip("link").stdout and links(node)[host_if(pod)]["mtu"] == 1400


class Traffic:
    """Echo requests, one each few milliseconds, across whatever happens meanwhile."""

    def __init__(self, source, address, interval="0.005"):
        self.process = source.popen("ping", "-i", interval, "-q", address, stdout=-1, text=True)
        time.sleep(0)

    def lost(self):
        self.process.send_signal(2)
        out = self.process.communicate(timeout=10)[0]
        sent, received = (int(part.split()[0]) for part in
                          next(l for l in out.splitlines() if "transmitted" in l).split(",")[:2])
        assert sent > 20, out
        return sent - received


def test_killing_the_agent_loses_no_packet(node):
    one, two = node.pod("one"), node.pod("two")
    traffic = [Traffic(one, two.v4), Traffic(one, two.v6), Traffic(two, "10.200.0.1"),
               Traffic(two, "fd00:200::1")]
    for _ in range(3):
        node.kill()
        node.start()
    assert [t.lost() for t in traffic] == [0, 0, 0, 0]


def test_parallel_adds_get_different_addresses(node):
    pods = [node.pod(f"p{i}", wire=False) for i in range(30)]
    threads = [threading.Thread(target=pod.add) for pod in pods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({a for pod in pods for a in pod.addresses}) == 60
    assert all(reaches(node.netns, pod.v4) for pod in pods[:3])
    for pod in pods:
        pod.cni("DEL")
    assert_clean(node)


@pytest.mark.parametrize("seed", range(4))
def test_agent_killed_amid_adds_and_dels_leaks_nothing(node, seed):
    """Each worker wires and unwires its pod over and over while the agent is killed at random
    moments; a failed call is repeated, as runtimes do."""
    rng = random.Random(seed)
    pods = [node.pod(f"p{i}", wire=False) for i in range(30)]
    stop = threading.Event()
    failures = []

    def worker(pod):
        body = {"containerId": pod.container_id, "ifname": "eth0", "netns": pod.path}
        try:
            while not stop.is_set():
                for path in ("/v1/cni/add", "/v1/cni/del"):
                    status, answer = call(node, path, body, pod.path)
                    assert status in (200, 503), answer
        except OSError:
            pass  # killed meanwhile
        except AssertionError as error:
            failures.append(error)

    for _ in range(4):
        stop.clear()
        workers = [threading.Thread(target=worker, args=(pod,)) for pod in pods]
        for thread in workers:
            thread.start()
        time.sleep(rng.uniform(0.01, 0.25))  # the random moment, not a wait for anything
        node.kill()
        stop.set()
        for thread in workers:
            thread.join()
        node.start()
    assert not failures
    # What is left is whole: each endpoint that says it is ready works, and all can be deleted.
    for pod in pods:
        endpoint = endpoints(node).get(pod.container_id)
        if endpoint and endpoint["state"] == "ready":
            assert reaches(node.netns, endpoint["addresses"][0])
    for pod in pods:
        call(node, "/v1/cni/del", {"containerId": pod.container_id, "ifname": "eth0"})
    assert_clean(node)
    for pod in pods:
        assert "eth0" not in pod.ip("link").stdout


def test_cleanup_removes_every_trace(node):
    pods = [node.pod(f"p{i}") for i in range(5)]
    node.stop()
    tendril.run(*node.argv("--cleanup"))
    assert set(links(node)) == {"lo"}
    assert "10.200" not in node.netns.ip("route").stdout
    assert not (node.run_dir / "endpoints").exists()
    assert all("eth0" not in pod.ip("link").stdout for pod in pods)
