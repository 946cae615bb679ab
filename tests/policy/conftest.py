# SPDX-License-Identifier: Apache-2.0
"""Chromium is not among the packages that tests install: what needs it is left out where it is missing,
and that is said."""

import browser

collect_ignore = [] if browser.PROGRAM else ["test_matrix_page.py", "test_observe_page.py"]


def pytest_report_header(config):
    return None if browser.PROGRAM else f"left out: {', '.join(collect_ignore)}, for there is no chromium"
