# SPDX-License-Identifier: Apache-2.0
"""What developers use: the runner of tests, the check of includes, what make says."""

import ast
import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load(path):
    """A script of the tree as a module."""
    loader = importlib.machinery.SourceFileLoader(path.replace("/", "_"), str(ROOT / path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


# ---- tests/run ----

CASES = """
import pytest

@pytest.mark.parametrize("what", ["the veth address", "a[0] * 2"])
def test_of_two(what):
    assert what == "the veth address"

def test_of_one():
    pass
"""


def run_pytest(tmp_path, monkeypatch, pattern):
    """How many of the cases above T=pattern runs."""
    (tmp_path / "test_it.py").write_text(CASES)
    monkeypatch.setenv("T", pattern)
    return str(load("tests/run").run_pytest(tmp_path, "policy"))


@pytest.mark.parametrize("pattern, counts", [
    ("", "2 passed, 1 failed, 0 skipped"),
    ("*of_*", "2 passed, 1 failed, 0 skipped"),
    ("*one*", "1 passed, 0 failed, 0 skipped"),
    ("test_of_on?", "1 passed, 0 failed, 0 skipped"),
    ("test_of", "0 passed, 0 failed, 0 skipped"),
    ("test_of_two", "1 passed, 1 failed, 0 skipped"),
    ("test_of_two[the veth address]", "1 passed, 0 failed, 0 skipped"),
    ("*veth address*", "1 passed, 0 failed, 0 skipped"),
    ("test_of_two[[]*", "0 passed, 0 failed, 0 skipped"),
])
def test_one_syntax_chooses_cases_in_pytest_too(tmp_path, monkeypatch, pattern, counts):
    assert run_pytest(tmp_path, monkeypatch, pattern) == counts


def test_a_failure_says_how_to_run_just_that_case(tmp_path, monkeypatch, capfd):
    run_pytest(tmp_path, monkeypatch, "")
    told = re.findall(r"^run it alone: make check-policy T=(.*)$", capfd.readouterr().out, re.MULTILINE)
    assert told == ["'test_of_two[a[0] * 2]'"]
    name, = shlex.split(told[0])
    assert run_pytest(tmp_path, monkeypatch, name) == "0 passed, 1 failed, 0 skipped"


CMOCKA = """#!/bin/sh
echo "[ RUN      ] test_bad"
echo "[  FAILED  ] test_bad"
echo "[ RUN      ] test_good"
echo "[       OK ] test_good"
echo "[  PASSED  ] 1 test(s)."
echo "[  FAILED  ] 1 test(s), listed below:"
echo "[  FAILED  ] test_bad"
exit 1
"""
DYING = """#!/bin/sh
echo "[ RUN      ] test_good"
echo "[       OK ] test_good"
echo "[ RUN      ] test_deadly"
kill -SEGV $$
"""


@pytest.mark.parametrize("script, case", [(CMOCKA, "test_bad"), (DYING, "test_deadly")])
def test_a_failure_in_c_says_how_to_run_just_that_case(tmp_path, capsys, script, case):
    program = tmp_path / "test_it"
    program.write_text(script)
    program.chmod(0o755)
    assert load("tests/run").run_cmocka(program, "unit").failed == 1
    assert re.findall("run it alone: (.*)", capsys.readouterr().out) == [
        f"make check-unit T={case}"]


# ---- make lint ----

@pytest.mark.parametrize("file, text, told", [
    ("lib/x.c", '#include "lib/y.h"\n', None),
    ("lib/x.c", '#include <stdio.h>\n#include "policy/objects/y.h"\n',
     "lib/x.c:2: lib may not include policy/objects/y.h"),
    ("datapath/bpf/x.bpf.h", '#include "lib/y.h"\n', "datapath/bpf may not include lib/y.h"),
    ("datapath/bpf/x.bpf.h", '#include "lib/addr.h"\n', None),
    ("policy/objects/x.c", '#include "policy/compiler/y.h"\n', "may not include"),
    ("cni/x.c", '#include "datapath/abi.h"\n', "may not include"),
    ("lib/x.c", '#include "y.h"\n', "is not a path from the top"),
    ("other/x.c", "", "its folder is not in the table"),
])
def test_includes_point_down(tmp_path, file, text, told):
    module = load("tests/lint/includes")
    for name in ("lib/y.h", "lib/addr.h", "datapath/abi.h", "policy/objects/y.h",
                 "policy/compiler/y.h", file):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text if name == file else "")
    module.ROOT = tmp_path
    problems = list(module.problems_of(file))
    assert [told in problem for problem in problems] == ([True] if told else [])


def test_the_table_of_includes_has_no_circle():
    module = load("tests/lint/includes")
    assert not list(module.problems_of_table())
    module.TABLE = {"lib": "cli", "cli": "lib"}
    assert len(list(module.problems_of_table())) == 1


# ---- make ----

def make(*argv, **env):
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "--no-print-directory", "-C", ROOT, *argv], capture_output=True,
                          text=True, env=dict(kept, **env))


@pytest.mark.parametrize("tool, target", [
    ("CLANG=no-clang", "all"), ("CC=no-cc", "all"), ("BPFTOOL=no-bpftool", "check"),
    ("CLANG=no-clang", "check-fuzz"),
])
def test_a_missing_tool_is_told_in_one_line(tmp_path, tool, target):
    done = make(target, f"B={tmp_path / 'build'}", tool)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and "first run: sudo make deps" in lines[0], done.stderr
    assert tool.partition("=")[2] in lines[0] or target == "check-fuzz"


def test_programs_tell_version_and_abi():
    version = (ROOT / "VERSION").read_text().strip()
    abi = re.search(r"#define ABI_VERSION (\d+)", (ROOT / "datapath/abi.h").read_text())[1]
    for program in ("tendril", "tendrild"):
        done = subprocess.run([ROOT / "build" / program, "--version"], capture_output=True, text=True)
        assert done.stdout == f"{program} {version} (ABI {abi})\n"


def git(folder, *argv, **more):
    return subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *argv],
                          capture_output=True, text=True, **more)


def test_the_archive_is_the_same_bytes_each_time_and_builds(tmp_path):
    archives = []
    for name in ("first", "second"):
        done = make("dist", f"B={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        archives += (tmp_path / name).glob("tendril-*.tar.gz")
    first, second = archives
    assert first.read_bytes() == second.read_bytes()
    subprocess.run(["tar", "xf", first], cwd=tmp_path, check=True)
    folder, = tmp_path.glob("tendril-*/")
    done = make("-C", folder, "build/tendril-cni")
    assert done.returncode == 0, done.stderr
    assert (folder / "build/tendril-cni").exists()


@pytest.mark.parametrize("text, message, told", [
    ("int a;\n", "lib: add a", None),
    ("int  a;\n", "lib: add a", "code should be clang-formatted"),
    ('#include "cli/cli.h"\n', "lib: add a", "lib may not include cli/cli.h"),
    ("int a;\n", "Added a", "area: what changes"),
    ("int a;\n", "lib: add a\nand more", "the second line is not blank"),
], ids=["good", "format", "include", "subject", "second line"])
def test_the_hook_stops_what_lint_would(tmp_path, text, message, told):
    (tmp_path / "tests").mkdir()
    subprocess.run(["cp", "-a", ROOT / "tests/lint", tmp_path / "tests"], check=True)
    subprocess.run(["cp", "-a", ROOT / ".clang-format", tmp_path], check=True)
    for folder in ("lib", "cli"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cli/cli.h").write_text("")
    (tmp_path / "lib/a.c").write_text(text)
    git(tmp_path, "init", "-q", check=True)
    git(tmp_path, "add", "lib", "cli", "tests", ".clang-format", check=True)
    for _ in range(2):
        subprocess.run(["tests/lint/hook", "install"], cwd=tmp_path, check=True, capture_output=True)
    done = git(tmp_path, "commit", "-m", message)
    assert (done.returncode != 0) == bool(told), done.stderr
    assert (told or "") in done.stdout + done.stderr


def test_no_function_of_a_test_takes_the_name_of_another():
    """The later one would be used in place of both."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        names = [node.name for node in ast.parse(path.read_text()).body
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert len(names) == len(set(names)), f"{path}: {max(names, key=names.count)} stands there twice"
