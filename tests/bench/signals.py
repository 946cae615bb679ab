# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and SIGTERM end a run by an exception, so that everything is taken down: but not while
something is being made that nobody could take down yet, and only once."""

import contextlib
import signal
import sys

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
making = 0
arrived = None


def end(signum, _frame):
    global arrived
    if making:
        arrived = signum
        return
    for each in ENDING:  # the clean-up is not to be interrupted
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + signum)


def catch():
    for each in ENDING:
        signal.signal(each, end)


@contextlib.contextmanager
def held():
    """Signals wait until what is made here is in the hands of somebody who takes it down."""
    global making
    making += 1
    try:
        yield
    finally:
        making -= 1
        if arrived and not making:
            end(arrived, None)
