# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin: ADD and DEL of a pod, beside Debian's bridge and host-local plugins."""

import contextlib
import ctypes
import json
import os
import subprocess
import time

import tendril
from lab import make_pod
from variants import bridge_conf
from workload import Workload, workload


@contextlib.contextmanager
def entered(namespace):
    """This process inside a network namespace, so that what it starts needs no nsenter."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(namespace.path) as there:
        assert libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class Runtime:
    """A node, and one network's plugin run in it as a container runtime would."""

    def __init__(self, node, plugin, conf):
        self.node, self.plugin, self.conf = node, plugin, conf

    def call(self, command, pod):
        """Runs the plugin; returns how long that took, in milliseconds."""
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": pod.container_id, "CNI_NETNS": pod.path,
               "CNI_IFNAME": "eth0", "CNI_ARGS": pod.cni_args, "CNI_PATH": "/usr/lib/cni",
               "PATH": os.environ["PATH"]}
        with entered(self.node.netns):
            began = time.perf_counter()
            subprocess.run([self.plugin], env=env, input=json.dumps(self.conf), text=True,
                           check=True, capture_output=True)
            return (time.perf_counter() - began) * 1000


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
        node = lab.node()
        if variant == "tendril":
            runtime = Runtime(node, tendril.BUILD / "tendril-cni", node.conf)
        else:
            runtime = Runtime(node, "/usr/lib/cni/bridge", bridge_conf(node.dir / "host-local"))
        for i in range(n):
            runtime.call("ADD", make_pod(node, f"present{i}", wire=False))
        return runtime

    def measure(self, target, family, n):
        pod = make_pod(target.node, "measured", wire=False)
        try:
            return {f"cni_{command.lower()}": target.call(command, pod)
                    for command in ("ADD", "DEL")}
        finally:
            target.node.pods.remove(pod)
            pod.delete()
