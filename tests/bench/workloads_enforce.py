# SPDX-License-Identifier: Apache-2.0
"""From a file that changes to packets that feel it.

A client asks a server that policy closes, over and over, while a file opens it: the figure is the
time from the file's rename() to the first question that is answered. For services the file changes
the endpoint, and it is the first question that the new one answers.
"""

import json
import subprocess
import time

from lab import HERE, PORT, address_of, make_pod
from services import FIRST_VIPS, service_objects
from tendril import policy_object, slice_object, wait_for
from workload import Workload, workload

PROBE = HERE / "enforce_probe.py"
UDP = [("udp", PORT, "UDP")]
BATCH = 5000
APART = 0.02  # changes that follow at once are taken together, which is not what is measured


class Scene:
    """A client and two servers; n policies of others are in force."""

    def __init__(self, lab, n):
        self.node = lab.node()
        self.lab = lab
        self.client, self.a, self.b = (make_pod(self.node, name, labels={"app": name})
                                       for name in ("client", "a", "b"))
        for pod in (self.a, self.b):
            process = self.process(pod, "server", pod.pod_name, PORT)
            assert process.stdout.readline() == "ready\n"
        for first in range(0, n, BATCH):
            self.node.put(*[policy_object(f"p{i}", "other", {"matchLabels": {"app": f"x{i}"}},
                                          policyTypes=["Ingress"])
                            for i in range(first, min(first + BATCH, n))])
        self.node.write("service.json",
                        service_objects(0, [self.b.addresses], UDP)[0])
        self.point_to(self.b)
        self.clients = {}

    def process(self, pod, *arguments):
        return self.lab.process(pod.enter(PROBE, *arguments), self.node.join_cgroup,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, addr, name):
        """Has the client ask until `name` answers; returns a function that waits for when."""
        if addr not in self.clients:
            self.clients[addr] = self.process(self.client, "client", addr, PORT)
        process = self.clients[addr]
        process.stdin.write(name + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "asking\n"
        return lambda: float(process.stdout.readline())

    def replace(self, file, *objects):
        """Returns when the file got its name."""
        temporary = self.node.dir / ("." + file)
        temporary.write_text(json.dumps({"apiVersion": "v1", "kind": "List",
                                         "items": list(objects)}))
        now = time.monotonic()
        temporary.rename(self.node.objects / file)
        return now

    def point_to(self, pod):
        """Makes the pod the service's endpoint."""
        ports = [{"name": name, "port": port, "protocol": proto} for name, port, proto in UDP]
        return self.replace("slices.json",
                            *(slice_object(f"s0-{kind.lower()}", "default", "s0", kind, ports,
                                           [address_of(pod.addresses, family)])
                              for kind, family in (("IPv4", 4), ("IPv6", 6))))

    def policy(self, opens):
        return self.replace("policy.json",
                            policy_object("measured", "default", {"matchLabels": {"app": "a"}},
                                          policyTypes=["Ingress"],
                                          ingress=[{}] if opens else []))

    def revision(self):
        return self.node.status()["revision"]


@workload
class Enforce(Workload):
    name, figures = "enforce", {"enforce_policy": "ms", "enforce_service": "ms"}
    section = "Control plane"
    title = "a file's change to the first packet that feels it, n policies in force"
    variants, reference = ("tendril",), None
    counts, quick_counts, count_means = (1, 1000, 10000), (1, 10000), "policies"
    rounds = rounds_limit = 15

    def setup(self, lab, variant, n):
        return Scene(lab, n)

    def measure(self, target, family, n):
        return {"enforce_policy": self.policy(target, family),
                "enforce_service": self.service(target, family)}

    @staticmethod
    def policy(scene, family):
        before = scene.revision()
        scene.policy(opens=False)
        wait_for(lambda: scene.revision() != before, "the policy that closes", timeout=30)
        time.sleep(APART)
        answered = scene.ask(address_of(scene.a.addresses, family), "a")
        return (-scene.policy(opens=True) + answered()) * 1000

    @staticmethod
    def service(scene, family):
        answered = scene.ask(FIRST_VIPS[family], "b")
        scene.point_to(scene.b)
        answered()
        time.sleep(APART)
        answered = scene.ask(FIRST_VIPS[family], "a")
        return (-scene.point_to(scene.a) + answered()) * 1000
