# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin: ADD and DEL of a pod, beside Debian's bridge and host-local plugins."""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import time

import tendril
from lab import entered, make_pod
from variants import bridge_conf
from workload import OfAgent, Workload, workload


CIDRS = ("10.200.0.0/22", "fd00:200::/112")
AT_ONCE = 8


class Runtime:
    """A node, and one network's plugin run in it as a container runtime would."""

    def __init__(self, node, plugin, conf):
        self.node, self.plugin, self.conf = node, plugin, conf

    def call(self, command, pod, previous=None):
        """Runs the plugin, behind the one whose result is `previous`; returns how long that took, in
        milliseconds, and keeps what it said."""
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": pod.container_id, "CNI_NETNS": pod.path,
               "CNI_IFNAME": "eth0", "CNI_ARGS": pod.cni_args, "CNI_PATH": "/usr/lib/cni",
               "PATH": os.environ["PATH"]}
        conf = json.dumps({**self.conf, **({"prevResult": json.loads(previous)} if previous else {})})
        with entered(self.node.netns):
            began = time.perf_counter()
            self.said = subprocess.run([self.plugin], env=env, input=conf, text=True, check=True,
                                       capture_output=True).stdout
            return (time.perf_counter() - began) * 1000


def all_at_once(runtime, command, pods):
    """Runs the plugin for all pods, AT_ONCE at a time; returns how long that took."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        began = time.perf_counter()
        list(threads.map(lambda pod: runtime.call(command, pod), pods))
        return (time.perf_counter() - began) * 1000


def runtime_start(lab, variant, n):
    """A runtime with n pods present."""
    node = lab.node(cidrs=CIDRS)
    if variant == "tendril":
        runtime = Runtime(node, tendril.BUILD / "tendril-cni", node.conf)
    else:
        runtime = Runtime(node, "/usr/lib/cni/bridge", bridge_conf(node.dir / "host-local"))
    for i in range(n):
        runtime.call("ADD", make_pod(node, f"present{i}", wire=False))
    return runtime


@contextlib.contextmanager
def unwired(node, count):
    """Pods that are no more than a namespace."""
    pods = [make_pod(node, f"measured{i}", wire=False) for i in range(count)]
    try:
        yield pods
    finally:
        for pod in pods:
            node.pods.remove(pod)
            pod.delete()


@workload
class Cni(Workload):
    """Each round adds one pod and deletes it again."""

    name, figures = "cni", {"cni_add": "ms", "cni_del": "ms"}
    section = "Control plane"
    title = "CNI ADD and DEL, the plugin's whole run"
    variants, families, reference = ("bridge", "tendril"), (0,), "bridge"
    counts, quick_counts, count_means = (0, 100, 250), (0, 100), "pods present"
    rounds = rounds_limit = 30

    def setup(self, lab, variant, n):
        return runtime_start(lab, variant, n)

    def measure(self, target, family, n):
        with unwired(target.node, 1) as (pod,):
            return {f"cni_{command.lower()}": target.call(command, pod)
                    for command in ("ADD", "DEL")}


@workload
class CniParallel(Workload):
    """The time for all of them, by their number."""

    name, figures = "cni_parallel", {"cni_add_parallel": "ms", "cni_del_parallel": "ms"}
    section = "Control plane"
    title = f"CNI ADD and DEL, {AT_ONCE} at once: time a pod"
    variants, families, reference = ("bridge", "tendril"), (0,), "bridge"
    counts, quick_counts, count_means = (0, 100, 250), (0, 250), "pods present"
    rounds = rounds_limit = 5
    pods = 48

    def setup(self, lab, variant, n):
        return runtime_start(lab, variant, n)

    def measure(self, target, family, n):
        with unwired(target.node, self.pods) as pods:
            return {f"cni_{command.lower()}_parallel": all_at_once(target, command, pods)
                    / len(pods) for command in ("ADD", "DEL")}


@workload
class CniFill(Workload):
    """A node that gets all of its pods at once, as after a reboot."""

    name, figures = "cni_fill", {"cni_fill": "s", "cni_drain": "s"}
    section = "Control plane"
    title = f"n pods added to an empty node, and deleted again, {AT_ONCE} at once"
    variants, families, reference = ("bridge", "tendril"), (0,), "bridge"
    counts, count_means = (250,), "pods"
    rounds = rounds_limit = 3
    warm_up = False

    def setup(self, lab, variant, n):
        return runtime_start(lab, variant, 0)

    def measure(self, target, family, n):
        with unwired(target.node, n) as pods:
            return {figure: all_at_once(target, command, pods) / 1000
                    for figure, command in (("cni_fill", "ADD"), ("cni_drain", "DEL"))}


@workload
class CniChained(OfAgent):
    """Tendril behind the bridge plugin, which wires the pod: each round adds one and deletes it again."""

    name, figures = "cni_chained", {"cni_first_add": "ms", "cni_chained_add": "ms", "cni_chained_del": "ms"}
    title = "a chain of CNI plugins: ADD of Debian's bridge plugin, and what Tendril behind it adds"
    rounds = rounds_limit = 30

    def setup(self, lab, variant, n):
        node = lab.node(cidrs=())
        first = bridge_conf(node.dir / "host-local")
        chained = {"cniVersion": first["cniVersion"], "name": first["name"], "type": "tendril-cni",
                   "chained": True, "socket": str(node.socket)}
        return (Runtime(node, "/usr/lib/cni/bridge", first),
                Runtime(node, tendril.BUILD / "tendril-cni", chained))

    def measure(self, target, family, n):
        first, chained = target
        with unwired(first.node, 1) as (pod,):
            figures = {"cni_first_add": first.call("ADD", pod)}
            previous = first.said
            figures["cni_chained_add"] = chained.call("ADD", pod, previous)
            figures["cni_chained_del"] = chained.call("DEL", pod, previous)
            first.call("DEL", pod)
        return figures
