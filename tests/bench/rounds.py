# SPDX-License-Identifier: Apache-2.0
"""Interleaved rounds: every variant in every round, in rotated order, until the ratios are stable.

A ratio is taken inside a round, so what disturbs all variants alike cancels out. Its error is that
of a median: 1.25 standard deviations by the square root of the rounds, with the deviation estimated
from the median distance to the median, which a single disturbed round does not move.
"""

import math
import statistics

from lab import Lab
from workload import NotRun

STABLE = 0.01  # error of a ratio at which no more rounds are needed


def spread(values):
    """The error of the values' median, as a share of it; None where nobody can know."""
    if len(values) < 3 or not any(values):
        return None
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(v - middle) for v in values)
    return 1.25 * deviation / math.sqrt(len(values)) / abs(middle)


def settled(row):
    """Whether a row's ratio, if it has one, is as exact as rounds can make it."""
    return (row.get("ratio", {}).get("error") or 0) <= STABLE


class Series:
    """All samples of one figure of one variant, and its ratio to the reference, round by round."""

    def __init__(self):
        self.samples, self.ratios = [], []

    def row(self, workload, variant, family, n, unit):
        """The line of results.jsonl, and beside it what the tables need."""
        row = {"workload": workload, "variant": variant, "family": family, "n": n, "unit": unit,
               "median": statistics.median(self.samples), "min": min(self.samples),
               "max": max(self.samples), "rounds": len(self.samples)}
        if self.ratios:
            row["ratio"] = {"median": statistics.median(self.ratios), "min": min(self.ratios),
                            "max": max(self.ratios), "error": spread(self.ratios)}
        return row


class Block:
    """The rounds of one workload for one n and one family."""

    def __init__(self, workload, n, family, targets):
        self.workload, self.n, self.family, self.targets = workload, n, family, targets
        self.series = {(figure, variant): Series()
                       for figure in workload.figures for variant in targets}

    def measure(self, variant):
        """One variant once: {figure: [samples]}."""
        got = self.workload.measure(self.targets[variant], self.family, self.n)
        if not isinstance(got, dict):
            got = {next(iter(self.workload.figures)): got}
        return {figure: value if isinstance(value, list) else [value]
                for figure, value in got.items()}

    def round(self, number):
        turn = number % len(self.targets)
        order = [*self.targets][turn:] + [*self.targets][:turn]
        return {variant: self.measure(variant) for variant in order}

    def count(self, values):
        for variant, got in values.items():
            for figure, samples in got.items():
                series = self.series[figure, variant]
                series.samples += samples
                base = values.get(self.workload.reference, {}).get(figure)
                if base and statistics.median(base):
                    series.ratios.append(statistics.median(samples) / statistics.median(base))

    def error(self):
        errors = [spread(s.ratios) for s in self.series.values()]
        return max((error for error in errors if error is not None), default=0.0)

    def run(self, rounds, limit):
        if self.workload.warm_up:
            self.round(0)
        for number in range(1, limit + 1):
            self.count(self.round(number))
            if number >= rounds and self.error() <= STABLE:
                return

    def rows(self):
        return [series.row(figure, variant, self.family, self.n, self.workload.figures[figure])
                for (figure, variant), series in self.series.items() if series.samples]


def rounds_of(workload, choice):
    """How many rounds at least and at most; a number that was asked for is both."""
    if choice.rounds:
        return choice.rounds, choice.rounds
    limit = workload.rounds_limit
    return workload.rounds, limit if choice.full else min(limit, 2 * workload.rounds)


def run(workload, choice, outer, report):
    """Everything one workload has to say."""
    for n in choice.counts(workload):
        with Lab(outer) as lab:
            targets = {}
            for variant in filter(choice.takes_variant, workload.variants):
                try:
                    targets[variant] = workload.setup(lab, variant, n)
                except NotRun as why:
                    report.not_run(workload, variant, n, str(why))
            if not targets:
                continue
            for family in filter(choice.takes_family, workload.families):
                block = Block(workload, n, family, targets)
                block.run(*rounds_of(workload, choice))
                report.add(workload, block.rows())
