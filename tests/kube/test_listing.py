# SPDX-License-Identifier: Apache-2.0
"""The offline commands of the CLI, with the objects of an API server: tendril policy ... --kubeconfig."""

import json
import os
import subprocess

import pytest

from conftest import ROOT

PODS, NAMESPACES, NODES = "/api/v1/pods", "/api/v1/namespaces", "/api/v1/nodes"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
DENY = {"podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Ingress"]}


@pytest.fixture
def shop(api, tmp_path):
    """web and cart, which a policy closes; the kubeconfig that reads them."""
    api.put(NAMESPACES, "shop", metadata={"labels": {"kubernetes.io/metadata.name": "shop"}})
    for number, name in enumerate(("web", "cart"), 1):
        api.put(PODS, name, "shop", metadata={"labels": {"app": name}},
                spec={"nodeName": "n1", "containers": [{"name": "c"}]},
                status={"phase": "Running", "podIP": f"10.0.0.{number}",
                        "podIPs": [{"ip": f"10.0.0.{number}"}]})
    api.put(POLICIES, "closed", "shop", spec=DENY)
    return api.kubeconfig(tmp_path)


def policy(*words, **env):
    return subprocess.run([ROOT / "build/tendril", "policy", *words], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, **env))


QUESTION = ("explain", "--from", "shop/web", "--to", "shop/cart", "--port", "80", "-o", "json")


def test_explain_answers_from_the_cluster(shop):
    done = policy(*QUESTION, "--kubeconfig", shop)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "deny"
    usual = policy(*QUESTION, "-A", KUBECONFIG=str(shop))
    assert json.loads(usual.stdout)["verdict"] == "deny", usual.stderr


def test_a_file_counts_before_the_cluster(shop, tmp_path):
    opened = tmp_path / "opened.json"
    opened.write_text(json.dumps({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "shop"}, "spec": dict(DENY, ingress=[{}])}))
    done = policy(*QUESTION, "--kubeconfig", shop, "-f", opened)
    assert json.loads(done.stdout)["verdict"] == "allow", done.stderr


def test_matrix_lint_and_diff_read_the_cluster(shop, tmp_path):
    matrix = policy("matrix", "--kubeconfig", shop, "--port", "80")
    assert matrix.returncode == 0 and "shop/cart" in matrix.stdout, matrix.stderr
    lint = policy("lint", "--kubeconfig", shop)
    assert lint.returncode in (0, 1) and "finding" in lint.stdout, lint.stderr
    new = tmp_path / "new.json"
    new.write_text(json.dumps({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "web-closed", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"]}}))
    diff = policy("diff", new, "--kubeconfig", shop)
    assert diff.returncode == 1 and "- deny   shop/web" in diff.stdout, diff.stdout + diff.stderr


def test_many_pages_are_read(api, tmp_path):
    for number in range(1200):
        api.put(PODS, f"pod-{number}", "shop", metadata={"labels": {"app": "web"}},
                spec={"containers": [{"name": "c"}]})
    printed = subprocess.run([ROOT / "build/tendril-kube", "--print", "--kubeconfig",
                              api.kubeconfig(tmp_path)], text=True, capture_output=True, check=True)
    assert len([one for one in json.loads(printed.stdout)["items"] if one["kind"] == "Pod"]) == 1200


def test_what_cannot_be_read_is_told(shop, tmp_path):
    config = json.loads(shop.read_text())
    config["users"][0]["user"] = {"token": "wrong"}
    shop.write_text(json.dumps(config))
    done = policy("matrix", "--kubeconfig", shop)
    assert done.returncode == 1 and done.stdout == ""
    assert "401" in done.stderr and "could not be read" in done.stderr
    missing = policy("matrix", "--kubeconfig", tmp_path / "none")
    assert missing.returncode == 1 and "none" in missing.stderr


def test_diff_of_nothing_is_misuse():
    done = policy("diff", "new.yaml")
    assert done.returncode == 2 and "--kubeconfig" in done.stderr
