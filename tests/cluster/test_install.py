# SPDX-License-Identifier: Apache-2.0
"""Tendril as its manifest installs it: privileges, upgrades, what a node is left with."""

import json
import pathlib
import sys

import pytest

from conftest import OVERLAY, ROOT, wait_for
from test_cluster import CLIENTS, Traffic, answer, failed, web  # noqa: F401: a fixture

PROGRAMS = ("tendrild", "tendril-kube", "tendril-http")
AGENT_CAPS = {11, 12, 19, 21, 38, 39}  # NET_BROADCAST, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON, BPF
CONFLIST = "/run/cni/net.d/10-tendril.conflist"


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def capabilities(field):
    return {bit for bit in range(64) if int(field, 16) >> bit & 1}


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_process_has_the_privileges_it_needs_and_no_more(web, program):
    for node in (1, 2):
        status = status_of(web.pid(node, program))
        kept = AGENT_CAPS if program == "tendrild" else set()
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert capabilities(status[field]) == kept, (program, field)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_who_reads_from_a_network_sees_its_own_socket_alone(web):
    for program, folder in (("tendril-kube", "kube"), ("tendril-http", "http")):
        root = pathlib.Path(f"/proc/{web.pid(1, program)}/root")
        seen = [path.relative_to(root) for path in (root / "run/tendril").rglob("*")]
        assert sorted(map(str, seen)) == [f"run/tendril/{folder}", f"run/tendril/{folder}/{folder}.sock"]


def test_an_upgrade_costs_no_request(web):
    """Node after node, under traffic; the conflist stays in place all the time."""
    address = json.loads(web.kubectl("get", "service", "web", "-o", "json"))["spec"]["clusterIP"]
    traffic = [Traffic(web, pod, f"http://{address}/hostname") for pod in CLIENTS]
    before = {(node, name): web.pid(node, name) for node in (1, 2) for name in PROGRAMS}
    conflists = [web.run(node, "stat", "-c", "%i %y", CONFLIST).stdout for node in (1, 2)]
    web.kubectl("-n", "kube-system", "rollout", "restart", "ds/tendril")
    web.kubectl("-n", "kube-system", "rollout", "status", "ds/tendril", "--timeout=120s")
    for one in traffic:
        results = one.stop()
        assert len(results) > 50 and failed(results) == []
    for (node, name), pid in before.items():
        assert web.pid(node, name) not in (pid, None)
    assert conflists == [web.run(node, "stat", "-c", "%i %y", CONFLIST).stdout for node in (1, 2)]
    assert all(answer(web, pod) for pod in CLIENTS)


# ---- rights at the API server ----

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
RIGHTS = {("", "pods"): {"get", "list", "watch"}, ("", "nodes/status"): {"patch"},
          ("", "events"): {"create"},
          **{key: {"list", "watch"} for key in (
              ("", "namespaces"), ("", "nodes"), ("", "services"),
              ("discovery.k8s.io", "endpointslices"), ("networking.k8s.io", "networkpolicies"),
              ("policy.networking.k8s.io", "clusternetworkpolicies"))}}
# What Kubernetes lets every account do, to ask about itself.
EVERYBODY = {("authorization.k8s.io", "selfsubjectaccessreviews"): {"create"},
             ("authorization.k8s.io", "selfsubjectrulesreviews"): {"create"}}

# Asks on one connection, as kubectl would not.
REVIEW = """
import http.client, json, os, re, ssl, sys
config = open(os.environ["KUBECONFIG"]).read()
context = ssl.create_default_context(cafile=re.search("certificate-authority: ([^ }]+)", config)[1])
server = http.client.HTTPSConnection("172.31.77.11", 6443, context=context)
headers = {"Authorization": "Bearer " + re.search("token: ([0-9a-f]+)", config)[1],
           "Content-Type": "application/json"}
answers = []
for review in json.load(sys.stdin):
    server.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", json.dumps(review),
                   headers)
    answers.append(json.load(server.getresponse())["status"]["allowed"])
print(json.dumps(answers))
"""


def resources(cluster):
    """Each (group, resource) that the server has, subresources too."""
    found = {("policy.networking.k8s.io", "clusternetworkpolicies")}  # with the CRD
    groups = json.loads(cluster.kubectl("get", "--raw", "/apis"))["groups"]
    paths = [("", "/api/v1")] + [(group["name"], f"/apis/{version['groupVersion']}")
                                 for group in groups for version in group["versions"]]
    for group, path in paths:
        listed = json.loads(cluster.kubectl("get", "--raw", path))["resources"]
        found |= {(group, one["name"]) for one in listed}
    return sorted(found)


def test_each_verb_that_is_not_needed_is_refused(cluster):
    account = {"user": "system:serviceaccount:kube-system:tendril",
               "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system",
                          "system:authenticated"]}
    questions = [(group, *resource.partition("/")[::2], verb)
                 for group, resource in resources(cluster) for verb in VERBS]
    reviews = [{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": dict(account, resourceAttributes={
                    "group": group, "resource": resource, "subresource": part, "verb": verb})}
               for group, resource, part, verb in questions]
    answers = json.loads(cluster.run(1, sys.executable, "-c", REVIEW, text=json.dumps(reviews)).stdout)
    assert len(answers) == len(questions) > 500
    allowed = {}
    for (group, resource, part, verb), answer in zip(questions, answers):
        if answer:
            name = f"{resource}/{part}" if part else resource
            allowed.setdefault((group, name), set()).add(verb)
    assert allowed == {**RIGHTS, **EVERYBODY}


# ---- the end ----

def left_on(cluster, node):
    found = cluster.run(node, "find", "/run/tendril", "/sys/fs/bpf/tendril", "/run/cni/bin/tendril",
                        CONFLIST, "-maxdepth", "0", check=False).stdout.split()
    links = json.loads(cluster.run(node, "ip", "-j", "link").stdout)
    return found + [link["ifname"] for link in links
                    if link["ifname"].startswith(("tendril", "tdl"))]


def test_uninstalling_leaves_nothing_and_a_new_installation_works(cluster):
    cluster.delete("deploy/web", *(f"pod/{name}" for name in CLIENTS))
    cluster.kubectl("-n", "kube-system", "scale", "deploy/dns", "--replicas=0")
    cluster.kubectl("-n", "kube-system", "delete", "pod", "-l", "k8s-app=kube-dns", "--grace-period=1")
    wait_for(lambda: not json.loads(cluster.kubectl("get", "pod", "-o", "json"))["items"],
             "the pods to go")
    assert "/run/tendril" in left_on(cluster, 1) and "tendril0" in left_on(cluster, 1)
    cluster.kubectl("delete", "-k", OVERLAY, "--wait=true")
    for node in (1, 2):  # the agent is gone, and what it wired is not
        assert CONFLIST in left_on(cluster, node) and "tendril0" in left_on(cluster, node)
    cluster.kubectl("apply", "-k", ROOT / "tests/cluster/uninstall")
    cluster.kubectl("-n", "kube-system", "rollout", "status", "ds/tendril-cleanup",
                    "--timeout=120s")
    assert (left_on(cluster, 1), left_on(cluster, 2)) == ([], [])
    cluster.kubectl("delete", "-k", ROOT / "tests/cluster/uninstall", "--wait=true")
    cluster.install()
    assert all(cluster.status(node)["kubernetes"]["state"] == "synced" for node in (1, 2))
