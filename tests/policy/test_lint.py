# SPDX-License-Identifier: Apache-2.0
"""`tendril policy lint`: every check finds its case, says where and why, and can be silenced."""

import json
import re

import pytest

from cli import ROOT, document, pod, policy, tendril

HTTP = [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]
PODS = [pod("web", "shop", "10.0.0.1", {"app": "web"}, spec={"containers": HTTP}),
        pod("cart", "shop", "10.0.0.2", {"app": "cart"})]
WEB, CART = ({"matchLabels": {"app": app}} for app in ("web", "cart"))
FROM_CART = [{"podSelector": CART}]
CONTRADICTION = {"matchExpressions": [{"key": "app", "operator": "Exists"},
                                      {"key": "app", "operator": "DoesNotExist"}]}


def ingress(*rules, name="p", selector=None, **spec):
    return policy(name, "shop", podSelector=WEB if selector is None else selector,
                  ingress=list(rules), **spec)


def egress(*rules, **spec):
    return policy("p", "shop", podSelector=WEB, policyTypes=["Egress"], egress=list(rules), **spec)


def cluster(name, tier, priority, *rules):
    return document("ClusterNetworkPolicy", name, None, "policy.networking.k8s.io/v1alpha2",
                    spec={"tier": tier, "priority": priority, "subject": {"namespaces": {}},
                          "ingress": list(rules)})


def block(cidr, *holes):
    return ingress({"from": [{"ipBlock": {"cidr": cidr, **({"except": list(holes)} if holes else {})}}]})


DNS = {"to": FROM_CART, "ports": [{"port": 53, "protocol": "UDP"}]}
ALL = [{"namespaces": {}}]
CASES = {
    "never-matches": [(ingress(selector=CONTRADICTION), "spec.podSelector"),
                      (ingress({"from": [{"podSelector": CONTRADICTION}]}), "spec.ingress[0].from[0]")],
    "selects-no-pod": [(ingress(selector={"matchLabels": {"app": "wbe"}}), "spec.podSelector")],
    "peer-selects-nothing": [
        (ingress({"from": [*FROM_CART, {"podSelector": {"matchLabels": {"app": "x"}}}]}),
         "spec.ingress[0].from[1]"),
        (egress(DNS, {"to": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}),
         "spec.egress[1].to[0]")],
    "shadowed-rule": [
        (ingress({"from": FROM_CART}, {"from": FROM_CART, "ports": [{"port": 80}]}),
         "spec.ingress[1]"),
        (ingress({"from": FROM_CART, "ports": [{"port": 80}]}, {"from": FROM_CART}),
         "spec.ingress[0]")],
    "void-rules": [(ingress({"from": FROM_CART}, policyTypes=["Egress"], egress=[DNS]),
                    "spec.ingress")],
    "allows-everything": [(ingress({}), "spec.ingress[0]")],
    "allows-everyone": [(ingress({"ports": [{"port": 80}]}), "spec.ingress[0]"),
                        (ingress({"from": [], "ports": [{"port": 80}]}), "spec.ingress[0]")],
    "allows-all-pods": [
        (ingress({"from": [{"namespaceSelector": {}}]}), "spec.ingress[0].from[0]"),
        (ingress({"from": [{"namespaceSelector": {}, "podSelector": {}}]}),
         "spec.ingress[0].from[0]")],
    "allows-all-addresses": [(block("0.0.0.0/0"), "spec.ingress[0].from[0]"),
                             (block("::/0"), "spec.ingress[0].from[0]")],
    "unknown-port-name": [
        (ingress({"from": FROM_CART, "ports": [{"port": "htpp"}]}), "spec.ingress[0].ports[0]"),
        (ingress({"from": FROM_CART, "ports": [{"port": "http", "protocol": "UDP"}]}),
         "spec.ingress[0].ports[0]"),
        (egress(DNS, {"to": FROM_CART, "ports": [{"port": "http"}]}), "spec.egress[1].ports[0]")],
    "dns-cut-off": [(egress(), ""), (egress({"to": FROM_CART, "ports": [{"port": 53}]}), "")],
    "endport-odd": [
        (ingress({"from": FROM_CART, "ports": [{"port": 80, "endPort": 80}]}),
         "spec.ingress[0].ports[0]"),
        (ingress({"from": FROM_CART, "ports": [{"port": 1, "endPort": 65535}]}),
         "spec.ingress[0].ports[0]")],
    "port-repeated": [
        (ingress({"from": FROM_CART, "ports": [{"port": 80}, {"port": 79, "endPort": 81}]}),
         "spec.ingress[0].ports[0]"),
        (ingress({"from": FROM_CART, "ports": [{"port": 80}, {"port": 80}]}),
         "spec.ingress[0].ports[1]")],
    "cidr-host-bits": [(block("10.0.0.1/8"), "spec.ingress[0].from[0]")],
    "except-removes-all": [(block("10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9"),
                            "spec.ingress[0].from[0]")],
    "unknown-check": [(dict(ingress(), metadata={
        "name": "p", "namespace": "shop", "annotations": {"tendril.io/lint-ignore": "typo"}}),
        "metadata.annotations[tendril.io/lint-ignore]")],
}


@pytest.fixture
def lint(tmp_path):
    (tmp_path / "pods.json").write_text("\n".join(map(json.dumps, PODS)))

    def run(*objects, words=(), files=("-f", "pods.json")):
        (tmp_path / "p.json").write_text("\n".join(map(json.dumps, objects)))
        return tendril("policy", "lint", "p.json", *files, *words, cwd=tmp_path)
    return run


def findings(done):
    assert done.stderr == ""
    return json.loads(done.stdout)


def silenced(item, value):
    return dict(item, metadata=dict(item["metadata"], annotations={"tendril.io/lint-ignore": value}))


@pytest.mark.parametrize("check, item, path", [
    (check, *case) for check, cases in CASES.items() for case in cases])
def test_finds(lint, check, item, path):
    done = lint(item, words=("-o", "json"))
    assert done.returncode == 1
    assert [(f["check"], f["path"], f["file"], f["line"]) for f in findings(done)] == [
        (check, path, "p.json", 1)]
    assert findings(done)[0]["silence"] == f"tendril.io/lint-ignore: {check}"
    text = lint(item).stdout.splitlines()
    where = f"{path}: " if path else ""
    assert re.match(rf"p\.json:1:\d+: NetworkPolicy shop/p: {re.escape(where)}{check}: ", text[0])
    assert text[2].strip() == ("If it is meant: annotate the object with "
                               f"tendril.io/lint-ignore: {check}")
    assert text[3] == "1 finding"
    done = lint(silenced(item, f"duplicate-policy, {check}"))
    if check != "unknown-check":
        assert (done.returncode, done.stdout) == (0, "0 findings, 1 silenced\n")


def test_nothing_to_find(lint):
    done = lint(ingress({"from": FROM_CART, "ports": [{"port": "http"}]}),
                policy("q", "shop", podSelector=WEB, policyTypes=["Egress"], egress=[DNS]))
    assert (done.returncode, done.stdout) == (0, "0 findings\n")


def test_a_policy_that_another_one_repeats(lint):
    rules = [{"from": FROM_CART, "ports": [{"port": 80}, {"port": 81}]}]
    again = [{"from": FROM_CART, "ports": [{"port": 81}, {"port": 80}]}]
    found = findings(lint(ingress(*rules, name="a"), ingress(*again, name="b"), words=("-o", "json")))
    assert [(f["check"], f["name"], f["other"]["name"], f["other"]["line"]) for f in found] == [
        ("duplicate-policy", "b", "a", 1)]


def test_dns_may_be_let_out_by_another_policy(lint):
    dns = policy("dns", "shop", podSelector={}, policyTypes=["Egress"],
                 egress=[{"to": [{"namespaceSelector": {}, "podSelector": CART}],
                          "ports": [{"port": 53, "protocol": "UDP"}]}])
    assert lint(egress(), dns).returncode == 0


def test_shadows_name_the_other_rule(lint):
    wide = ingress({"from": [{"podSelector": {}}]}, name="wide", selector={})
    narrow = ingress({"from": FROM_CART, "ports": [{"port": 80}]}, name="narrow")
    done = lint(wide, narrow)
    assert ("p.json:2:" in done.stdout and "NetworkPolicy shop/narrow: spec.ingress[0]: "
            "shadowed-rule: ingress rule 0 of NetworkPolicy shop/wide accepts all that it matches "
            "as well (p.json:1:") in done.stdout
    found = findings(lint(wide, narrow, words=("-o", "json")))
    assert (found[0]["other"]["name"], found[0]["other"]["path"]) == ("wide", "spec.ingress[0]")


def test_tiers(lint):
    narrow = ingress({"from": FROM_CART, "ports": [{"port": 80}]})
    deny = cluster("deny", "Admin", 10, {"action": "Deny", "from": ALL})
    found = findings(lint(deny, narrow, words=("-o", "json")))
    assert [(f["check"], f["name"], f["other"]["name"]) for f in found] == [
        ("shadowed-rule", "p", "deny")]
    assert "denies all that it matches, before it is asked" in lint(deny, narrow).stdout
    a_pass = cluster("pass", "Admin", 5, {"action": "Pass", "from": ALL})
    found = findings(lint(deny, a_pass, narrow, words=("-o", "json")))
    assert [(f["name"], f["other"]["name"]) for f in found] == [("deny", "pass")]
    late = cluster("late", "Baseline", 1, {"action": "Accept", "from": [
        {"pods": {"namespaceSelector": {}, "podSelector": CART}}]})
    assert [f["name"] for f in findings(lint(deny, late, words=("-o", "json")))] == ["late"]


def test_without_pods_what_needs_them_is_left_alone(lint):
    item = ingress({"from": [{"podSelector": {"matchLabels": {"app": "x"}}}],
                    "ports": [{"port": "htpp"}]})
    assert lint(item, files=()).returncode == 0


def test_lines_of_yaml(tmp_path):
    (tmp_path / "p.yaml").write_text("""\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  podSelector: {}
  ingress:
  - from: [{podSelector: {}}]
  - from:
    - podSelector: {}
    ports:
    - port: 80
""")
    assert tendril("policy", "lint", "-f", "p.yaml", cwd=tmp_path).stdout.startswith(
        "p.yaml:8:5: NetworkPolicy shop/p: spec.ingress[1]: shadowed-rule: ingress rule 0 of "
        "NetworkPolicy shop/p accepts all that it matches as well (p.yaml:7:5)\n")


def test_what_cannot_be_read_exits_2(lint):
    done = lint(policy("p", "shop", podSelector=[]))
    assert done.returncode == 2 and done.stdout == "" and "p.json:1" in done.stderr


def test_the_manual_and_these_cases_know_every_check():
    header = (ROOT / "policy/analysis/lint.h").read_text()
    names = re.findall(r'^\tX\(\w+, "([a-z-]+)"', header, re.MULTILINE)
    manual = (ROOT / "doc/man/tendril-policy.1").read_text().replace("\\", "")
    assert set(names) == {*CASES, "duplicate-policy"}
    assert all(f".B {name}\n" in manual for name in names)
