# SPDX-License-Identifier: Apache-2.0
"""Many services at once: the time until they are in force, what they take, and a restart with them.

The agent reads them from one file; iptables-restore reads the rules kube-proxy would write.
"""

import ipaddress
import json
import os
import time

import bpf
from lab import make_pod, process_cpu
from services import iptables_load, service_objects, vip
from tendril import UnixConnection
from workload import NotRun, OfAgent, Workload, workload

PODS = 50
ENDPOINTS = [["10.200.0.2"], ["10.200.0.3"]]
FOUR_ENDPOINTS = 30000  # so many services have four endpoints each, as other projects measure
REST = 0.3  # seconds without work of the agent
LOAD_LIMIT = int(os.environ.get("LOAD_LIMIT", "20"))  # seconds; nft needs minutes for 10,000
KINDS = {"bridge": "nft", "bridge-legacy": "legacy"}


def endpoints(n):
    return ENDPOINTS + [["10.200.0.4"], ["10.200.0.5"]] * (n == FOUR_ENDPOINTS)


def limits(n):
    """A frontend and its backends for each, and some room."""
    return (f"--max-services={n + 1000}", f"--max-backends={len(endpoints(n)) * n + 1000}",
            f"--max-addresses={n + 10000}")


def is_known(node, path):
    connection = UnixConnection(node.socket, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    finally:
        connection.close()


class Loader:
    """A node and the file of its services."""

    def __init__(self, lab, n, pods):
        self.node, self.n = lab.node(*limits(n), cidrs=("10.200.0.0/22", "fd00:200::/112")), n
        for i in range(pods):
            make_pod(self.node, f"p{i}")
        self.last = bytes(10) + b"\xff\xff" + ipaddress.ip_address(
            vip(4, int(max(str(i) for i in range(n))))).packed
        self.text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [
            each for i in range(n) for each in service_objects(i, endpoints(n), families=(4,))]})

    def load(self):
        """Seconds from the file's rename() until the address of the last service is in force: of
        everything it is written last, with one call."""
        temporary = self.node.dir / ".services.json"
        temporary.write_text(self.text)
        began = time.perf_counter()
        temporary.rename(self.node.objects / "services.json")
        while not bpf.map_has(self.node.bpffs / "maps/ipcache_map", self.last):
            time.sleep(0.001)
        return time.perf_counter() - began

    def unload(self):
        """Returns when the agent is at rest again: it deletes backends a moment after services."""
        (self.node.objects / "services.json").unlink(missing_ok=True)
        while is_known(self.node, "/v1/services/default/s0"):
            time.sleep(0.01)
        used = process_cpu(self.node.agent.pid)
        time.sleep(REST)
        while (now := process_cpu(self.node.agent.pid)) != used:
            used = now
            time.sleep(REST)


class Rules:
    """The same services as iptables' rules."""

    def __init__(self, lab, variant, n):
        self.namespace, self.kind, self.n = lab.namespace(), KINDS[variant], n

    def load(self):
        began = time.perf_counter()
        iptables_load(self.namespace, self.kind, self.n, ENDPOINTS, LOAD_LIMIT, (4,))
        return time.perf_counter() - began

    def unload(self):
        """Nothing: iptables-restore replaces the tables."""


@workload
class ServiceLoad(Workload):
    name, figures = "service_load", {"service_load": "s"}
    section = "Control plane"
    title = "loading n services of IPv4 with two endpoints each (30,000: with four)"
    variants, families, reference = ("bridge", "bridge-legacy", "tendril"), (0,), "bridge-legacy"
    counts, quick_counts, count_means = (1000, 10000, FOUR_ENDPOINTS, 100000), (10000,), "services"
    rounds = rounds_limit = 3
    warm_up = False

    def setup(self, lab, variant, n):
        if variant == "tendril":
            return Loader(lab, n, 0)
        if n > 10000:
            raise NotRun("10,000 take too long already")
        rules = Rules(lab, variant, n)
        rules.load()  # where it takes too long, that is found out here
        return rules

    def measure(self, target, family, n):
        target.unload()
        return target.load()


@workload
class LoadedMemory(OfAgent):
    name = "rss_services"
    figures = {"rss_services": "MiB", "map_memory_services": "MiB", "agent_restart_services": "ms"}
    title = f"with n services and {PODS} pods: memory, memory of the maps, start after SIGKILL"
    counts, quick_counts, count_means = (10000, FOUR_ENDPOINTS, 100000), (10000,), "services"
    rounds = rounds_limit = 3
    warm_up = False

    def setup(self, lab, variant, n):
        loader = Loader(lab, n, PODS)
        loader.load()
        return loader.node

    def measure(self, target, family, n):
        memory = target.status()["memory"]
        target.kill()
        return {"agent_restart_services": target.start(timeout=60) * 1000,
                "rss_services": memory["rssBytes"] / 2**20,
                "map_memory_services": memory["mapBytes"] / 2**20}
