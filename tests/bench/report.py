# SPDX-License-Identifier: Apache-2.0
"""What a run says: tables while it goes, JSON lines, and RESULTS.md with its charts.

build/bench/results.jsonl has one line for each figure, variant, family and n, with these keys and no
others: workload, variant, family (4, 6, or 0 where it means nothing), n, unit, median, min, max,
rounds. build/bench/run.json keeps the ratios as well, so that runs can be put together (--append).
"""

import datetime
import json
import pathlib
import platform
import time

import tendril
from lab import CPU
from rounds import STABLE

FOLDER = tendril.BUILD / "bench"
KEYS = ("workload", "variant", "family", "n", "unit", "median", "min", "max", "rounds")
BUSY = 0.1    # share of the CPUs that others may use before we begin
STOLEN = 0.02  # share that the hypervisor may keep while we measure


class CpuTimes:
    """Shares of the CPUs' time from now on."""

    def __init__(self):
        self.began = self.now()

    @staticmethod
    def now():
        return list(map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))

    def shares(self):
        """(busy, stolen) since then."""
        user, nice, system, idle, iowait, irq, softirq, steal = (
            now - then for now, then in zip(self.now(), self.began))
        busy = user + nice + system + irq + softirq
        total = max(1, busy + idle + iowait + steal)
        return busy / total, steal / total


def machine():
    models = [line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text()
              .splitlines() if line.startswith("model name")]
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {"cpu": f"{len(models)} x {models[0] if models else platform.machine()}",
            "kernel": platform.release(), "tcp": congestion,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}


def family_name(family):
    return {4: "IPv4", 6: "IPv6"}.get(family, "")


def number(value):
    """Four digits, and no more than anybody can use."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f}" if abs(value) >= 1 else f"{value:.3f}"


class Report:
    def __init__(self, append=False):
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.rows, self.missing = [], []
        self.machine = machine()
        self.noise = []
        if append and (FOLDER / "run.json").exists():
            kept = json.loads((FOLDER / "run.json").read_text())
            self.rows, self.missing, self.noise = kept["rows"], kept["missing"], kept["noise"]
        before = CpuTimes()
        time.sleep(0.3)  # the window that is looked at, not a wait
        busy, _ = before.shares()
        print(f"Linux {self.machine['kernel']}, {self.machine['cpu']}, both ends on CPU {CPU}, "
              f"{busy:.0%} busy before the run", flush=True)
        if busy > BUSY:
            self.noise.append(f"others used {busy:.0%} of the CPUs when a run began")
        self.times = CpuTimes()

    # ---- while it runs ----

    @staticmethod
    def key(row):
        return row["workload"], row["variant"], row["family"], row["n"]

    def add(self, workload, rows):
        measured = {self.key(row) for row in rows}
        self.rows = [row for row in self.rows if self.key(row) not in measured] + rows
        self.missing = [m for m in self.missing if not any(
            m["workload"] == workload.name and m["variant"] == row["variant"]
            and m["n"] == row["n"] for row in rows)]
        for figure in workload.figures:
            mine = [row for row in rows if row["workload"] == figure]
            if mine:
                self.print_table(workload, mine)
        self.save()

    def not_run(self, workload, variant, n, why):
        self.missing = [m for m in self.missing
                        if (m["workload"], m["variant"], m["n"]) != (workload.name, variant, n)]
        self.missing.append({"workload": workload.name, "variant": variant, "n": n, "why": why})
        print(f"\n{workload.name}, {variant}, n = {n}: not run: {why}", flush=True)

    @staticmethod
    def print_table(workload, rows):
        first = rows[0]
        what = [first["workload"], family_name(first["family"]),
                f"{first['n']} {workload.count_means}".strip() if workload.counts != (1,) else ""]
        print(f"\n{', '.join(filter(None, what))}, {first['unit']} ({first['rounds']} samples: "
              f"median, min to max"
              + (f"; ratio to {workload.reference}, +- its error)" if "ratio" in first else ")"))
        for row in rows:
            line = f"  {row['variant']:18}{row['median']:11.2f}  {row['min']:9.2f} to " \
                   f"{row['max']:9.2f}"
            if "ratio" in row:
                ratio = row["ratio"]
                line += f"   {ratio['median']:.3f} +- {ratio['error']:.3f}"
                line += "  unstable" if ratio["error"] > STABLE else ""
            print(line, flush=True)

    def save(self):
        with open(FOLDER / "results.jsonl", "w") as out:
            for row in self.rows:
                print(json.dumps({key: row[key] for key in KEYS}), file=out)
        (FOLDER / "run.json").write_text(json.dumps(
            {"rows": self.rows, "missing": self.missing, "noise": self.noise,
             "machine": self.machine}))

    # ---- at the end ----

    def close(self):
        """Says how quiet the machine was."""
        _, stolen = self.times.shares()
        if stolen > STOLEN:
            self.noise.append(f"the hypervisor kept {stolen:.0%} of the CPUs' time")
        unstable = [row for row in self.rows if row.get("ratio", {}).get("error", 0) > STABLE]
        for text in self.noise:
            print(f"\nnoisy machine: {text}")
        if unstable:
            print(f"\n{len(unstable)} of {len(self.rows)} ratios did not settle within "
                  f"{STABLE:.0%}: {', '.join(sorted({row['workload'] for row in unstable}))}")
        self.save()
        print(f"\nwritten to {(FOLDER / 'results.jsonl').relative_to(tendril.ROOT)}")
