# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests over a real kernel: a node with its own agent, and pods on it."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import releases  # noqa: E402
import tendril  # noqa: E402

# A source archive has no history to build the previous release from: its cases are left out, and
# that is said.
HISTORY_IS_MISSING = releases.history_is_missing()


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("tests/net need root: they make network namespaces and load eBPF", 2)
    for program in ("tendrild", "tendril", "tendril-cni"):
        if not (tendril.BUILD / program).exists():
            pytest.exit(f"{tendril.BUILD / program} is missing: run make first", 2)


def pytest_report_header(config):
    return f"left out: {HISTORY_IS_MISSING}" if HISTORY_IS_MISSING else None


def pytest_collection_modifyitems(config, items):
    if HISTORY_IS_MISSING:
        out = [item for item in items if "previous" in item.fixturenames]
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture
def node():
    """A fresh node for one test."""
    with tendril.Node() as made:
        yield made


@pytest.fixture(scope="module")
def shared_node():
    """One node for all tests of a module: cheaper, for tests that do not disturb each other."""
    with tendril.Node() as made:
        yield made


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the agent's log with a failure."""
    report = (yield).get_result()
    if report.when == "call" and report.failed:
        for fixture in ("node", "shared_node"):
            made = item.funcargs.get(fixture)
            if made:
                report.sections.append(("agent log", made.log()[-8000:]))
