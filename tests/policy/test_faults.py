# SPDX-License-Identifier: Apache-2.0
"""Files that went wrong once, read by every offline command of a sanitized tendril.

Small ones of each kind are in tests/policy/faults; more may lie in $FAULTS (../shared/faults).
"""

import os
import pathlib
import re

import pytest

from cli import BUILD, ROOT, tendril

HERE = pathlib.Path(__file__).parent / "faults"
MORE = pathlib.Path(os.environ.get("FAULTS", ROOT.parent / "shared/faults"))
PROGRAM = BUILD / "unit/tendril"
PODS = HERE / "pods.yaml"
FILES = [*sorted(HERE.glob("*.yaml")), *sorted(MORE.glob("*/*.yaml"))]
HOSTILE = re.compile("Sanitizer|runtime error:")

COMMANDS = {
    "validate": ["validate", "{file}"],
    "lint": ["lint", "{file}", "-f", PODS],
    "explain": ["explain", "-f", PODS, "-f", "{file}", "--from", "bakery/counter", "--to", "bakery/oven",
                "--port", "443"],
    "matrix": ["matrix", "-f", PODS, "-f", "{file}"],
    "diff": ["diff", HERE / "chart.yaml", "{file}", "-f", PODS],
    "test": ["test", HERE / "expected.yaml", "-f", PODS, "-f", "{file}"],
}


def run(command, path, **more):
    words = [path if word == "{file}" else word for word in COMMANDS[command]]
    return tendril("policy", *words, program=PROGRAM, **more)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_command_goes_wrong_in_its_memory(path, command):
    done = run(command, path)
    assert done.returncode in (0, 1, 2), done.stderr
    assert not HOSTILE.search(done.stderr), done.stderr


OUTCOMES = [
    # file, status of validate, of test, and what both say where they refuse it, or validate says
    ("chart.yaml", 0, 0, "ok, 1 object"),
    ("chart-with-namespace.yaml", 0, 0, "ok, 2 objects"),
    ("other-kinds.yaml", 0, 0, "ok, 1 object, 1 of other kinds skipped"),
    ("misspelt.yaml", 1, 2, 'did you mean "NetworkPolicy"'),
    ("old-version.yaml", 1, 2, 'write "networking.k8s.io/v1"'),
    ("admin.yaml", 1, 2, "write it as a ClusterNetworkPolicy with tier: Admin"),
    ("cilium.yaml", 1, 2, "write it as a NetworkPolicy"),
    ("address-twice.yaml", 0, 1, "ok, 2 objects"),
    ("service-fields.yaml", 0, 1, "spec.externalIPs: served only where"),
    ("json-then-yaml.yaml", 0, 0, "ok, 2 objects"),
    ("kyaml.yaml", 0, 1, "ok, 1 object"),
    ("merge-key.yaml", 0, 1, "ok, 1 object"),
]


@pytest.mark.parametrize("name, validates, passes, text", OUTCOMES)
def test_what_becomes_of_each(name, validates, passes, text):
    done, asked = run("validate", HERE / name), run("test", HERE / name)
    assert (done.returncode, asked.returncode) == (validates, passes), done.stderr + asked.stderr
    assert text in done.stdout + done.stderr
    assert passes != 2 or text in asked.stderr


def test_an_inventory_and_a_chart_may_hold_the_same_object():
    done = tendril("policy", "test", HERE / "expected.yaml", "-f", HERE / "inventory.yaml", "-f",
                   HERE / "chart-with-namespace.yaml", program=PROGRAM)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_an_address_belongs_to_the_pod_that_stays():
    done = tendril("policy", "explain", "-f", PODS, "-f", HERE / "chart.yaml", "-f",
                   HERE / "address-twice.yaml", "--from", "bakery/comes", "--to", "bakery/oven", "--port",
                   "443", program=PROGRAM)
    assert (done.returncode, done.stdout[:5]) == (0, "allow"), done.stdout + done.stderr


def test_five_hundred_questions_about_a_large_file_take_no_time(tmp_path):
    """The policy stands behind a document of more than a megabyte that is not about the network."""
    filler = "".join(f"    field{i}:\n      description: what field {i} of this kind is for\n"
                     for i in range(20000))
    (tmp_path / "big.yaml").write_text(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x.y}\n"
        f"spec:\n  fields:\n{filler}---\n" + (HERE / "chart.yaml").read_text())
    questions = "".join(f"- {{from: bakery/counter, to: bakery/oven, port: {port}, expect: deny}}\n"
                        for port in range(7001, 7501))
    (tmp_path / "many.yaml").write_text("tests:\n" + questions)
    before = os.times()
    done = tendril("policy", "test", "many.yaml", "-f", PODS, "-f", "big.yaml", cwd=tmp_path)
    after = os.times()
    assert done.returncode == 0 and "500 passed" in done.stdout, done.stderr
    assert after.children_user - before.children_user < 2
