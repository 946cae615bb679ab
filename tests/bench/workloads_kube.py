# SPDX-License-Identifier: Apache-2.0
"""A node of a large Kubernetes cluster: the agent and its API client beside a simulated API server."""

import pathlib
import statistics
import subprocess
import sys
import time

from kubeapi import make_certificate, write_kubeconfig
from lab import BUILD, HERE, PORT, Lab, address_of, process_cpu
from tendril import policy_object, wait_for
from workload import OfAgent, workload

PROBE = HERE / "enforce_probe.py"
SERVICES = POLICIES = 10000
CHURN = 100        # pod events a second
CPU_SECONDS = 15
SAMPLES = 200      # of the time from an event to its enforcement
WHOLE = 10000      # pods; up to so many a policy makes the node know all of them


def process_rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")


class Scene:
    """A node with a client and a server, and a cluster of n pods around it."""

    def __init__(self, lab, n):
        self.lab, self.n, folder = lab, n, lab.folder()
        cert, key = make_certificate(folder)
        policies = POLICIES if n > WHOLE else 0
        self.server = lab.process([sys.executable, HERE / "kube_cluster.py", cert, key, n, SERVICES,
                                   policies, CHURN],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self.server.stdout.readline().strip()
        self.kubeconfig = write_kubeconfig(folder / "kubeconfig", f"https://127.0.0.1:{port}", cert)
        self.node = lab.node("--kubernetes=true", "--max-addresses=262144", "--max-services=16384",
                             "--max-backends=65536")
        if n <= WHOLE:
            self.node.write("all.json", policy_object(
                "all", "ns-0", {}, policyTypes=["Ingress"],
                ingress=[{"from": [{"namespaceSelector": {}}]}]))
        for name in ("client", "a"):
            self.order("pod", "default", name, name)
        self.client = None

    def order(self, *words):
        self.server.stdin.write(" ".join(map(str, words)) + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline().split()

    def start(self):
        """Seconds until everything is in force."""
        began = time.perf_counter()
        self.client = self.lab.process(
            [BUILD / "tendril-kube", "--kubeconfig", self.kubeconfig, "--node", "n0",
             "--socket", self.node.run_dir / "kube/kube.sock", "--log-level", "error"])
        wait_for(lambda: self.node.status()["kubernetes"]["state"] == "synced", "all objects",
                 timeout=300)
        return time.perf_counter() - began

    def pids(self):
        return self.node.status()["pid"], self.client.pid

    def pods(self):
        """Two pods of the node: who asks, and who is asked."""
        made = []
        for name in ("client", "a"):
            pod = self.node.pod(name, "default")
            self.order("pod", "default", name, name, *pod.addresses)
            made.append(pod)
        self.asker = self.process(made[0], "client", address_of(made[1].addresses, 4), PORT)
        self.process(made[1], "server", "a", PORT).stdout.readline()

    def process(self, pod, *arguments):
        return self.lab.process(pod.enter(PROBE, *arguments), self.node.join_cgroup,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def enforced(self):
        """Milliseconds from a policy's event at the API server to the first packet that feels it."""
        before = self.node.status()["revision"]
        self.order("policy", 0)
        wait_for(lambda: self.node.status()["revision"] != before, "the policy that closes")
        self.asker.stdin.write("a\n")
        self.asker.stdin.flush()
        assert self.asker.stdout.readline() == "asking\n"
        sent = float(self.order("policy", 1)[0])
        return (float(self.asker.stdout.readline()) - sent) * 1000


@workload
class Kube(OfAgent):
    name = "kube"
    figures = {"kube_sync": "s", "kube_rss": "MiB", "kube_agent_rss": "MiB", "kube_cpu": "% of a core",
               "kube_bytes": "%", "kube_enforced": "ms", "kube_enforced_p99": "ms"}
    title = (f"a node of a Kubernetes cluster of n pods and {SERVICES:,} services, {CHURN} pod events a "
             "second")
    counts, quick_counts, count_means = (10000, 150000), (10000, 150000), "pods"
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        return lab

    def measure(self, target, family, n):
        with Lab(target) as lab:  # a node, a client and a cluster for each round
            return self.sample(Scene(lab, n))

    @staticmethod
    def sample(target):
        sync = target.start()
        target.pods()
        initial = target.order("bytes")
        rss = [process_rss(pid) for pid in target.pids()]
        target.order("churn")
        cpu = [process_cpu(pid) for pid in target.pids()]
        time.sleep(CPU_SECONDS)
        cpu = sum(process_cpu(pid) for pid in target.pids()) - sum(cpu)
        enforced = sorted(target.enforced() for _ in range(SAMPLES))
        sent, everything = map(int, target.order("bytes"))
        assert int(initial[0]) > 0
        return {"kube_sync": sync, "kube_rss": sum(rss), "kube_agent_rss": rss[0],
                "kube_cpu": 100 * cpu / CPU_SECONDS, "kube_bytes": 100 * sent / everything,
                "kube_enforced": statistics.median(enforced),
                "kube_enforced_p99": enforced[int(0.99 * SAMPLES)]}
