# SPDX-License-Identifier: Apache-2.0
"""Connecting to a service among many, beside connecting to its endpoint.

Which of the n services is asked for is drawn anew for each connection: rules that are searched one
by one cost half of the list on average, and a table costs its cache misses.
"""

import os

from lab import PORT
from services import FIRST_VIPS, service_objects
from tendril import wait_for
from variants import bridge_pair, tendril_pair
from workload import Workload, workload

BATCH = 20000  # services in one file
LOAD_LIMIT = int(os.environ.get("LOAD_LIMIT", "20"))  # seconds; nft needs minutes for 10,000
ENDPOINTS = 2
# Not the services' own: what translates packets remembers a client's port a while, and would take
# a direct connection from it to the same backend for one of the service's.
DIRECT_PORT = PORT + 1


def tendril_load(node, n, endpoints):
    """Gives the node n services as files, as the API keeps no more than 64 MiB."""
    for first in range(0, n, BATCH):
        node.write(f"services-{first}.json",
                   *(each for i in range(first, min(first + BATCH, n))
                     for each in service_objects(i, endpoints)))
    wait_for(lambda: node.status()["services"] == n, f"{n} services", 120)


@workload
class ServiceConnect(Workload):
    """service_connect is to a service, service_direct to its endpoint in the same sample."""

    name = "service_connect"
    figures = {"service_connect": "us", "service_direct": "us", "service_extra": "us"}
    section = "Services and policies"
    title = "TCP connect to one of n services, to its endpoint, and the difference"
    variants = ("routed", "bridge", "bridge-legacy", "tendril", "tendril-perpacket")
    counts, quick_counts = (1, 1000, 10000, 100000), (1, 10000)
    count_means = "services"
    count = 2000

    def setup(self, lab, variant, n):
        if variant == "routed":
            return lab.pair(variant)
        pair = self.pair(lab, variant, n)
        return lab.serve(lab.serve(pair), DIRECT_PORT)

    @staticmethod
    def pair(lab, variant, n):
        if variant.startswith("bridge"):
            kind = "legacy" if variant == "bridge-legacy" else "nft"
            return bridge_pair(lab, variant, kind, n, ENDPOINTS, LOAD_LIMIT)
        options = [f"--max-services={2 * n + 10000}", f"--max-backends={4 * n + 10000}",
                   f"--max-addresses={2 * n + 10000}"]
        if variant == "tendril-perpacket":
            options.append("--socket-services=false")
        pair = tendril_pair(lab, variant, *options, servers=ENDPOINTS)
        tendril_load(pair.node, n, [pod.addresses for pod in pair.servers])
        return pair

    def measure(self, target, family, n):
        if target.variant == "routed":
            return {"service_connect": target.netbench("connect", family, self.count)}
        direct, service = target.netbench("service", family, self.count, FIRST_VIPS[family], PORT,
                                          n, port=DIRECT_PORT)
        return {"service_connect": service, "service_direct": direct,
                "service_extra": service - direct}
