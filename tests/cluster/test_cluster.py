# SPDX-License-Identifier: Apache-2.0
"""Deployments, services and policies of a real Kubernetes, over Tendril alone."""

import itertools
import json
import os
import signal
import subprocess
import threading

import pytest

from conftest import BUILD, SCRIPTS, wait_for

AGNHOST = "k8s.gcr.io/e2e-test-images/agnhost:2.21"
BUSYBOX = "docker.io/library/busybox:1.29"


def deployment(name, replicas):
    container = {"name": "c", "image": AGNHOST, "args": ["netexec", "--http-port=8080"],
                 "ports": [{"containerPort": 8080, "name": "http"}],
                 "readinessProbe": {"httpGet": {"path": "/hostname", "port": 8080},
                                    "periodSeconds": 1}}
    spread = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname",
                                            "labelSelector": {"matchLabels": {"app": name}}}}]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
                     "template": {"metadata": {"labels": {"app": name}},
                                  "spec": {"terminationGracePeriodSeconds": 1, "affinity": spread,
                                           "containers": [container]}}}}


def service(name):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}}


def client(name, node):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "nodeName": f"k8sn{node}",
                     "containers": [{"name": "c", "image": BUSYBOX,
                                     "command": ["sleep", "100000"]}]}}


def policy(name, app, ingress):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
            "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"],
                     "ingress": ingress}}


CLIENTS = ("client-1", "client-2")


@pytest.fixture(scope="module")
def web(cluster):
    """web with four replicas on both nodes, its service, and a client on each node."""
    cluster.apply(deployment("web", 4), service("web"), client("client-1", 1),
                  client("client-2", 2))
    cluster.kubectl("rollout", "status", "deploy/web", "--timeout=180s")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/client-1", "pod/client-2",
                    "--timeout=180s")
    return cluster


def get(cluster, pod, url="http://web/hostname"):
    """What curl in a pod gets, or None."""
    done = cluster.run(1, "kubectl", "exec", pod, "--", "curl", "-s", "-m", "1", url, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def answer(cluster, pod, url="http://web/hostname"):
    """As get(), of what must be let in: with no SYN lost, which would be sent again after a second."""
    done = cluster.run(1, "kubectl", "exec", pod, "--", "curl", "-sS", "-m", "10", "-w",
                       r"\n%{time_namelookup} %{time_connect}", url, check=False)
    assert done.returncode == 0, f"{pod} to {url}: {done.stderr}"
    name, looked_up, connected = done.stdout.split()
    assert float(connected) - float(looked_up) < 1, f"{pod} to {url}: connected after {connected} s"
    return name


def gets(cluster):
    return [get(cluster, pod) is not None for pod in CLIENTS]


def uptime():
    """The clock that pods and the tests share, in seconds."""
    return float(open("/proc/uptime").read().split()[0])


class Traffic:
    """A loop of requests that a pod makes by itself: it goes on while nobody can reach the pod."""

    TIMEOUT = 2  # of a request, in seconds
    NUMBERS = itertools.count()

    def __init__(self, cluster, pod, url):
        self.cluster, self.pod = cluster, pod
        self.folder = f"/tmp/traffic-{next(self.NUMBERS)}"
        self.exec(f"mkdir {self.folder}; cd {self.folder}; (while [ ! -e stop ]; do "
                  f"began=$(cut -d' ' -f1 /proc/uptime); curl -s -o /dev/null -m {self.TIMEOUT} {url}; "
                  "echo $began $? >>log; sleep 0.02; done; mv log done) >/dev/null 2>&1 &")
        wait_for(lambda: self.exec(f"cat {self.folder}/log", check=False), "the first request")

    def exec(self, script, check=True):
        return self.cluster.kubectl("exec", self.pod, "--", "sh", "-c", script, check=check)

    def stop(self):
        """When each request began, and curl's result: 0 is an answer."""
        self.exec(f"touch {self.folder}/stop")
        lines = wait_for(lambda: self.exec(f"cat {self.folder}/done", check=False), "the last request")
        return [(float(began), int(result)) for began, result in map(str.split, lines.splitlines())]


def failed(results):
    return [one for one in results if one[1]]


def test_services_answer_by_name_on_both_nodes(web):
    for pod in CLIENTS:
        seen = {answer(web, pod) for _ in range(16)}
        assert len(seen) >= 2, seen
    names = {item["metadata"]["name"]: item["spec"]["nodeName"] for item in web.pods("web")}
    assert set(names.values()) == {"k8sn1", "k8sn2"}


def test_policy_reaches_across_nodes(web):
    web.apply(policy("web", "web", []))
    wait_for(lambda: gets(web) == [False, False], "nobody to be let in")
    web.apply(policy("web", "web", [{"from": [
        {"podSelector": {"matchLabels": {"app": "client-1"}}}]}]))
    wait_for(lambda: gets(web) == [True, False], "client-1 alone to be let in")
    web.kubectl("label", "pod", "client-2", "app=client-1", "--overwrite")
    wait_for(lambda: gets(web) == [True, True], "the new label to count")
    web.kubectl("label", "pod", "client-2", "app=client-2", "--overwrite")
    wait_for(lambda: gets(web) == [True, False], "the old label to count again")
    web.delete("networkpolicy/web")
    wait_for(lambda: gets(web) == [True, True], "everybody to be let in")
    assert all(item["status"]["containerStatuses"][0]["restartCount"] == 0
               for item in web.pods("web"))  # probes of the kubelet always pass


def backends(cluster, node):
    """Addresses of those of web, as the node's agent knows them."""
    shown = cluster.run(node, BUILD / "tendril", "service", "get", "web", "-o", "json").stdout
    return {one["address"] for frontend in json.loads(shown)["frontends"] for one in frontend["backends"]}


def test_scaling_is_followed(web):
    web.kubectl("scale", "deploy/web", "--replicas=8")
    web.kubectl("rollout", "status", "deploy/web", "--timeout=180s")
    assert all(answer(web, pod) for pod in CLIENTS for _ in range(4))
    web.kubectl("scale", "deploy/web", "--replicas=2")
    wait_for(lambda: len(web.pods("web")) == 2, "pods to go")
    left = {item["metadata"]["name"]: item["status"]["podIP"] for item in web.pods("web")}
    wait_for(lambda: backends(web, 1) == set(left.values()), "the slices to say so, and the agent to know it")
    assert {answer(web, "client-1") for _ in range(12)} <= set(left)
    web.kubectl("scale", "deploy/web", "--replicas=4")
    web.kubectl("rollout", "status", "deploy/web", "--timeout=180s")


@pytest.mark.parametrize("name", ["tendrild", "tendril-kube"])
def test_a_killed_process_costs_no_request(web, name):
    """The agent, or its API client, killed on both nodes under traffic."""
    traffic = Traffic(web, "client-2", "http://web/hostname")
    before = {node: web.pid(node, name) for node in (1, 2)}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    for node, pid in before.items():
        wait_for(lambda node=node, pid=pid: web.pid(node, name) not in (pid, None) and
                 web.status(node).get("kubernetes", {}).get("state") == "synced",
                 f"{name} of node {node} to be back")
    results = [result for _, result in traffic.stop()]
    assert len(results) > 10 and not any(results), results
    web.apply(policy("web", "web", []))
    wait_for(lambda: gets(web) == [False, False], "policy to be enforced again")
    web.delete("networkpolicy/web")
    wait_for(lambda: gets(web) == [True, True], "policy to end")


def api_server(cluster):
    init = (cluster.folder / "k8s/run/n1/init").read_text().strip()
    namespace = os.readlink(f"/proc/{init}/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if (os.readlink(f"/proc/{pid}/ns/pid") == namespace and
                    open(f"/proc/{pid}/comm").read().strip() == "kube-apiserver"):
                return int(pid)
        except OSError:
            continue  # it has ended, or is none of ours
    raise AssertionError("there is no API server")


def parent(pid):
    return int(open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()[1])


def is_well(cluster):
    """Every node is ready, and the pods behind web are in its slices and answer."""
    nodes = cluster.kubectl("get", "node", "-o", "jsonpath={.items[*].status.conditions[?(@.type=="
                            "'Ready')].status}", check=False)
    ready = cluster.kubectl("get", "deploy/web", "-o", "jsonpath={.status.readyReplicas}", check=False)
    return nodes.split() == ["True"] * cluster.nodes and ready == "4" and gets(cluster) == [True, True]


class Churn:
    """Scales web up and down; while the API server is away nothing comes of it."""

    def __init__(self, cluster):
        self.cluster, self.ends, self.scaled = cluster, threading.Event(), 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.ends.is_set():
            self.scaled += "scaled" in self.cluster.kubectl(
                "scale", "deploy/web", f"--replicas={4 + self.scaled % 2 * 2}", "--request-timeout=3s",
                check=False)
            self.ends.wait(1)

    def stop(self):
        self.ends.set()
        self.thread.join()
        wait_for(lambda: self.cluster.kubectl("scale", "deploy/web", "--replicas=4", check=False),
                 "the last scaling")


def test_without_the_api_server_everything_goes_on(web):
    """A minute under churn.  A server that hangs is worse than one that is gone: nothing tells that it is
    not there."""
    churn = Churn(web)
    wait_for(lambda: churn.scaled > 1, "the churn")
    address = json.loads(web.kubectl("get", "service", "web", "-o", "json"))["spec"]["clusterIP"]
    traffic = [Traffic(web, pod, f"http://{address}/hostname") for pod in CLIENTS]
    pid = api_server(web)
    stopped = uptime()
    os.kill(pid, signal.SIGSTOP)
    try:
        # The client's question whether anybody is there stays without answer.
        wait_for(lambda: any("Kubernetes" in text for text in web.status(1)["warnings"]),
                 "status to say so")
        before = web.status(1)["objects"]
        wait_for(lambda: uptime() > stopped + 60, "a minute to pass")
        assert web.status(1)["objects"] == before
    finally:
        resumed = uptime()
        os.kill(pid, signal.SIGCONT)
        os.kill(parent(pid), signal.SIGCONT)  # nsenter stops with its child
        churn.stop()
    # A kind that the cluster does not have is asked for once or twice a minute.
    wait_for(lambda: not any("Kubernetes" in text for text in web.status(1)["warnings"]),
             "the API server to be followed again")
    # The kubelets' leases ran out: their nodes are not ready until they have renewed them.
    wait_for(lambda: is_well(web), "the cluster to be well again")
    for one in traffic:
        during = [(began, result) for began, result in one.stop()
                  if stopped < began < resumed - one.TIMEOUT]
        assert len(during) > 100 and not any(result for _, result in during), during


def ready_nodes_of(cluster, name):
    """The nodes of the endpoints of a service that are ready."""
    subsets = json.loads(cluster.kubectl("get", "endpoints", name, "-o", "json")).get("subsets", [])
    return {address["nodeName"] for one in subsets for address in one.get("addresses", [])}


def test_a_node_that_is_lost_and_comes_back(web):
    """Its cable is pulled.  What is left serves once the cluster has noticed; then all of it again."""
    address = json.loads(web.kubectl("get", "service", "web", "-o", "json"))["spec"]["clusterIP"]
    assert ready_nodes_of(web, "web") == {"k8sn1", "k8sn2"}
    web.cable(2, "down")
    try:
        wait_for(lambda: ready_nodes_of(web, "web") == {"k8sn1"}, "the node to be given up")
        # By its address: the cluster's DNS may have been on that node.
        wait_for(lambda: all(get(web, "client-1", f"http://{address}/hostname") for _ in range(6)),
                 "the agent to have heard of it")
        traffic = Traffic(web, "client-1", f"http://{address}/hostname")
        web.apply(policy("web", "web", [{"from": [
            {"podSelector": {"matchLabels": {"app": "client-1"}}}]}]))
    finally:
        web.cable(2, "up")
    # The policy that it missed is in force there, for pods of both nodes.
    wait_for(lambda: ready_nodes_of(web, "web") == {"k8sn1", "k8sn2"}, "the node to be back")
    wait_for(lambda: gets(web) == [True, False], "its agent to know the policy")
    web.delete("networkpolicy/web")
    wait_for(lambda: is_well(web), "the cluster to be well again")
    results = traffic.stop()
    assert len(results) > 50 and failed(results) == []


def new_pod(name, app, node, url):
    """Asks as soon as it runs: until it was answered four times, or 30 times in vain."""
    one = client(name, node)
    one["metadata"]["labels"] = {"app": app, "churn": "1"}
    one["spec"]["restartPolicy"] = "Never"
    one["spec"]["containers"][0]["command"] = ["sh", "-c", (
        "good=0; for i in $(seq 30); do [ $good = 4 ] && exit; began=$(cut -d' ' -f1 /proc/uptime); "
        f"curl -s -o /dev/null -m 0.5 {url}; result=$?; echo $began $result; "
        "[ $result = 0 ] && good=$((good+1)); done; exit 0")]
    return one


class Addresses:
    """When the API server told the address of each new pod first: the kubelet reports it a while after
    the containers began, the longer the busier the machine is."""

    def __init__(self, cluster):
        self.told = {}
        self.kubectl = subprocess.Popen(
            [SCRIPTS / "node-sh.sh", "1", "kubectl", "get", "pod", "-l", "churn=1", "-w", "-o",
             "jsonpath={.metadata.name} {.status.podIP}{'\\n'}"],
            env=cluster.env, text=True, stdout=subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.kubectl.stdout:
            name, *address = line.split()
            if address:
                self.told.setdefault(name, uptime())

    def stop(self):
        self.kubectl.terminate()
        self.kubectl.wait()
        return self.told


ON_ITS_WAY_S = 1  # they try for 15 s


def test_new_pods_get_what_policy_says_and_nothing_else(web):
    """Eight that are denied from their first packet on, eight that are let in once their address is in the
    API: what they tried before that, or while it was on its way to a busy agent, may be refused."""
    web.apply(policy("web", "web", [{"from": [
        {"podSelector": {"matchLabels": {"app": "client-1"}}}]}]))
    wait_for(lambda: gets(web) == [True, False], "the policy to be enforced")
    address = json.loads(web.kubectl("get", "service", "web", "-o", "json"))["spec"]["clusterIP"]
    addresses = Addresses(web)
    apps = {f"new-{number}": ("client-1", "other")[number // 2 % 2] for number in range(16)}
    web.apply(*(new_pod(name, app, 1 + number % 2, f"http://{address}/hostname")
                for number, (name, app) in enumerate(apps.items())))
    wait_for(lambda: {item["status"]["phase"] for item in json.loads(web.kubectl(
        "get", "pod", "-l", "churn=1", "-o", "json"))["items"]} == {"Succeeded"}, "the pods to end")
    told = addresses.stop()
    tries = {name: [(float(began), int(result)) for began, result in map(
        str.split, web.kubectl("logs", name).splitlines())] for name in apps}
    web.delete("networkpolicy/web")
    web.kubectl("delete", "pod", "-l", "churn=1", "--wait=false")
    leaked = {name: tries[name] for name, app in apps.items()
              if app == "other" and not all(result for _, result in tries[name])}
    refused = {name: (told[name], tries[name]) for name, app in apps.items()
               if app == "client-1" and any(result for began, result in tries[name]
                                            if began > told[name])}
    assert (leaked, refused) == ({}, {})
    assert all(len(tries[name]) >= 4 for name in apps)


def test_what_is_written_to_the_api_server(web):
    """The condition of each node, and an Event about a policy that somebody else has given the agent."""
    conditions = web.kubectl("get", "node", "-o", "jsonpath={.items[*].status.conditions[?(@.type=="
                             "'NetworkUnavailable')].reason}")
    assert conditions.split() == ["TendrilIsUp"] * web.nodes
    mine = policy("claimed", "nobody", [])
    mine["metadata"]["namespace"] = "default"
    web.run(1, BUILD / "tendril", "policy", "apply", "-f", "-", text=json.dumps(mine))
    web.apply(mine)
    wait_for(lambda: "already given" in web.kubectl(
        "get", "event", "--field-selector", "reason=NotInForce", "-o", "jsonpath={.items[*].message}"),
        "the event")
    web.run(1, BUILD / "tendril", "policy", "delete", "default/claimed")
    web.delete("networkpolicy/claimed")


def test_the_agent_names_what_the_cluster_has(web):
    listed = web.run(1, BUILD / "tendril", "service", "list", "-o", "json").stdout
    assert any(one["name"] == "web" for one in json.loads(listed))
    status = web.status(1)["kubernetes"]
    assert status["state"] == "synced" and status["closedPolicies"] == 0
