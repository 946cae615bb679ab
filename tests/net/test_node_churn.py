# SPDX-License-Identifier: Apache-2.0
"""Nodes that come, go, change address or range, come back under the same name or claim the range of
another, and agents that are killed, while two nodes talk: nothing of that is lost, and nothing stays.

CHURN_SECONDS=N runs so long (10), SEED=N repeats one run.
"""

import json
import os
import random
import re
import signal
import time

import pytest

import lan
from tendril import run, wait_for
from test_overlay import TUNNEL

SECONDS = float(os.environ.get("CHURN_SECONDS", "10"))
PORT = 8080
MODES = {"native": ("--auto-direct-node-routes",), "tunnel": TUNNEL}
GHOSTS = [f"ghost-{number}" for number in range(6)] + ["a"]


@pytest.fixture(params=MODES)
def three(request):
    made = lan.Nodes(3, *MODES[request.param])
    try:
        made.pods = [node.pod(f"p{number}") for number, node in enumerate(made.all, 1)]
        for pod in made.pods:
            pod.serve(tcp=[PORT], udp=[PORT])
        yield made
    finally:
        made.close()


def entries(node, name):
    """The keys and values of a map."""
    return sorted((str(each["key"]), str(each["value"])) for each in json.loads(
        run("bpftool", "-j", "map", "dump", "pinned", node.bpffs / "maps" / name).stdout))


def state(node):
    """What may not be stale."""
    devices = json.loads(node.netns.ip("-j", "link").stdout)
    return {
        "routes": sorted(line for family in ("-4", "-6") for line in node.netns.ip(
            family, "route", "show", "proto", "85").stdout.splitlines()),
        "permanent neighbours": node.netns.ip("neigh", "show", "nud", "permanent").stdout,
        "cluster_map": entries(node, "cluster_map"),
        "devices": sorted(each["ifname"] for each in devices if each["ifname"].startswith("tendril")),
        "failures": node.status()["failures"],
    }


def ghost(draw, name):
    """A node that nobody runs; some claim what others have, or more."""
    number = draw.randint(10, 40)
    cidrs = draw.choice([
        (f"10.210.{number}.0/24", f"fd00:210:0:{number:x}::/112"),
        (f"10.210.{number}.0/24",),
        ("10.200.2.128/25", "fd00:200:0:2::8000/113"), ("10.200.2.0/23",), lan.Nodes.cidrs(2),
        ("10.200.1.0/25",)])
    return lan.node_object(name, lan.Lan.addresses(draw.randint(100, 110)), cidrs)


class Churn:
    def __init__(self, nodes, draw):
        self.nodes, self.draw = nodes, draw
        self.ghosts, self.third = {}, True

    def tell(self):
        objects = self.nodes.objects()
        self.nodes.tell([*self.ghosts.values(), *objects[:3 if self.third else 2]])

    def step(self):
        kind = self.draw.choice(["ghost", "ghost", "ghost", "gone", "third", "kill"])
        if kind == "ghost":  # a new one, or another under the same name
            name = self.draw.choice(GHOSTS)
            self.ghosts[name] = ghost(self.draw, name)
        elif kind == "gone" and self.ghosts:
            del self.ghosts[self.draw.choice(sorted(self.ghosts))]
        elif kind == "third":
            self.third = not self.third
        if kind != "kill":
            self.tell()
            return kind
        node = self.draw.choice(self.nodes.all)
        node.kill()
        node.start()
        return kind


def test_two_nodes_talk_while_others_come_and_go(three):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"SEED={seed} CHURN_SECONDS={SECONDS}")
    client, server, other = three.pods
    before = [state(node) for node in three.all]
    for family, address in enumerate(server.addresses):
        assert client.call("hold", id=str(family), addr=address, port=PORT)["result"] == "ok"
    pings = [client.popen("ping", "-n", "-q", "-i0.02", address, stdout=-1, text=True)
             for address in server.addresses]
    churn, steps = Churn(three, random.Random(seed)), []
    deadline = time.monotonic() + SECONDS / len(MODES)
    while time.monotonic() < deadline or len(set(steps)) < 4:
        steps.append(churn.step())
        for family, address in enumerate(server.addresses):
            assert client.call("ping", id=str(family), timeout=10)["result"] == "ok", steps
            assert client.connect(address, PORT, timeout=10)["result"] == "ok", steps
            assert client.udp(address, PORT, size=8000, timeout=10)["result"] == "ok", steps
    for ping in pings:
        ping.send_signal(signal.SIGINT)
    for text in [ping.communicate()[0] for ping in pings]:
        sent, got = map(int, re.search("([0-9]+) packets transmitted, ([0-9]+) received", text).groups())
        assert sent - got <= 1, (steps, text)  # the last may be on its way
    three.tell()
    for number, node in enumerate(three.all):
        wait_for(lambda at=node, was=before[number]: state(at) == was,
                 f"what was there before: {before[number]}, {state(node)}, {steps}")
    for address in other.addresses:
        assert client.connect(address, PORT, timeout=10)["result"] == "ok"
    print(len(steps), "changes")
