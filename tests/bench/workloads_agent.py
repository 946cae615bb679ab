# SPDX-License-Identifier: Apache-2.0
"""The agent by itself: time to ready, memory, and what it does while nothing happens."""

import pathlib
import time

import lan
from lab import Pair, make_pod
from signals import held
from tendril import Node, wait_for
from workload import OfAgent, workload

CIDRS = ("10.200.0.0/22", "fd00:200::/112")
IDLE_SECONDS = 12  # more than the period of anything that comes back


def node_with_pods(lab, n):
    node = lab.node(cidrs=CIDRS)
    for i in range(n):
        make_pod(node, f"p{i}")
    return node


def settle(node):
    """Waits for what the agent does after READY."""
    wait_for(lambda: node.status()["acceleration"]["state"] != "testing", "the self-test")


@workload
class AgentStart(OfAgent):
    """From nothing."""

    name, figures = "agent", {"agent_start": "ms"}
    title = "agent start to READY=1, cold"
    rounds = rounds_limit = 11

    def setup(self, lab, variant, n):
        return None

    def measure(self, target, family, n):
        with held(), Node(start=False) as node:
            return node.start() * 1000


@workload
class AgentRestart(OfAgent):
    """After SIGKILL, with everything pinned."""

    name, figures = "restart", {"agent_restart": "ms"}
    title = "agent start to READY=1 after SIGKILL, n pods present"
    counts, count_means = (0, 50, 250), "pods"
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        return node_with_pods(lab, n)

    def measure(self, target, family, n):
        settle(target)
        target.kill()
        return target.start() * 1000


@workload
class Memory(OfAgent):
    """What the agent's status says with so many pods."""

    name, figures = "rss", {"rss": "MiB", "map_memory": "MiB"}
    title = "memory of the agent, and of its maps"
    counts, count_means = (0, 50, 250), "pods"
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        return node_with_pods(lab, n)

    def measure(self, target, family, n):
        settle(target)
        memory = target.status()["memory"]
        return {"rss": memory["rssBytes"] / 2**20, "map_memory": memory["mapBytes"] / 2**20}


def cpu_ns(pid):
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in pathlib.Path(f"/proc/{pid}/task").iterdir())


def wakeups(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


@workload
class ManyNodes(OfAgent):
    """Dual stack, through a tunnel.  A change: another pod range of one of them."""

    name, figures = "nodes", {"rss_nodes": "MiB", "node_change": "ms"}
    title = "with n other nodes: memory of the agent, CPU time for a change of one node"
    counts, quick_counts, count_means = (0, 5000), (5000,), "nodes"
    rounds = rounds_limit = 5
    warm_up = False
    CHANGES = 20

    @staticmethod
    def other(number, shift=0):
        place = number + 1
        return lan.node_object(
            f"other-{number}", (f"172.20.{place // 250}.{place % 250 + 1}", f"fd20::{place:x}"),
            (f"10.{100 + shift + place // 250}.{place % 250}.0/24", f"fd01:{shift}:{place:x}::/64"))

    def setup(self, lab, variant, n):
        node = lab.node("--routing-mode=tunnel", cidrs=CIDRS)
        others = [self.other(number) for number in range(n)]
        while others:
            node.put(*others[:500])
            del others[:500]
        if n:
            wait_for(lambda: node.netns.ip("route", "show", "proto", "85").stdout.count("\n") == n,
                     "the routes", timeout=60)
        return node

    def measure(self, target, family, n):
        settle(target)
        rss = target.status()["memory"]["rssBytes"] / 2**20
        began = cpu_ns(target.agent.pid)
        for shift in [1, 0] * (self.CHANGES // 2):
            target.put(self.other(7, 50 * shift))
        spent = (cpu_ns(target.agent.pid) - began) / self.CHANGES / 1e6
        return {"rss_nodes": rss, "node_change": spent}


@workload
class Idle(OfAgent):
    """Nobody asks for anything."""

    name, figures = "idle_cpu", {"idle_cpu": "%", "idle_wakeups": "1/s"}
    title = "the agent while nothing happens: share of a core, and how often it wakes up"
    counts, quick_counts, count_means = (0, 250), (250,), "pods"
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        return node_with_pods(lab, n)

    @staticmethod
    def is_quiet(pid):
        woken = wakeups(pid)
        time.sleep(1.5)
        return wakeups(pid) - woken <= 1

    def measure(self, target, family, n):
        settle(target)
        pid = target.agent.pid
        # Pods that came move to TCX one by one.
        wait_for(lambda: self.is_quiet(pid), "the agent to have done what follows an ADD", 60)
        began, cpu, woken = time.perf_counter(), cpu_ns(pid), wakeups(pid)
        time.sleep(IDLE_SECONDS)
        seconds = time.perf_counter() - began
        return {"idle_cpu": (cpu_ns(pid) - cpu) / 1e7 / seconds,
                "idle_wakeups": (wakeups(pid) - woken) / seconds}


def lost_connections(node):
    return next((notice["count"] for notice in node.status()["notices"]
                 if notice["name"] == "TCP_LOST"), 0)


def rss_mib(node):
    return node.status()["memory"]["rssBytes"] / 2**20


@workload
class FlowLog(OfAgent):
    """In CPU time of the agent.  Both ends are pods of this node: a connection is two flows."""

    name = "flow_log"
    figures = {"flows_cpu": "mCPU", "flows_flood_cpu": "%", "flows_lost": "", "flows_memory": "MiB"}
    title = ("the agent at 30,000 new flows a minute, its share of a core for 10,000 connections a "
             "second, how many of 40,000 in a row are lost, memory that 65,536 flows take")
    rounds = rounds_limit = 1
    warm_up = False

    def setup(self, lab, variant, n):
        node = lab.node()
        pair = Pair(variant, [make_pod(node, "server")], make_pod(node, "client"), [],
                    node.join_cgroup, node)
        pair.addresses = [pair.servers[0].v4]
        settle(node)
        wait_for(lambda: node.status()["flows"]["sources"][0]["works"], "the source of flows")
        return lab.serve(pair)

    def measure(self, target, family, n):
        node, pid = target.node, target.node.agent.pid
        memory = rss_mib(node)
        began, cpu = time.perf_counter(), cpu_ns(pid)
        for turn in range(100):  # 250 connections a second
            target.netbench("crr", 4, 25)
            time.sleep(max(0, began + (turn + 1) / 10 - time.perf_counter()))
        slow = (cpu_ns(pid) - cpu) / 1e6 / (time.perf_counter() - began)
        cpu, lost = cpu_ns(pid), lost_connections(node)
        seen = node.status()["flows"]["seen"]
        target.netbench("crr", 4, 40000)
        wait_for(lambda: node.status()["flows"]["seen"] + lost_connections(node) - lost - seen >= 80000,
                 "every connection in the log, or counted", 30)
        return {"flows_cpu": slow, "flows_flood_cpu": (cpu_ns(pid) - cpu) / 40000 * 10000 / 1e9 * 100,
                "flows_lost": lost_connections(node) - lost, "flows_memory": rss_mib(node) - memory}
