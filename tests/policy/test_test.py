# SPDX-License-Identifier: Apache-2.0
"""`tendril policy test`: files of expected verdicts, and their reports."""

import json
import os
import resource
import subprocess
import xml.etree.ElementTree

import pytest

from cli import BUILD, pod, policy, tendril

OBJECTS = [
    pod("web", "shop", "10.0.0.1 fd00::1", {"app": "web"}),
    pod("cart", "shop", "10.0.0.2 fd00::2", {"app": "cart"}),
    policy("cart", "shop", podSelector={"matchLabels": {"app": "cart"}},
           ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                     "ports": [{"port": 8080}]}]),
]
GOOD = """\
tests:
- name: the cart's door
  from: shop/web
  to: [shop/cart, "fd00::2"]
  port: [8080, 8080/TCP]
  expect: allow
- {from: [10.9.9.9, shop/web], to: shop/cart, port: [22, 53/UDP], expect: deny}
"""
BAD = """\
tests:
- {from: shop/web, to: shop/cart, port: 22, expect: allow}
- {name: "<&\\"#", from: shop/gone, to: shop/cart, port: 8080, expect: deny}
- {from: shop/web, to: shop/cart, port: 8080, expect: allow}
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "all.json").write_text("\n".join(map(json.dumps, OBJECTS)))

    def run(text, *words):
        (tmp_path / "tests.yaml").write_text(text)
        return tendril("policy", "test", "tests.yaml", "-f", "all.json", *words, cwd=tmp_path)
    return run


def test_expectations_that_hold(run):
    done = run(GOOD)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0] == "ok    the cart's door: shop/web -> shop/cart 8080/TCP: allow"
    assert len(lines) == 9 and lines[-1] == "8 passed, 0 failed"


def test_expectations_that_fail_say_why(run):
    done = run(BAD)
    assert done.returncode == 1
    assert done.stdout == """\
FAIL  shop/web -> shop/cart 22/TCP: deny
     tests.yaml:2: expected allow
     egress allow: no policy selects this pod in this direction
     ingress deny: isolated, and no rule allows it: NetworkPolicy shop/cart (all.json:3)
FAIL  <&"#: shop/gone -> shop/cart 8080/TCP: no verdict
     tests.yaml:3: expected deny
     from shop/gone: there is no such pod
ok    shop/web -> shop/cart 8080/TCP: allow
1 passed, 2 failed
"""


def test_tap(run):
    lines = run(BAD, "-o", "tap").stdout.splitlines()
    assert lines[:3] == ["TAP version 13", "1..3", "not ok 1 - shop/web -> shop/cart 22/TCP"]
    assert "  got: 'deny'" in lines and "  at: 'tests.yaml:2'" in lines
    assert 'not ok 2 - <&"\\#: shop/gone -> shop/cart 8080/TCP' in lines
    assert lines[-1] == "ok 3 - shop/web -> shop/cart 8080/TCP"


def test_junit(run, tmp_path):
    done = run(BAD, "--junit", "report.xml")
    assert done.returncode == 1 and done.stdout.startswith("FAIL")
    text = (tmp_path / "report.xml").read_text()
    assert run(BAD, "-o", "junit").stdout == text
    suite = xml.etree.ElementTree.fromstring(text)[0]
    assert suite.attrib == {"name": "tendril policy test", "tests": "3", "failures": "1",
                            "errors": "1", "skipped": "0"}
    failed, wrong, good = suite
    assert failed[0].tag == "failure" and failed[0].attrib["message"] == "expected allow, got deny"
    assert "NetworkPolicy shop/cart (all.json:3)" in failed[0].text
    assert wrong[0].tag == "error" and wrong.attrib["name"].startswith('<&"#: ')
    assert len(good) == 0 and good.attrib["line"] == "4"


def test_json(run):
    answer = json.loads(run(BAD, "-o", "json").stdout)
    assert (answer["passed"], answer["failed"]) == (1, 2)
    first, second, third = answer["tests"]
    assert first["explanation"]["ingress"]["policy"]["name"] == "cart"
    assert (first["expected"], first["passed"], first["line"]) == ("allow", False, 2)
    assert second["error"] == "from shop/gone: there is no such pod"
    assert third["passed"] and third["explanation"]["verdict"] == "allow"


@pytest.mark.parametrize("text, problems", [
    ("tests: []", ["1:8: tests: an empty list"]),
    ("- a", ['1:1: an object with a list "tests" is needed']),
    ("test: []", ['1:1: test: unknown field (did you mean "tests"?)', "1:1: tests: missing"]),
    ("tests:\n- {from: a, to: [], prot: 3, expect: maybe}\n- 3\n",
     ['2:21: tests[0].prot: unknown field (did you mean "port"?)',
      "2:17: tests[0].to: an empty list", "2:3: tests[0].port: missing",
      '2:38: tests[0].expect: "maybe" is not a verdict (allow or deny)',
      "3:3: tests[1]: an object with from, to, port and expect is needed"]),
    ("tests:\n- {from: a, from: b, to: c, port: 70000, expect: deny}",
     ["2:13: tests[0].from: the same key twice", "2:35: tests[0].port: 70000 is not a port (1 to 65535)"]),
    ('{"tests": [{"from": "", "to": true, "port": null, "expect": null}]}',
     ["1:21: tests[0].from: must not be empty",
      "1:31: tests[0].to: a boolean, where a string is needed (put it in quotes)",
      "1:45: tests[0].port: missing", "1:61: tests[0].expect: missing"]),
    ("tests: [", ["2:1: not valid YAML"]),
    ("tests: [{from: a/b, to: [null], port: [80, null], expect: deny}]",
     ["1:26: tests[0].to[0]: missing", "1:44: tests[0].port[1]: missing"]),
    ("tests:\n---\n{}", ["1:7: tests: missing", "3:1: one document is needed, here is another"]),
])
def test_files_that_are_wrong(run, text, problems):
    done = run(text)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == ""
    assert lines[-1] == (f"policy test: {len(problems)} error{'s' * (len(problems) > 1)}, "
                         "nothing was tested")
    for line, problem in zip(lines, problems, strict=False):
        assert line.startswith(f"policy test: tests.yaml:{problem}"), lines


def test_several_files(run, tmp_path):
    (tmp_path / "more.yaml").write_text(BAD)
    done = run(GOOD, "more.yaml")
    assert done.returncode == 1 and done.stdout.endswith("9 passed, 2 failed\n")
    assert "more.yaml:2: expected allow" in done.stdout
    assert run(GOOD, "gone.yaml").returncode == 2


def test_a_deny_is_asked_in_every_family_and_of_every_backend(tmp_path):
    """What one family or one backend lets through is not denied, and not allowed either."""
    def slices(*backends):
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "doors", "namespace": "shop",
                             "labels": {"kubernetes.io/service-name": "doors"}},
                "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": [b]} for b in backends]}
    objects = [
        pod("web", "shop", "10.0.0.1 fd00::1"), pod("cart", "shop", "10.0.0.2 fd00::2"),
        pod("open", "shop", "10.0.0.3"), pod("six", "shop", "fd00::9"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "doors", "namespace": "shop"},
         "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}},
        slices("10.0.0.2", "10.0.0.3"),
        dict(policy("cart", "shop", podSelector={"matchExpressions": [
            {"key": "name", "operator": "In", "values": ["cart"]}]},
            ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/64"}}]}])),
    ]
    objects[1]["metadata"]["labels"] = {"name": "cart"}
    (tmp_path / "all.json").write_text("\n".join(map(json.dumps, objects)))

    def verdicts(target, expect, source="shop/web"):
        (tmp_path / "t.yaml").write_text(
            f"tests: [{{from: {source}, to: {target}, port: 80, expect: {expect}}}]")
        return tendril("policy", "test", "t.yaml", "-f", "all.json", cwd=tmp_path)
    for target in ("shop/cart", "service/shop/doors"):
        for expect in ("allow", "deny"):
            assert verdicts(target, expect).returncode == 1, (target, expect)
    assert verdicts("10.0.0.2", "deny").returncode == 0
    assert verdicts("fd00::2", "allow").returncode == 0
    for source, target in (("shop/open", "shop/six"), ("8.8.8.8", "fd00::2")):
        assert verdicts(target, "deny", source).returncode == 0
        assert "no address family in common" in verdicts(target, "allow", source).stdout
    both = tendril("policy", "explain", "--from", "shop/web", "--to", "shop/cart", "--port", "80",
                   "-f", "all.json", "-o", "json", cwd=tmp_path)
    answer = json.loads(both.stdout)
    assert answer["verdict"] == "deny" and answer["to"]["address"] == "10.0.0.2"
    assert [(f["to"]["address"], f["verdict"]) for f in answer["families"]] == [
        ("10.0.0.2", "deny"), ("fd00::2", "allow")]


def test_ports_by_name(tmp_path):
    named = pod("door", "shop", "10.0.0.9", {}, spec={"containers": [
        {"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]})
    (tmp_path / "all.json").write_text("\n".join(map(json.dumps, [*OBJECTS, named])))
    (tmp_path / "t.yaml").write_text("tests: [{from: shop/web, to: shop/door, port: http, expect: allow},"
                                     " {from: shop/web, to: shop/door, port: none, expect: deny}]")
    done = tendril("policy", "test", "t.yaml", "-f", "all.json", cwd=tmp_path)
    assert done.returncode == 1
    assert "ok    shop/web -> shop/door http" in done.stdout
    assert "port none: shop/door has no port of this name" in done.stdout


def test_many_questions_read_a_large_file_once(tmp_path):
    """500 verdicts of 300 rules in 2 MB take less than a second: lines are looked up in one pass."""
    documents = [f"# {'x' * 5000}\n" + json.dumps(policy(
        f"p{i}", "shop", podSelector={"matchLabels": {"app": f"a{i}"}}, policyTypes=["Egress", "Ingress"],
        egress=[{"to": [{"podSelector": {}}]}], ingress=[{"ports": [{"port": 80}]}]))
        for i in range(300)]
    pods = [pod(f"a{i}", "shop", f"10.1.{i // 100}.{i % 100 + 1}", {"app": f"a{i}"})
            for i in range(300)]
    (tmp_path / "policies.yaml").write_text("\n---\n".join(documents))
    (tmp_path / "pods.json").write_text("\n".join(map(json.dumps, pods)))
    (tmp_path / "tests.json").write_text(json.dumps({"tests": [
        {"from": f"shop/a{i % 300}", "to": f"shop/a{(i + 1) % 300}", "port": 80, "expect": "allow"}
        for i in range(500)]}))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = tendril("policy", "test", "tests.json", "-f", "pods.json", "-f", "policies.yaml",
                   "-o", "json", cwd=tmp_path)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    tests = json.loads(done.stdout)["tests"]
    assert done.returncode == 0 and len(tests) == 500
    for i in 0, 7, 299:
        assert tests[i]["explanation"]["egress"]["source"] == f"policies.yaml:{3 * i + 2}"
    assert seconds < 1


def work(*argv, cwd):
    """CPU seconds of the program, which other processes do not change as they do the clock's."""
    child = subprocess.Popen([BUILD / "tendril", *argv], cwd=cwd, stdout=subprocess.PIPE, text=True)
    with child.stdout:
        out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return out, child.returncode, usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("expect, status", [("deny", 0), ("allow", 1)])
def test_many_questions_over_a_large_file_read_it_once(tmp_path, expect, status):
    """A CRD of 1.7 MB stands before the policy.  The lines of rules are looked up once for the file, not
    once for each question: 500 questions then cost little more than one."""
    fields = "".join(f"    field{i}:\n      description: a long text about field {i}, of which there are many\n"
                     "      type: string\n" for i in range(16000))
    (tmp_path / "big.yaml").write_text(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        f"metadata: {{name: gadgets.example.org}}\nspec:\n  schema:\n{fields}---\n"
        + json.dumps(policy("store", "depot", podSelector={}, ingress=[{"ports": [{"port": 80}]}])))
    (tmp_path / "pods.json").write_text("\n".join(json.dumps(pod(name, "depot", address)) for name, address in
                                                  (("till", "10.0.0.1"), ("store", "10.0.0.2"))))
    seconds = {}
    for count in (1, 500):
        (tmp_path / "tests.json").write_text(json.dumps({"tests": [
            {"from": "depot/till", "to": "depot/store", "expect": expect,
             "port": [f"{port}/UDP" for port in range(7001, 7001 + count)]}]}))
        out, got, seconds[count] = work("policy", "test", "tests.json", "-f", "pods.json", "-f", "big.yaml",
                                        cwd=tmp_path)
        assert got == status and out.count("/UDP") >= count
        assert status == 0 or out.count("NetworkPolicy depot/store (big.yaml:48007)") == count
    assert seconds[500] < 3 * seconds[1] + 0.05
