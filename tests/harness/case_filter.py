# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: T=PATTERN chooses cases as it does for cmocka, by their whole name, where * is
any text and ? any character.  Without its [parameters], a name is all of its cases."""

import os
import re

import pytest


def matches(name, pattern):
    """Whether one of the names of a case, "test_it[4]" and "test_it", is what the pattern says."""
    wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return any(each == pattern or re.fullmatch(wild, each) for each in (name, name.partition("[")[0]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    pattern = os.environ.get("T", "")
    if not pattern:
        return
    chosen = [item for item in items if matches(item.name, pattern)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
