# SPDX-License-Identifier: Apache-2.0
"""What many policies cost a new connection."""

from lab import PORT
from tendril import policy_object
from variants import tendril_pair
from workload import Workload, workload

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
