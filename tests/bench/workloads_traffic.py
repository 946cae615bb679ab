# SPDX-License-Identifier: Apache-2.0
"""Plain traffic between two pods, with netbench at both ends."""

from workload import TRAFFIC, Workload, workload


class Netbench(Workload):
    """One mode of netbench, COUNT times a sample."""

    count = 0

    def setup(self, lab, variant, n):
        return lab.pair(variant)

    def measure(self, target, family, n):
        return target.netbench(self.name, family, self.count)


@workload
class RoundTrip(Netbench):
    name, figures, count = "rr", {"rr": "us"}, 10000
    title = "TCP round trip of 64 bytes"


@workload
class Connect(Netbench):
    name, figures, count = "connect", {"connect": "us"}, 2000
    title = "TCP connect"


@workload
class ConnectRequestClose(Netbench):
    name, figures, count = "crr", {"crr": "us"}, 2000
    title = "connect, 64 bytes there and back, close"


@workload
class DatagramRoundTrip(Netbench):
    name, figures, count = "udp_rr", {"udp_rr": "us"}, 10000
    title = "UDP round trip of 64 bytes"


@workload
class Stream(Netbench):
    """Both ends on one core: MiB/s is what the core can do, and the rest of it is not idle."""

    name, figures, count = "stream", {"stream": "MiB/s", "stream_cpu": "s/GB"}, 512
    title = "TCP stream, and CPU time of both ends for a gigabyte"
    counts, quick_counts, count_means = (1, 8), (1,), "flows"
    variants, more_is_better = (*TRAFFIC, "tendril-bigtcp"), ("stream",)

    def measure(self, target, family, n):
        return dict(zip(self.figures, target.netbench("stream", family, self.count, n)))
