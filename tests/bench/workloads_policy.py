# SPDX-License-Identifier: Apache-2.0
"""What many policies cost: a new connection, compiling them, a change, the table they make."""

import json
import subprocess
import time

from lab import POLICYBENCH, PORT
from tendril import BUILD, pod_object, policy_object
from variants import tendril_pair
from workload import OfAgent, Workload, workload

BATCH = 5000  # policies in one request: a body has at most 8 MiB


def policies(n):
    """n policies that all select the server; only the last one lets the client in to PORT."""
    client = [{"podSelector": {"matchLabels": {"app": "client"}}}]
    ports = [*range(20000, 20000 + n - 1), PORT]
    return [policy_object(f"p{i}", "default", {"matchLabels": {"app": "server"}},
                          ingress=[{"from": client, "ports": [{"port": port}]}])
            for i, port in enumerate(ports)]


@workload
class PolicyConnect(Workload):
    name, figures = "policy_connect", {"policy_connect": "us"}
    section = "Services and policies"
    title = "TCP connect to a pod that n policies select"
    variants = ("routed", "tendril", "tendril-policy")
    counts, quick_counts, count_means = (1, 100, 10000), (1, 10000), "policies"
    count = 2000

    def setup(self, lab, variant, n):
        if variant != "tendril-policy":
            return lab.pair(variant)
        pair = tendril_pair(lab, variant)
        made = policies(n)
        for first in range(0, n, BATCH):
            pair.node.put(*made[first:first + BATCH])
        return lab.serve(pair)

    def measure(self, target, family, n):
        return target.netbench("connect", family, self.count)


def policybench(n):
    done = subprocess.run([POLICYBENCH, str(n)], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"policybench {n}: {done.stderr}")
    return json.loads(done.stdout)


class AtSize(OfAgent):
    """n pods, each with labels and a policy of its own, in a hundred namespaces: policybench.c."""

    counts, quick_counts, count_means = (1000, 10000), (10000,), "pods and policies"
    rounds = rounds_limit = 7
    measured = {}  # figure: what policybench calls it
    factor = 1

    def setup(self, lab, variant, n):
        return None

    def measure(self, target, family, n):
        got = policybench(n)
        return {figure: got[name] * self.factor for figure, name in self.measured.items()}


@workload
class PolicyCompile(AtSize):
    name = "policy_compile"
    figures = {"policy_compile": "ms", "policy_compile_memory": "MiB"}
    title = "compiling the policies of n pods that have one each, and the memory it adds"
    measured = {"policy_compile": "compile_ms", "policy_compile_memory": "compile_mib"}


@workload
class PolicyChange(AtSize):
    """Each sample is itself the median of 21 changes."""

    name = "policy_change"
    figures = {f"policy_change_{what}": "us" for what in
               ("pod_label", "namespace_label", "pod", "policy", "policies")}
    factor = 1000
    title = "one change among n pods with a policy each, to the maps of a node with 250 of them"
    measured = {"policy_change_pod_label": "node_pod_label_ms",
                "policy_change_namespace_label": "node_namespace_label_ms",
                "policy_change_pod": "node_pod_comes_or_goes_ms",
                "policy_change_policy": "node_policy_changed_ms",
                "policy_change_policies": "node_policy_comes_or_goes_ms"}


def inventory(n):
    """n pods of ninety applications in twenty namespaces, and half as many policies."""
    pods = [pod_object(f"p{i}", f"n{i % 20}", {"app": f"a{i % 90}", "tier": f"t{i % 7}"},
                       [f"10.0.{i >> 8}.{i & 255}", f"fd00::{i + 1:x}"], [("http", 8080, "TCP")])
            for i in range(n)]
    policies = [policy_object(f"q{i}", f"n{i % 20}", {"matchLabels": {"app": f"a{i % 90}"}},
                              ingress=[{"from": [
                                  {"podSelector": {"matchLabels": {"tier": f"t{i % 7}"}}},
                                  {"namespaceSelector": {}, "podSelector": {
                                      "matchLabels": {"app": f"a{i * 7 % 90}"}}}],
                                  "ports": [{"port": "http"}]}]) for i in range(n // 2)]
    return {"apiVersion": "v1", "kind": "List", "items": [*pods, *policies]}


@workload
class PolicyMatrix(OfAgent):
    name, figures = "policy_matrix", {"policy_matrix": "ms"}
    title = "tendril policy matrix, the whole run, from a file of n pods and half as many policies"
    counts, count_means = (1000,), "pods"
    rounds = rounds_limit = 7

    def setup(self, lab, variant, n):
        file = lab.folder() / "inventory.json"
        file.write_text(json.dumps(inventory(n)))
        return file

    def measure(self, target, family, n):
        began = time.perf_counter()
        subprocess.run([BUILD / "tendril", "policy", "matrix", "-f", target], check=True,
                       capture_output=True)
        return (time.perf_counter() - began) * 1000
