# SPDX-License-Identifier: Apache-2.0
"""The agent: time to ready, memory."""

from lab import make_pod
from signals import held
from tendril import Node
from workload import Workload, workload


@workload
class AgentStart(Workload):
    """From nothing, and again after SIGKILL with everything pinned."""

    name, figures = "agent", {"agent_start": "ms", "agent_restart": "ms"}
    section = "Control plane"
    title = "agent start to READY=1, cold and after SIGKILL"
    variants, families, reference = ("tendril",), (0,), None

    def setup(self, lab, variant, n):
        return None

    def measure(self, target, family, n):
        with held(), Node(start=False) as node:
            cold = node.start() * 1000
            node.kill()
            return {"agent_start": cold, "agent_restart": node.start() * 1000}


@workload
class Memory(Workload):
    """What the agent's status says with so many pods."""

    name, figures = "rss", {"rss": "MiB", "map_memory": "MiB"}
    section = "Control plane"
    title = "memory of the agent, and of its maps"
    variants, families, reference = ("tendril",), (0,), None
    counts, quick_counts, count_means = (0, 50, 250), (0, 50), "pods"
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        node = lab.node()
        for i in range(n):
            make_pod(node, f"p{i}")
        return node

    def measure(self, target, family, n):
        memory = target.status()["memory"]
        return {"rss": memory["rssBytes"] / 2**20, "map_memory": memory["mapBytes"] / 2**20}
