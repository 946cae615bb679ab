# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes' own end-to-end tests ask of services, with Tendril in kube-proxy's place.

    outside 172.31.77.1 ----+----  node k8sn1 172.31.77.11: pods server-1 and, in the node's network, host-1
                            +----  node k8sn2 172.31.77.12: pods server-2 and, in the node's network, host-2
"""

import json
import subprocess
import urllib.parse

import pytest

from conftest import wait_for
from test_cluster import AGNHOST, uptime

HTTP, UDP = 8080, 8081  # of pods; those in the node's network have OWN more
OWN = 10000
PROTOCOLS = pytest.mark.parametrize("protocol", ["http", "udp"])
PODS = ("server-1", "server-2")
HOSTS = ("host-1", "host-2")
ADDRESSES = {"k8sn1": "172.31.77.11", "k8sn2": "172.31.77.12"}
OUTSIDE = "172.31.77.1"


def pod(name, node, *args, labels=None, container=None, **spec):
    made = {"name": "c", "image": AGNHOST, "args": list(args), **(container or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "nodeName": f"k8sn{node}", "containers": [made], **spec}}


def netexec(name, node, app, more=0, **spec):
    return pod(name, node, "netexec", f"--http-port={HTTP + more}", f"--udp-port={UDP + more}",
               labels={"app": app, "name": name}, **spec)


def service(name, app="server", ports=None, **spec):
    """TCP and UDP, both at port 80."""
    ports = ports or [{"name": "http", "port": 80, "targetPort": HTTP},
                      {"name": "udp", "port": 80, "protocol": "UDP", "targetPort": UDP}]
    selector = {"selector": {"app": app}} if app else {}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"ports": ports, **selector, **spec}}


class Net:
    """Pods that answer, and ask when told to."""

    def __init__(self, cluster):
        self.cluster, self.address, self.port = cluster, {}, {}

    def make(self, *objects):
        self.cluster.apply(*objects)
        self.learn(*(each["metadata"]["name"] for each in objects))

    def learn(self, *names):
        """Waits for these pods and learns where they are."""
        self.cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{n}" for n in names))
        for name in names:
            self.address[name] = self.get("pod", name)["status"]["podIP"]
            self.port[name] = HTTP + OWN * (name in HOSTS)

    def forget(self, *names):
        self.cluster.kubectl("delete", "pod", "--ignore-not-found", "--force", "--grace-period=0", *names)

    def get(self, kind, name):
        return json.loads(self.cluster.kubectl("get", kind, name, "-o", "json"))

    def patch(self, name, **spec):
        self.cluster.kubectl("patch", "service", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def ip(self, name):
        return self.get("service", name)["spec"].get("clusterIP")

    def node_port(self, name, port="http"):
        return next(each["nodePort"] for each in self.get("service", name)["spec"]["ports"]
                    if each["name"] == port)

    def tell(self, source, path, **query):
        """A request to one of the pods, by a process of the first node."""
        url = f"http://{self.address[source]}:{self.port[source]}/{path}?{urllib.parse.urlencode(query)}"
        done = self.cluster.run(1, "curl", "-sS", "-m", "60", url, check=False)
        assert done.returncode == 0, f"{source} is not there: {done.stderr}"
        return json.loads(done.stdout)

    def dial(self, source, host, port, protocol="http", request="hostname", tries=1):
        """What source was answered, and what went wrong."""
        told = self.tell(source, "dial", host=host, port=port, protocol=protocol, request=request,
                         tries=tries)
        return told.get("responses") or [], told.get("errors") or []

    def answers(self, source, host, port, protocol="http", tries=1, **more):
        """All must be answered."""
        found, errors = self.dial(source, host, port, protocol, tries=tries, **more)
        assert not errors and len(found) == tries, f"{source} to {host} port {port} {protocol}: {errors}"
        return set(found)

    def shell(self, source, command):
        told = self.tell(source, "shell", cmd=command)
        return told.get("output", "") + told.get("error", "")

    def connect(self, source, host, port):
        """Of TCP: "" or the error's name."""
        shown = self.shell(source, f"/agnhost connect --timeout=3s {host}:{port} 2>&1; echo done")
        return shown.split("done")[0].strip()

    def outside(self, host, port, path="hostname", timeout=10):
        """What a client outside gets, or curl's result."""
        done = subprocess.run(["ip", "netns", "exec", "k8slan", "curl", "-s", "-m", str(timeout),
                               f"http://{host}:{port}/{path}"], text=True, capture_output=True, check=False)
        return done.stdout if done.returncode == 0 else done.returncode


REFUSED_BY_CURL, LATE_BY_CURL = 7, 28


@pytest.fixture(scope="module")
def net(cluster):
    made = Net(cluster)
    made.make(*(netexec(name, name[-1], "server") for name in PODS),
              *(netexec(name, name[-1], "host", OWN, hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet")
                for name in HOSTS))
    yield made
    made.forget(*PODS, *HOSTS)


@pytest.fixture
def publish(net):
    """Makes services that go with the test, once their endpoints are known."""
    names = []

    def make(name, *args, **spec):
        names.append(name)
        net.cluster.apply(service(name, *args, **spec))
        return net.ip(name)
    yield make
    if names:
        net.cluster.delete(*(f"service/{name}" for name in names))


@pytest.fixture
def pods(net):
    """Makes pods that go with the test."""
    names = []

    def make(*objects, ready=True):
        names.extend(each["metadata"]["name"] for each in objects)
        (net.make if ready else net.cluster.apply)(*objects)
    yield make
    if names:
        net.forget(*names)


def all_of(net, source, host, port, names, protocol="http"):
    """Waits until the answers come from these and nobody else."""
    wait_for(lambda: set(net.dial(source, host, port, protocol, tries=8)[0]) == set(names),
             f"{source} to get {names} from {host} port {port} by {protocol}")
    net.answers(source, host, port, protocol, tries=4)


# ---- every way there ----

@PROTOCOLS
def test_every_client_reaches_pods_and_services(net, publish, protocol):
    """Pods and processes of both nodes, themselves among them: pods by their addresses, and a service by
    its own and by the nodes' ports."""
    ip = publish("paths", type="NodePort")
    at = net.node_port("paths", protocol)
    for source in (*PODS, *HOSTS):
        for name in PODS:
            assert net.answers(source, net.address[name], {"http": HTTP, "udp": UDP}[protocol],
                               protocol) == {name}
        for host, port in ((ip, 80), *((address, at) for address in ADDRESSES.values())):
            all_of(net, source, host, port, PODS, protocol)
    for source in HOSTS:
        all_of(net, source, "127.0.0.1", at, PODS, protocol)


# Answers datagrams with the node's name, from the address that they were sent to.  netexec, which has
# all addresses, answers its node's pods from another one.
ANSWERER = """
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], int(sys.argv[2])))
print("bound", flush=True)
while sys.stdin not in select.select([s, sys.stdin], [], [])[0]:
    s.sendto(sys.argv[3].encode(), s.recvfrom(100)[1])
"""


@pytest.fixture(scope="module")
def answerers(cluster):
    """Servers of UDP in the nodes' network."""
    running = [cluster.start(node, "python3", "-c", ANSWERER, address, UDP + OWN + 1, name)
               for node, (name, address) in enumerate(ADDRESSES.items(), 1)]
    assert [each.stdout.readline() for each in running] == ["bound\n"] * len(running)
    yield
    for each in running:
        each.communicate()


@PROTOCOLS
@pytest.mark.usefixtures("answerers")
def test_backends_in_the_nodes_network(net, publish, protocol):
    ports = [{"name": "http", "port": 80, "targetPort": HTTP + OWN},
             {"name": "udp", "port": 80, "protocol": "UDP", "targetPort": UDP + OWN + 1}]
    ip = publish("hosts", "host", ports, type="NodePort")
    at = net.node_port("hosts", protocol)
    for source in (*PODS, *HOSTS):
        for host, port in ((ip, 80), *((address, at) for address in ADDRESSES.values())):
            all_of(net, source, host, port, ADDRESSES, protocol)


def client_of(answer):
    return answer.rsplit(":", 1)[0]


@PROTOCOLS
def test_sources_stay_where_kubernetes_says_so(net, publish, protocol):
    """Between pods, through services too; a node's process comes from its node."""
    port = {"http": HTTP, "udp": UDP}[protocol]
    ip = publish("sources")
    all_of(net, "host-1", ip, 80, PODS, protocol)
    for source in (*PODS, *HOSTS):
        for host, at, tries in [(net.address[name], port, 1) for name in PODS] + [(ip, 80, 8)]:
            seen = {client_of(each) for each in net.answers(source, host, at, protocol, tries,
                                                            request="clientip")}
            # A process of the node has its uplink's address, and towards pods there the node's own of
            # their network.
            if source in PODS:
                assert seen == {net.address[source]}, (source, host)
            else:
                assert net.address[source] in seen or net.address[PODS[HOSTS.index(source)]] == host, (
                    source, host, seen)


def test_names(net, publish):
    """Of services, headless ones and the API server's, for pods and for processes of the node, by UDP and
    TCP."""
    ip = publish("named")
    publish("headless", clusterIP="None")
    all_of(net, "server-1", "named", 80, PODS)
    for source in (*PODS, *HOSTS):
        assert net.answers(source, "named.default.svc.cluster.local", 80, tries=2) <= set(PODS)
        for tcp in ("+tcp", "+notcp"):
            def look(*names, tcp=tcp, source=source):
                return net.shell(source, f"dig +short {tcp} +timeout=5 {' '.join(names)}").split()
            assert look("named.default.svc.cluster.local") == [ip]
            assert look("kubernetes.default.svc.cluster.local") == ["10.96.0.1"]
            assert set(look("headless.default.svc.cluster.local")) == {net.address[name] for name in PODS}
        assert net.answers(source, "headless.default.svc.cluster.local", HTTP) <= set(PODS)


def test_the_api_server_is_a_service_like_any_other(net, publish):
    for source in (*PODS, *HOSTS):
        assert net.shell(source, "curl -sk -m 10 https://10.96.0.1/healthz") == "ok"
        assert net.shell(source, "curl -sk -m 10 https://kubernetes.default.svc.cluster.local/healthz") == "ok"
    publish("proxied")
    path = "/api/v1/namespaces/default/services/http:proxied:http/proxy/hostname"
    wait_for(lambda: net.cluster.kubectl("get", "--raw", path, check=False) in PODS, "the API server's proxy")


def test_tendril_itself_needs_no_service(net):
    """Its client speaks with the API server at its own address, before there are services."""
    for node in (1, 2):
        peers = [line.split()[4] for line in net.cluster.run(
            node, "ss", "-Htnp", "state", "all").stdout.splitlines() if '"tendril-kube"' in line]
        assert peers and set(peers) == {"172.31.77.11:6444"}, peers


@pytest.mark.parametrize("size", [1400, 1473, 2000])  # of 2,048 bytes that netexec reads
def test_large_requests(net, publish, size):
    ip = publish("large")
    all_of(net, "server-1", ip, 80, PODS, "udp")
    for source in (*PODS, *HOSTS):
        assert net.answers(source, ip, 80, "udp", 8, request="echo " + "x" * size) == {"x" * size}
        assert net.answers(source, ip, 80, "http", 8, request="echo?msg=" + "x" * size) == {"x" * size}


# ---- one service after another, and changed in place ----

def ingress_set(net, name, *ingress):
    made = net.get("service", name)
    made["status"] = {"loadBalancer": {"ingress": list(ingress)}}
    net.cluster.kubectl("replace", "--raw", f"/api/v1/namespaces/default/services/{name}/status", "-f", "-",
                        text=json.dumps(made))


def test_the_type_is_changed_in_place(net, publish):
    """ExternalName, ClusterIP, NodePort, LoadBalancer, and back."""
    ports = [{"name": "http", "port": 80, "targetPort": HTTP}]
    publish("typed", None, ports, type="ExternalName", externalName="example.org")
    net.patch("typed", type="ClusterIP", externalName=None, selector={"app": "server"})
    ip = net.ip("typed")
    for source in ("server-1", "host-2"):
        all_of(net, source, ip, 80, PODS)
    net.patch("typed", type="NodePort")
    at = net.node_port("typed")
    wait_for(lambda: net.outside(ADDRESSES["k8sn1"], at, timeout=1) in PODS, "the node port")
    for source in ("server-1", "host-2"):
        all_of(net, source, ADDRESSES["k8sn2"], at, PODS)
    net.patch("typed", type="LoadBalancer")
    ingress_set(net, "typed", {"ip": "203.0.113.7"})
    for source in ("server-1", "host-2"):
        all_of(net, source, "203.0.113.7", 80, PODS)
    net.patch("typed", type="ClusterIP", ports=ports)
    wait_for(lambda: net.outside(ADDRESSES["k8sn1"], at, timeout=1) == REFUSED_BY_CURL, "the node port's end")
    for source in ("server-1", "host-2"):
        assert net.connect(source, ADDRESSES["k8sn1"], at) == "REFUSED", "the number is free again"
        all_of(net, source, ip, 80, PODS)
    net.patch("typed", type="ExternalName", externalName="example.org", clusterIP="", selector=None)
    wait_for(lambda: net.connect("server-1", ip, 80) == "TIMEOUT", "the address to be nobody's")
    net.patch("typed", type="NodePort", externalName=None, selector={"app": "server"})
    all_of(net, "server-1", net.ip("typed"), 80, PODS)
    all_of(net, "host-1", ADDRESSES["k8sn2"], net.node_port("typed"), PODS)


def test_ports_are_changed_in_place(net, publish):
    """Their number, target, node port and protocol; one number for TCP and UDP, at the nodes too."""
    ip = publish("ports", ports=[{"name": "http", "port": 80, "targetPort": HTTP}], type="NodePort")
    at, other = net.node_port("ports"), 32123
    all_of(net, "server-1", ip, 80, PODS)
    net.patch("ports", ports=[{"name": "http", "port": 81, "targetPort": HTTP, "nodePort": other}])
    all_of(net, "server-1", ip, 81, PODS)
    all_of(net, "host-1", ADDRESSES["k8sn2"], other, PODS)
    assert net.connect("server-1", ip, 80) == "TIMEOUT"
    assert net.connect("host-1", ADDRESSES["k8sn2"], at) == "REFUSED"
    net.patch("ports", ports=[{"name": "http", "port": 81, "targetPort": 9, "nodePort": other}])
    wait_for(lambda: net.connect("server-1", ip, 81) == "REFUSED", "pods that do not listen there")
    net.patch("ports", ports=[{"name": "udp", "port": 81, "protocol": "UDP", "targetPort": UDP,
                               "nodePort": other}])
    all_of(net, "server-1", ip, 81, PODS, "udp")
    all_of(net, "host-1", ADDRESSES["k8sn2"], other, PODS, "udp")
    net.patch("ports", ports=[{"name": "udp", "port": 81, "protocol": "UDP", "targetPort": UDP,
                               "nodePort": other},
                              {"name": "http", "port": 81, "targetPort": HTTP, "nodePort": other}])
    for protocol in ("http", "udp"):
        for source in ("server-2", "host-1"):
            all_of(net, source, ip, 81, PODS, protocol)
            all_of(net, source, ADDRESSES["k8sn1"], other, PODS, protocol)
    assert net.outside(ADDRESSES["k8sn1"], other) in PODS


def test_services_come_and_go_beside_others(net, publish):
    first, second = publish("one-of-three"), publish("two-of-three")
    for ip in (first, second):
        all_of(net, "server-1", ip, 80, PODS)
    net.cluster.delete("service/one-of-three")
    wait_for(lambda: net.connect("server-1", first, 80) == "TIMEOUT", "the first to be gone")
    third = publish("three-of-three")
    for ip in (second, third):
        for source in ("server-1", "host-2"):
            all_of(net, source, ip, 80, PODS)


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_services_of_another_proxy_are_left_alone(net, publish, label):
    ip = publish("other-proxy")
    all_of(net, "server-1", ip, 80, PODS)
    net.cluster.kubectl("label", "service", "other-proxy", f"{label}=foo")
    wait_for(lambda: net.connect("server-1", ip, 80) == "TIMEOUT", "the service to be another's")
    net.cluster.kubectl("label", "service", "other-proxy", f"{label}-")
    all_of(net, "server-1", ip, 80, PODS)


# ---- affinity ----

def stays(net, source, host, port, protocol="http"):
    return len(net.answers(source, host, port, protocol, 12)) == 1


@PROTOCOLS
def test_session_affinity_switched_at_work(net, publish, protocol):
    ip = publish("sticky", type="NodePort")
    at = net.node_port("sticky", protocol)
    for source in ("server-1", "host-2"):
        for host, port in ((ip, 80), (ADDRESSES["k8sn1"], at)):
            all_of(net, source, host, port, PODS, protocol)
            net.patch("sticky", sessionAffinity="ClientIP")
            wait_for(lambda s=source, h=host, p=port: stays(net, s, h, p, protocol), f"{source} to stay")
            assert stays(net, source, host, port, protocol)
            net.patch("sticky", sessionAffinity="None")
            all_of(net, source, host, port, PODS, protocol)
    net.patch("sticky", sessionAffinity="ClientIP")
    wait_for(lambda: len({net.outside(ADDRESSES["k8sn1"], net.node_port("sticky")) for _ in range(12)}) == 1,
             "a client outside to stay")


def test_session_affinity_with_a_timeout(net, publish):
    """Each use begins it anew; after as long without any a client may meet another."""
    ip = publish("timed", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 1}})
    wait_for(lambda: net.dial("server-1", ip, 80)[0], "the service")
    began, late, seen = uptime(), 0, [net.answers("server-1", ip, 80)]
    while uptime() < began + 4:
        last = uptime()
        seen.append(net.answers("server-1", ip, 80))
        late = max(late, uptime() - last)
    assert seen.count(seen[0]) == len(seen) or late > 0.9, (seen, "unless this machine was too busy to ask")
    seen = set(seen[-1])

    def asked_later():
        later = uptime() + 1.2
        wait_for(lambda: uptime() > later, "the affinity to end")
        seen.update(net.answers("server-1", ip, 80))
        return len(seen) == 2
    wait_for(asked_later, "another backend")


# ---- who is ready ----

def test_refused_where_nobody_serves(net, publish):
    ip = publish("nobody", "nobody", type="NodePort")
    at = {protocol: net.node_port("nobody", protocol) for protocol in ("http", "udp")}
    wait_for(lambda: net.connect("server-1", ip, 80) == "REFUSED", "the service")
    for source in (*PODS, *HOSTS):
        for host, port in ((ip, {"http": 80, "udp": 80}), (ADDRESSES["k8sn1"], at), (ADDRESSES["k8sn2"], at)):
            assert net.connect(source, host, port["http"]) == "REFUSED", (source, host)
            found, errors = net.dial(source, host, port["udp"], "udp")
            assert not found and "refused" in str(errors), (source, host, errors)
    assert net.outside(ADDRESSES["k8sn1"], at["http"]) == REFUSED_BY_CURL


def slow(name, node):
    """Serves on for a while once it is told to end."""
    return netexec(name, node, "slow", terminationGracePeriodSeconds=120, container={
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "110"]}}}})


def unready(name, node):
    return netexec(name, node, "unready", container={
        "readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 1}})


def test_pods_that_are_not_ready(net, publish, pods):
    pods(unready("unready", 2), ready=False)
    ip = publish("unready", "unready")
    wait_for(lambda: "10.244" in net.cluster.kubectl("get", "endpoints", "unready", "-o", "jsonpath={..ip}"),
             "the endpoint")
    assert net.connect("server-1", ip, 80) == "REFUSED"
    net.patch("unready", publishNotReadyAddresses=True)
    for source in ("server-1", "host-1"):
        for protocol in ("http", "udp"):
            all_of(net, source, ip, 80, ["unready"], protocol)
    net.patch("unready", publishNotReadyAddresses=False)
    wait_for(lambda: net.connect("server-1", ip, 80) == "REFUSED", "the endpoint to count no more")


def test_terminating_pods_serve_until_another_is_ready(net, publish, pods):
    """Under externalTrafficPolicy Local too."""
    pods(slow("slow", 2))
    ip = publish("slow", "slow", type="NodePort", externalTrafficPolicy="Local")
    at, everywhere = net.node_port("slow"), [("server-1", ip, 80), ("host-1", ip, 80)]
    everywhere.append(("server-2", ADDRESSES["k8sn2"], at))
    for source, host, port in everywhere:
        all_of(net, source, host, port, ["slow"])
    net.cluster.kubectl("delete", "pod", "slow", "--wait=false")
    wait_for(lambda: "true" in net.cluster.kubectl("get", "endpointslice", "-l", "kubernetes.io/service-name=slow",
                                                   "-o", "jsonpath={..conditions.terminating}"), "the condition")
    for source, host, port in everywhere:
        net.answers(source, host, port, tries=4)
    assert net.outside(ADDRESSES["k8sn2"], at) == "slow"
    pods(netexec("quick", 2, "slow"))
    for source, host, port in everywhere:
        all_of(net, source, host, port, ["quick"])
    wait_for(lambda: net.outside(ADDRESSES["k8sn2"], at) == "quick", "clients outside to meet the new one")


# ---- from outside ----

def test_external_traffic_policy(net, publish):
    """Local keeps the client's address and stays on the node; a pod beside nobody is not bound by it."""
    net.cluster.kubectl("label", "pod", "server-2", "own=server-2", "--overwrite")
    ip = publish("outside", None, selector={"own": "server-2"}, type="NodePort")
    at = net.node_port("outside")
    for address in ADDRESSES.values():
        wait_for(lambda a=address: net.outside(a, at, timeout=1) == "server-2", "an answer by either node")
    net.patch("outside", externalTrafficPolicy="Local")
    wait_for(lambda: net.outside(ADDRESSES["k8sn1"], at, timeout=1) == LATE_BY_CURL, "the policy")
    assert client_of(net.outside(ADDRESSES["k8sn2"], at, "clientip")) == OUTSIDE
    assert client_of(*net.answers("host-1", ADDRESSES["k8sn2"], at, request="clientip")) == ADDRESSES["k8sn1"]
    for source in ("server-1", "host-1"):
        all_of(net, source, ADDRESSES["k8sn1"], at, ["server-2"])
        all_of(net, source, ip, 80, ["server-2"])
    net.patch("outside", externalTrafficPolicy="Cluster")
    wait_for(lambda: net.outside(ADDRESSES["k8sn1"], at, timeout=1) == "server-2", "the other policy")


def test_source_ranges_of_a_load_balancer(net, publish):
    publish("ranges", ports=[{"name": "http", "port": 80, "targetPort": HTTP}], type="LoadBalancer")
    ingress_set(net, "ranges", {"ip": "203.0.113.8"})
    subprocess.run(["ip", "-n", "k8slan", "route", "replace", "203.0.113.8", "via", ADDRESSES["k8sn1"]], check=True)
    wait_for(lambda: net.outside("203.0.113.8", 80, timeout=1) in PODS, "the load balancer's address")
    net.patch("ranges", loadBalancerSourceRanges=["198.51.100.0/24"])
    wait_for(lambda: net.outside("203.0.113.8", 80, timeout=1) == LATE_BY_CURL, "the ranges")
    net.patch("ranges", loadBalancerSourceRanges=["198.51.100.0/24", f"{OUTSIDE}/32"])
    wait_for(lambda: net.outside("203.0.113.8", 80, timeout=1) in PODS, "the client to be in one")


def test_host_ports_with_addresses_and_protocols(net, pods):
    """One number, three pods."""
    def with_port(name, **port):
        return netexec(name, 1, name, container={"ports": [{"hostPort": 54321, **port}]})
    pods(with_port("port-1", containerPort=HTTP, hostIP="127.0.0.1"),
         with_port("port-2", containerPort=HTTP, hostIP=ADDRESSES["k8sn1"]),
         with_port("port-3", containerPort=UDP, hostIP=ADDRESSES["k8sn1"], protocol="UDP"))
    all_of(net, "host-1", "127.0.0.1", 54321, ["port-1"])
    for source in ("server-1", "server-2", "host-1", "host-2"):
        all_of(net, source, ADDRESSES["k8sn1"], 54321, ["port-2"])
        all_of(net, source, ADDRESSES["k8sn1"], 54321, ["port-3"], "udp")
    assert net.outside(ADDRESSES["k8sn1"], 54321) == "port-2"


# ---- flows ----

# One socket with one port, which asks once a line of its input.
ASKER = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 12345))
s.settimeout(1)
for line in sys.stdin:
    try:
        s.sendto(b"hostname", (sys.argv[1], int(sys.argv[2])))
        print(s.recv(100).decode(), flush=True)
    except OSError as error:
        print(error, flush=True)
"""


@pytest.mark.parametrize("where", ["pod", "outside"])
def test_datagrams_of_one_port_follow_the_backends(net, publish, pods, where):
    """A flow that began before there were backends, goes to one, to none, and to another."""
    ip = publish("flow", None, selector={"flow": "yes"}, type="NodePort")
    if where == "outside":
        argv = ["ip", "netns", "exec", "k8slan", "python3", "-c", ASKER, ADDRESSES["k8sn1"],
                str(net.node_port("flow", "udp"))]
        asker = subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def asked():
        if where == "pod":
            return net.shell("server-1", f"echo hostname | nc -u -w1 -p 12345 {ip} 80 2>&1 | head -c 8")
        asker.stdin.write("\n")
        asker.stdin.flush()
        return asker.stdout.readline().strip()
    try:
        assert "server" not in asked()
        for name in PODS:
            net.cluster.kubectl("label", "pod", name, "flow=yes")
            wait_for(lambda name=name: asked() == name, f"{name} to answer")
            net.cluster.kubectl("label", "pod", name, "flow-")
            wait_for(lambda: "server" not in asked(), "nobody to answer")
        net.cluster.kubectl("label", "pod", PODS[0], "flow=yes")
        wait_for(lambda: asked() == PODS[0], "the first again")
        net.cluster.kubectl("label", "pod", PODS[1], "flow=yes")
        net.cluster.kubectl("label", "pod", PODS[0], "flow-")
        wait_for(lambda: asked() == PODS[1], "the second at once")
    finally:
        for name in PODS:
            net.cluster.kubectl("label", "pod", name, "flow-")
        if where == "outside":
            asker.communicate()


# Sends one TCP segment from and to these addresses and ports, far from what the connection is at.
FORGER = """
import socket, struct, sys
here, sport, there, dport = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def sum_of(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 65535) + (total >> 16)
    return ~total & 65535
pseudo = socket.inet_aton(here) + socket.inet_aton(there) + struct.pack("!HH", 6, 20)
segment = [sport, dport, 0x70000000, 0x70000000, 5 << 4, 0x10, 1000, 0, 0]
segment[7] = sum_of(pseudo + struct.pack("!HHIIBBHHH", *segment))
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).sendto(
    struct.pack("!HHIIBBHHH", *segment), (there, 0))
"""

# Connects, and asks for the server's name when it is told to.
HOLDER = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
print("connected", flush=True)
sys.stdin.readline()
s.sendall(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
print(s.makefile().read().splitlines()[-1], flush=True)
"""


def test_a_segment_out_of_window_ends_no_connection(net, publish):
    """Of the server, to a client outside whose connection two nodes translate: a reset would end it."""
    publish("window", None, selector={"name": "server-2"}, type="NodePort")
    at, server = net.node_port("window"), net.address["server-2"]
    wait_for(lambda: net.outside(ADDRESSES["k8sn1"], at, timeout=1) == "server-2", "the service")
    netns = net.cluster.run(2, "sh", "-c", "for each in $(ls /run/netns); do ip -n $each -4 address | "
                            f"grep -q ' {server}/' && echo $each; done", check=False).stdout.strip()
    with subprocess.Popen(["ip", "netns", "exec", "k8slan", "python3", "-c", HOLDER, ADDRESSES["k8sn1"],
                           str(at)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout.readline() == "connected\n"
        peer = net.cluster.run(2, "ip", "netns", "exec", netns, "ss", "-Htn", "state", "established",
                               f"sport = :{HTTP}").stdout.split()[3]
        there, port = peer.replace("[::ffff:", "").replace("]", "").rsplit(":", 1)
        assert there == ADDRESSES["k8sn1"], "the first node's address, as of all clients behind it"
        for _ in range(3):
            net.cluster.run(2, "ip", "netns", "exec", netns, "python3", "-c", FORGER, server, HTTP, there, port)
        shown, _ = client.communicate("\n", timeout=30)
        assert shown == "server-2\n"


def test_who_is_refused_an_address_gets_an_event(net, publish):
    """And the other keeps it."""
    ports = [{"name": "http", "port": 80, "targetPort": HTTP}]
    for name in ("has-it", "wants-it"):
        publish(name, ports=ports, type="LoadBalancer")
        ingress_set(net, name, {"ip": "203.0.113.9"})
        all_of(net, "server-1", "203.0.113.9", 80, PODS)
    wait_for(lambda: "Service default/wants-it: 203.0.113.9 port 80/TCP belongs to Service default/has-it" in
             net.cluster.kubectl("get", "event", "--field-selector", "reason=AddressConflict,involvedObject.name="
                                 "wants-it", "-o", "jsonpath={.items[*].message}"), "the event")
    assert net.cluster.kubectl("get", "event", "--field-selector", "involvedObject.name=has-it", "-o",
                               "jsonpath={.items[*].reason}") == ""
