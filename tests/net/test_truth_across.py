# SPDX-License-Identifier: Apache-2.0
"""The scenarios of tests/net/scenarios with the pods on three nodes, natively routed and through a
tunnel (TUNNEL_PROTOCOL of the environment, or VXLAN): as test_truth_table.py on one node.
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


@pytest.fixture(scope="module", params=MODES)
def table(request):
    made = TableAcrossNodes(*MODES[request.param])
    yield made
    made.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s["name"] for s in SCENARIOS])
def test_scenario(table, scenario):
    scenario_holds(table, scenario)


def test_pods_of_all_nodes_are_asked_by_pods_of_all_nodes(table):
    pairs = {(source.node, target.node) for source in table.pods.values()
             for target in table.pods.values()}
    assert len(pairs) == 9
