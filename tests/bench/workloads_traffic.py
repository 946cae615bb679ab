# SPDX-License-Identifier: Apache-2.0
"""Plain traffic between two pods, with netbench at both ends."""

from workload import Workload, workload


class Netbench(Workload):
    """One mode of netbench, COUNT times a sample."""

    count = 0

    def setup(self, lab, variant, n):
        return lab.pair(variant)

    def measure(self, target, family, n):
        return target.netbench(self.name, family, self.count)


@workload
class RoundTrip(Netbench):
    name, figures, count = "rr", {"rr": "us"}, 20000
    title = "TCP round trip of 64 bytes"


@workload
class Connect(Netbench):
    name, figures, count = "connect", {"connect": "us"}, 4000
    title = "TCP connect"


@workload
class ConnectRequestClose(Netbench):
    name, figures, count = "crr", {"crr": "us"}, 3000
    title = "connect, 64 bytes there and back, close"


@workload
class Stream(Netbench):
    name, figures, count = "stream", {"stream": "MiB/s"}, 2048
    title = "TCP stream"
    more_is_better = ("stream",)
