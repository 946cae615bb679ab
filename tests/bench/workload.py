# SPDX-License-Identifier: Apache-2.0
"""What a workload is, and the list of them.

To add one: a class in a file workloads_*.py, which is found by its name.

    from workload import Workload, workload

    @workload
    class RoundTrip(Workload):
        name = "rr"                           # what ONLY= selects; so does the name of a figure
        figures = {"rr": "us"}                # workload and unit of the lines it reports
        title = "TCP round trip of 64 bytes"  # for people

        def setup(self, lab, variant, n):     # once for each variant and n, before the rounds
            return lab.pair(variant)

        def measure(self, target, family, n): # once a round: what setup() returned, 4 or 6, n
            return target.netbench("rr", family, 20000)

measure() returns a number where there is one figure, else {figure: number or list of numbers}; a
list is several samples of one round, whose median makes the ratio. `lab` (lab.py) makes
namespaces, nodes, processes and the variants' pairs; what it made is taken down when the rounds are
over, whatever happened, in reverse order. Other clean-up: lab.callback(function, argument...).
setup() raises NotRun("why") where a variant cannot be measured: the report then says so.

What else a class may set, with its default, is in Workload below. Every variant is measured in
every round, in rotated order; rounds.py adds rounds until the ratio to `reference` is stable.
"""

import os

SECTIONS = ("Traffic", "Services and policies", "Control plane")
WORKLOADS = []

TRAFFIC = ("lo", "veth", "routed", "bridge", "tendril", "tendril-policy", "tendril-perpacket",
           "tendril-noflows", "tendril-accel",
           *(("before", "before-policy") if "BEFORE" in os.environ else ()))


class NotRun(Exception):
    """A variant cannot be measured here; the text says why."""


class Workload:
    """One thing to measure.  n is what the class says it is: flows, services, policies, pods."""

    name = ""
    title = ""
    figures = {}
    section = SECTIONS[0]
    variants = TRAFFIC
    families = (4, 6)        # (0,) where the family means nothing
    counts = (1,)            # values of n
    quick_counts = None      # those that "make bench" takes; None: all; (): only "make bench-full"
    count_means = ""         # "flows", "pods"...: what n counts, for people
    reference = "routed"     # ratios are to this variant; None: no ratios
    more_is_better = ()      # those of the figures
    rounds = 7               # at least
    rounds_limit = 21        # at most, where the ratio will not settle
    warm_up = True           # the first round is not counted

    def setup(self, lab, variant, n):
        raise NotImplementedError

    def measure(self, target, family, n):
        raise NotImplementedError

    def selected_by(self, names):
        return self.name in names or any(figure in names for figure in self.figures)


class OfAgent(Workload):
    """Something of the agent: nothing to compare it with, and no address family."""

    section = "Control plane"
    variants, families, reference = ("tendril",), (0,), None


class Exchanges(Workload):
    """NAME_rr and NAME_crr between two ends: on one connection, and with a connection each."""

    def measure(self, target, family, n):
        return {f"{self.name}_rr": target.netbench("rr", family, 10000),
                f"{self.name}_crr": target.netbench("crr", family, 2000)}


def workload(kind):
    """Puts a class of workload on the list."""
    WORKLOADS.append(kind())
    WORKLOADS.sort(key=lambda each: SECTIONS.index(each.section))
    return kind
