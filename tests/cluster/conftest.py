# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes: two nodes with kubelets, Tendril on both, no kube-proxy.  The cluster's programs are
not part of this tree; where they are not there, its tests are left out and say so."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

import tendril  # noqa: E402

wait_for = functools.partial(tendril.wait_for, timeout=60)
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
SCRIPTS = pathlib.Path(os.environ.get("KUBERNETES", ROOT.parent / "shared/k8s")) / "cluster"

collect_ignore_glob = [] if SCRIPTS.exists() else ["test_*.py"]


def pytest_report_header(config):
    if collect_ignore_glob:
        return f"left out: {SCRIPTS} is not there (KUBERNETES names another place)"
    return None


class Cluster:
    nodes = 2

    def __init__(self, folder):
        self.folder = folder
        self.env = dict(os.environ, NODES=str(self.nodes), KUBE_PROXY="0", BUILD=str(BUILD),
                        KUBE_API="https://172.31.77.11:6444", AGENT=f"exec {ROOT}/tests/cluster/agent",
                        K8S_WORK=str(folder / "k8s"), READY_TIMEOUT="120", TMPDIR="/tmp")
        for number in range(1, self.nodes + 1):
            plugins = folder / f"n{number}/bin"
            plugins.mkdir(parents=True)
            (folder / f"n{number}/conf").mkdir()
            shutil.copy(BUILD / "tendril-cni", plugins / "tendril")
            for name in ("portmap", "loopback"):
                shutil.copy(f"/usr/lib/cni/{name}", plugins / name)
        done = subprocess.run([SCRIPTS / "start.sh", folder / "n%N/conf", folder / "n%N/bin"],
                              env=self.env, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode:
            logs = "\n".join(self.log(number, "agent")[-3000:] for number in (1, 2))
            self.stop()
            raise AssertionError(f"the cluster did not start:\n{done.stdout}\n{logs}")

    def stop(self):
        """A node's processes end with its PID 1, but not at once."""
        wait_for(lambda: subprocess.run([SCRIPTS / "stop.sh"], env=self.env, check=False,
                                        capture_output=True).returncode == 0,
                 "the cluster to stop")

    def run(self, node, *argv, check=True, text=None):
        return subprocess.run([SCRIPTS / "node-sh.sh", str(node), *map(str, argv)], env=self.env,
                              text=True, input=text, capture_output=True, check=check)

    def log(self, node, name):
        path = self.folder / f"k8s/run/n{node}/{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kubectl(self, *argv, check=True, text=None):
        done = self.run(1, "kubectl", *argv, check=False, text=text)
        assert not check or done.returncode == 0, f"kubectl {argv}: {done.stderr}"
        return done.stdout

    def apply(self, *objects):
        self.kubectl("apply", "-f", "-", text=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def delete(self, *names):
        self.kubectl("delete", "--ignore-not-found", "--wait=true", *names)

    def pods(self, app):
        return json.loads(self.kubectl("get", "pod", "-l", f"app={app}", "-o", "json"))["items"]

    def status(self, node):
        """Of the agent; without anything while it is away."""
        return json.loads(self.run(node, BUILD / "tendril", "status", "-o", "json",
                                   check=False).stdout or '{"warnings": []}')

    def pid(self, node, name):
        """Of a process of the node, in the machine's own PID namespace; None while it is away."""
        inner = self.run(node, "cat", f"/run/tendril/{name}.pid").stdout.strip()
        init = (self.folder / f"k8s/run/n{node}/init").read_text().strip()
        namespace = os.readlink(f"/proc/{init}/ns/pid")
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(path / "ns/pid") != namespace:
                    continue
                ids = [line.split() for line in (path / "status").read_text().splitlines()
                       if line.startswith("NSpid:")][0]
            except OSError:
                continue  # it has ended, or is none of ours
            if ids[-1] == inner:
                return int(path.name)
        return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()
