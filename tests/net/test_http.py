# SPDX-License-Identifier: Apache-2.0
"""tendril-http: probes and metrics over TCP, from a process without privileges."""

import json
import os
import re
import signal
import socket
import subprocess
from datetime import datetime

import pytest

from tendril import (Node, UnixConnection, node_object, policy_object, service_object, slice_object,
                     wait_for)

HEALTH, METRICS = "127.0.0.1:9879", "[::1]:9962"
SAMPLE = re.compile(r'tendril_([a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)')
LABEL = re.compile(r'[a-z_]+="((?:[^"\\]|\\["\\n])*)"(?:,|$)')


class Http:
    def __init__(self, node, *arguments):
        self.node = node
        self.process = subprocess.Popen(node.netns.enter(
            node.build / "tendril-http", "--socket", node.run_dir / "http/http.sock",
            "--health", HEALTH, "--metrics", METRICS, *arguments), stderr=subprocess.PIPE, text=True)
        wait_for(lambda: self.get("/healthz")[0], "tendril-http to listen")

    def get(self, path, at=HEALTH, *more):
        """Status and body; 0 if nobody listens."""
        done = self.node.netns.run("curl", "-s", "-m", "10", "-w", "\n%{http_code}", *more,
                                   f"http://{at}{path}", check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body

    def metrics(self):
        status, body = self.get("/metrics", METRICS)
        assert status == 200, body
        return body

    def stop(self):
        self.process.terminate()
        assert self.process.wait(10) == 0, self.process.stderr.read()


@pytest.fixture
def http(node):
    made = Http(node)
    yield made
    made.stop()


def test_probes_follow_the_agent(node, http):
    assert http.get("/healthz") == (200, "ok\n")
    assert http.get("/readyz") == (200, "ok\n")
    assert http.get("/readyz", HEALTH, "-I")[0] == 200
    node.stop()
    node.start("--kubernetes=true")  # waits for objects that nobody brings
    wait_for(lambda: "polic" in http.get("/readyz")[1], "what is waited for")
    assert http.get("/readyz")[0] == 503 and http.get("/healthz") == (200, "ok\n")


def test_an_agent_that_hangs_or_is_gone_is_told(node, http):
    os.kill(node.agent.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: http.get("/healthz")[0] == 503, "the hanging agent to be told")
        assert "does not answer" in http.get("/healthz")[1]
    finally:
        os.kill(node.agent.pid, signal.SIGCONT)
    wait_for(lambda: http.get("/healthz")[0] == 200, "the agent to go on")
    node.kill()
    wait_for(lambda: http.get("/readyz")[0] == 503, "the agent's end to be told")
    assert http.get("/metrics", METRICS)[0] == 503
    node.start()
    wait_for(lambda: http.get("/readyz")[0] == 200, "the new agent to be found")


def test_only_what_an_address_is_for_is_served_there(http):
    assert http.get("/metrics")[0] == 404
    assert http.get("/healthz", METRICS)[0] == 404
    assert http.get("/v1/status")[0] == 404
    assert http.get("/healthz", HEALTH, "-X", "POST", "-d", "x")[0] >= 400
    assert http.get("/" + "x" * 9000)[0] >= 400
    assert http.get("/healthz", HEALTH, "-H", "X: " + "x" * 9000)[0] >= 400
    assert http.get("/healthz")[0] == 200


def samples(text):
    """{(name, label value...): number}; every line is a sample or describes one."""
    found, typed = {}, {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            assert what in ("HELP", "TYPE") and rest
            if what == "TYPE":
                assert name not in typed and rest in ("counter", "gauge", "histogram")
                assert (rest == "counter") == name.endswith("_total"), name
                typed[name] = rest
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name = f"tendril_{match[1]}"
        assert name in typed or typed[re.sub("_(bucket|sum|count)$", "", name)] == "histogram"
        labels = tuple(LABEL.findall(match[2])) if match[2] else (None,)
        assert not match[2] or LABEL.sub("", match[2]) == "", line
        assert (match[1], *labels) not in found, line
        found[match[1], *labels] = float(match[3])
    return found


def test_metrics_count_what_happens(node, http):
    before = samples(http.metrics())
    a, b = node.pod("a"), node.pod("b", labels={"app": "b"})
    b.serve(tcp=[80])
    node.write("deny.json", policy_object("b", "default", {}, policyTypes=["Ingress"]))
    wait_for(lambda: a.connect(b.v4, 80, timeout=0.2)["result"] != "ok", "the policy")
    after = wait_for(lambda: (now := samples(http.metrics()))["policy", None] == 1 and now,
                     "an answer that is fresh")
    assert after["endpoint_state", "ready"] == before["endpoint_state", "ready"] + 2
    assert after["drop_count_total", "INGRESS_DENIED"] > before["drop_count_total", "INGRESS_DENIED"]
    assert after["bpf_map_capacity", "ct_map"] > 0
    assert after["agent_resident_memory_bytes", None] > 1 << 20
    assert after["flow_drops_total", "default", "INGRESS_DENIED"] >= 1


def test_services_are_counted(node, http):
    client, server = node.pod("client", "bank"), node.pod("server", "bank")
    server.serve(tcp=[80])
    node.put(service_object("till", "bank", ["10.96.0.7"], [{"port": 80}]),
             slice_object("till-x", "bank", "till", "IPv4", [{"port": 80}], [server.v4]))
    for _ in range(3):
        assert client.connect("10.96.0.7", 80, send="x" * 100)["result"] == "ok"
    now = wait_for(lambda: (now := samples(http.metrics())).get(
        ("service_connections_total", "bank", "till")) == 3 and
        now["service_bytes_total", "bank", "till"] >= 600 and now, "the connections")
    assert now["service_connections_total", "other namespaces", "other services"] == 0


def test_backends_are_counted_where_they_are_wanted(node, http):
    """Not unless the setting says so; of more than it says the rest is one more."""
    assert not [key for key in samples(http.metrics()) if "backend_connections" in key[0]]
    node.stop()
    node.start("--metric-backends=2")
    client, servers = node.pod("client", "bank"), [node.pod(name, "bank") for name in ("a", "b", "c")]
    for server in servers:
        server.serve(tcp=[80])
    node.put(service_object("till", "bank", ["10.96.0.7"], [{"port": 80}]),
             slice_object("till-x", "bank", "till", "IPv4", [{"port": 80}],
                          [server.v4 for server in servers]))
    for _ in range(30):
        assert client.connect("10.96.0.7", 80)["result"] == "ok"

    def connections():
        return {key[1:]: value for key, value in samples(http.metrics()).items()
                if key[0] == "service_backend_connections_total"}
    found = wait_for(lambda: sum((now := connections()).values()) == 30 and now, "the connections")
    own = [key for key in found if key[:2] == ("bank", "till")]
    assert len(own) == 2 and {key[2] for key in own} < {f"{server.v4}:80" for server in servers}
    assert set(found) - set(own) == {("other namespaces", "other services", "other backends")}


def test_flows_are_counted_by_namespace(node, http):
    shop, bank = node.pod("a", "shop"), node.pod("b", "bank")
    bank.serve(tcp=[80])
    wait_for(lambda: node.status()["flows"]["sources"][0]["works"], "the source")
    for _ in range(3):
        assert shop.connect(bank.v4, 80, send="x" * 100)["result"] == "ok"
    now = wait_for(lambda: (now := samples(http.metrics())).get(
        ("flow_connections_total", "bank", "ingress")) == 3 and now, "the connections")
    assert now["flow_bytes_total", "shop", "egress"] == 300
    assert now["flow_bytes_total", "shop", "ingress"] == 3 * (100 + len("b\n"))
    assert now["flow_bytes_total", "bank", "ingress"] == 300
    assert now["tcp_rtt_seconds_count", "shop"] == now["tcp_rtt_seconds_bucket", "shop", "+Inf"] == 3
    assert now["tcp_retransmits_total", "bank"] == 0


def test_prometheus_takes_the_metrics(http, tmp_path):
    done = subprocess.run(["promtool", "check", "metrics"], input=http.metrics(), text=True,
                          capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_process_has_no_privileges(http):
    status = open(f"/proc/{http.process.pid}/status").read()
    for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1",
                 "Seccomp:\t2"):
        assert line in status


@pytest.mark.parametrize("name, allowed", [("http/http.sock", []), ("kube/kube.sock", [
    ("POST", "/v1/sources/kubernetes")])])
def test_sockets_of_programs_that_read_networks_have_few_routes(node, name, allowed):
    def status(method, path):
        connection = UnixConnection(node.run_dir / name)
        connection.request(method, path, "{}")
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    for method, path in [("PUT", "/v1/objects"), ("GET", "/v1/objects"), ("GET", "/v1/status"),
                         ("DELETE", "/v1/objects/Pod/default/a"), ("POST", "/v1/cni/del"),
                         ("POST", "/v1/cni/add"), ("GET", "/v1/events"),
                         ("POST", "/v1/sources/kubernetes")]:
        if (method, path) in allowed:
            assert status(method, path) != 404
        else:
            assert status(method, path) == 404, (name, method, path)


@pytest.mark.parametrize("address", [HEALTH, METRICS, "127.0.0.1:10256"])
def test_idle_connections_do_not_keep_others_out(node, address):
    """More than it may have open, each with half a request; it goes on when their time is over.  The
    agent does not notice."""
    http = Http(node, "--proxy", PROXY)
    host, port = address.rsplit(":", 1)
    script = ("import resource, socket\n"
              "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
              f"at = ({host.strip('[]')!r}, {port})\n"
              "all = [socket.create_connection(at) for _ in range(1000)]\n"
              "[one.send(b'GET /hea') for one in all]\n"
              "print('ready', flush=True); input()\n")
    holder = subprocess.Popen(node.netns.enter("python3", "-c", script), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        assert node.status()["ready"]
        wait_for(lambda: http.get("/healthz")[0] == 200, "their time to be over", 40)
        assert http.get("/metrics", METRICS)[0] == 200
    finally:
        holder.kill()
        holder.wait()
        http.stop()


@pytest.mark.parametrize("argument, text", [
    (("--health", "localhost"), "write it as"), (("--health", "127.0.0.1"), "write it as"),
    (("--metrics", "127.0.0.1:0"), "write it as"), (("--metrics", HEALTH), "in use"),
    (("--log-level", "loud"), "is no level"), (("more",), "unexpected")])
def test_wrong_arguments_are_named(node, argument, text):
    held = socket.socket()
    done = node.netns.run(node.build / "tendril-http", "--socket", node.run_dir / "http/http.sock",
                          *argument, check=False)
    held.close()
    assert done.returncode in (1, 2) and text in done.stderr, done.stderr


# ---- what load balancers ask ----

CHECK_PORT, PROXY = 30999, "0.0.0.0:10256"


def check(http, family, port=CHECK_PORT, address=None):
    """Status, number of endpoints in the body and in the header; None: nobody listens."""
    at = f"{address}:{port}" if address else [f"127.0.0.1:{port}", f"[::1]:{port}"][family]
    status, text = http.get("/", at, "-i")
    if not status:
        return None
    if status == 404:  # accepted before the service went
        return status, text
    head, _, body = text.replace("\r", "").partition("\n\n")
    weight = re.search(r"^X-Load-Balancing-Endpoint-Weight: (\d+)$", head, re.M)
    answer = json.loads(body)
    assert answer["service"] == {"namespace": "default", "name": "web"}
    assert answer["serviceProxyHealthy"] is True
    assert answer["localEndpoints"] == int(weight[1])
    return status, answer["localEndpoints"]


def publish(node, *pods, conditions=None, port=CHECK_PORT, **spec):
    ports = [{"name": name, "port": number, "protocol": "TCP", "targetPort": number}
             for name, number in (("a", 80), ("b", 81))]
    slices = [slice_object(f"web-{kind.lower()}", "default", "web", kind,
                           [{"name": p["name"], "port": p["port"], "protocol": "TCP"} for p in ports],
                           [{"addresses": [address], "conditions": conditions or {"ready": True}}
                            for pod in pods for address in pod.addresses
                            if (":" in address) == (kind == "IPv6")])
              for kind in ("IPv4", "IPv6")]
    node.put(service_object("web", "default", ["10.96.0.10", "fd00:96::10"], ports,
                            **{"type": "LoadBalancer", "externalTrafficPolicy": "Local",
                               "healthCheckNodePort": port, **spec}), *slices)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_a_health_check_counts_the_endpoints_of_this_node(node, http, family):
    a, b = node.pod("a"), node.pod("b")
    assert check(http, family) is None
    publish(node, a, b)
    wait_for(lambda: check(http, family) == (200, 2), "two endpoints, whatever their ports")
    publish(node, a)
    wait_for(lambda: check(http, family) == (200, 1), "one endpoint")
    # It drains: connections end in peace, and no new ones are wanted.
    publish(node, a, conditions={"ready": False, "serving": True, "terminating": True})
    wait_for(lambda: check(http, family) == (503, 0), "none that is ready")
    publish(node, a, b, port=CHECK_PORT - 1)
    wait_for(lambda: check(http, family, CHECK_PORT - 1) == (200, 2), "the new port")
    assert check(http, family) is None, "the old one is closed"
    publish(node, a, port=CHECK_PORT - 1, externalTrafficPolicy="Cluster")
    wait_for(lambda: check(http, family, CHECK_PORT - 1) is None, "no check without Local")
    publish(node, a)
    wait_for(lambda: check(http, family), "the check")
    node.api("DELETE", "/v1/objects/Service/default/web")
    wait_for(lambda: check(http, family) is None, "no check without a service")


def test_a_health_check_is_at_the_addresses_that_have_node_ports():
    own = ["192.0.2.10", "[2001:db8:10::10]"]
    with Node("--node-port-address=192.0.2.0/24", "--node-port-address=2001:db8:10::/64") as node:
        http = Http(node)
        try:
            publish(node, node.pod("a"))
            add = lambda what, text: node.netns.ip("addr", what, text, "dev", "lo",
                                                   *["nodad"] * (":" in text and what == "add"))
            add("add", "192.0.2.10/32")
            wait_for(lambda: check(http, 0, address=own[0]) == (200, 1), "an endpoint")
            assert check(http, 0) is check(http, 1) is None, "not at other addresses"
            add("add", "2001:db8:10::10/128")
            wait_for(lambda: check(http, 1, address=own[1]) == (200, 1), "an address that came")
            assert check(http, 0, address=own[0]) == (200, 1)
            add("del", "192.0.2.10/32")
            add("add", "192.0.2.11/32")
            wait_for(lambda: check(http, 0, address="192.0.2.11") == (200, 1), "another address")
        finally:
            http.stop()


def test_more_health_checks_than_there_is_room_for(node, http):
    services = []
    for number in range(1030):
        ports = [{"name": "a", "port": 80, "protocol": "TCP", "nodePort": 20000 + number}]
        services.append(service_object(f"s{number}", "default", [f"10.97.{number >> 8}.{number & 255}"],
                                       ports, type="LoadBalancer", externalTrafficPolicy="Local",
                                       healthCheckNodePort=32000 - number))
    node.put(*services)
    text = "6 Services have a healthCheckNodePort for which tendril-http has no room"
    wait_for(lambda: text in node.status()["failures"], "the warning")
    answers = lambda port: http.get("/", f"127.0.0.1:{port}")[0]
    wait_for(lambda: answers(31994) == 503, "the last port that has room")
    assert answers(32000 - 1029) == 503 and answers(31995) == answers(32000) == 0
    for number in range(6):
        node.api("DELETE", f"/v1/objects/Service/default/s{100 + number}")
    wait_for(lambda: answers(32000) == 503, "room for all")
    assert text not in node.status()["failures"]


def test_a_restart_of_the_agent_takes_no_node_out(node, http):
    publish(node, node.pod("a"))
    wait_for(lambda: check(http, 0) == (200, 1), "an endpoint")
    node.kill()
    assert check(http, 0) == (200, 1)
    node.start()
    wait_for(lambda: check(http, 0) == (200, 1), "an endpoint")


def test_an_agent_that_waits_for_objects_says_nothing_about_endpoints(node):
    """What it said before its restart counts on: the datapath serves as it did."""
    http = Http(node, "--proxy", PROXY)

    def age():
        page = json.loads(http.get("/healthz", "127.0.0.1:10256")[1])
        then, now = (datetime.fromisoformat(page[key].rstrip("Z"))
                     for key in ("lastUpdated", "currentTime"))
        assert check(http, 0) == (200, 1)
        return (now - then).seconds

    try:
        publish(node, node.pod("a"))
        wait_for(lambda: check(http, 0) == (200, 1), "an endpoint")
        node.stop()
        (node.run_dir / "objects.json").unlink()
        node.start("--kubernetes=true")  # nobody brings objects
        wait_for(lambda: http.get("/readyz")[0] == 503 and http.get("/healthz")[0] == 200, "the agent")
        wait_for(lambda: age() >= 3, "questions without an answer")
    finally:
        http.stop()


def test_who_holds_connections_to_a_health_check_keeps_nobody_out(node, http):
    """More than the process may have descriptors; and one that sends a byte now and then."""
    script = ("import resource, socket, time\n"
              "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\n"
              f"at = ('127.0.0.1', {CHECK_PORT})\n"
              "all = [socket.create_connection(at) for _ in range(1600)]\n"
              "print('ready', flush=True); input()\n"
              "slow, began = socket.create_connection(at), time.monotonic()\n"
              "slow.settimeout(0.2)\n"
              "while True:\n"
              "    try:\n"
              "        slow.send(b'G'); assert slow.recv(1) == b''; break\n"
              "    except TimeoutError: pass\n"
              "    except OSError: break\n"
              "print(time.monotonic() - began)\n")
    publish(node, node.pod("a"))
    wait_for(lambda: check(http, 0) == (200, 1), "an endpoint")
    holder = subprocess.Popen(node.netns.enter("python3", "-c", script), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        for family in (0, 1):
            assert check(http, family) == (200, 1)
        assert http.get("/readyz") == (200, "ok\n")
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert 3 < float(holder.stdout.readline()) < 8
    finally:
        holder.kill()
        holder.wait()


def test_a_port_that_somebody_has_is_tried_again(node, http):
    holder = subprocess.Popen(node.netns.enter("python3", "-c", "import socket\n"
                              f"s = socket.create_server(('', {CHECK_PORT}), family=socket.AF_INET6, "
                              "dualstack_ipv6=True); print('ready', flush=True); input()"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "ready\n"
    publish(node, node.pod("a"))
    line = f"healthCheckNodePort {CHECK_PORT} of Service default/web: Address already in use"
    while line not in http.process.stderr.readline():
        pass
    holder.communicate("\n")
    wait_for(lambda: check(http, 0) == (200, 1), "the port to be taken")


def test_the_proxys_health_follows_the_node(node):
    http = Http(node, "--proxy", PROXY)

    def page(path):
        status, body = http.get(path, "127.0.0.1:10256")
        return status, json.loads(body).get("nodeEligible")

    address = ["192.0.2.10", "2001:db8:10::10"]
    node.netns.ip("addr", "add", f"{address[0]}/32", "dev", "lo")
    own = node_object("self", {}, address)
    try:
        node.put(own)
        wait_for(lambda: page("/healthz") == (200, True), "a healthy node")
        assert page("/livez") == (200, None)
        taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule", "value": "1"}
        node.put(dict(own, spec={"taints": [taint]}))
        wait_for(lambda: page("/healthz") == (503, False), "the taint")
        assert page("/livez") == (200, None)
        assert http.get("/healthz") == (200, "ok\n"), "nobody restarts it"
        node.put(own)
        wait_for(lambda: page("/healthz") == (200, True), "the node to stay")
        node.put(dict(own, metadata=dict(own["metadata"], deletionTimestamp="2026-01-01T00:00:00Z")))
        wait_for(lambda: page("/healthz") == (503, False), "its deletion")
        assert http.get("/metrics", "127.0.0.1:10256")[0] == 404
    finally:
        http.stop()
