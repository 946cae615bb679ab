# SPDX-License-Identifier: Apache-2.0
"""Whether other nodes answer, as each agent measures it."""

import json
import subprocess

import pytest

import lan
from tendril import UnixConnection, node_object, wait_for

MODES = {"direct": ("--auto-direct-node-routes=true",), "VXLAN": ("--routing-mode=tunnel",)}


@pytest.fixture(params=MODES)
def three(request):
    made = lan.Nodes(3, *MODES[request.param])
    made.mtu = {"direct": 1500, "VXLAN": 1450}[request.param]
    yield made
    made.close()


def rows(node, *options):
    done = node.cli("node", "list", "-o", "json", *options, check=True)
    return {row["name"]: row for row in json.loads(done.stdout)}


def statuses(node, *options):
    return {name: row["health"]["status"] for name, row in rows(node, *options).items()
            if not row["local"]}


def metrics(node):
    connection = UnixConnection(node.socket, timeout=10)
    connection.request("GET", "/v1/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def counts(node):
    return node.status()["nodes"]


def test_nodes_are_asked_soon_after_the_start(three):
    first = three.all[0]
    wait_for(lambda: counts(first)["unknown"] == 0, "answers")  # of nodes that may have started later
    wait_for(lambda: statuses(first, "--probe") == {"n2": "reachable", "n3": "reachable"}, "both")
    assert counts(first) == {"reachable": 3, "unreachable": 0, "unknown": 0}
    row = rows(first)["n2"]
    assert row["mtu"] == three.mtu
    assert row["health"]["node"]["address"] == "192.0.2.2"
    assert row["health"]["pods"]["address"] == "10.200.2.1"
    assert row["health"]["pods"]["latencyMicroseconds"] > 0 and row["health"]["lastSeen"]
    assert "3/3 reachable" in first.cli("status").stdout
    wide = first.cli("node", "list", "-o", "wide", check=True).stdout
    assert "HOST ROUTING" in wide and f" {three.mtu} " in wide and " ms " in wide


def test_a_node_that_goes_and_comes_back(three):
    first, second = three.all[:2]
    wait_for(lambda: statuses(first, "--probe") == {"n2": "reachable", "n3": "reachable"}, "both")
    second.netns.ip("link", "set", "eth0", "down")
    assert statuses(first, "--probe") == {"n2": "unreachable", "n3": "reachable"}
    assert counts(first) == {"reachable": 2, "unreachable": 1, "unknown": 0}
    status = first.cli("status").stdout
    assert "2/3 reachable" in status and "tendril node list" in status
    shown = first.cli("node", "get", "n2", check=True).stdout
    assert "no: node 192.0.2.2: " in shown
    for labels in ('type="node",status="unreachable"', 'type="endpoint",status="reachable"'):
        assert metrics(first)[f"tendril_node_health_connectivity_status{{{labels}}}"] == "1"
    second.netns.ip("link", "set", "eth0", "up")
    wait_for(lambda: statuses(first, "--probe")["n2"] == "reachable", "n2 to be back")


def test_an_agent_that_is_dead_takes_no_node_out(three):
    first, second = three.all[:2]
    wait_for(lambda: statuses(first, "--probe") == {"n2": "reachable", "n3": "reachable"}, "both")
    second.kill()
    assert statuses(first, "--probe") == {"n2": "reachable", "n3": "reachable"}


def test_only_other_nodes_are_asked_and_those_that_are_gone_are_forgotten(three):
    first = three.all[0]
    assert "health" not in rows(first, "--probe")["n1"]
    three.tell(three.objects()[:2])
    wait_for(lambda: statuses(first, "--probe") == {"n2": "reachable"}, "n3 to go")
    assert counts(first) == {"reachable": 2, "unreachable": 0, "unknown": 0}
    changed = three.objects()
    changed[1] = lan.node_object("n2", lan.Lan.addresses(9), lan.Nodes.cidrs(9))
    three.tell(changed)
    wait_for(lambda: counts(first)["unreachable"] == 1, "n2 to be asked at its new address")
    assert statuses(first, "--probe") == {"n2": "unreachable", "n3": "reachable"}


def test_probe_ends_though_some_nodes_are_always_being_asked(three):
    """A hundred that do not answer: two questions a second, each open for three."""
    first, second = three.all[:2]
    first.netns.ip("route", "add", "198.18.0.0/16", "via", "192.0.2.2")
    second.netns.ip("route", "add", "blackhole", "198.18.0.0/16")
    silent = [node_object(f"silent{i}", {}, [f"198.18.0.{i}"]) for i in range(1, 101)]
    three.tell(three.objects() + silent)
    wait_for(lambda: counts(first) == {"reachable": 3, "unreachable": 100, "unknown": 0}, "answers",
             timeout=60)
    done = subprocess.run([first.build / "tendril", "--socket", first.socket, "node", "list", "--probe",
                           "-o", "json"], capture_output=True, timeout=60, check=True)
    assert len(json.loads(done.stdout)) == 103
