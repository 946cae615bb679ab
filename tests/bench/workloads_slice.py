# SPDX-License-Identifier: Apache-2.0
"""A service with a thousand endpoints: the time until a changed slice is felt, and a rolling restart.

The endpoints are addresses of the node's own namespace, whole ranges of which are local there.
"""

import json
import subprocess
import threading
import time

from lab import CPU, NETBENCH, PORT, make_pod, widen_ports
from services import vip
from tendril import service_object, slice_object, wait_for
from workload import OfAgent, Workload, workload
from workloads_enforce import APART, PROBE

ENDPOINTS = 1000
BATCH = 50               # backends that restart together
BATCHES = ENDPOINTS // BATCH
CONNECTIONS = 5000       # of each run of the client
SERVICE, FAMILIES = "large", {4: "IPv4", 6: "IPv6"}


def network(family, generation, batch):
    """The range of the backends of a batch."""
    return f"10.{98 + generation}.{batch}.0/24" if family == 4 \
        else f"fd00:{98 + generation}:{batch}::/64"


def addresses(family, generation, batch):
    prefix = network(family, generation, batch).split("/")[0].rstrip("0" if family == 4 else "")
    return [f"{prefix}{i + 1:{'d' if family == 4 else 'x'}}" for i in range(BATCH)]


def every_address(family):
    return [a for batch in range(BATCHES) for a in addresses(family, 0, batch)]


class Scene:
    """A pod that asks a service of both families; who answers runs on the node."""

    def __init__(self, lab, protocol):
        self.lab, self.node, self.protocol = lab, lab.node(), protocol
        self.client = make_pod(self.node, "client")
        widen_ports(self.client)
        for family in FAMILIES:
            for batch in range(BATCHES):
                self.route(family, 0, batch, "local")
        self.service = service_object(
            SERVICE, "default", [vip(family, 0) for family in FAMILIES],
            [{"name": "p", "port": PORT, "protocol": protocol}])

    def route(self, family, generation, batch, kind):
        """kind: local, all addresses of the range are the node's; unreachable."""
        device = ("dev", "lo") if kind == "local" else ()
        self.node.netns.ip(f"-{family}", "route", "del", network(family, generation, batch), "table",
                           "local", check=False)
        self.node.netns.ip(f"-{family}", "route", "add", kind, network(family, generation, batch),
                           *device, "table", "local")

    def slice(self, family, port, endpoints):
        return slice_object(f"{SERVICE}-{family}", "default", SERVICE, FAMILIES[family],
                            [{"name": "p", "port": port, "protocol": self.protocol}], endpoints)

    def process(self, argv, **more):
        return self.lab.process(argv, self.node.join_cgroup, stdout=subprocess.PIPE, text=True,
                                **more)


@workload
class EnforceSlice(Workload):
    name, figures = "enforce_slice", {"enforce_slice": "ms"}
    section = "Control plane"
    title = f"a slice's change, all of {ENDPOINTS:,} endpoints, to the first packet that feels it"
    variants, reference = ("tendril",), None
    rounds = rounds_limit = 15

    def setup(self, lab, variant, n):
        scene = Scene(lab, "UDP")
        scene.node.write("service.json", scene.service)
        for name, port in (("a", PORT), ("b", PORT + 1)):
            process = scene.process(scene.node.netns.enter(PROBE, "server", name, port))
            assert process.stdout.readline() == "ready\n"
        scene.clients = {family: scene.process(
            scene.client.enter(PROBE, "client", vip(family, 0), PORT), stdin=subprocess.PIPE)
            for family in FAMILIES}
        return scene

    @staticmethod
    def change(scene, family, port, name):
        """Seconds from the slice's rename() to the first question that `name` answers."""
        process = scene.clients[family]
        process.stdin.write(name + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "asking\n"
        temporary = scene.node.dir / ".slice.json"
        temporary.write_text(json.dumps(scene.slice(family, port, every_address(family))))
        began = time.monotonic()
        temporary.rename(scene.node.objects / f"slice-{family}.json")
        return float(process.stdout.readline()) - began

    def measure(self, target, family, n):
        self.change(target, family, PORT, "a")
        target.node.status()  # answered when all of the slice is in the maps
        time.sleep(APART)
        return self.change(target, family, PORT + 1, "b") * 1000


class Traffic(threading.Thread):
    """Connections one after the other until end(); a run of the client ends at the first one lost."""

    def __init__(self, scene, family):
        super().__init__(daemon=True)
        self.argv = [str(a) for a in scene.client.enter(NETBENCH, CPU, "crr", vip(family, 0), PORT,
                                                        CONNECTIONS)]
        self.join_cgroup, self.runs, self.lost, self.ending = scene.node.join_cgroup, 0, 0, False
        self.began = time.perf_counter()
        self.start()

    def run(self):
        while not self.ending:
            done = subprocess.run(self.argv, capture_output=True, preexec_fn=self.join_cgroup)
            self.runs += done.returncode == 0
            self.lost += done.returncode != 0

    def end(self):
        self.ending = True
        self.join()
        return {"rolling_lost": self.lost,
                "rolling_rate": self.runs * CONNECTIONS / (time.perf_counter() - self.began)}


@workload
class RollingRestart(OfAgent):
    """Backends come, others are told to end, and are gone, batch by batch, under traffic."""

    name = "rolling_restart"
    figures = {"rolling_lost": "connections", "rolling_rate": "1/s"}
    title = (f"{ENDPOINTS:,} backends restart, {BATCH} at a time, while connections are made: how many "
             "are lost, and made a second")
    families = (4, 6)
    more_is_better = ("rolling_rate",)
    rounds = rounds_limit = 3
    warm_up = False

    def setup(self, lab, variant, n):
        scene = Scene(lab, "TCP")
        server = scene.process(scene.node.netns.enter(NETBENCH, CPU, "server", PORT))
        assert server.stdout.readline() == "ready\n"
        scene.node.put(scene.service)
        return scene

    @staticmethod
    def put(scene, family, restarted, ending=()):
        """In force when it returns: so many batches have restarted; ending: addresses of one more."""
        endpoints = [a for batch in range(BATCHES)
                     for a in addresses(family, int(batch < restarted), batch)]
        scene.node.put(scene.slice(family, PORT, endpoints + [
            {"addresses": [a],
             "conditions": {"ready": False, "serving": True, "terminating": True}} for a in ending]))

    @staticmethod
    def is_used(scene, addressed):
        """Whether the client has a connection to an address of the range."""
        return scene.client.run("ss", "-Htn", "state", "connected", "exclude", "time-wait",
                                "dst", addressed).stdout.strip()

    def measure(self, target, family, n):
        for batch in range(BATCHES):
            target.route(family, 0, batch, "local")
            target.route(family, 1, batch, "local")
        self.put(target, family, 0)
        traffic = Traffic(target, family)
        for batch in range(BATCHES):
            old = network(family, 0, batch)
            self.put(target, family, batch + 1, ending=addresses(family, 0, batch))
            wait_for(lambda old=old: not self.is_used(target, old), "the last connections to end")
            self.put(target, family, batch + 1)
            target.route(family, 0, batch, "unreachable")
        return traffic.end()
