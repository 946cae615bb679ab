# SPDX-License-Identifier: Apache-2.0
"""One rule for the files of all commands: what is read, what is skipped, what is refused, and which
of two objects of one name counts."""

import json

import pytest

from cli import Agent, document, pod, policy, tendril

DEPLOYMENT = document("Deployment", "store", "depot", "apps/v1", spec={})
STORE, TILL = ({"matchLabels": {"role": role}} for role in ("store", "till"))
SPEC = {"podSelector": STORE, "ingress": [{"from": [{"podSelector": TILL}], "ports": [{"port": 8080}]}]}
GUARD = policy("guard", "depot", **SPEC)
PODS = [pod("store", "depot", "10.0.0.1", {"role": "store"}), pod("till", "depot", "10.0.0.2",
                                                                  {"role": "till"})]
EXPECTED = {"tests": [{"from": "depot/till", "to": "depot/store", "port": 8080, "expect": "allow"},
                      {"from": "203.0.113.9", "to": "depot/store", "port": 8080, "expect": "deny"}]}

# Each reads chart.json and, where it needs pods, pods.json.
COMMANDS = {
    "validate": ["policy", "validate", "chart.json"],
    "lint": ["policy", "lint", "chart.json", "-f", "pods.json"],
    "explain": ["policy", "explain", "-f", "pods.json", "-f", "chart.json", "--from", "depot/till",
                "--to", "depot/store", "--port", "8080"],
    "matrix": ["policy", "matrix", "-f", "pods.json", "-f", "chart.json"],
    "test": ["policy", "test", "expected.json", "-f", "pods.json", "-f", "chart.json"],
    "diff": ["policy", "diff", "chart.json", "chart.json", "-f", "pods.json"],
    "apply": ["policy", "apply", "-f", "chart.json"],
}


@pytest.fixture
def run(tmp_path):
    def run(command, *chart, pods=PODS, more=()):
        for name, objects in (("chart.json", chart), ("pods.json", pods),
                              ("expected.json", [EXPECTED])):
            (tmp_path / name).write_text("\n".join(map(json.dumps, objects)))
        with Agent(tmp_path / "agent.sock", {"PUT /v1/objects": {"applied": 1}}) as agent:
            done = tendril(*COMMANDS[command], *more, "--socket", agent.path, cwd=tmp_path)
            done.requests = agent.requests
        return done
    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_kinds_that_are_not_about_the_network_are_skipped(run, command):
    done = run(command, DEPLOYMENT, GUARD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Deployment" not in done.stderr
    if command == "validate":
        assert done.stdout == "chart.json: ok, 1 object, 1 of other kinds skipped\n"
    if command == "apply":
        (_, _, body), = done.requests
        assert [item["kind"] for item in body["items"]] == ["NetworkPolicy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_verbose_names_what_is_skipped(run, command):
    done = run(command, DEPLOYMENT, GUARD, more=["-v"])
    assert done.returncode == 0, done.stderr
    assert "note: chart.json: Deployment depot/store is skipped: it is not about the network\n" \
        in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("version, kind, hint", [
    ("networking.k8s.io/v1", "NetworkPolcy", 'did you mean "NetworkPolicy"'),
    ("extensions/v1beta1", "NetworkPolicy", 'write "networking.k8s.io/v1"'),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", "ClusterNetworkPolicy with tier: Admin"),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", "tier: Baseline"),
    ("policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy",
     'write "policy.networking.k8s.io/v1alpha2"'),
    ("cilium.io/v2", "CiliumNetworkPolicy", "write it as a NetworkPolicy (networking.k8s.io/v1)"),
    ("crd.projectcalico.org/v1", "GlobalNetworkPolicy", "write it as a ClusterNetworkPolicy"),
    ("projectcalico.org/v3", "NetworkPolicy", 'write "networking.k8s.io/v1"'),
])
def test_no_command_passes_over_a_policy_that_nobody_enforces(run, command, version, kind, hint):
    done = run(command, document(kind, "guard", "depot", version, spec=SPEC))
    assert done.returncode == (2 if command in ("lint", "test", "diff") else 1)
    told = done.stdout if command == "validate" else done.stderr
    assert "chart.json:1:" in told and hint in told
    assert done.requests == []


# ---- the same object twice ----

CHARTS = ["explain", "matrix", "test", "lint", "diff"]


@pytest.mark.parametrize("command", CHARTS)
def test_an_object_in_the_inventory_and_in_a_chart_is_one(run, command):
    inventory = [document("Namespace", "depot", metadata={"uid": "1f", "labels": {"a": "b"}}), *PODS,
                 policy("guard", "depot", podSelector=STORE) | {
                     "metadata": {"name": "guard", "namespace": "depot", "uid": "2f"}}]
    done = run(command, document("Namespace", "depot"), GUARD, pods=inventory)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("inventory_first", [True, False])
def test_the_charts_object_counts_and_keeps_what_the_cluster_knows(tmp_path, inventory_first):
    live = pod("store", "depot", "10.0.0.1", {"role": "old"}) | {"spec": {"nodeName": "n1"}}
    live["metadata"]["uid"] = "3f"
    chart = document("Pod", "store", "depot", metadata={"labels": {"role": "store"}})
    (tmp_path / "live.json").write_text("\n".join(map(json.dumps, [live, PODS[1]])))
    (tmp_path / "chart.json").write_text("\n".join(map(json.dumps, [chart, GUARD])))
    files = ["live.json", "chart.json"] if inventory_first else ["chart.json", "live.json"]
    done = tendril("policy", "explain", "-f", files[0], "-f", files[1], "--from", "203.0.113.9",
                   "--to", "10.0.0.1", "--port", "8080", "-o", "json", cwd=tmp_path)
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "deny" and answer["to"]["name"] == "store"


def test_a_version_counts_before_what_both_have(tmp_path):
    """Otherwise a difference would be lost without a word."""
    (tmp_path / "pods.json").write_text("\n".join(map(json.dumps, PODS)))
    (tmp_path / "old.json").write_text(json.dumps(GUARD))
    changed = pod("till", "depot", "10.0.0.2", {"role": "other"})
    (tmp_path / "new.json").write_text("\n".join(map(json.dumps, [GUARD, changed])))
    done = tendril("policy", "diff", "old.json", "new.json", "-f", "pods.json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, ""), "till has another label in the new version"
    assert "- deny   depot/till -> depot/store: 8080/TCP" in done.stdout


def test_two_policies_that_somebody_wrote_contradict_each_other(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(GUARD))
    done = tendril("policy", "lint", "a.json", "b.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "NetworkPolicy depot/guard: is already in a.json:1" in done.stderr


def test_files_to_be_applied_hold_an_object_once(tmp_path):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(document("Namespace", "depot")))
    done = tendril("policy", "validate", "a.json", "b.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "Namespace depot: is already in a.json:1" in done.stdout
