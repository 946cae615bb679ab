# SPDX-License-Identifier: Apache-2.0
"""Policy behind other plugins: they wire the pods, tendril-cni stands behind them with "chained".

    bridge:  pod eth0 ==== vethX -- cni0 (gateway addresses)      ptp:  pod eth0 ==== vethX
"""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest

import cnirun
import tendril
from tendril import (BUILD, namespace_object, pod_object, policy_object, service_object,
                     slice_object, wait_for)

PORT, OTHER = 8080, 8081
PLUGINS = "/usr/lib/cni"
SUBNETS = {"cni0": ("10.88.0.0/24", "fd00:88::/64"), "cni1": ("10.89.0.0/24", "fd00:89::/64")}
GATEWAYS = {"cni0": ("10.88.0.1", "fd00:88::1"), "cni1": ("10.89.0.1", "fd00:89::1")}
HOST_PORT = 18080


class Behind(tendril.Pod):
    """A pod of another plugin, wired by the whole chain."""

    def __init__(self, node, name, namespace="shop", labels=None, kind="bridge", bridge="cni0",
                 wire=True, runtime=None, chained=None, **plugin):
        super().__init__(node, name, namespace, wire=False)
        self.labels = labels or {"app": name}
        self.runtime = runtime
        first = {"type": kind, "ipam": {
            "type": "host-local", "dataDir": str(node.dir / "ipam"),
            "ranges": [[{"subnet": s}] for s in SUBNETS[bridge]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}
        if kind == "bridge":
            first.update(bridge=bridge, isGateway=True, hairpinMode=True)
        first.update(plugin)
        self.chain = cnirun.Chain(
            {"cniVersion": "1.0.0", "name": bridge, "plugins": [
                first,
                {"type": "tendril-cni", "chained": True, "socket": str(node.socket),
                 **(chained or {})},
                {"type": "portmap", "capabilities": {"portMappings": True}}]},
            [BUILD, PLUGINS], enter=node.netns.enter())
        if wire:
            self.add()

    def step(self, command, **more):
        return self.chain.run(command, self.container_id, more.pop("netns", self.path),
                              self.runtime, args=self.cni_args, **more)

    def alone(self, which, command, previous=None, netns=True):
        """One plugin of the chain by itself."""
        plugin = self.chain.conflist["plugins"][which]
        return cnirun.plugin_run(self.chain.program(plugin["type"]), command,
                                 self.chain.conf(plugin, self.runtime or {}, previous),
                                 self.container_id, netns=self.path if netns else None,
                                 args=self.cni_args, enter=self.chain.enter,
                                 path=f"{BUILD}:{PLUGINS}")

    def add(self):
        answer = self.step("ADD")
        assert answer.code == 0, answer.json
        self.result = answer.json
        self.addresses = [ip["address"].split("/")[0] for ip in self.result["ips"]]
        return self.result

    @property
    def endpoint(self):
        found = [e for e in self.node.api("GET", "/v1/endpoints")
                 if e["containerId"] == self.container_id]
        return found[0] if found else None

    @property
    def host_device(self):
        return next(i["name"] for i in self.result["interfaces"]
                    if not i.get("sandbox") and i["name"] not in SUBNETS)

    def object(self, **more):
        return pod_object(self.pod_name, self.pod_namespace, self.labels, self.addresses, **more)


def settle(*pods):
    """Waits until the other plugin's IPv6 addresses, the gateways' too, are past their duplicate
    detection."""
    for pod in pods:
        for target in pods:
            wait_for(lambda: all(pod.connect(a, PORT, timeout=0.3)["result"] == "ok"
                                 for a in target.addresses),
                     f"{pod.pod_name} to reach {target.pod_name}")


def bare_node(**more):
    """An agent that wires nothing itself."""
    return tendril.Node(cidrs=(), **more)


class World:
    def __init__(self, node, kind="bridge"):
        self.node, self.kind = node, kind
        self.web = Behind(node, "web", kind=kind)
        self.cart = Behind(node, "cart", kind=kind)
        self.probe = Behind(node, "probe", "ops", kind=kind)
        for pod in self.pods:
            pod.serve(tcp=[PORT, OTHER], udp=[PORT, OTHER])
        node.put(namespace_object("shop"), namespace_object("ops"),
                 *[pod.object() for pod in self.pods])
        settle(self.web, self.cart, self.probe)

    @property
    def pods(self):
        return [self.web, self.cart, self.probe]

    def apply(self, *policies):
        self.node.put(*policies)

    def clear(self):
        for item in self.node.api("GET", "/v1/objects"):
            if item["kind"] == "NetworkPolicy":
                self.node.api("DELETE", f"/v1/objects/NetworkPolicy/{item['namespace']}/"
                                        f"{item['name']}")


@pytest.fixture(scope="module", params=["bridge", "ptp"])
def module_world(request):
    with bare_node() as node:
        yield World(node, request.param)


@pytest.fixture
def world(module_world):
    yield module_world
    module_world.clear()


@pytest.fixture
def chained_node():
    with bare_node() as node:
        yield node


ONLY_CART = policy_object("web", "shop", {"matchLabels": {"app": "web"}}, ingress=[
    {"from": [{"podSelector": {"matchLabels": {"app": "cart"}}}],
     "ports": [{"port": PORT}, {"port": PORT, "protocol": "UDP"}]}])
TO_CART = policy_object("web-out", "shop", {"matchLabels": {"app": "web"}}, egress=[
    {"to": [{"podSelector": {"matchLabels": {"app": "cart"}}}]}], policyTypes=["Egress"])
CLOSED = policy_object("closed", "shop", {}, policyTypes=["Ingress"])


# ---- policy ----

def test_pods_reach_each_other_without_policy(world):
    assert world.cart.reaches(world.web, PORT) and world.web.reaches(world.probe, PORT)
    assert world.cart.reaches(world.web, PORT, "udp")


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_ingress_policy(world, proto):
    world.apply(ONLY_CART)
    assert world.cart.reaches(world.web, PORT, proto)
    assert world.cart.is_dropped(world.web, OTHER, proto)
    assert world.probe.is_dropped(world.web, PORT, proto)
    assert world.web.reaches(world.probe, PORT, proto)


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_egress_policy(world, proto):
    world.apply(TO_CART)
    assert world.web.reaches(world.cart, PORT, proto)
    assert world.web.is_dropped(world.probe, PORT, proto)
    assert world.probe.reaches(world.web, PORT, proto)


def test_both_ends_are_isolated(world):
    world.apply(ONLY_CART, policy_object(
        "cart", "shop", {"matchLabels": {"app": "cart"}}, ingress=[], egress=[
            {"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
        policyTypes=["Ingress", "Egress"]))
    assert world.cart.reaches(world.web, PORT)
    assert world.web.is_dropped(world.cart, PORT)
    assert world.cart.is_dropped(world.probe, PORT)


def test_a_live_connection_ends_with_its_permission(world):
    world.apply(ONLY_CART)
    for address in world.web.addresses:
        assert world.cart.call("hold", id=address, addr=address, port=PORT)["result"] == "ok"
        assert world.cart.call("ping", id=address)["result"] == "ok"
    world.apply(dict(ONLY_CART, spec={**ONLY_CART["spec"], "ingress": []}))
    for address in world.web.addresses:
        assert world.cart.call("ping", id=address, timeout=0.3)["result"] == "timeout"
        world.cart.call("close", id=address)


SERVE = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6
                                if ":" in sys.argv[1] else socket.AF_INET)
print("listens", flush=True)
while True:
    listener.accept()[0].sendall(b"host\\n")
"""
ASK = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 0.3).recv(9))
except TimeoutError:
    print("timeout")
"""


def test_the_node_reaches_its_pods_whatever_policy_says(world):
    """Probes of the kubelet come from there."""
    world.apply(CLOSED)
    for address in world.web.addresses:
        done = world.node.netns.run(sys.executable, "-c", ASK, address, PORT)
        assert "web" in done.stdout, done.stdout


def test_a_pod_reaches_the_node_as_policy_says(world):
    gateway = GATEWAYS["cni0"][0]
    server = subprocess.Popen(world.node.netns.enter(sys.executable, "-c", SERVE, gateway, 7070),
                              stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout.readline() == "listens\n"
        assert world.web.connect(gateway, 7070).get("name") == "host"
        world.apply(TO_CART)
        assert world.web.connect(gateway, 7070, timeout=0.3)["result"] == "timeout"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


# ---- services ----

def services(world):
    ports = [{"port": 80, "targetPort": PORT, "protocol": proto, "name": proto.lower()}
             for proto in ("TCP", "UDP")]
    slice_ports = [{"port": PORT, "protocol": p["protocol"], "name": p["name"]} for p in ports]
    addresses = ["10.96.0.10", "fd00:96::10"]
    world.node.put(
        service_object("cart", "shop", addresses, ports),
        slice_object("cart-4", "shop", "cart", "IPv4", slice_ports, [world.cart.v4]),
        slice_object("cart-6", "shop", "cart", "IPv6", slice_ports, [world.cart.v6]))
    return addresses


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_services_by_the_socket_layer(world, proto):
    """Egress policy that names pods holds for the pods behind a service."""
    addresses = services(world)
    assert world.web.reaches(addresses, 80, proto)
    assert world.cart.reaches(addresses, 80, proto)  # itself
    world.apply(TO_CART)
    assert world.web.reaches(addresses, 80, proto)
    world.apply(policy_object("out", "ops", {}, egress=[], policyTypes=["Egress"]))
    assert world.probe.is_dropped(addresses, 80, proto)


def test_without_services_a_service_address_is_the_other_plugins_affair():
    with bare_node(start=False) as node:
        node.start("--socket-services=false")
        world = World(node)
        addresses = services(world)
        nat(node, "-A", "PREROUTING", "-d", addresses[0], "-p", "tcp", "-j", "DNAT",
            "--to-destination", f"{world.cart.v4}:{PORT}")
        nat(node, "-A", "POSTROUTING", "-s", world.cart.v4, "-d", world.cart.v4,
            "-j", "MASQUERADE")
        assert world.web.connect(addresses[0], 80)["name"] == "cart"
        assert world.cart.connect(addresses[0], 80)["name"] == "cart"


# ---- by way of the host ----

def nat(node, *rule):
    node.netns.run("iptables", "-t", "nat", *rule)


def kube_proxy(world):
    """A service address as kube-proxy makes it: what the pod sends goes up to the host and back."""
    nat(world.node, "-A", "PREROUTING", "-d", "10.97.0.1", "-p", "tcp", "--dport", "80",
        "-j", "DNAT", "--to-destination", f"{world.web.v4}:{PORT}")


def test_a_service_of_kube_proxy_keeps_the_senders_identity(chained_node):
    world = World(chained_node)
    kube_proxy(world)
    assert world.cart.connect("10.97.0.1", 80)["name"] == "web"
    world.apply(ONLY_CART)
    assert world.cart.connect("10.97.0.1", 80)["name"] == "web"
    assert world.probe.connect("10.97.0.1", 80, timeout=0.3)["result"] == "timeout"
    # Behind the node's address it is still that pod.
    nat(world.node, "-A", "POSTROUTING", "-d", world.web.v4, "-p", "tcp", "-j", "MASQUERADE")
    assert world.cart.connect("10.97.0.1", 80)["name"] == "web"
    assert world.probe.connect("10.97.0.1", 80, timeout=0.3)["result"] == "timeout"


def test_between_two_bridges_and_our_own_pods():
    with tendril.Node() as node:
        world = World(node)
        other = Behind(node, "other", "ops", bridge="cni1")
        own = node.pod("own", "ops")
        for pod in (other, own):
            pod.serve(tcp=[PORT])
        settle(world.web, other)
        assert world.web.reaches(other, PORT) and other.reaches(world.web, PORT)
        assert world.web.reaches(own, PORT)
        assert own.connect(world.web.v4, PORT)["result"] == "ok"
        assert own.connect(world.web.v6, PORT)["result"] == "ok"
        world.apply(ONLY_CART, policy_object("in", "ops", {}, ingress=[
            {"from": [{"namespaceSelector": {"matchLabels":
                                             {"kubernetes.io/metadata.name": "shop"}},
                       "podSelector": {"matchLabels": {"app": "cart"}}}]}]))
        node.put(other.object(), pod_object("own", "ops", {}, own.addresses))
        assert other.is_dropped(world.web, PORT)
        assert own.connect(world.web.v4, PORT, timeout=0.3)["result"] == "timeout"
        assert world.web.is_dropped(other, PORT) and world.web.is_dropped(own, PORT)
        assert world.cart.reaches(other, PORT) and world.cart.reaches(own, PORT)


def test_a_container_on_the_bridge_that_nobody_guards_cannot_speak_for_a_pod(chained_node):
    world = World(chained_node)
    stray = Behind(chained_node, "stray", wire=False)
    added = stray.alone(0, "ADD")
    assert added.code == 0
    stray.addresses = [ip["address"].split("/")[0] for ip in added.json["ips"]]
    assert stray.reaches(world.web, PORT)
    world.apply(ONLY_CART)
    assert stray.is_dropped(world.web, PORT)
    stray.ip("addr", "add", world.cart.v4 + "/24", "dev", "eth0")
    for command in (["route", "replace", world.web.v4, "dev", "eth0", "src", world.cart.v4],
                    ["route", "replace", world.web.v4, "via", GATEWAYS["cni0"][0], "src",
                     world.cart.v4]):  # to the pod itself, and by the bridge's own device
        before = drops(chained_node, "SPOOFED_ADDRESS")
        stray.ip(*command)
        assert stray.connect(world.web.v4, PORT, timeout=0.3)["result"] == "timeout"
        assert drops(chained_node, "SPOOFED_ADDRESS") > before


def drops(node, reason):
    return {d["reason"]: d["count"] for d in node.status()["drops"]}.get(reason, 0)


# ---- published ports ----

def test_a_published_port_obeys_policy(chained_node):
    web = Behind(chained_node, "web", runtime={"portMappings": [
        {"hostPort": HOST_PORT, "containerPort": PORT, "protocol": "tcp"}]})
    cart, probe = Behind(chained_node, "cart"), Behind(chained_node, "probe", "ops")
    web.serve(tcp=[PORT])
    chained_node.put(namespace_object("shop"), namespace_object("ops"),
                     *[p.object() for p in (web, cart, probe)])
    gateway = GATEWAYS["cni0"][0]
    assert cart.connect(gateway, HOST_PORT)["name"] == "web"
    chained_node.put(ONLY_CART)
    assert cart.connect(gateway, HOST_PORT)["name"] == "web"
    assert probe.connect(gateway, HOST_PORT, timeout=0.3)["result"] == "timeout"
    assert web.step("DEL").code == 0
    assert str(HOST_PORT) not in chained_node.netns.run("iptables-save").stdout


# ---- nothing passes before policy does ----

KNOCK = """
import socket, sys
addresses, port = sys.argv[1].split(","), int(sys.argv[2])
socks = [(a, socket.socket(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_DGRAM))
         for a in addresses]
print("knocks", flush=True)
while True:
    for address, sock in socks:
        try:
            sock.sendto(b"knock", (address, port))
        except OSError:
            pass
"""
COUNT = """
import socket, sys
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", int(sys.argv[1])))
print("counts", flush=True)
for line in sys.stdin:
    sock.setblocking(False)
    count = 0
    try:
        while True:
            sock.recv(9)
            count += 1
    except BlockingIOError:
        print(count, flush=True)
"""


class Counter:
    """A socket inside a pod; asked() is what has arrived since the last time."""

    def __init__(self, pod):
        self.process = pod.popen(sys.executable, "-c", COUNT, PORT, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "counts\n"

    def asked(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def test_the_first_packet_meets_policy(chained_node):
    """Somebody knocks while the chain runs.  A process of the pod, which a runtime starts only
    after ADD, sees none of it; and what does arrive before our ADD ends with it."""
    chained_node.put(namespace_object("shop"), namespace_object("ops"), CLOSED)
    client = Behind(chained_node, "client", "ops")
    chained_node.put(client.object())
    for _ in range(5):
        pod = Behind(chained_node, "web", wire=False)
        bridged = pod.alone(0, "ADD")
        addresses = [ip["address"].split("/")[0] for ip in bridged.json["ips"]]
        knocker = client.popen(sys.executable, "-c", KNOCK, ",".join(addresses), PORT,
                               stdout=subprocess.PIPE, text=True)
        counter = Counter(pod)  # earlier than any runtime would start it
        try:
            assert knocker.stdout.readline() == "knocks\n"
            wait_for(counter.asked, "a packet before there is a policy")
            added = pod.alone(1, "ADD", bridged.json)
            assert added.code == 0, added.json
            counter.asked()
            assert counter.asked() == counter.asked() == 0
        finally:
            knocker.kill()
            knocker.wait()
            knocker.stdout.close()
            counter.close()
        assert pod.alone(1, "DEL", bridged.json).code == 0
        assert pod.alone(0, "DEL", bridged.json).code == 0


def test_a_failed_add_leaves_the_pod_closed(chained_node):
    """And so does a DEL, until the other plugin's own: both ways, for everybody."""
    client, pod = Behind(chained_node, "client"), Behind(chained_node, "web", wire=False)
    client.serve(tcp=[PORT])
    bridged = pod.alone(0, "ADD")
    pod.addresses = [ip["address"].split("/")[0] for ip in bridged.json["ips"]]
    pod.serve(tcp=[PORT])
    settle(pod, client)
    full = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "none",
                           str(chained_node.run_dir / "endpoints")], check=True)
    assert full.returncode == 0
    try:
        refused = pod.alone(1, "ADD", bridged.json)
        assert refused.code != 0 and "state file" in refused.json["msg"] + \
            refused.json.get("details", ""), refused.json
    finally:
        subprocess.run(["umount", str(chained_node.run_dir / "endpoints")], check=True)
    assert pod.endpoint is None
    assert client.is_dropped(pod, PORT) and pod.is_dropped(client, PORT)
    done = chained_node.netns.run(sys.executable, "-c", ASK, pod.v4, PORT)
    assert done.stdout == "timeout\n"


def test_del_closes_the_pod(chained_node):
    client, pod = Behind(chained_node, "client"), Behind(chained_node, "web")
    for one in (client, pod):
        one.serve(tcp=[PORT])
    settle(pod, client)
    assert pod.alone(1, "DEL", pod.result).code == 0
    assert pod.endpoint is None
    assert client.is_dropped(pod, PORT) and pod.is_dropped(client, PORT)
    done = chained_node.netns.run(sys.executable, "-c", ASK, pod.v4, PORT)
    assert done.stdout == "timeout\n"
    # The container is still there: added again, it is open again.
    assert pod.alone(1, "ADD", pod.result).code == 0
    settle(client, pod)


# ---- the life of a pod ----

def test_results_are_handed_on_as_they_are(chained_node):
    pod = Behind(chained_node, "web", wire=False)
    bridged = pod.alone(0, "ADD")
    previous = {**bridged.json, "x-other": {"kept": True}}
    added = pod.alone(1, "ADD", previous)
    assert added.json == previous
    assert pod.alone(1, "ADD", previous).json == previous  # the runtime asks again
    assert pod.endpoint["hostInterface"] == next(
        i["name"] for i in previous["interfaces"] if i["name"].startswith("veth"))


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0"])
def test_every_version_of_a_chain(chained_node, version):
    pod = Behind(chained_node, "web", wire=False)
    pod.chain.conflist["cniVersion"] = version
    del pod.chain.conflist["plugins"][2]  # portmap wants interfaces in the result
    answer = pod.step("ADD")
    assert answer.code == 0, answer.json
    assert answer.json["cniVersion"] == version
    assert len(pod.endpoint["addresses"]) == 2
    assert pod.step("DEL").code == 0
    assert pod.endpoint is None


def test_check(chained_node):
    pod = Behind(chained_node, "web")
    pod.chain.conflist["plugins"].pop()  # portmap's own CHECK is not the matter here
    assert pod.step("CHECK").code == 0
    pod.ip("addr", "del", pod.v4 + "/24", "dev", "eth0")
    checked = pod.alone(1, "CHECK", pod.result)
    assert checked.code == 102 and pod.v4 in checked.json["msg"] + checked.json.get("details", "")
    pod.ip("addr", "add", pod.v4 + "/24", "dev", "eth0")
    assert pod.alone(1, "CHECK", pod.result).code == 0
    chained_node.netns.ip("link", "del", pod.host_device)
    gone = pod.alone(1, "CHECK", pod.result)
    assert gone.code == 102 and "gone" in str(gone.json)


def test_del_in_any_order(chained_node):
    """Before and after the other plugin's, repeated, without the namespace, without an agent."""
    first = Behind(chained_node, "a")
    assert first.alone(0, "DEL", first.result).code == 0  # veth and address are gone
    second = Behind(chained_node, "b")
    assert first.alone(1, "DEL", first.result).code == 0
    assert first.alone(1, "DEL", first.result).code == 0
    assert first.endpoint is None and second.endpoint
    second.ip("link", "del", "eth0")
    second.process = None
    subprocess.run(["ip", "netns", "del", second.name], check=True)
    wait_for(lambda: second.endpoint is None, "the endpoint to go with its namespace")
    assert second.alone(1, "DEL", second.result, netns=False).code == 0
    third = Behind(chained_node, "c")
    chained_node.kill()
    assert third.alone(1, "DEL", third.result).code == 0
    assert third.alone(0, "DEL", third.result).code == 0
    chained_node.start()
    wait_for(lambda: third.endpoint is None, "the spooled DEL")


def test_an_address_that_is_given_again_is_the_new_pods(chained_node):
    """The runtime lost the old pod without a DEL; the other plugin knows that it is gone."""
    chained_node.put(namespace_object("shop"))
    old = Behind(chained_node, "old")
    assert old.alone(0, "DEL", old.result).code == 0
    ranges = old.chain.conflist["plugins"][0]["ipam"]["ranges"]
    again = Behind(chained_node, "again", wire=False)
    for span, address in zip(ranges, old.addresses):
        span[0].update(rangeStart=address, rangeEnd=address)
    again.chain.conflist["plugins"][0]["ipam"]["ranges"] = ranges
    again.add()
    assert again.addresses == old.addresses
    assert old.endpoint is None and again.endpoint["name"] == "again"


def test_gc_and_status(chained_node):
    kept, dropped = Behind(chained_node, "kept"), Behind(chained_node, "dropped")
    conf = {**kept.chain.conf(kept.chain.conflist["plugins"][1], {}, None), "cniVersion": "1.1.0"}

    def ask(command, **more):
        return cnirun.plugin_run(BUILD / "tendril-cni", command, {**conf, **more},
                                 container_id=None, ifname=None, enter=kept.chain.enter)
    assert ask("STATUS").code == 0
    assert ask("GC", **{"cni.dev/valid-attachments": [
        {"containerID": kept.container_id, "ifname": "eth0"}]}).code == 0
    assert kept.endpoint and dropped.endpoint is None
    chained_node.stop()
    assert ask("STATUS").code == 50


# ---- refused by name ----

def refused(pod, previous):
    answer = pod.alone(1, "ADD", previous)
    assert answer.code != 0 and pod.endpoint is None
    return answer.json["msg"] + " " + answer.json.get("details", "")


def test_add_without_a_result(chained_node):
    assert "prevResult: missing" in refused(Behind(chained_node, "web", wire=False), None)


def test_results_without_the_interface(chained_node):
    pod = Behind(chained_node, "web", wire=False)
    bridged = pod.alone(0, "ADD").json
    text = refused(pod, {**bridged, "interfaces": [{"name": "net1", "sandbox": pod.path}],
                         "ips": []})
    assert "no interface eth0" in text
    assert "no address of eth0" in refused(pod, {**bridged, "ips": []})
    pod.ip("link", "set", "eth0", "down")
    pod.ip("link", "set", "eth0", "name", "renamed")
    assert "has made no eth0 in the pod" in refused(pod, bridged)


@pytest.mark.parametrize("kind", ["macvlan", "host-device"])
def test_other_kinds_of_interfaces(chained_node, kind):
    node = chained_node
    node.netns.ip("link", "add", "wire", "type", "veth", "peer", "name", "wire-peer")
    for device in ("wire", "wire-peer"):  # without a carrier the plugin waits 10 s for addresses
        node.netns.ip("link", "set", device, "up")
    if kind == "host-device":
        node.netns.ip("link", "add", "passed", "link", "wire", "type", "macvlan")
    conf = {"device": "passed"} if kind == "host-device" else {"master": "wire"}
    pod = Behind(node, "web", kind=kind, wire=False, **conf)
    made = pod.alone(0, "ADD")
    assert made.code == 0, made.json
    text = refused(pod, made.json)
    assert "eth0 is of kind macvlan" in text and "veth pair" in text


def test_a_veth_whose_other_end_is_elsewhere(chained_node):
    pod, other = Behind(chained_node, "web", wire=False), Behind(chained_node, "x", wire=False)
    # In the node's namespace another device has the index of the peer.
    chained_node.netns.ip("link", "add", "decoy", "index", "77", "type", "veth", "peer", "decoy2")
    pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "index", "77", "netns",
           other.name)
    text = refused(pod, {"cniVersion": "1.0.0", "interfaces": [
        {"name": "eth0", "sandbox": pod.path}], "ips": [{"address": "10.88.0.9/24"}]})
    assert "not in the node's network namespace" in text


def test_a_pod_of_ours_is_not_chained():
    with tendril.Node() as node:
        own = node.pod("own")
        pod = Behind(node, "again", wire=False)
        answer = cnirun.plugin_run(
            BUILD / "tendril-cni", "ADD",
            {**pod.chain.conf(pod.chain.conflist["plugins"][1], {}, own.result),
             "cniVersion": "1.1.0"}, "other", netns=own.path, enter=node.netns.enter())
        assert answer.code != 0 and "Tendril itself has made eth0" in str(answer.json)
        bridged = Behind(node, "web")
        conf = {**bridged.chain.conf(bridged.chain.conflist["plugins"][1], {}, bridged.result)}
        del conf["chained"]
        answer = cnirun.plugin_run(BUILD / "tendril-cni", "ADD", conf, "other",
                                   netns=bridged.path, enter=node.netns.enter())
        assert answer.code == 7 and '"chained": true' in answer.json["msg"]


@pytest.mark.parametrize("conf", [{"ipam": {"type": "host-local"}}, {"mtu": 1400},
                                  {"chained": "yes"}])
def test_what_the_other_plugin_decides_cannot_be_asked_of_us(chained_node, conf):
    pod = Behind(chained_node, "web", wire=False, chained=conf)
    bridged = pod.alone(0, "ADD").json
    assert next(iter(conf)) + ":" in refused(pod, bridged)


def test_an_address_of_the_node_or_of_another_pod(chained_node):
    node = chained_node
    other, pod = Behind(node, "other"), Behind(node, "web", wire=False)
    bridged = pod.alone(0, "ADD").json
    for address, why in ((GATEWAYS["cni0"][0], "the node's own"),
                         (other.v4, "belongs to another pod")):
        text = refused(pod, {**bridged, "ips": [{"address": address + "/24"}]})
        assert why in text


# ---- other things change ----

def test_a_removed_program_is_put_back(chained_node):
    pod = Behind(chained_node, "web")
    chained_node.netns.run("tc", "qdisc", "del", "dev", pod.host_device, "clsact")
    wait_for(lambda: "to_pod" in chained_node.netns.run(
        "tc", "filter", "show", "dev", pod.host_device, "egress").stdout, "the program")


def test_a_port_that_changes_its_bridge(chained_node):
    """What the host routes back is believed only of the bridge that the pod is on now."""
    world = World(chained_node)
    kube_proxy(world)
    # The answers, too, go by way of the host.
    nat(world.node, "-A", "POSTROUTING", "-d", world.web.v4, "-p", "tcp", "-j", "MASQUERADE")
    world.apply(ONLY_CART)
    netns = chained_node.netns
    netns.ip("link", "add", "moved", "type", "bridge")
    netns.ip("link", "set", "moved", "up")
    netns.ip("addr", "add", "10.88.7.1/24", "dev", "moved")
    netns.ip("route", "add", world.cart.v4, "dev", "moved")
    netns.ip("link", "set", world.cart.host_device, "master", "moved")
    world.cart.ip("route", "add", "10.88.7.1", "dev", "eth0")
    world.cart.ip("route", "replace", "default", "via", "10.88.7.1")
    wait_for(lambda: world.cart.connect("10.97.0.1", 80, timeout=0.3).get("name") == "web",
             "the new bridge to be known")


def test_a_mac_that_changes(chained_node):
    """The tuning plugin behind us, or the pod itself."""
    world = World(chained_node)
    world.web.ip("link", "set", "eth0", "address", "02:aa:00:00:00:07")
    wait_for(lambda: all(world.web.connect(a, PORT, timeout=0.3)["result"] == "ok"
                         for a in world.cart.addresses), "the new MAC to be known")


def test_a_filter_of_the_other_plugin_behind_ours_still_sees_packets(chained_node):
    pod, client = Behind(chained_node, "web"), Behind(chained_node, "client")
    for one in (pod, client):
        one.serve(tcp=[PORT])
    settle(pod, client)
    for side in ("ingress", "egress"):
        chained_node.netns.run("tc", "filter", "add", "dev", pod.host_device, side, "prio", "9",
                               "protocol", "ip", "bpf", "da", "bytecode", "1,6 0 0 2")
        assert client.connect(pod.v4, PORT, timeout=0.3)["result"] == "timeout"
        chained_node.netns.run("tc", "filter", "del", "dev", pod.host_device, side, "prio", "9")
        assert client.connect(pod.v4, PORT)["result"] == "ok"


# ---- restarts ----

@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_restart_under_traffic(chained_node, how):
    """No packet is lost, none passes that must not, and pods that were there stay guarded."""
    world = World(chained_node)
    world.apply(ONLY_CART)
    failures, leaks, done = [], [], threading.Event()

    def ask():
        while not done.is_set():
            for address in world.web.addresses:
                if world.cart.connect(address, PORT, timeout=10)["result"] != "ok":
                    failures.append(address)

    def leak():
        while not done.is_set():
            if world.probe.connect(world.web.v4, PORT, timeout=0.05)["result"] != "timeout":
                leaks.append(time.monotonic())

    threads = [threading.Thread(target=work) for work in (ask, leak)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            chained_node.stop(how)
            chained_node.start()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures and not leaks
    assert all(pod.endpoint["state"] == "ready" for pod in world.pods)
    assert world.web.alone(1, "CHECK", world.web.result).code == 0
    world.clear()
    assert world.probe.reaches(world.web, PORT)
    # DEL, and an interface that goes while no agent looks.
    chained_node.stop()
    assert world.cart.alone(0, "DEL", world.cart.result).code == 0
    chained_node.start()
    wait_for(lambda: world.cart.endpoint["state"] == "broken", "the lost interface to be noticed")
    assert world.cart.alone(1, "DEL", world.cart.result).code == 0


def test_an_add_that_was_killed_half_way_is_closed(chained_node):
    """The state file of an ADD that never ended: the next agent lets the pod go."""
    pod, client = Behind(chained_node, "web"), Behind(chained_node, "client")
    pod.serve(tcp=[PORT])
    slot = pod.endpoint["slot"]
    chained_node.kill()
    path = chained_node.run_dir / "endpoints" / f"{slot}.json"
    path.write_text(path.read_text().replace('"ready"', '"pending"'))
    chained_node.start()
    assert pod.endpoint is None
    assert client.is_dropped(pod, PORT)
    assert pod.alone(1, "ADD", pod.result).code == 0
    client.serve(tcp=[PORT])
    settle(client, pod)


def test_cleanup_opens_what_it_leaves(chained_node):
    """tendrild --cleanup takes the guard off; the other plugin's interfaces stay."""
    world = World(chained_node)
    world.apply(CLOSED)
    assert world.probe.is_dropped(world.web, PORT)
    chained_node.stop()
    tendril.run(*chained_node.argv("--cleanup"))
    assert world.probe.reaches(world.web, PORT)
    links = json.loads(chained_node.netns.ip("-j", "link").stdout)
    assert {p.host_device for p in world.pods} <= {link["ifname"] for link in links}
