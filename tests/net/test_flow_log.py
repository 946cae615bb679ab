# SPDX-License-Identifier: Apache-2.0
"""The log of the last flows: known traffic in, exact flows out, under the names of that moment."""

import json
import os
import pathlib
import subprocess
import time

import pytest

from test_forgery import frame, udp
from tendril import (Node, UnixConnection, pod_object, policy_object, service_object, slice_object,
                     wait_for)

SLOW = pathlib.Path(__file__).parent / "programs/slow.bpf.c"
PORT = 8080
VIP = "10.96.0.9"
GREETING = len("cart\n")


def recent(node, **query):
    """The lines of GET /v1/flows/recent."""
    connection = UnixConnection(node.socket, timeout=10)
    text = "&".join(f"{key}={value}" for key, value in query.items())
    connection.request("GET", f"/v1/flows/recent?{text}")
    response = connection.getresponse()
    assert response.status == 200
    lines = [json.loads(line) for line in response]
    connection.close()
    return lines


def find(node, source, destination, direction, **wanted):
    return [flow for flow in recent(node)
            if (flow["IP"]["source"], flow["IP"]["destination"]) == (source, destination) and
            flow["traffic_direction"] == direction and
            all(flow.get(key) == value for key, value in wanted.items())]


def wait_flow(node, source, destination, direction, timeout=10.0, **wanted):
    wait_for(lambda: find(node, source, destination, direction, **wanted),
             f"a flow {source} -> {destination} {direction} {wanted}", timeout)
    return find(node, source, destination, direction, **wanted)[-1]


class World:
    def __init__(self, node):
        self.node = node
        self.web, self.cart, self.fast = (node.pod(name) for name in ("web", "cart", "fast"))
        for pod in (self.web, self.cart, self.fast):
            pod.serve(tcp=[PORT], udp=[PORT])
        labels = {"web": {"app": "web", "pod-template-hash": "5f"}, "cart": {"app": "cart"},
                  "fast": {"app": "fast"}}
        node.put(*[pod_object(pod.pod_name, labels=labels[pod.pod_name], addresses=pod.addresses,
                              accelerate=pod is not self.cart)
                   for pod in (self.web, self.cart, self.fast)])
        wait_for(lambda: source_works(node, "tcp_state"), "the source of connections")


def source_works(node, name):
    return next(source["works"] for source in node.status()["flows"]["sources"]
                if source["name"] == name)


@pytest.fixture(scope="module")
def world(shared_node):
    return World(shared_node)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_both_ends_of_a_connection_count_the_same(world, family):
    source, target = getattr(world.web, family), getattr(world.cart, family)
    before = time.time()
    assert world.web.connect(target, PORT, send="x" * 5000)["result"] == "ok"
    for direction in ("EGRESS", "INGRESS"):
        flow = wait_flow(world.node, source, target, direction)
        assert flow["verdict"] == "FORWARDED"
        assert flow["l4"]["TCP"]["destination_port"] == PORT
        assert flow["IP"]["ipVersion"] == {"v4": "IPv4", "v6": "IPv6"}[family]
        assert (flow["source"]["namespace"], flow["source"]["pod_name"]) == ("default", "web")
        assert "k8s:app=web" in flow["source"]["labels"]
        assert flow["destination"]["pod_name"] == "cart"
        more = flow["tendril"]
        assert more["source_bytes"] == 5000
        assert more["destination_bytes"] == GREETING + 5000
        assert more["ended"] == "closed"
        assert more["retransmits"] == 0
        assert 0 < more["duration_us"] <= (time.time() - before) * 1e6
        assert 0 < more["srtt_us"] <= (time.time() - before) * 1e6


@pytest.fixture(scope="module")
def slow_object(tmp_path_factory):
    """The network's faults, as programs for the pod's own device."""
    made = tmp_path_factory.mktemp("slow") / "slow.o"
    subprocess.run(["clang", "-target", "bpf", f"-I/usr/include/{os.uname().machine}-linux-gnu", "-O2",
                    "-g", "-c", SLOW, "-o", made], check=True)
    return made


@pytest.mark.parametrize("fault", ["delay", "loss"])
def test_round_trips_and_retransmits_are_those_of_the_network(world, slow_object, fault):
    """50 questions and answers: each packet of the server 3 ms late, or each tenth segment of data to it
    lost."""
    pod = world.node.pod(f"slow-{fault}")
    pod.serve(tcp=[PORT])
    pod.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
    pod.run("tc", "filter", "add", "dev", "eth0", "ingress" if fault == "loss" else "egress", "bpf",
            "direct-action", "object-file", slow_object, "section", fault)
    world.web.run("python3", "-c", f"""
import socket
sock = socket.create_connection(("{pod.v4}", {PORT}), timeout=30)
stream = sock.makefile("rb")
stream.readline()
for _ in range(50):
    sock.sendall(b"question")
    assert stream.read(8) == b"question"
sock.shutdown(socket.SHUT_WR)
stream.read()
""")
    more = wait_flow(world.node, world.web.v4, pod.v4, "EGRESS")["tendril"]
    pod.cni("DEL")
    assert (more["source_bytes"], more["destination_bytes"]) == (400, 400 + len(f"slow-{fault}\n"))
    if fault == "delay":
        assert 3000 <= more["srtt_us"] < 60000, more
        assert more["duration_us"] >= 50 * 3000
    else:  # 55 segments; a machine that is busy makes the kernel send one again that was only late
        assert 5 <= more["retransmits"] <= 8, more


def test_accelerated_bytes_count(world):
    wait_for(lambda: world.node.status()["acceleration"]["state"] == "on", "the self-test")
    assert world.web.connect(world.fast.v4, PORT, send="x" * 3000)["result"] == "ok"
    for direction in ("EGRESS", "INGRESS"):
        more = wait_flow(world.node, world.web.v4, world.fast.v4, direction)["tendril"]
        assert (more["source_bytes"], more["destination_bytes"]) == (3000, GREETING + 3000)
        assert more["accelerated_bytes"] > 0


def test_a_service_is_named(world):
    world.node.put(service_object("cart", "default", [VIP], [{"port": 80, "targetPort": PORT}]),
                   slice_object("cart-1", "default", "cart", "IPv4", [{"port": PORT}],
                                [world.cart.v4]))
    assert world.web.connect(VIP, 80)["result"] == "ok"
    flow = wait_flow(world.node, world.web.v4, world.cart.v4, "EGRESS",
                     destination_service={"name": "cart", "namespace": "default"})
    assert flow["destination"]["pod_name"] == "cart"
    assert flow["tendril"]["service_port"] == 80


def test_refused_and_denied(world):
    assert world.web.connect(world.cart.v4, 81)["result"] == "refused"
    wait_for(lambda: [flow for flow in find(world.node, world.web.v4, world.cart.v4, "EGRESS")
                      if flow["tendril"]["ended"] == "refused"], "the refused connection")
    world.node.put(policy_object("deny", "default", {"matchLabels": {"app": "cart"}},
                                 policyTypes=["Ingress"]))
    try:
        assert world.fast.connect(world.cart.v4, PORT, timeout=0.3)["result"] == "timeout"
        flow = wait_flow(world.node, world.fast.v4, world.cart.v4, "INGRESS", verdict="DROPPED")
        assert flow["drop_reason_desc"] == "POLICY_DENIED"
        assert flow["tendril"]["reason"] == "INGRESS_DENIED"
        assert flow["destination"]["pod_name"] == "cart"
        for _ in range(3):
            world.fast.connect(world.cart.v4, PORT, timeout=0.1)
        wait_for(lambda: find(world.node, world.fast.v4, world.cart.v4, "INGRESS",
                              verdict="DROPPED")[-1]["tendril"]["count"] >= 4, "the sum")
        assert len(find(world.node, world.fast.v4, world.cart.v4, "INGRESS",
                        verdict="DROPPED")) == 1
    finally:
        world.node.api("DELETE", "/v1/objects/NetworkPolicy/default/deny")


def test_a_name_is_that_of_its_time(world):
    """The address of a pod that is gone belongs to another one; what it did stays its own."""
    node = world.node
    first = node.pod("first")
    address = first.v4
    assert first.connect(world.cart.v4, PORT)["result"] == "ok"
    assert world.web.connect(address, 9)["result"] == "refused"
    first.cni("DEL")
    second = node.pod("second", conf={"runtimeConfig": {"ips": [f"{address}/24"]}})
    assert second.v4 == address
    assert second.connect(world.cart.v4, PORT)["result"] == "ok"
    for direction in ("EGRESS", "INGRESS"):
        wait_for(lambda way=direction: len(find(node, address, world.cart.v4, way)) == 2, "both")
        assert [flow["source"]["pod_name"] for flow in
                find(node, address, world.cart.v4, direction)] == ["first", "second"]
    assert find(node, world.web.v4, address, "EGRESS")[-1]["destination"]["pod_name"] == "first"


def test_a_connection_keeps_its_peer_to_itself(world):
    """It was opened to a pod whose address another one has when it ends."""
    node = world.node
    first = node.pod("former")
    first.serve(tcp=[PORT])
    address = first.v4
    world.web.call("hold", id="open", addr=address, port=PORT)
    first.cni("DEL")
    second = node.pod("latter", conf={"runtimeConfig": {"ips": [f"{address}/24"]}})
    assert second.v4 == address
    assert world.web.call("ping", id="open", timeout=10)["result"] == "reset"
    flow = wait_flow(node, world.web.v4, address, "EGRESS")
    assert flow["tendril"]["ended"] == "reset by peer"
    assert "pod_name" not in flow["destination"]
    assert world.web.connect(address, PORT)["result"] == "refused"
    wait_for(lambda: len(find(node, world.web.v4, address, "EGRESS")) == 2, "the new connection")
    assert find(node, world.web.v4, address, "EGRESS")[-1]["destination"]["pod_name"] == "latter"
    world.web.call("close", id="open")


def test_drops_are_told_of_who_caused_them(world):
    """Under the address of another pod, and under one that another pod had before."""
    node = world.node
    world.web.call("inject", frame=frame(world.web, world.fast.v4, 17, udp(1, PORT),
                                         source=world.cart.v4))
    flow = wait_flow(node, world.cart.v4, world.fast.v4, "EGRESS", verdict="DROPPED")
    assert flow["tendril"]["reason"] == "SPOOFED_ADDRESS"
    assert flow["drop_reason_desc"] == "INVALID_SOURCE_IP"
    assert flow["source"]["pod_name"] == "web"
    node.put(policy_object("deny", "default", {"matchLabels": {"app": "cart"}},
                           policyTypes=["Ingress"]))
    try:
        one = node.pod("one")
        address = one.v4
        one.udp(world.cart.v4, PORT, timeout=0.05)
        one.cni("DEL")
        two = node.pod("two", conf={"runtimeConfig": {"ips": [f"{address}/24"]}})
        two.udp(world.cart.v4, PORT, timeout=0.05)
        wait_for(lambda: len(find(node, address, world.cart.v4, "INGRESS")) == 2, "both drops")
        assert [flow["source"]["pod_name"] for flow in
                find(node, address, world.cart.v4, "INGRESS")] == ["one", "two"]
    finally:
        node.api("DELETE", "/v1/objects/NetworkPolicy/default/deny")


def test_a_slow_reader_gets_all(world):
    """It does not read until much more waits than is kept for it."""
    node = world.node
    assert world.web.call("flood", addr=world.cart.v4, port=PORT, count=2000)["result"] == 2000
    connection = UnixConnection(node.socket, timeout=20)
    connection.request("GET", "/v1/flows/recent")
    response = connection.getresponse()
    assert world.web.call("flood", addr=world.cart.v4, port=PORT, count=3000)["result"] == 3000
    for _ in range(20):  # turns of the agent's loop
        node.status()
    lines = response.read().decode().splitlines()
    assert len(lines) > 2000 and sum(map(len, lines)) > 2 << 20
    assert not [line for line in lines if "lost" in json.loads(line)]
    connection.close()


def test_the_rule_that_decides_is_named(world):
    node = world.node
    node.put(policy_object("web-only", "default", {"matchLabels": {"app": "cart"}},
                           policyTypes=["Ingress"], ingress=[
        {"from": [{"podSelector": {"matchLabels": {"app": "nobody"}}}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": PORT}]}]))
    try:
        assert world.web.connect(world.cart.v4, PORT, send="rule")["result"] == "ok"
        assert world.fast.connect(world.cart.v4, PORT, timeout=0.2)["result"] == "timeout"
        wait_for(lambda: find(node, world.fast.v4, world.cart.v4, "INGRESS", verdict="DROPPED"),
                 "the drop")
        allowed, denied = (json.loads(node.cli("flows", "--last", "1", "-o", "json", "--to",
                                               "default/cart", *words).stdout)["flow"]
                           for words in (["--from", "default/web", "--policy", "default/web-only"],
                                         ["--from", "default/fast", "--verdict", "deny"]))
        assert allowed["ingress_allowed_by"] == [
            {"name": "web-only", "namespace": "default", "kind": "NetworkPolicy", "rule": 2}]
        assert denied["ingress_denied_by"] == [
            {"name": "web-only", "namespace": "default", "kind": "NetworkPolicy"}]
    finally:
        node.api("DELETE", "/v1/objects/NetworkPolicy/default/web-only")


def test_last_since_and_follow(world):
    node = world.node
    assert len(recent(node, last=1)) == 1
    assert recent(node, last=1) == recent(node)[-1:]
    now = time.time_ns()
    assert recent(node, since=now) == []
    for bad in ("last=x", "since=-1", "follow=2"):
        assert node.api("GET", f"/v1/flows/recent?{bad}", status=400)["error"]
    connection = UnixConnection(node.socket, timeout=10)
    connection.request("GET", f"/v1/flows/recent?since={now}&follow=1")
    stream = connection.getresponse()
    assert world.web.connect(world.cart.v4, PORT, send="follow")["result"] == "ok"
    ends = sorted(json.loads(stream.readline())["traffic_direction"] for _ in range(2))
    assert ends == ["EGRESS", "INGRESS"]
    connection.close()


def test_a_flood_is_counted_and_bounded(world):
    """Connections that come faster than a pod can tell: all of them are there, or told as lost."""
    before = world.node.status()["flows"]["seen"]
    done = world.web.call("flood", addr=world.cart.v4, port=PORT, count=3000)["result"]
    assert done == 3000

    def told():
        status = world.node.status()
        lost = sum(notice["count"] for notice in status["notices"] if notice["name"] == "TCP_LOST")
        return status["flows"]["seen"] - before + lost
    wait_for(lambda: told() == 2 * done, "every end of every connection")


def test_a_flood_of_one_pod_leaves_the_flows_of_others():
    """It connects to a pod and to itself more often than the log has room for flows."""
    with Node() as node:
        quiet, server, flooder = (node.pod(name) for name in ("quiet", "server", "flooder"))
        server.serve(tcp=[PORT])
        wait_for(lambda: source_works(node, "tcp_state"), "the source of connections", 20)
        for _ in range(3):
            assert quiet.connect(server.v4, PORT)["result"] == "ok"
        wait_flow(node, quiet.v4, server.v4, "INGRESS")
        flood = flooder.popen("python3", "-c", f"""
import socket
while True:
    for port in (1, {PORT}):
        with socket.socket() as sock:
            sock.connect_ex(("{server.v4}", port))
""")
        try:
            wait_for(lambda: node.status()["flows"]["seen"] > 80000, "a log that is full", 300)
        finally:
            flood.kill()
            flood.wait()
        flows = node.status()["flows"]
        assert flows["kept"] == flows["max"] < flows["seen"]
        for direction in ("EGRESS", "INGRESS"):
            assert len(find(node, quiet.v4, server.v4, direction)) == 3
        lines = node.cli("flows", "--last", "2", "--from", "default/quiet", "-o", "json").stdout
        assert len(lines.splitlines()) == 2
        everything = recent(node)
        assert not [line for line in everything if "lost" in line]
        assert len(everything) >= flows["max"]


def test_a_restart_goes_on():
    with Node() as node:
        web, cart = node.pod("web"), node.pod("cart")
        cart.serve(tcp=[PORT])
        wait_for(lambda: source_works(node, "tcp_state"), "the source")
        web.call("hold", id="long", addr=cart.v4, port=PORT)
        node.stop()
        assert web.connect(cart.v4, PORT)["result"] == "ok"  # while no agent runs
        node.start()
        wait_for(lambda: source_works(node, "tcp_state"), "the source")
        wait_flow(node, web.v4, cart.v4, "EGRESS")
        assert web.call("ping", id="long")["result"] == "ok"
        web.call("close", id="long")
        wait_for(lambda: len(find(node, web.v4, cart.v4, "EGRESS")) == 2, "the long one")
        assert find(node, web.v4, cart.v4, "EGRESS")[-1]["tendril"]["duration_us"] > 0
        assert (node.bpffs / "links/tcp_state").exists()
        (node.bpffs / "links/tcp_state").unlink()
        wait_for(lambda: (node.bpffs / "links/tcp_state").exists(), "the link, put back")
        assert web.connect(cart.v4, PORT)["result"] == "ok"
        # The kernel ends the link without a pin some time later, which then reports, too.
        wait_for(lambda: len(find(node, web.v4, cart.v4, "EGRESS")) >= 3, "the last one")


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_datagrams_are_flows_too(world, family):
    """Bytes and packets of both ends, the rule that lets them pass, and the name of that time."""
    node = world.node
    first = node.pod("asker")
    source, target = getattr(first, family), getattr(world.cart, family)
    node.put(pod_object("asker", labels={"app": "asker"}, addresses=first.addresses),
             policy_object("ask", "default", {"matchLabels": {"app": "cart"}},
                           policyTypes=["Ingress"], ingress=[
        {"from": [{"podSelector": {"matchLabels": {"app": "asker"}}}],
         "ports": [{"port": PORT, "protocol": "UDP"}]}]))
    try:
        for size in (100, 50):
            assert first.udp(target, PORT, size=size, id="kept")["result"] == "ok"
        for direction in ("EGRESS", "INGRESS"):
            flow = wait_flow(node, source, target, direction, timeout=30, Type="L3_L4",
                             verdict="FORWARDED")
            assert flow["l4"]["UDP"]["destination_port"] == PORT
            assert [flow[end]["pod_name"] for end in ("source", "destination")] == ["asker", "cart"]
            more = flow["tendril"]
            assert (more["source_bytes"], more["source_packets"]) == (150, 2)
            assert (more["destination_bytes"], more["destination_packets"]) == (
                150 + 2 * GREETING, 2)
            assert more["ended"] == "idle" and more["duration_us"] < 10e6
        line = json.loads(node.cli("flows", "--last", "1", "-o", "json", "--protocol", "udp", "--to",
                                   "default/cart", "--from", "default/asker").stdout)["flow"]
        assert line["ingress_allowed_by"] == [
            {"name": "ask", "namespace": "default", "kind": "NetworkPolicy", "rule": 1}]
        first.udp(target, PORT, id="kept")
        first.cni("DEL")  # at once: nobody waits for the silence
        second = node.pod("heir", conf={"runtimeConfig": {"ips": [f"{first.v4}/24"]}})
        assert second.v4 == first.v4
        assert [flow["source"].get("pod_name") for flow in find(node, source, target, "EGRESS")] == (
            ["asker", "asker"])
    finally:
        node.api("DELETE", "/v1/objects/NetworkPolicy/default/ask")


@pytest.mark.parametrize("way", ["connected", "unconnected", "translated"])
def test_a_service_of_datagrams_is_named(world, way):
    """By the socket that sent to it, or by the packet's translation; its bytes are the service's."""
    name, vip, send = {"connected": ("quotes", "10.96.0.31", "s.connect(to); s.send(b'x' * 70)"),
                       "unconnected": ("dates", "10.96.0.32", "s.sendto(b'x' * 70, to)"),
                       "translated": ("weather", "10.96.0.33", "s.sendto(b'x' * 70, to)")}[way]
    node, client = world.node, world.node.pod(way)
    port = {"name": "q", "port": 81, "targetPort": PORT, "protocol": "UDP"}
    node.put(service_object(name, "default", [vip], [port]),
             slice_object(f"{name}-1", "default", name, "IPv4",
                          [{"name": "q", "port": PORT, "protocol": "UDP"}], [world.cart.v4]))
    start = client.popen if way != "translated" else (
        lambda *argv: subprocess.Popen(client.enter(*argv)))  # a process in no cgroup of the node
    assert start("python3", "-c", f"""
import socket
s, to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), ("{vip}", 81)
s.settimeout(10)
{send}
s.recv(4096)
""").wait(timeout=30) == 0
    flow = wait_flow(node, client.v4, world.cart.v4, "EGRESS", timeout=30, Type="L3_L4",
                     destination_service={"name": name, "namespace": "default"})
    assert flow["destination"]["pod_name"] == "cart"
    assert flow["tendril"]["service_port"] == 81
    assert flow["tendril"]["source_bytes"] == 70
    other = wait_flow(node, client.v4, world.cart.v4, "INGRESS", timeout=30, Type="L3_L4")
    assert "destination_service" not in other
    shown = node.cli("flows", "--last", "1", "--service", f"default/{name}").stdout
    assert f"(service default/{name})" in shown, shown
    if way != "translated":  # nat_map counts those when the translation ends
        line = next(line for line in node.cli("service", "list").stdout.splitlines() if name in line)
        assert f" {70 + GREETING + 70} " in f" {line} ", line
    client.cni("DEL")


def test_pings_are_flows(world):
    for address, name in ((world.cart.v4, "ICMPv4"), (world.cart.v6, "ICMPv6")):
        subprocess.run(world.web.enter("ping", "-c", "3", "-i", "0.01", "-s", "40", "-W", "10",
                                       address), check=True, capture_output=True)
        source = world.web.v4 if address == world.cart.v4 else world.web.v6
        flow = wait_flow(world.node, source, address, "EGRESS", timeout=30, Type="L3_L4")
        assert flow["l4"][name]["type"] == (8 if name == "ICMPv4" else 128)
        more = flow["tendril"]
        assert [more[key] for key in ("source_bytes", "destination_bytes", "source_packets",
                                      "destination_packets")] == [120, 120, 3, 3]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_the_rule_that_decides_about_pings_is_named(family):
    """A rule without ports decides about every protocol, one with ports about TCP, UDP and SCTP."""
    with Node() as node:
        bell, friend, stranger = pods = [node.pod(name) for name in ("bell", "friend", "stranger")]
        node.put(*[pod_object(pod.pod_name, labels={"app": pod.pod_name}, addresses=pod.addresses)
                   for pod in pods],
                 policy_object("ring", "default", {"matchLabels": {"app": "bell"}},
                               policyTypes=["Ingress"], ingress=[
            {"from": [{"podSelector": {}}], "ports": [{"port": PORT}]},
            {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]))
        for client in (friend, stranger):
            subprocess.run(client.enter("ping", "-c", "2", "-i", "0.01", "-W", "1",
                                        getattr(bell, family)), capture_output=True)

        def lines(client, verdict):
            text = node.cli("flows", "-o", "json", "--last", "5", "--from",
                            f"default/{client.pod_name}", "--to", "default/bell", "--verdict",
                            verdict).stdout
            return [json.loads(line)["flow"] for line in text.splitlines()]
        allowed = wait_for(lambda: lines(friend, "forwarded"), "the ping that passes", 30)[-1]
        assert allowed["ingress_allowed_by"] == [
            {"name": "ring", "namespace": "default", "kind": "NetworkPolicy", "rule": 2}]
        denied = wait_for(lambda: lines(stranger, "dropped"), "the ping that does not", 30)[-1]
        assert denied["ingress_denied_by"] == [
            {"name": "ring", "namespace": "default", "kind": "NetworkPolicy"}]
        assert set(denied["l4"]) == {{"v4": "ICMPv4", "v6": "ICMPv6"}[family]}


def test_a_source_that_the_kernel_refuses_is_told_of():
    """As on a kernel without the tracepoint: everything else works, and nobody has to guess."""
    with Node(start=False) as node:
        (node.bpffs / "links/tcp_state").mkdir(parents=True)  # where the link would be pinned
        node.start()
        web, cart = node.pod("web"), node.pod("cart")
        cart.serve(tcp=[PORT], udp=[PORT])
        told = wait_for(lambda: [text for text in node.status()["warnings"]
                                 if text.startswith("TCP connections are not reported: ")],
                        "the warning", 20)
        source = next(source for source in node.status()["flows"]["sources"]
                      if source["name"] == "tcp_state")
        assert not source["works"] and told == [f"TCP connections are not reported: {source['problem']}"]
        assert "tcp_state" in source["problem"]
        assert "warn flow: TCP connections are not reported: " in node.log()
        assert web.connect(cart.v4, PORT)["result"] == "ok"
        assert web.udp(cart.v4, PORT, timeout=5)["result"] == "ok"
        wait_flow(node, web.v4, cart.v4, "EGRESS", timeout=30, Type="L3_L4")
        assert not find(node, web.v4, cart.v4, "EGRESS", Type="SOCK")
        assert any(text in node.cli("status", check=False).stdout for text in told)
        node.stop()
        (node.bpffs / "links/tcp_state").rmdir()


def metrics(node):
    connection = UnixConnection(node.socket, timeout=10)
    connection.request("GET", "/v1/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def test_metrics_tell_of_services_programs_and_how_long_changes_take(world):
    node, before = world.node, metrics(world.node)
    label = 'namespace="default",service="cart"'
    node.put(service_object("cart", "default", [VIP], [{"port": 80, "targetPort": PORT}]),
             slice_object("cart-1", "default", "cart", "IPv4", [{"port": PORT}], [world.cart.v4]))
    for _ in range(3):
        assert world.web.connect(VIP, 80)["result"] == "ok"

    def count(name):
        return float(metrics(node).get(f"{name}_count{{{label}}}", 0)) - float(
            before.get(f"{name}_count{{{label}}}", 0))
    wait_for(lambda: count("tendril_service_tcp_rtt_seconds") == 3, "the round trips", 20)
    assert count("tendril_service_tcp_retransmits") == 3
    now = metrics(node)
    assert float(now[f'tendril_service_tcp_retransmits_bucket{{{label},le="0"}}']) >= 3
    assert 0 < float(now[f"tendril_service_tcp_rtt_seconds_sum{{{label}}}"]) < 10
    assert float(now["tendril_object_sync_seconds_count"]) > float(
        before["tendril_object_sync_seconds_count"])
    assert 0 < float(now["tendril_object_sync_seconds_sum"]) < 60
    assert now['tendril_object_sync_seconds_bucket{le="+Inf"}'] == now["tendril_object_sync_seconds_count"]
    assert now['tendril_bpf_program_recursion_misses_total{program="from_pod"}'] == "0"
