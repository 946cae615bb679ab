# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes: two nodes with kubelets, Tendril on both, no kube-proxy.  The cluster's programs are
not part of this tree; where they are not there, its tests are left out and say so."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/harness"))

import image  # noqa: E402
import tendril  # noqa: E402

wait_for = functools.partial(tendril.wait_for, timeout=180)
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
SCRIPTS = pathlib.Path(os.environ.get("KUBERNETES", ROOT.parent / "shared/k8s")) / "cluster"

collect_ignore_glob = [] if SCRIPTS.exists() else ["test_*.py"]


def pytest_report_header(config):
    if collect_ignore_glob:
        return f"left out: {SCRIPTS} is not there (KUBERNETES names another place)"
    return None


OVERLAY = ROOT / "tests/cluster/overlay"
CTR = ("ctr", "-a", "/run/containerd-k8s.sock", "-n", "k8s.io")


class Cluster:
    """Its nodes get Tendril as doc/kubernetes.md says, but that the image comes from no registry."""

    nodes = 3  # to the last come only pods that name it

    def __init__(self, folder):
        self.folder = folder
        self.env = dict(os.environ, NODES=str(self.nodes), KUBE_PROXY="0", DNS="0",
                        FEATURE_GATES="EndpointSliceTerminatingCondition=true",
                        K8S_WORK=str(folder / "k8s"), READY_TIMEOUT="0", TMPDIR="/tmp")
        self.image = folder / "tendril.tar"
        image.make_tendril(ROOT, BUILD, self.image)
        done = subprocess.run([SCRIPTS / "start.sh", "/run/cni/net.d", "/run/cni/bin"],
                              env=self.env, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        try:
            assert done.returncode == 0, f"the cluster did not start:\n{done.stdout}"
            for node in range(1, self.nodes + 1):
                self.prepare(node)
            self.install()
        except BaseException:
            print(self.describe())
            self.stop()
            raise

    def prepare(self, node):
        """What a node has before any pod network: the usual plugins, images."""
        self.run(node, "mkdir", "-p", "/run/cni/bin", "/run/tendril-config")
        for name in ("loopback",):
            self.run(node, "cp", f"/usr/lib/cni/{name}", "/run/cni/bin")
        self.run(node, *CTR, "image", "import", self.image)
        self.write(node, "/run/tendril-config/agent.json", json.dumps({
            "kubernetes": True, "autoDirectNodeRoutes": True, "masquerade": True,
            "cniBinDir": "/host/opt/cni/bin",
            "cniConfDir": "/host/etc/cni/net.d", "podCIDRs": [f"10.244.{node - 1}.0/24"]}))

    def write(self, node, path, text):
        self.run(node, "tee", path, text=text)

    def install(self):
        self.kubectl("apply", "-k", OVERLAY)
        self.kubectl("-n", "kube-system", "rollout", "status", "ds/tendril", "--timeout=180s")
        self.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s")
        self.kubectl("cordon", f"k8sn{self.nodes}")
        self.kubectl("apply", "-f", SCRIPTS / "dns.yaml")
        self.kubectl("-n", "kube-system", "scale", "deploy/dns", "--replicas=1")
        self.kubectl("-n", "kube-system", "rollout", "status", "deploy/dns", "--timeout=180s")

    def describe(self):
        """What helps to find out why Tendril does not come up."""
        select = ("-n", "kube-system", "-l", "app.kubernetes.io/name=tendril")
        pods = self.kubectl("describe", "pod", *select, check=False)
        logs = "".join(f"{name}: " + self.kubectl("logs", *select, "-c", name, "--tail=20",
                                                  check=False)
                       for name in ("mounts", "agent", "client", "http"))
        return f"{pods[-6000:]}\n{logs}"

    def stop(self):
        """A node's processes end with its PID 1, but not at once."""
        wait_for(lambda: subprocess.run([SCRIPTS / "stop.sh"], env=self.env, check=False,
                                        capture_output=True).returncode == 0,
                 "the cluster to stop")

    def run(self, node, *argv, check=True, text=None):
        return subprocess.run([SCRIPTS / "node-sh.sh", str(node), *map(str, argv)], env=self.env,
                              text=True, input=text, capture_output=True, check=check)

    def start(self, node, *argv):
        """A process of the node, which ends with its input."""
        return subprocess.Popen([SCRIPTS / "node-sh.sh", str(node), *map(str, argv)], env=self.env,
                                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def cable(self, node, state):
        """Plugs it in ("up"), or pulls it out of the switch."""
        subprocess.run(["ip", "-n", "k8slan", "link", "set", f"k8sv{node}", state], check=True)

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

    def pid(self, node, program):
        """Of a program in a container of the node, as the machine sees it; None while it is away."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if ((path / "comm").read_text().strip() == program and
                        f"/k8sn{node}/kubepods/" in (path / "cgroup").read_text()):
                    return int(path.name)
            except OSError:
                continue  # it has ended
        return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()
