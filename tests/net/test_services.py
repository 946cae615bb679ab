# SPDX-License-Identifier: Apache-2.0
"""Services over real pods, translated once a connection at the socket and packet by packet.

    client  ------  10.96.0.10, fd00:96::10  port 80  ------  one, two  port 8080
"""

import threading
import time

import pytest

from tendril import (Node, policy_object, run, service_object, slice_object, wait_for)

VIPS = ["10.96.0.10", "fd00:96::10"]
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
PROTOCOLS = pytest.mark.parametrize("proto", ["tcp", "udp"])
PORT = 80
TARGET = 8080
OTHER = 8081


class Lab:
    """A client and two backends behind one service in both families."""

    def __init__(self, node, layer):
        self.node = node
        self.layer = layer
        self.client, self.one, self.two = (node.pod(name, labels={"app": name})
                                           for name in ("client", "one", "two"))
        for pod in (self.client, self.one, self.two):
            pod.serve(tcp=[TARGET, OTHER], udp=[TARGET, OTHER])

    def publish(self, *pods, name="web", vips=None, ports=None, conditions=None, status=None, **spec):
        """Makes these pods the endpoints; what was published under the name before is replaced."""
        ports = ports or [{"name": f"{proto}-web", "port": PORT, "protocol": proto,
                           "targetPort": TARGET} for proto in ("TCP", "UDP")]
        slice_ports = [{"name": p["name"], "port": p["targetPort"], "protocol": p["protocol"]}
                       for p in ports]
        slices = []
        for family, kind in enumerate(("IPv4", "IPv6")):
            ends = [{"addresses": [[pod.v4, pod.v6][family]],
                     "conditions": (conditions or {}).get(pod.pod_name, {"ready": True}),
                     "targetRef": {"kind": "Pod", "namespace": "default", "name": pod.pod_name}}
                    for pod in pods]
            slices.append(slice_object(f"{name}-{kind.lower()}", "default", name, kind,
                                       slice_ports, ends))
        service = service_object(name, "default", vips or VIPS, ports, **spec)
        self.node.put(dict(service, status=status or {}), *slices)

    def clear(self):
        for entry in self.node.api("GET", "/v1/objects"):
            self.node.api("DELETE", f"/v1/objects/{entry['kind']}/{entry['namespace'] or '-'}/"
                                    f"{entry['name']}")

    def call(self, family, proto="tcp", pod=None, port=PORT, vip=None, **more):
        pod = pod or self.client
        probe = pod.connect if proto == "tcp" else pod.udp
        return probe(vip or VIPS[family], port, **more)

    def served_by(self, family, proto="tcp", count=40, **more):
        """How many of these requests each backend answered; all must be answered."""
        names = [self.call(family, proto, **more) for _ in range(count)]
        assert all(answer["result"] == "ok" for answer in names), names
        return {name: sum(answer["name"] == name for answer in names) for name in ("one", "two")}

    def from_host(self, address, port):
        """What a process of the node gets: the server's name, or why not."""
        script = ("import socket; s = socket.create_connection(('%s', %d), 10); "
                  "print(s.recv(9).decode().strip())" % (address, port))
        done = run(*self.node.netns.enter("python3", "-c", script), check=False,
                   preexec_fn=self.node.join_cgroup)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module", params=["socket", "packet"])
def module_lab(request):
    with Node(*(["--socket-services=false"] if request.param == "packet" else [])) as node:
        assert node.status()["datapath"]["socketServices"] == (request.param == "socket")
        yield Lab(node, request.param)


@pytest.fixture
def lab(module_lab):
    yield module_lab
    module_lab.clear()


def timed(function):
    began = time.monotonic()
    result = function()
    return result, time.monotonic() - began


# ---- backends ----

@FAMILIES
def test_connections_and_bytes_are_told_by_service_and_backend(lab, family):
    lab.publish(lab.one, lab.two)
    wait_for(lambda: lab.node.status()["flows"]["sources"][0]["works"], "the source of bytes")
    served = lab.served_by(family, count=20, send="x" * 1000)

    def counted():
        service = lab.node.api("GET", "/v1/services/default/web")
        return service, {backend["pod"].split("/")[1]: backend
                         for front in service["frontends"] if front["address"] == VIPS[family]
                         and front["protocol"] == "TCP" for backend in front["backends"]}
    service, backends = counted()
    assert service["connections"] == 20
    assert {name: backend["connections"] for name, backend in backends.items()} == served
    wait_for(lambda: counted()[0]["bytes"] >= 20 * 2000, "the bytes, there and back")
    service, backends = counted()
    assert service["bytes"] == sum(backend["bytes"] for backend in backends.values())
    for name, backend in backends.items():
        assert backend["bytes"] >= 2000 * served[name]
    assert "CONNECTIONS" in (shown := lab.node.cli("service", "list").stdout) and "  20  " in shown
    shown = lab.node.cli("service", "get", "default/web").stdout
    row = next(line for line in shown.splitlines() if "default/one" in line and "TCP" in line
               and backends["one"]["address"] in line)
    assert row.split()[-2:] == [str(served["one"]), str(backends["one"]["bytes"])]
    # What was counted stays when backends go.
    lab.publish(lab.one)
    lab.served_by(family, count=5)
    assert counted()[0]["connections"] == 25


@FAMILIES
@PROTOCOLS
def test_both_backends_answer_and_look_like_the_service(lab, family, proto):
    lab.publish(lab.one, lab.two)
    served = lab.served_by(family, proto)
    assert min(served.values()) >= 5, served
    answer = lab.call(family, proto)
    assert answer["peer"] == [VIPS[family], PORT]


@FAMILIES
def test_connected_udp_and_large_datagrams(lab, family):
    lab.publish(lab.one, lab.two)
    for size in (4, 1400, 1473, 8000, 30000):
        for connected in (False, True):
            answer = lab.call(family, "udp", size=size, connected=connected)
            assert answer["result"] == "ok", (size, connected, answer)
            assert answer["peer"] == [VIPS[family], PORT]


@FAMILIES
def test_tcp_and_udp_of_one_port_have_their_own_targets(lab, family):
    lab.publish(lab.one, ports=[
        {"name": "t", "port": 53, "protocol": "TCP", "targetPort": TARGET},
        {"name": "u", "port": 53, "protocol": "UDP", "targetPort": OTHER}])
    lab.publish(lab.two, name="other", vips=["10.96.0.11", "fd00:96::11"], ports=[
        {"name": "t", "port": 53, "protocol": "TCP", "targetPort": OTHER}])
    assert lab.call(family, "tcp", port=53)["name"] == "one"
    assert lab.call(family, "udp", port=53)["name"] == "one"
    assert lab.call(family, vip=["10.96.0.11", "fd00:96::11"][family], port=53)["name"] == "two"


@FAMILIES
@PROTOCOLS
def test_backend_reaches_itself_through_its_service(lab, family, proto):
    lab.publish(lab.one)
    answer = lab.call(family, proto, pod=lab.one)
    assert answer["result"] == "ok" and answer["name"] == "one"
    assert answer["peer"] == [VIPS[family], PORT]
    for size in (1400, 8000):
        assert lab.call(family, "udp", pod=lab.one, size=size)["result"] == "ok"


@FAMILIES
def test_long_stream_through_a_service(lab, family):
    lab.publish(lab.one, lab.two)
    assert lab.client.call("hold", id="s", addr=VIPS[family], port=PORT)["result"] == "ok"
    for _ in range(200):
        assert lab.client.call("ping", id="s")["result"] == "ok"
    lab.client.call("close", id="s")


@FAMILIES
def test_a_selector_finds_the_pods_of_the_node_until_a_slice_names_the_service(lab, family):
    ports = [{"name": "web", "port": PORT, "protocol": "TCP", "targetPort": TARGET}]
    lab.node.put(service_object("web", "default", VIPS, ports, selector={"app": "one"}))
    assert lab.served_by(family, count=10) == {"one": 10, "two": 0}
    kind, address = [("IPv4", lab.two.v4), ("IPv6", lab.two.v6)][family]
    lab.node.put(slice_object("web-x", "default", "web", kind,
                              [{"name": "web", "port": TARGET, "protocol": "TCP"}], [address]))
    assert lab.served_by(family, count=10) == {"one": 0, "two": 10}
    lab.node.api("DELETE", "/v1/objects/EndpointSlice/default/web-x")
    assert lab.served_by(family, count=10) == {"one": 10, "two": 0}
    # A pod is a backend from ADD to DEL.
    three = lab.node.pod("three", labels={"app": "one"})
    try:
        three.serve(tcp=[TARGET])
        names = {lab.call(family)["name"] for _ in range(60)}
        assert names == {"one", "three"}
    finally:
        three.cni("DEL")
        three.delete()
    assert lab.served_by(family, count=10) == {"one": 10, "two": 0}


@FAMILIES
def test_not_ready_endpoints_wait_and_terminating_ones_help_out(lab, family):
    lab.publish(lab.one, lab.two, conditions={"two": {"ready": False, "serving": False}})
    assert lab.served_by(family, count=20) == {"one": 20, "two": 0}
    terminating = {"ready": False, "serving": True, "terminating": True}
    lab.publish(lab.one, lab.two, conditions={"two": terminating})
    assert lab.served_by(family, count=20) == {"one": 20, "two": 0}
    lab.publish(lab.one, lab.two, conditions={"one": {"ready": False, "serving": False},
                                              "two": terminating})
    assert lab.served_by(family, count=20) == {"one": 0, "two": 20}


# ---- nobody there ----

@FAMILIES
def test_no_ready_endpoint_refuses_at_once(lab, family):
    lab.publish()
    answer, seconds = timed(lambda: lab.call(family))
    assert answer["result"] == "refused"
    assert seconds < 0.9, "TCP sends its SYN again after 1 s"
    answer, seconds = timed(lambda: lab.call(family, "udp", connected=True))
    assert answer["result"] == "refused"
    assert seconds < 0.9, "TCP sends its SYN again after 1 s"
    lab.publish(lab.one)
    assert lab.call(family)["name"] == "one"
    assert lab.call(family, "udp")["name"] == "one"
    lab.publish(lab.one, conditions={"one": {"ready": False}})
    assert lab.call(family)["result"] == "refused"


@FAMILIES
def test_port_that_the_service_has_not_is_not_served(lab, family):
    lab.publish(lab.one)
    drops = {d["reason"]: d["count"] for d in lab.node.status()["drops"]}
    assert lab.call(family, port=81, timeout=0.25)["result"] in ("timeout", "refused")
    now = {d["reason"]: d["count"] for d in lab.node.status()["drops"]}
    assert now.get("NO_SERVICE", 0) > drops.get("NO_SERVICE", 0)


@FAMILIES
@PROTOCOLS
def test_deleted_service_is_gone_at_once(lab, family, proto):
    lab.publish(lab.one)
    assert lab.call(family, proto)["result"] == "ok"
    lab.node.api("DELETE", "/v1/objects/Service/default/web")
    assert lab.call(family, proto, timeout=0.25)["result"] != "ok"
    assert lab.node.api("GET", "/v1/services") == []
    lab.publish(lab.two)
    assert lab.call(family, proto)["name"] == "two"


@FAMILIES
def test_backend_that_refuses_is_heard(lab, family):
    lab.publish(lab.one, ports=[{"name": "t", "port": PORT, "protocol": "TCP",
                                 "targetPort": 9999},
                                {"name": "u", "port": PORT, "protocol": "UDP",
                                 "targetPort": 9999}])
    answer, seconds = timed(lambda: lab.call(family))
    assert answer["result"] == "refused" and seconds < 0.9
    assert lab.call(family, "udp", connected=True)["result"] == "refused"


# ---- changes under traffic ----

class Traffic(threading.Thread):
    """Requests without pause; keeps what went wrong."""

    def __init__(self, lab, family, proto):
        super().__init__()
        self.lab, self.family, self.proto = lab, family, proto
        self.stopping = False
        self.count = 0
        self.failures = []
        self.start()

    def run(self):
        while not self.stopping:
            answer = self.lab.call(self.family, self.proto)
            self.count += 1
            if answer["result"] != "ok":
                self.failures.append((self.count, answer))

    def stop(self):
        self.stopping = True
        self.join()
        assert not self.failures, (self.count, self.failures[:5], self.lab.node.status()["drops"])
        assert self.count > 50


@FAMILIES
@PROTOCOLS
def test_endpoints_change_under_traffic(lab, family, proto):
    lab.publish(lab.one, lab.two)
    traffic = Traffic(lab, family, proto)
    for _ in range(15):
        for pods in ((lab.one,), (lab.two,), (lab.two, lab.one), (lab.one, lab.two)):
            lab.publish(*pods)
    wait_for(lambda: traffic.count > 50 or traffic.failures, "some traffic")
    traffic.stop()


@FAMILIES
def test_open_connection_outlives_its_endpoint(lab, family):
    lab.publish(lab.one)
    assert lab.client.call("hold", id="open", addr=VIPS[family], port=PORT)["name"] == "one"
    lab.publish(lab.two)
    assert lab.client.call("ping", id="open")["result"] == "ok"
    assert lab.served_by(family, count=10) == {"one": 0, "two": 10}
    lab.client.call("close", id="open")


@FAMILIES
def test_udp_socket_leaves_a_backend_that_is_gone(lab, family):
    key = f"udp-{lab.layer}-{family}"
    lab.publish(lab.one)
    assert lab.call(family, "udp", id=key)["name"] == "one"
    lab.publish(lab.two)
    assert lab.call(family, "udp", id=key)["name"] == "two"
    lab.publish()
    assert lab.call(family, "udp", id=key, timeout=0.25)["result"] in ("refused", "timeout")
    lab.publish(lab.one)
    # An error of the datagram before may be waiting on the socket.
    wait_for(lambda: lab.call(family, "udp", id=key, timeout=0.25).get("name") == "one",
             "the new backend")
    lab.client.call("close", id=key)


@FAMILIES
@pytest.mark.parametrize("isolated", [False, True], ids=["open", "isolated"])
def test_a_connected_udp_socket_hears_that_its_pod_is_gone(lab, family, isolated):
    key = f"gone-{lab.layer}-{family}-{isolated}"
    extra = lab.node.pod("extra", labels={"app": "extra"})
    extra.serve(udp=[TARGET])
    if isolated:
        lab.node.put(policy_object("client", "default", {"matchLabels": {"app": "client"}},
                                   policyTypes=["Ingress", "Egress"],
                                   egress=[{"to": [{"podSelector": {"matchLabels": {"app": app}}}]}
                                           for app in ("one", "extra")]))
    lab.publish(extra)
    assert lab.call(family, "udp", id=key, connected=True)["name"] == "extra"
    # Packet by packet the flow moves to another backend.  A translated socket has to be told: where
    # no policy forbids the address, here before the EndpointSlice says so.
    if lab.layer == "packet" or isolated:
        lab.publish(lab.one)
    extra.cni("DEL")
    answer = lab.call(family, "udp", id=key, connected=True)
    told = (("refused", "Destination address required", "Software caused connection abort")
            if isolated else ("refused",))
    assert answer["result"] in told if lab.layer == "socket" else answer["name"] == "one"
    lab.client.call("close", id=key)


@FAMILIES
def test_udp_socket_stays_with_its_backend(lab, family):
    key = f"stay-{lab.layer}-{family}"
    lab.publish(lab.one, lab.two)
    first = lab.call(family, "udp", id=key)["name"]
    assert {lab.call(family, "udp", id=key)["name"] for _ in range(20)} == {first}
    lab.client.call("close", id=key)


@FAMILIES
def test_udp_sockets_keep_their_backend_when_another_comes(lab, family):
    keys = [f"keep-{lab.layer}-{family}-{i}" for i in range(8)]
    lab.publish(lab.one)
    assert {lab.call(family, "udp", id=key)["name"] for key in keys} == {"one"}
    lab.publish(lab.two, lab.one)
    wait_for(lambda: lab.call(family, "udp", timeout=0.25).get("name") == "two", "the second backend")
    assert {lab.call(family, "udp", id=key)["name"] for key in keys} == {"one"}


@FAMILIES
def test_agent_killed_and_started_under_traffic(lab, family):
    lab.publish(lab.one, lab.two)
    assert lab.client.call("hold", id="k", addr=VIPS[family], port=PORT)["result"] == "ok"
    traffic = Traffic(lab, family, "tcp")
    for _ in range(2):
        lab.node.kill()
        seen = traffic.count
        wait_for(lambda: traffic.count > seen + 20, "traffic without an agent")
        lab.node.start()
    traffic.stop()
    assert lab.client.call("ping", id="k")["result"] == "ok"
    lab.client.call("close", id="k")


# ---- policy ----

@FAMILIES
@PROTOCOLS
def test_policy_sees_the_backend_not_the_service(lab, family, proto):
    lab.publish(lab.one)

    def allow(port):
        ports = [{"port": port, "protocol": proto.upper()}]
        lab.node.put(
            policy_object("in", "default", {"matchLabels": {"app": "one"}}, ingress=[
                {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": ports}]),
            policy_object("out", "default", {"matchLabels": {"app": "client"}},
                          policyTypes=["Egress"], egress=[
                {"to": [{"podSelector": {"matchLabels": {"app": "one"}}}], "ports": ports}]))

    allow(TARGET)
    assert lab.call(family, proto)["result"] == "ok"
    assert lab.call(family, proto, pod=lab.two, timeout=0.25)["result"] == "timeout"
    allow(PORT)
    assert lab.call(family, proto, timeout=0.25)["result"] == "timeout"
    # A pod is never cut off from itself, through its service neither.
    lab.node.api("DELETE", "/v1/objects/NetworkPolicy/default/out")
    assert lab.call(family, proto, pod=lab.one)["result"] == "ok"


# ---- the host ----

@FAMILIES
def test_host_processes_use_services_at_the_socket_layer(lab, family):
    lab.publish(lab.one)
    script = ("import socket; s = socket.create_connection(('%s', %d), 10); "
              "print(s.recv(9).decode().strip(), *s.getpeername()[:2])" % (VIPS[family], PORT))
    done = run(*lab.node.netns.enter("python3", "-c", script), check=False,
               preexec_fn=lab.node.join_cgroup)
    if lab.layer == "socket":
        assert done.stdout.split() == ["one", VIPS[family], str(PORT)]
    else:
        assert "unreachable" in done.stderr, "packets are translated for pods alone"


# ---- node ports, load balancers, who may use them ----

HOSTS = ["192.0.2.10", "2001:db8:10::10"]  # of the node, on its loopback device
BALANCERS = ["203.0.113.80", "2001:db8:80::80"]
NODE_PORT = 30080
NODE_PORTS = [{"name": f"{proto}-web", "port": PORT, "protocol": proto, "targetPort": TARGET,
               "nodePort": NODE_PORT} for proto in ("TCP", "UDP")]


@pytest.fixture(scope="module")
def module_sockets():
    """The socket layer alone: at the uplink other programs translate, which have tests of their own."""
    with Node() as node:
        for address, length in zip(HOSTS, (32, 128)):
            node.netns.ip("addr", "add", f"{address}/{length}", "dev", "lo")
        wait_for(lambda: set(HOSTS) <= set(node.status()["nodeAddresses"]), "the node's addresses")
        yield Lab(node, "socket")


@pytest.fixture
def sockets(module_sockets):
    yield module_sockets
    module_sockets.clear()


@FAMILIES
@PROTOCOLS
def test_a_node_port_from_a_pod_at_its_own_nodes_address(sockets, family, proto):
    sockets.publish(sockets.one, ports=NODE_PORTS, type="NodePort")
    answer = sockets.call(family, proto, vip=HOSTS[family], port=NODE_PORT)
    assert (answer["result"], answer["name"]) == ("ok", "one")
    assert answer["peer"] == [HOSTS[family], NODE_PORT]
    # A pod's loopback is its own.
    assert sockets.call(family, proto, vip=["127.0.0.1", "::1"][family],
                        port=NODE_PORT, timeout=0.25)["result"] != "ok"
    # The type is changed in place.
    sockets.publish(sockets.one)
    assert sockets.call(family, proto, vip=HOSTS[family], port=NODE_PORT, timeout=0.25)["result"] != "ok"


@FAMILIES
def test_a_node_port_from_the_node(sockets, family):
    sockets.publish(sockets.one, ports=NODE_PORTS, type="NodePort")
    for address in (HOSTS[family], ["127.0.0.1", "::1"][family]):
        assert sockets.from_host(address, NODE_PORT) == "one"
    if family == 0:
        assert sockets.from_host("127.8.8.8", NODE_PORT) == "one"
    sockets.publish(ports=NODE_PORTS, type="NodePort")
    assert "refused" in sockets.from_host(HOSTS[family], NODE_PORT)


@FAMILIES
def test_a_node_port_follows_the_nodes_addresses(sockets, family):
    new, length = ["192.0.2.11", "2001:db8:10::11"][family], [32, 128][family]
    sockets.publish(sockets.one, ports=NODE_PORTS, type="NodePort")
    sockets.node.netns.ip("addr", "add", f"{new}/{length}", "dev", "lo")
    wait_for(lambda: sockets.call(family, vip=new, port=NODE_PORT, timeout=0.25)["result"] == "ok",
             "a node port at the new address")
    sockets.node.netns.ip("addr", "del", f"{new}/{length}", "dev", "lo")
    wait_for(lambda: new not in sockets.node.status()["nodeAddresses"], "the address to go")
    assert not any(f["address"] == new for s in sockets.node.api("GET", "/v1/services")
                   for f in s["frontends"])


@FAMILIES
def test_a_load_balancers_address_inside_the_cluster(sockets, family):
    ingress = [{"ip": address} for address in BALANCERS]
    sockets.publish(sockets.one, sockets.two, type="LoadBalancer", externalTrafficPolicy="Local",
                    status={"loadBalancer": {"ingress": ingress}})
    assert sockets.call(family, vip=BALANCERS[family])["result"] == "ok"
    # The balancer wants to see the connection.
    sockets.publish(sockets.one, type="LoadBalancer",
                    status={"loadBalancer": {"ingress": [dict(i, ipMode="Proxy") for i in ingress]}})
    assert sockets.call(family, vip=BALANCERS[family], timeout=0.25)["result"] != "ok"


@FAMILIES
def test_load_balancer_source_ranges(lab, family):
    status = {"loadBalancer": {"ingress": [{"ip": address} for address in BALANCERS]}}
    lab.publish(lab.one, type="LoadBalancer", status=status,
                loadBalancerSourceRanges=["198.51.100.0/24", "2001:db8:51::/48"])
    assert lab.call(family, vip=BALANCERS[family], timeout=0.25)["result"] == "timeout"
    assert lab.call(family)["result"] == "ok", "the cluster address has no ranges"
    own = [f"{lab.client.v4}/32", f"{lab.client.v6}/128"]
    lab.publish(lab.one, type="LoadBalancer", status=status, loadBalancerSourceRanges=own)
    assert lab.call(family, vip=BALANCERS[family])["result"] == "ok"


@FAMILIES
@PROTOCOLS
def test_internal_traffic_policy_local(lab, family, proto):
    """Without a Node object an endpoint is local by its address."""
    lab.publish(lab.one, internalTrafficPolicy="Local")
    assert lab.call(family, proto)["result"] == "ok"
    elsewhere = [["10.250.0.9", "fd00:250::9"][family]]
    lab.node.put(slice_object(f"web-{['ipv4', 'ipv6'][family]}", "default", "web", ["IPv4", "IPv6"][family],
                              [{"name": f"{p}-web", "port": TARGET, "protocol": p} for p in ("TCP", "UDP")],
                              elsewhere))
    answer, seconds = timed(lambda: lab.call(family, proto, timeout=0.25))
    assert answer["result"] == "timeout" and seconds > 0.2, "dropped, for another node has one"
    drops = {d["reason"]: d["count"] for d in lab.node.status()["drops"]}
    assert drops.get("NO_LOCAL_BACKEND")


@FAMILIES
@PROTOCOLS
def test_session_affinity_of_a_pod(lab, family, proto):
    vips = ["10.96.0.40", "fd00:96::40"]  # no flow of another test
    vip = vips[family]
    lab.publish(lab.one, lab.two, sessionAffinity="ClientIP", vips=vips)
    served = lab.served_by(family, proto, vip=vip)
    assert sorted(served.values()) == [0, 40], served
    first = max(served, key=served.get)
    other = "two" if first == "one" else "one"
    # To a backend that is gone it ends at once.
    lab.publish(getattr(lab, other), sessionAffinity="ClientIP", vips=vips)
    assert lab.call(family, proto, vip=vip)["name"] == other
    lab.publish(lab.one, lab.two, sessionAffinity="ClientIP", vips=vips)
    # A client's UDP port that was used just now may be the flow that it was then.
    assert lab.served_by(family, proto, vip=vip)[other] >= (40 if proto == "tcp" else 36)
    # Switched off at work.
    lab.publish(lab.one, lab.two, vips=vips)
    assert min(lab.served_by(family, proto, vip=vip).values()) >= 5


@FAMILIES
def test_a_service_becomes_an_external_name_and_comes_back(lab, family):
    lab.publish(lab.one)
    assert lab.call(family)["name"] == "one"
    lab.node.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
                  "spec": {"type": "ExternalName", "externalName": "example.org"}})
    assert lab.call(family, timeout=0.25)["result"] != "ok"
    lab.publish(lab.two)
    assert lab.call(family)["name"] == "two"


def test_two_services_with_one_address_are_told(lab):
    ingress = {"loadBalancer": {"ingress": [{"ip": BALANCERS[0]}]}}
    lab.publish(lab.one, type="LoadBalancer", status=ingress)
    other = service_object("web2", "default", ["10.96.0.11"], NODE_PORTS, type="LoadBalancer")
    try:
        lab.node.put(dict(other, status=ingress))
    except AssertionError:
        pass  # the call says so, too
    text = f"Service default/web2: {BALANCERS[0]} port 80/TCP belongs to Service default/web"
    wait_for(lambda: any("belongs to Service default/web" in w for w in lab.node.status()["warnings"]), text)
    assert lab.call(0, vip=BALANCERS[0])["name"] == "one"
    lab.node.api("DELETE", "/v1/objects/Service/default/web")
    wait_for(lambda: not any("belongs to" in w for w in lab.node.status()["warnings"]), "no conflict")
