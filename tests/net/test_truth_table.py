# SPDX-License-Identifier: Apache-2.0
"""Truth tables over real pods: every scenario of tests/net/scenarios, before and after each of its
changes, every pair of hosts by every probe (tests/harness/truth.py); and again, TCP only, with
socket acceleration.  Connections that were open before a change must go on or end with it.

A scenario spells out some cells ("allow", "deny"); the whole table comes from a reading of the API
reference (tests/harness/netpol.py), and both must agree.
"""

import pathlib
import subprocess
import time

import pytest
import yaml

from truth import Table

FOLDER = pathlib.Path(__file__).parent / "scenarios"
SCENARIOS = [scenario for file in sorted(FOLDER.glob("*.yaml"))
             for scenario in yaml.safe_load(file.read_text())]
CHANGES = ("policies", "pods", "namespaces", "nodes", "delete", "create", "objects")


@pytest.fixture(scope="module", params=["packets", "accelerated"])
def table(request):
    made = Table(accelerated=request.param == "accelerated")
    yield made
    made.close()


def spelled(table, patterns):
    cells = 0
    for pattern in patterns:
        matching = table.cells_matching(pattern)
        assert matching, f"{pattern}: nobody"
        cells |= matching
    return cells


def scenario_holds(table, scenario):
    """Returns the seconds that live connections took to follow, at most."""
    try:
        want = table.check("before", keep=True)
        assert want == table.expectation()[0], "without policies everything passes"
        slowest = 0.0
        for number, step in enumerate(scenario["steps"]):
            when = f"after step {number + 1}"
            assert set(step) <= {*CHANGES, "allow", "deny"}, step
            changed_at = table.apply(**{key: step[key] for key in CHANGES if key in step})
            slowest = max(slowest, table.check_live(when, changed_at))
            ask, want = table.expectation()
            for word, right in (("allow", want), ("deny", ~want)):
                wrong = spelled(table, step.get(word, [])) & ask & ~right
                assert not wrong, f"{when}: spelled out as {word}:\n{table.describe(wrong)}"
            table.check(when, changed_at, keep=True)
        return slowest
    finally:
        table.reset()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s["name"] for s in SCENARIOS])
def test_scenario(table, scenario, record_property):
    record_property("live_connections_follow_after_s", round(scenario_holds(table, scenario), 4))


def test_the_second_time_is_really_accelerated(table):
    before = table.accelerated_connections()
    table.check("without policies")
    assert (table.accelerated_connections() > before) == table.accelerated


DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
ALLOW_Y = {"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {
    "matchLabels": {"ns": "y"}}}]}]}


def test_the_last_known_policy_holds_while_the_agent_is_dead(table):
    """And nobody new gets in: without an agent there is no ADD."""
    try:
        table.apply(policies={"x/closed": DENY_ALL, "z/half": ALLOW_Y})
        table.check("while the agent lives", keep=True)
        table.node.kill()
        table.check_live("with the agent dead", time.monotonic())
        table.check("with the agent dead", keep=True)
        stranger = table.node.pod("stranger", "x", wire=False)
        with pytest.raises(AssertionError, match="ADD failed"):
            stranger.cni("ADD")
        table.node.start()
        table.check_live("with a new agent", time.monotonic())
        table.check("with a new agent", keep=True)
    finally:
        table.reset()


def test_the_node_reaches_its_pods_from_each_of_its_addresses(table):
    """Probes may come from any; an address outside is not exempt for being on the same link."""
    try:
        table.apply(policies={"x/closed": DENY_ALL})
        target = table.hosts["x/a"].addresses
        own = table.hosts["node"].addresses + ["198.51.100.1", "2001:db8::1"]
        for address in own:
            connect(table.node.netns, address, target[":" in address])
        for address in table.hosts["outside"].addresses:
            with pytest.raises(subprocess.CalledProcessError):
                connect(table.outside, address, target[":" in address])
    finally:
        table.reset()


def connect(netns, source, target):
    netns.run("python3", "-c", "import socket, sys\n"
              "socket.create_connection((sys.argv[2], 80), 0.5, (sys.argv[1], 0))", source, target)


def test_there_are_enough_scenarios():
    names = [scenario["name"] for scenario in SCENARIOS]
    assert len(names) == len(set(names)) >= 60
