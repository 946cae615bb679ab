# SPDX-License-Identifier: Apache-2.0
"""The scenarios of tests/net/scenarios with the pods on three nodes, natively routed and through a
tunnel (TUNNEL_PROTOCOL of the environment, or VXLAN): as test_truth_table.py on one node.  To save
time each runs in one of both modes; EVERY=1 runs all in both.
"""

import os

import pytest

from test_truth_table import SCENARIOS, scenario_holds
from truth_across import TableAcrossNodes

MODES = {
    "native": ("--auto-direct-node-routes",),
    "tunnel": ("--routing-mode=tunnel",
               f"--tunnel-protocol={os.environ.get('TUNNEL_PROTOCOL', 'vxlan')}"),
}


def modes(number, scenario):
    """A node without an agent, as the one outside, is not reached through the tunnel."""
    if any(how and how["at"] == "outside" for step in scenario["steps"]
           for how in step.get("nodes", {}).values()):
        return ["native"]
    return list(MODES) if os.environ.get("EVERY") == "1" else [list(MODES)[number % len(MODES)]]


CASES = [pytest.param(mode, scenario, id=f"{mode}-{scenario['name']}")
         for mode in MODES for number, scenario in enumerate(SCENARIOS)
         if mode in modes(number, scenario)]


@pytest.fixture(scope="module")
def table(request):
    made = TableAcrossNodes(*MODES[request.param])
    yield made
    made.close()


@pytest.mark.parametrize("table, scenario", CASES, indirect=["table"], scope="module")
def test_scenario(table, scenario):
    scenario_holds(table, scenario)
    pairs = {(source.node, target.node) for source in table.pods.values()
             for target in table.pods.values()}
    assert len(pairs) == 9, "pods of all nodes are asked by pods of all nodes"
