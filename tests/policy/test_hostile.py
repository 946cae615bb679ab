# SPDX-License-Identifier: Apache-2.0
"""What nobody should write, and somebody does: text that would drive a terminal, odd files."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree

import pytest

from cli import BUILD, Agent, document, pod, policy, tendril

ESCAPE = "\033[2J\r\x7f\u009b31m"
# A control character other than the ends of lines.
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
EVIL = f"evil{ESCAPE}.json"


def guard(name, rule):
    return document("ClusterNetworkPolicy", name, version="policy.networking.k8s.io/v1alpha2",
                    spec={"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
                          "ingress": [{"name": rule, "action": "Accept",
                                       "from": [{"namespaces": {}}]}]})


def annotated(one, **annotations):
    one["metadata"]["annotations"] = annotations
    return one


GOOD = [pod("web", "shop", "10.0.0.1", {"app": "web"}), pod("cart", "shop", "10.0.0.2"),
        guard("guard", "a rule " + ESCAPE),
        annotated(policy("p", "shop", podSelector={"matchLabels": {"app": "cart"}}),
                  **{"tendril.io/lint-ignore": "no" + ESCAPE})]
BAD = [pod("na" + ESCAPE, "na" + ESCAPE, ESCAPE, {"key" + ESCAPE: "value" + ESCAPE}),
       policy("p", "shop", **{"field" + ESCAPE: 1, "podSelector": {}}),
       document("Kind" + ESCAPE, "a", version="v" + ESCAPE)]
TESTS = """\
tests:
- {name: "name %s", from: shop/web, to: shop/cart, port: 80, expect: deny}
- {from: "shop/%s", to: shop/cart, port: "80/%s", expect: deny}
""" % ((r"\e[2J\r\x7F\x9B31m",) * 3)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "good" / EVIL).write_text("\n".join(map(json.dumps, GOOD)))
    (tmp_path / "bad" / EVIL).write_text("\n".join(map(json.dumps, BAD)))
    (tmp_path / "old.json").write_text("\n".join(map(json.dumps, GOOD[:2])))
    (tmp_path / "tests.yaml").write_text(TESTS)
    (tmp_path / "bad.yaml").write_text(r'tests: [{"e\e\x9B": "a\e\x9B", expect: "a\e\x9B"}]')
    return tmp_path


OFFLINE = ["policy validate good", "policy validate bad", "policy lint good", "policy lint bad",
           "policy explain -f good --from shop/web --to shop/cart --port 80",
           f"policy explain -f good --from shop/web --to a/b{ESCAPE} --port 80".replace("\r", ""),
           f"policy explain -f good --from shop/web --to shop/cart --port 80/{ESCAPE}".replace("\r", ""),
           "policy matrix -f good", "policy matrix -f bad", "policy diff old.json good",
           "policy diff old.json bad", "policy test tests.yaml -f good", "policy test bad.yaml -f good",
           "policy test tests.yaml -f good -o tap", "policy test tests.yaml -f good -o junit",
           "policy apply -f bad", f"policy validate none{ESCAPE}".replace("\r", ""),
           f"frob{ESCAPE}".replace("\r", ""), f"status -o {ESCAPE}".replace("\r", "")]


@pytest.mark.parametrize("line", OFFLINE, ids=lambda line: CONTROL.sub("?", line))
def test_no_control_characters_reach_the_terminal(folder, line):
    done = tendril(*line.split(" "), cwd=folder)
    assert done.returncode in (0, 1, 2)
    assert done.stdout + done.stderr
    assert not CONTROL.search(done.stdout + done.stderr)


@pytest.mark.parametrize("line", [line for line in OFFLINE if " -o " not in line])
def test_json_escapes_them(folder, line):
    done = tendril(*line.split(" "), "-o", "json", cwd=folder)
    assert not CONTROL.search(done.stdout.replace("\t", "") + done.stderr)
    if done.stdout:
        json.loads(done.stdout)


def test_what_the_agent_says_is_shown_without_them(tmp_path):
    end = {"address": "10.0.0.1" + ESCAPE, "port": 1, "pod": "a/b" + ESCAPE}
    event = {"time": ESCAPE, "type": "drop", "reason": ESCAPE, "text": ESCAPE, "protocol": ESCAPE,
             "direction": ESCAPE, "source": end, "destination": end}
    status = {"ready": True, "warnings": ["w" + ESCAPE],
              "objects": {"files": [{"state": "bad", "error": "e" + ESCAPE}]}}
    member = dict.fromkeys(("namespace", "pod_name", "name"), "n" + ESCAPE)
    flow = {"time": ESCAPE, "verdict": ESCAPE, "traffic_direction": ESCAPE, "Summary": ESCAPE, "Type": ESCAPE,
            "IP": {"source": ESCAPE, "destination": ESCAPE}, "l4": {ESCAPE: {"destination_port": 1}},
            "source": member, "destination": {}, "destination_service": member, "node_name": ESCAPE,
            "tendril": {"ended": ESCAPE, "reason": ESCAPE}}
    answers = {**{f"GET /v1/flows/recent?last={last}&since=0&follow=0": json.dumps(flow).encode() + b"\n"
                  for last in (0, 20)},
               "GET /v1/objects?full=1": {"kind": "List", "apiVersion": "v1", "items": []},
               "GET /v1/endpoints": [], "GET /v1/status": status, "GET /v1/identities": (500, {"error": "no" + ESCAPE}),
               "GET /v1/events?type=drop,verdict,audit": json.dumps(event).encode() + b"\n"}
    with Agent(tmp_path / "sock", answers) as agent:
        for words in (["status"], ["identity", "list"], ["monitor"], ["monitor", "-o", "json"],
                      ["flows"], ["flows", "-o", "json"], ["flows", "-o", "dict"], ["tcp", "life"], ["tcp", "connect"], ["top"], ["drops"]):
            done = tendril(*words, "--socket", agent.path)
            assert done.stdout + done.stderr
            assert not CONTROL.search(done.stdout + done.stderr), words
        done = tendril("observe", "--html", "o.html", "--socket", agent.path, cwd=tmp_path)
        page = (tmp_path / "o.html").read_text()
        assert done.returncode == 0 and "\x1b" not in page and "\x07" not in page


# ---- files ----

@pytest.mark.parametrize("levels", [130, 1200])
def test_nesting_that_is_too_deep_is_named(tmp_path, levels):
    """Also beyond what the JSON parser takes, and where the path alone fills a line."""
    deep = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"}}
    text = json.dumps(deep)[:-1] + ',\n"spec": ' + levels * '{"a-rather-long-key": ' + "1" + levels * "}"
    (tmp_path / "a.json").write_text(text + "}")
    done = tendril("policy", "validate", "a.json", cwd=tmp_path)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("a.json:2:") and last.endswith("nested deeper than 128"), last


@pytest.mark.parametrize("line, status", [
    ("policy validate d", 1), ("policy validate -f d", 1), ("policy lint d", 2),
    ("policy apply -f d", 1), ("policy apply --dry-run -f d", 2), ("policy delete -f d", 1),
    ("policy matrix -f d", 1), ("policy diff d d", 2), ("policy test tests.yaml -f d", 2),
    ("policy explain --from shop/a --to shop/b --port 80 -f d", 1)])
def test_a_directory_without_object_files_is_no_success(folder, line, status):
    (folder / "d").mkdir()
    (folder / "d" / "notes.txt").write_text("{}")
    (folder / "d" / ".hidden.json").write_text("{}")
    done = tendril(*line.split(), cwd=folder)
    assert done.returncode == status
    assert "d: no .json, .yaml or .yml files in this directory" in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
def test_a_file_without_objects_is_told(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    done = tendril("policy", "validate", "a.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.yaml: ok, 0 objects\n")
    done = tendril("policy", "lint", "a.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 findings\n")
    assert done.stderr == "policy lint: there are no policies in the files\n"
    done = tendril("policy", "matrix", "-f", "a.yaml", cwd=tmp_path)
    assert done.returncode == 1 and "no pods" in done.stderr


def test_many_documents_take_no_more_than_their_bytes(tmp_path):
    """Lines are counted once for a text, not once for a document or a problem."""
    documents = [json.dumps(document("Namespace", f"n{i}")) for i in range(40000)]
    (tmp_path / "a.json").write_text("\n".join(documents))
    done = tendril("policy", "validate", "a.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a.json: ok, 40000 objects\n")
    (tmp_path / "b.json").write_text("\n" + "\n".join(documents[:5000]))
    done = tendril("policy", "validate", "a.json", "b.json", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and len(lines) == 102
    assert lines[100] == "b.json:101:1: Namespace n99: is already in a.json:100"
    assert lines[101] == "b.json: 4900 more errors"


def test_a_long_name_leaves_room_for_what_is_wrong_with_it(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(document("Namespace", 100000 * "a")))
    done = tendril("policy", "validate", "a.json", cwd=tmp_path)
    line, = done.stdout.splitlines()
    assert len(line) < 1000
    assert re.fullmatch(r'a.json:1:\d+: Namespace a+\.\.\.a+: metadata.name: "a+\.\.\.a*" is not a name: '
                        "1 to 63 characters: lower-case letters, digits and '-' inside", line)


def test_standard_input_and_folders_are_named_as_one_would(folder):
    done = tendril("policy", "validate", "-", text="[]")
    assert done.stdout == "stdin:1:1: document 1: a list, where an object is needed\n"
    done = tendril("policy", "lint", "-", text="[]")
    assert done.stderr == "policy lint: stdin:1:1: document 1: a list, where an object is needed\n"
    (folder / "d").mkdir()
    (folder / "d/a.json").write_text(json.dumps(GOOD[0]))
    for name in ("d", "d/"):
        assert tendril("policy", "validate", name, cwd=folder).stdout == "d/a.json: ok, 1 object\n"


def test_a_file_that_is_too_large_is_told_so(tmp_path):
    with open(tmp_path / "a.json", "wb") as large:
        large.truncate((64 << 20) + 1)
    done = tendril("policy", "validate", "a.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "a.json: larger than 64 MiB\n")


def test_a_picture_on_standard_output_is_all_there_is(folder):
    done = tendril("policy", "matrix", "-f", "old.json", "--svg", "-", cwd=folder)
    assert done.returncode == 0
    assert xml.etree.ElementTree.fromstring(done.stdout).tag.endswith("svg")


@pytest.mark.parametrize("words, status", [
    (["--help"], 1), (["policy", "lint", "--help"], 1), (["--version"], 1),
    (["policy", "validate", "old.json"], 1),
    (["policy", "lint", "old.json"], 2), (["policy", "matrix", "-f", "old.json", "--svg", "a.svg"], 1)])
def test_without_a_standard_output_nothing_is_written_elsewhere(folder, words, status):
    done = subprocess.run([BUILD / "tendril", *words], cwd=folder, text=True, timeout=20,
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          preexec_fn=lambda: os.close(1))
    assert done.returncode == status
    assert done.stderr.endswith("standard output cannot be written\n")
    if "a.svg" in words:
        assert (folder / "a.svg").read_text().endswith("</svg>\n")
