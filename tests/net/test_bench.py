# SPDX-License-Identifier: Apache-2.0
"""The benchmark's frame: what it writes, and that nothing of it is left behind."""

import json
import os
import pathlib
import signal
import subprocess
import uuid

import pytest

from tendril import BPFFS, ROOT, cgroup2_root, wait_for

KEYS = {"workload", "variant", "family", "n", "unit", "median", "min", "max", "rounds"}
BENCH = ROOT / "tests/bench/bench"


class Run:
    """One run of the benchmark, known by a word in its environment that all it starts inherit."""

    def __init__(self, folder, *options):
        self.word = f"TENDRIL_BENCH_TEST={uuid.uuid4()}"
        name, value = self.word.split("=")
        self.folder, self.err = folder, folder / "stderr"
        folder.mkdir(exist_ok=True)
        with open(self.err, "w") as err:
            self.process = subprocess.Popen(
                [BENCH, "--folder", folder, *options], stdout=subprocess.DEVNULL, stderr=err,
                env={**os.environ, name: value, "ROUNDS": "", "ONLY": "", "VARIANTS": ""})

    def processes(self):
        """Those of the run that live."""
        found = []
        for proc in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if self.word.encode() in (proc / "environ").read_bytes():
                    found.append((proc / "cmdline").read_bytes().split(b"\0"))
            except OSError:
                pass
        return found

    def left(self):
        """What the run made and did not take down."""
        names = [f"tdb{self.process.pid}", f"tdl{self.process.pid}n"]
        places = [pathlib.Path("/run/netns"), BPFFS, cgroup2_root(), pathlib.Path("/tmp")]
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        return ([str(path) for place in places for path in place.glob("td*")
                 if any(path.name.startswith(name) for name in names)]
                + [line for line in mounts if any(name in line for name in names)]
                + self.processes())

    def end(self, timeout=30):
        return self.process.wait(timeout)


@pytest.fixture
def run(tmp_path):
    made = []

    def start(*options):
        made.append(Run(tmp_path / f"bench{len(made)}", *options))
        return made[-1]
    yield start
    for each in made:
        each.process.terminate()
        each.process.wait(30)


def test_lines_and_tables(run):
    done = run("--only", "connect", "--variants", "routed,tendril-policy", "--rounds", "1")
    assert done.end() == 0, done.err.read_text()
    rows = [json.loads(line) for line in (done.folder / "results.jsonl").read_text().splitlines()]
    assert {(r["workload"], r["variant"], r["family"]) for r in rows} == {
        ("connect", v, f) for v in ("routed", "tendril-policy") for f in (4, 6)}
    for row in rows:
        assert set(row) == KEYS
        assert (row["unit"], row["n"], row["rounds"]) == ("us", 1, 1)
        assert 0 < row["min"] <= row["median"] <= row["max"]
    results = (done.folder / "RESULTS.md").read_text()
    assert "| tendril-policy |" in results and "TCP connect" in results
    assert done.left() == []


def test_what_the_statistics_alone_take(run):
    done = run("--only", "ebpf", "--variants", "empty", "--rounds", "1")
    assert done.end() == 0, done.err.read_text()
    rows = [json.loads(line) for line in (done.folder / "results.jsonl").read_text().splitlines()]
    assert {(r["workload"], r["variant"], r["family"]) for r in rows} == {
        (f"ebpf_{what}", "empty", f) for what in ("established", "opening", "connect")
        for f in (4, 6)}
    assert all(r["median"] > 0 for r in rows)
    assert done.left() == []


def test_policy_at_size(run):
    done = run("--only", "policy_compile,policy_change,policy_matrix", "--counts", "1000",
               "--rounds", "1")
    assert done.end() == 0, done.err.read_text()
    rows = [json.loads(line) for line in (done.folder / "results.jsonl").read_text().splitlines()]
    units = {r["workload"]: (r["unit"], r["n"]) for r in rows}
    assert units["policy_compile"] == units["policy_matrix"] == ("ms", 1000)
    assert units["policy_compile_memory"] == ("MiB", 1000)
    assert {u for u in units if u.startswith("policy_change_")} == {
        f"policy_change_{what}" for what in ("pod_label", "namespace_label", "pod", "policy",
                                             "policies")}
    assert all(r["median"] > 0 for r in rows)
    assert done.left() == []


def test_packets_of_clients_outside(run):
    done = run("--only", "nodeport_packet,maglev", "--rounds", "1")
    assert done.end() == 0, done.err.read_text()
    rows = [json.loads(line) for line in (done.folder / "results.jsonl").read_text().splitlines()]
    medians = {(r["workload"], r["variant"], r["family"]): r["median"] for r in rows}
    assert {(v, f) for w, v, f in medians if w == "nodeport_packet"} == {
        (v, f) for v in ("tc", "xdp") for f in (4, 6)}
    assert all(median > 0 for median in medians.values())
    assert medians["maglev_moved", "tendril", 0] < 5
    assert done.left() == []


def test_no_connection_is_lost_while_backends_restart(run):
    """A thousand backends, 50 at a time, under all the connections that one core can make."""
    done = run("--only", "rolling_restart", "--rounds", "1")
    assert done.end(timeout=180) == 0, done.err.read_text()
    rows = [json.loads(line) for line in (done.folder / "results.jsonl").read_text().splitlines()]
    medians = {(r["workload"], r["family"]): r["median"] for r in rows}
    assert {f for w, f in medians if w == "rolling_lost"} == {4, 6}
    assert all(medians["rolling_lost", f] == 0 and medians["rolling_rate", f] > 0 for f in (4, 6))
    assert done.left() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_an_interruption(run, signum):
    stopped = run("--only", "rr", "--variants", "lo,tendril", "--rounds", "100000")
    wait_for(lambda: any(cmdline[0].endswith(b"netbench") and b"rr" in cmdline
                         for cmdline in stopped.processes()), "a round", 20)
    stopped.process.send_signal(signum)
    assert stopped.end() == 128 + signum
    assert stopped.left() == []


def test_what_cannot_be_measured_is_said(run):
    done = run("--only", "no_such_thing")
    assert done.end() == 1
    assert "no such workload: no_such_thing" in done.err.read_text()
