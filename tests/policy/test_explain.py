# SPDX-License-Identifier: Apache-2.0
"""`tendril policy explain`: offline over files, and over what an agent holds."""

import json

import pytest

from cli import Agent, document, pod, policy, tendril

WORLD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: cart-1, namespace: shop, labels: {app: cart}}
  spec: {nodeName: n1, containers: [{ports: [{name: http, containerPort: 8080}]}]}
  status: {podIPs: [{ip: 10.0.0.2}, {ip: "fd00::2"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: cart-2, namespace: shop, labels: {app: cart}}
  status: {podIP: 10.0.0.3}
- {apiVersion: v1, kind: Node, metadata: {name: n1},
   status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
- apiVersion: v1
  kind: Pod
  metadata: {name: job, namespace: shop}
  status: {podIP: 10.0.0.9, phase: Succeeded}
"""
SERVICE = """\
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
 "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "targetPort": "http"}, {"name": "x", "port": 81}]}}
{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
 "metadata": {"name": "cart-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
 "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}],
 "ports": [{"name": "", "port": 8080}]}
"""
POLICIES = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: cart
  namespace: shop
spec:
  podSelector: {matchLabels: {app: cart}}
  ingress:
  - ports: [{port: 443}]
  - from:
    - podSelector: {matchLabels: {app: web}}
    ports: [{port: http}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-out, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/8}}, {ipBlock: {cidr: "fd00::/8"}}]
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "pods.yaml").write_text(WORLD)
    (tmp_path / "service.json").write_text(SERVICE)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/all.yml").write_text(POLICIES)
    (tmp_path / "policies/notes.txt").write_text("not an object")
    return tmp_path


def explain(files, source, target, port, *more):
    return tendril("policy", "explain", "-f", "pods.yaml", "-f", "service.json", "-f", "policies",
                   "--from", source, "--to", target, "--port", port, *more, cwd=files)


def answer(files, *question):
    done = explain(files, *question, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_names_the_rule_and_its_line(files):
    got = answer(files, "shop/web", "shop/cart-1", "8080/TCP")
    assert got["verdict"] == "allow"
    assert got["ingress"] == {
        "verdict": "allow", "reason": "a rule allows it",
        "policy": {"kind": "NetworkPolicy", "namespace": "shop", "name": "cart",
                   "source": "policies/all.yml:1"},
        "rule": 1, "source": "policies/all.yml:10"}
    assert got["egress"]["policy"]["name"] == "web-out"
    assert got["egress"]["source"] == "policies/all.yml:21"


def test_names_the_policies_that_isolate(files):
    got = answer(files, "shop/web", "shop/cart-2", "8080/TCP")
    assert got["verdict"] == "deny", "cart-2 has no port of that name"
    assert got["egress"]["verdict"] == "allow"
    assert got["ingress"]["verdict"] == "deny"
    assert [p["name"] for p in got["ingress"]["policies"]] == ["cart"]
    assert got["ingress"]["policy"]["name"] == "cart" and got["ingress"]["rule"] is None
    assert got["ingress"]["source"] == "policies/all.yml:1"


@pytest.mark.parametrize("source, target, port, text", [
    ("shop/web", "::ffff:10.0.0.2", "80", "to ::ffff:10.0.0.2: write the IPv4 address as "
                                          "10.0.0.2"),
    ("010.0.0.1", "shop/web", "80", "from 010.0.0.1: not an IP address (four numbers without leading "
                                    "zeros)"),
    ("shop/web", "10.0.0.0/8", "80", "to 10.0.0.0/8: this is a CIDR; give a single address"),
    ("fd00::/64", "shop/web", "80", "from fd00::/64: this is a CIDR; give a single address"),
    ("shop/web", "[fd00::1]:80", "80", "to [fd00::1]:80: not an IP address"),
    ("shop/web", "10.0.0.2:80", "80", "to 10.0.0.2:80: not an IP address"),
    ("shop/web", "10.0.0/8", "80", "to 10.0.0/8: not an IP address (four numbers without leading zeros)"),
    ("service/shop/cart", "shop/web", "80", "from service/shop/cart: a service cannot be the sender; give "
                                            "a pod or an address"),
    ("shop/web", "shop/a b", "80", "to: shop/a b: must be NAMESPACE/NAME"),
    ("shop/web", "shop/cart-1", "80/ICMP", "port 80/ICMP: only TCP, UDP and SCTP have ports"),
    ("shop/web", "shop/cart-1", "80/47", "port 80/47: only TCP, UDP and SCTP have ports"),
    ("shop/web", "shop/cart-1", "80/", "port 80/: must be N/PROTO, as 80/TCP"),
])
def test_questions_that_cannot_be_asked_are_wrong_usage(files, source, target, port, text):
    done = explain(files, source, target, port)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"policy explain: {text}\n")


def test_text_says_the_same(files):
    done = explain(files, "shop/web", "shop/cart-1", "8080")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "allow  shop/web (10.0.0.1) -> shop/cart-1 (10.0.0.2) port 8080/TCP",
        "  egress   allow  a rule allows it: NetworkPolicy shop/web-out, egress rule 0 "
        "(policies/all.yml:21)",
        "  ingress  allow  a rule allows it: NetworkPolicy shop/cart, ingress rule 1 "
        "(policies/all.yml:10)"]


GUARDS = """\
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress:
  - action: Deny
    name: no ssh
    from: [{namespaces: {}}]
    protocols: [{tcp: {destinationPort: {number: 22}}}]
  - action: Pass
    from: [{namespaces: {}}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: floor}
spec:
  tier: Baseline
  priority: 1000
  subject: {namespaces: {}}
  ingress:
  - {action: Deny, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 53}}}]}
"""


def test_rule_of_a_tier_is_named_and_what_passed_it_on(files):
    (files / "policies/guards.yml").write_text(GUARDS)
    got = answer(files, "shop/web", "shop/cart-1", "22/TCP")["ingress"]
    assert got == {
        "verdict": "deny", "reason": "a rule denies it", "rule": 0, "ruleName": "no ssh",
        "policy": {"kind": "ClusterNetworkPolicy", "namespace": "", "name": "guard",
                   "tier": "Admin", "priority": 10, "source": "policies/guards.yml:1"},
        "source": "policies/guards.yml:9"}
    assert explain(files, "shop/cart-1", "shop/web", "53/UDP").stdout.splitlines() == [
        "deny  shop/cart-1 (10.0.0.2) -> shop/web (10.0.0.1) port 53/UDP",
        "  egress   allow  no policy selects this pod in this direction",
        "  ingress  deny   a rule denies it: ClusterNetworkPolicy floor (Baseline tier, priority "
        "1000), ingress rule 0 (policies/guards.yml:24)",
        "                  passed on by ClusterNetworkPolicy guard (Admin tier, priority 10), "
        "ingress rule 1 (policies/guards.yml:13)"]
    got = answer(files, "shop/web", "shop/cart-1", "8080/TCP")["ingress"]
    assert (got["verdict"], got["policy"]["name"]) == ("allow", "cart")
    assert [(one["policy"]["name"], one["rule"]) for one in got["passed"]] == [("guard", 1)]
    got = answer(files, "shop/cart-1", "shop/web", "80/TCP")["ingress"]
    assert (got["verdict"], got["reason"]) == (
        "allow", "no rule decides, and no NetworkPolicy selects this pod")
    assert [one["name"] for one in got["policies"]] == ["guard", "floor"]


@pytest.mark.parametrize("source, target, port, verdict, egress, ingress", [
    ("8.8.8.8", "shop/cart-1", "443/TCP", "allow", "not a pod", "a rule allows it"),
    ("8.8.8.8", "shop/cart-1", "80/TCP", "deny", "not a pod", "isolated"),
    ("shop/web", "8.8.8.8", "80/TCP", "deny", "isolated", "not a pod"),
    ("shop/web", "10.0.0.2", "8080/TCP", "allow", "a rule allows it", "a rule allows it"),
    ("shop/web", "fd00::2", "8080/TCP", "allow", "a rule allows it", "a rule allows it"),
    ("shop/web", "shop/web", "1/UDP", "allow", "reaches itself", "reaches itself"),
    ("192.168.0.1", "shop/cart-1", "1/UDP", "allow", "not a pod", "own pods"),
    ("192.168.0.1", "shop/cart-2", "1/UDP", "deny", "not a pod", "isolated"),
    ("shop/cart-1", "shop/web", "80/TCP", "allow", "no policy selects", "no policy selects"),
])
def test_ends_and_reasons(files, source, target, port, verdict, egress, ingress):
    got = answer(files, source, target, port)
    assert got["verdict"] == verdict
    assert egress in got["egress"]["reason"]
    assert ingress in got["ingress"]["reason"]


@pytest.mark.parametrize("name", ["shop/cart", "service/shop/cart", "10.96.0.1"])
def test_service_is_answered_for_each_backend_by_its_own_port(files, name):
    got = answer(files, "shop/web", name, "80/TCP")
    assert [(b["to"]["name"], b["port"], b["verdict"]) for b in got["backends"]] == [
        ("cart-1", 8080, "allow"), ("cart-2", 8080, "deny")]
    assert got["verdict"] == "deny", "a request in two is refused"
    assert got["ingress"]["verdict"] == "deny"


def test_pod_and_service_of_one_name(files):
    with open(files / "pods.yaml", "a") as more:
        more.write("---\n{apiVersion: v1, kind: Pod, metadata: {name: cart, namespace: shop}, "
                   "status: {podIP: 10.0.0.7}}\n")
    done = explain(files, "shop/web", "shop/cart", "80", "-o", "json")
    assert json.loads(done.stdout)["to"]["address"] == "10.0.0.7"
    assert "is a pod and a service" in done.stderr
    done = explain(files, "shop/web", "service/shop/cart", "80", "-o", "json")
    assert len(json.loads(done.stdout)["backends"]) == 2 and not done.stderr
    done = explain(files, "pod/shop/web", "pod/shop/cart", "80", "-o", "json")
    assert json.loads(done.stdout)["to"]["name"] == "cart" and not done.stderr


@pytest.mark.parametrize("port, reason", [
    ("82/TCP", "Service shop/cart has no port 82/TCP: refused"),
    ("81/TCP", "Service shop/cart has no ready backend for port 81/TCP: refused"),
])
def test_a_service_with_nobody_behind_it_denies(files, port, reason):
    done = explain(files, "shop/web", "shop/cart", port)
    assert (done.returncode, done.stdout) == (0, f"deny  {reason}\n")
    side = {"verdict": "deny", "reason": reason}
    assert json.loads(explain(files, "shop/web", "shop/cart", port, "-o", "json").stdout) == {
        "verdict": "deny", "port": int(port[:2]), "protocol": "TCP", "egress": side,
        "ingress": side, "backends": []}


@pytest.mark.parametrize("source, target, port, status, text", [
    ("shop/none", "shop/web", "80", 1, "from shop/none: there is no such pod"),
    ("shop/web", "shop/none", "80", 1, "to shop/none: there is no such pod"),
    ("shop/web", "service/shop/web", "80", 1, "to service/shop/web: there is no such service"),
    ("shop/job", "shop/web", "80", 1, "the pod has terminated"),
    ("shop/web", "shop/cart-1", "0/TCP", 2, "port 0/TCP: must be N/PROTO"),
    ("shop/web", "shop/cart-1", "80/XTP", 2, "port 80/XTP: must be N/PROTO"),
    ("a/b/c", "shop/cart-1", "80", 2, "from: a/b/c: must be NAMESPACE/NAME"),
])
def test_questions_that_have_no_answer(files, source, target, port, status, text):
    done = explain(files, source, target, port)
    assert done.returncode == status
    assert done.stdout == "" and text in done.stderr and done.stderr.startswith("policy explain: ")


def test_bad_file_is_named_with_its_line(files):
    (files / "policies/bad.yaml").write_text(POLICIES.replace("port: 443", "port: 70000"))
    done = explain(files, "shop/web", "shop/cart-1", "80")
    assert done.returncode == 1
    assert "policies/bad.yaml:9:20: NetworkPolicy shop/cart: spec.ingress[0].ports[0].port: " \
           "70000 is not a port" in done.stderr


def test_kinds_that_are_not_read_are_passed_over(files):
    (files / "policies/deploy.yaml").write_text(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {what: ever}\n")
    assert answer(files, "shop/web", "shop/cart-1", "8080")["verdict"] == "allow"


def test_objects_from_standard_input():
    done = tendril("policy", "explain", "-f", "-", "--from", "shop/web", "--to", "shop/cart-1",
                   "--port", "80", "-o", "json", text=WORLD + "---\n" + POLICIES)
    assert json.loads(done.stdout)["ingress"]["policies"][0]["source"].startswith("stdin:")


def test_asks_an_agent_when_no_file_is_given(tmp_path):
    objects = [pod("web", "shop", "10.0.0.77", {"app": "old"}),
               policy("p", "shop", podSelector={"matchLabels": {"app": "bare"}},
                      ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "old"}}}]}])]
    endpoints = [
        {"slot": 1, "namespace": "shop", "name": "web", "addresses": ["10.0.0.1"], "labels": {}},
        {"slot": 2, "namespace": "shop", "name": "bare", "addresses": ["10.0.0.2", "fd00::2"],
         "labels": {"app": "bare"}}]
    answers = {
        "GET /v1/objects": [{"kind": "NetworkPolicy", "namespace": "shop", "name": "p",
                             "source": "/etc/tendril/objects/p.json"}],
        "GET /v1/objects?full=1": {"kind": "List", "apiVersion": "v1", "items": objects},
        "GET /v1/endpoints": endpoints,
        "GET /v1/status": {"nodeAddresses": ["10.0.0.254"]}}
    ask = ("policy", "explain", "--socket", tmp_path / "s", "-o", "json", "--port", "80")
    with Agent(tmp_path / "s", answers):
        got = json.loads(tendril(*ask, "--from", "shop/web", "--to", "shop/bare").stdout)
        assert got["verdict"] == "allow" and got["from"]["address"] == "10.0.0.1"
        assert got["ingress"]["source"] == "/etc/tendril/objects/p.json"
        got = json.loads(tendril(*ask, "--from", "10.0.0.77", "--to", "shop/bare").stdout)
        assert got["verdict"] == "deny", "the endpoint's address counts, not the object's"
        got = json.loads(tendril(*ask, "--from", "10.0.0.254", "--to", "shop/bare").stdout)
        assert got["ingress"]["reason"] == "a node always reaches its own pods"


def test_service_with_documents_of_one_kind_only(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(document("Namespace", "shop")))
    done = tendril("policy", "explain", "-f", tmp_path / "x.json", "--from", "1.1.1.1", "--to",
                   "2.2.2.2", "--port", "53/UDP", "-o", "json")
    assert json.loads(done.stdout)["verdict"] == "allow"


# ---- how a user of kubectl asks ----

FILES = ["-f", "pods.yaml", "-f", "service.json", "-f", "policies"]


def test_the_ends_may_be_operands(files):
    done = tendril("policy", "explain", "shop/web", "shop/cart-1", "--port", "8080", *FILES, cwd=files)
    assert (done.returncode, done.stdout) == (0, explain(files, "shop/web", "shop/cart-1", "8080").stdout)
    done = tendril("policy", "explain", "shop/web", "--to", "shop/cart-1", "--port", "8080", *FILES, cwd=files)
    assert done.stdout == explain(files, "shop/web", "shop/cart-1", "8080").stdout


def test_names_without_a_namespace_are_in_the_one_given(files):
    done = tendril("policy", "explain", "web", "cart-1", "-n", "shop", "--port", "8080", *FILES, cwd=files)
    assert done.stdout == explain(files, "shop/web", "shop/cart-1", "8080").stdout


@pytest.mark.parametrize("target, name, number", [
    ("shop/cart-1", "http", "8080"), ("shop/cart-1", "http/TCP", "8080"), ("10.0.0.2", "http", "8080"),
    ("shop/cart", "x", "81"), ("10.96.0.1", "x", "81")])
def test_ports_by_the_name_that_a_service_or_a_pod_gives_them(files, target, name, number):
    assert answer(files, "shop/web", target, name) == answer(files, "shop/web", target, number)


@pytest.mark.parametrize("target, name, status, text", [
    ("shop/cart-2", "http", 1, "port http: shop/cart-2 has no port of this name"),
    ("shop/cart-1", "http/UDP", 1, "port http/UDP: shop/cart-1 has no port of this name"),
    ("shop/cart", "nope", 1, "port nope: shop/cart has no port of this name"),
    ("203.0.113.9", "http", 1, "port http: 203.0.113.9 has no port of this name"),
    ("shop/cart-1", "http/ICMP", 2, "port http/ICMP: must be a number or a name"),
    ("shop/cart-1", "-x", 2, "port -x: must be a number or a name"),
    ("shop/cart-1", "8080x", 2, "port 8080x: must be N/PROTO")])
def test_ports_without_such_a_name(files, target, name, status, text):
    done = explain(files, "shop/web", target, name)
    assert (done.returncode, done.stdout) == (status, "") and text in done.stderr


def test_the_address_of_a_pod_that_is_being_deleted_belongs_to_the_next(tmp_path):
    old = pod("old", "depot", "10.250.0.7", {"role": "other"})
    old["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z"
    guard = policy("guard", "depot", podSelector={"matchLabels": {"role": "store"}}, ingress=[
        {"from": [{"podSelector": {"matchLabels": {"role": "client"}}}]}])
    objects = [old, pod("new", "depot", "10.250.0.7", {"role": "client"}),
               pod("store", "depot", "10.250.0.8", {"role": "store"}), guard]
    for order in objects, objects[::-1]:
        (tmp_path / "all.json").write_text("\n".join(map(json.dumps, order)))
        for source, verdict in ("depot/new", "allow"), ("10.250.0.7", "allow"), ("depot/old", "deny"):
            done = tendril("policy", "explain", "--from", source, "--to", "depot/store", "--port", 80,
                           "-f", "all.json", "-o", "json", cwd=tmp_path)
            assert json.loads(done.stdout)["verdict"] == verdict, done.stderr


def test_an_address_in_a_pod_cidr_that_no_pod_has_is_refused_as_any_pod(tmp_path):
    file = tmp_path / "world.yaml"
    file.write_text(WORLD + """\
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.7.0.0/24}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: far}}}]}]
""")
    reasons = []
    for source in ("10.7.0.9", "10.7.1.9"):
        done = tendril("policy", "explain", "-f", file, "--from", source, "--to", "shop/web",
                       "--port", "80/TCP", "-o", "json")
        reasons.append(json.loads(done.stdout)["ingress"]["reason"])
    assert "may deny it" in reasons[0] and "no Pod object claims it yet" in reasons[0]
    assert reasons[1].startswith("no rule decides")
