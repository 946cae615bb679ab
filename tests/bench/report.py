# SPDX-License-Identifier: Apache-2.0
"""What a run says: tables while it goes, JSON lines, and at the end RESULTS.md (results.py).

build/bench/results.jsonl has one line for each figure, variant, family and n, with these keys and no
others: workload, variant, family (4, 6, or 0 where it means nothing), n, unit, median, min, max,
rounds. build/bench/run.json keeps the ratios as well, so that runs can be put together (--append).
"""

import datetime
import json
import os
import pathlib
import platform
import time

import results
from lab import CPU
from results import family_name
from rounds import STABLE, settled

HERE = pathlib.Path(__file__).resolve().parent
KEYS = ("workload", "variant", "family", "n", "unit", "median", "min", "max", "rounds")
BUSY = 0.1    # share of the CPUs that others may use, before we begin and while we run
STOLEN = 0.02  # share that the hypervisor may keep while we measure


class CpuTimes:
    """Shares of the CPUs' time from now on."""

    def __init__(self):
        self.began, self.ours = self.now(), self.own()

    @staticmethod
    def now():
        return list(map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))

    @staticmethod
    def own():
        """What this process and its children that have ended used, in ticks."""
        return sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")

    def shares(self):
        """(used by others, stolen) since then."""
        user, nice, system, idle, iowait, irq, softirq, steal = (
            now - then for now, then in zip(self.now(), self.began))
        busy = user + nice + system + irq + softirq
        total = max(1, busy + idle + iowait + steal)
        return max(0, busy - (self.own() - self.ours)) / total, steal / total


def machine():
    models = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text()
              .splitlines() if line.startswith("model name")]
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {"cpu": f"{len(models)} x {models[0] if models else platform.machine()}",
            "kernel": platform.release(), "tcp": congestion,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}


class Report:
    """The rows of this run and, with append, of earlier ones that this one does not replace."""

    def __init__(self, folder, append=False):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.rows, self.missing, self.runs = [], [], {}
        if append and (folder / "run.json").exists():
            kept = json.loads((folder / "run.json").read_text())
            self.rows, self.missing, self.runs = kept["rows"], kept["missing"], kept["runs"]
        self.run = dict(machine(), noise=[])
        self.runs[self.run["date"]] = self.run
        before = CpuTimes()
        time.sleep(0.3)  # the window that is looked at, not a wait
        busy, _ = before.shares()
        print(f"Linux {self.run['kernel']}, {self.run['cpu']}, both ends on CPU {CPU}, "
              f"{busy:.0%} busy before the run", flush=True)
        if busy > BUSY:
            self.run["noise"].append(f"others used {busy:.0%} of the CPUs when it began")
        self.times, self.began = CpuTimes(), time.monotonic()

    # ---- while it runs ----

    def add(self, workload, rows):
        """What one workload measured for one n and family."""
        def key(row):
            return row["workload"], row["variant"], row["family"], row["n"]
        measured = {key(row) for row in rows}
        variants = {(row["variant"], row["n"]) for row in rows}
        self.rows = [row for row in self.rows if key(row) not in measured]
        self.rows += [dict(row, run=self.run["date"]) for row in rows]
        self.missing = [m for m in self.missing
                        if m["workload"] != workload.name or (m["variant"], m["n"]) not in variants]
        for figure in workload.figures:
            mine = [row for row in rows if row["workload"] == figure]
            if mine:
                self.print_table(workload, mine)
        self.save()

    def not_run(self, workload, variant, n, why):
        self.rows = [row for row in self.rows if row["workload"] not in workload.figures
                     or (row["variant"], row["n"]) != (variant, n)]
        self.missing = [m for m in self.missing
                        if (m["workload"], m["variant"], m["n"]) != (workload.name, variant, n)]
        self.missing.append({"workload": workload.name, "variant": variant, "n": n, "why": why})
        print(f"\n{workload.name}, {variant}, n = {n}: not run: {why}", flush=True)

    @staticmethod
    def print_table(workload, rows):
        first = rows[0]
        what = [first["workload"], family_name(first["family"]),
                f"{first['n']} {workload.count_means}".strip() if workload.counts != (1,) else ""]
        means = "median, min to max"
        if "ratio" in first:
            means += f"; ratio to {workload.reference}, +- its error"
        print(f"\n{', '.join(filter(None, what))}, {first['unit']} ({first['rounds']} samples: "
              f"{means})")
        for row in rows:
            line = f"  {row['variant']:18}{row['median']:11.2f}  {row['min']:9.2f} to " \
                   f"{row['max']:9.2f}"
            if "ratio" in row:
                line += f"   {row['ratio']['median']:.3f}"
                if row["ratio"]["error"] is not None:
                    line += f" +- {row['ratio']['error']:.1%}"
                line += "" if settled(row) else "  unstable"
            print(line, flush=True)

    def save(self):
        runs = {row["run"] for row in self.rows} | {self.run["date"]}
        self.runs = {date: run for date, run in self.runs.items() if date in runs}
        with open(self.folder / "results.jsonl", "w") as out:
            for row in self.rows:
                print(json.dumps({key: row[key] for key in KEYS}), file=out)
        (self.folder / "run.json").write_text(json.dumps(
            {"rows": self.rows, "missing": self.missing, "runs": self.runs}))

    # ---- at the end ----

    def unstable(self):
        return [row for row in self.rows if not settled(row)]

    def close(self, workloads, write_results):
        """Says how quiet the machine was; writes RESULTS.md and the charts.

        By now everything that was started has ended, or its time would count as the others'."""
        others, stolen = self.times.shares()
        print(f"\nothers and the kernel's own work: {others:.0%} of the CPUs' time, "
              f"the hypervisor: {stolen:.0%}")
        if others > BUSY:
            self.run["noise"].append(f"others used {others:.0%} of the CPUs while it ran")
        if stolen > STOLEN:
            self.run["noise"].append(f"the hypervisor kept {stolen:.0%} of the CPUs' time")
        for text in self.run["noise"]:
            print(f"\nnoisy machine: {text}")
        unstable = self.unstable()
        if unstable:
            print(f"\n{len(unstable)} ratios did not settle within {STABLE:.0%}: "
                  f"{', '.join(sorted({row['workload'] for row in unstable}))}")
        self.save()
        folder = HERE if write_results else self.folder
        results.write(folder, self, workloads)
        print(f"\n{time.monotonic() - self.began:.0f} s; written: {self.folder}/results.jsonl, {folder}/RESULTS.md")
