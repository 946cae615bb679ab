# SPDX-License-Identifier: Apache-2.0
"""containerd's own client with Tendril as its CNI network: "ctr run --cni".

    node netns: tendrild, containerd, ctr          container "web"      container "client"
      tendril0   tdlN ========================== eth0           tdlM == eth0

ctr reads /etc/cni/net.d and /opt/cni/bin and cannot be told otherwise, so it runs in a mount
namespace of its own where these are the test's.
"""

import json
import os
import pathlib
import signal
import subprocess

import pytest

import image
import tendril

IMAGE = "localhost/tendril-busybox:1"
CONFLIST = tendril.ROOT / "deploy" / "10-tendril.conflist"
HTTPD = "echo {} > /www/index.html && exec httpd -f -p 80 -h /www"

CONFIG = """
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{dir}/c.sock"
[ttrpc]
address = "{dir}/t.sock"
"""

CTR = """
set -e
mount -t tmpfs none /opt
mkdir -p /opt/upper /opt/work /opt/cni/bin
mount --bind "$1/bin" /opt/cni/bin
mount -t overlay -o lowerdir=/etc,upperdir=/opt/upper,workdir=/opt/work none /etc
mkdir -p /etc/cni/net.d
mount --bind "$1/net.d" /etc/cni/net.d
export CONTAINERD_ADDRESS=$1/c.sock
shift
exec ctr "$@"
"""


class Containerd:
    def __init__(self, node):
        self.node = node
        self.dir = pathlib.Path(node.dir) / "ctd"
        self.running = {}
        for folder in ("bin", "net.d"):
            (self.dir / folder).mkdir(parents=True)
        (self.dir / "bin" / "tendril").symlink_to(tendril.BUILD / "tendril-cni")
        (self.dir / "bin" / "portmap").symlink_to("/usr/lib/cni/portmap")
        conflist = json.loads(CONFLIST.read_text())
        conflist["plugins"][0]["socket"] = str(node.socket)
        (self.dir / "net.d" / CONFLIST.name).write_text(json.dumps(conflist))
        (self.dir / "config.toml").write_text(CONFIG.replace("{dir}", str(self.dir)))
        self.log = open(self.dir / "log", "wb")
        self.daemon = subprocess.Popen(
            node.netns.enter("containerd", "-c", self.dir / "config.toml"), stdout=self.log,
            stderr=self.log)
        tendril.wait_for(lambda: self.ctr("version", check=False).returncode == 0, "containerd")
        image.image_write(self.dir / "image.tar", IMAGE)
        self.ctr("images", "import", self.dir / "image.tar")

    def argv(self, *argv):
        return self.node.netns.enter("unshare", "-m", "--propagation", "private", "sh", "-c", CTR,
                                     "ctr", self.dir, *argv)

    def ctr(self, *argv, check=True):
        done = subprocess.run(self.argv(*argv), text=True, capture_output=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"ctr {argv}: {done.stderr}\n{self.node.log()[-4000:]}")
        return done

    def start(self, name, *command):
        """Runs a container in the foreground of a background ctr, which also does its DEL."""
        process = subprocess.Popen(self.argv("run", "--cni", "--rm", IMAGE, name, *command),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.running[name] = process

        def up():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended: {process.stdout.read()}\n{self.node.log()}")
            return "RUNNING" in self.ctr("tasks", "ls", check=False).stdout.partition(
                name + " ")[2].partition("\n")[0]

        tendril.wait_for(up, f"container {name} to run", timeout=15)
        return self.addresses(name)

    def addresses(self, name):
        # ctr names no pod, so the name is the container's, which it prefixes with its namespace.
        return self.node.api("GET", f"/v1/endpoints/default/default-{name}"[:35])["addresses"]

    def serve(self, name):
        addresses = self.start(name, "sh", "-c", HTTPD.format(name))
        tendril.wait_for(lambda: self.fetch(name, "127.0.0.1") == name, f"{name} to serve")
        return addresses

    def execute(self, name, *argv):
        return self.ctr("tasks", "exec", "--exec-id", f"x{next(tendril.COUNTER)}", name, *argv,
                        check=False)

    def fetch(self, name, address, seconds=10):
        host = f"[{address}]" if ":" in address else address
        return self.execute(name, "timeout", str(seconds), "wget", "-qO-", f"http://{host}/").stdout.strip()

    def stop(self, name):
        self.ctr("tasks", "kill", "-s", "KILL", name, check=False)
        process = self.running.pop(name)
        process.wait(20)
        process.stdout.close()

    def close(self):
        for name in list(self.running):
            self.stop(name)
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(20)
        self.log.close()


@pytest.fixture(scope="module")
def shared_containerd(shared_node):
    made = Containerd(shared_node)
    yield made
    made.close()


@pytest.fixture
def containerd(shared_containerd):
    yield shared_containerd
    for name in list(shared_containerd.running):
        shared_containerd.stop(name)


def test_containers_reach_each_other_by_both_families(containerd):
    addresses = containerd.serve("web")
    assert [":" in a for a in addresses] == [False, True]
    containerd.start("cli", "sleep", "1000")
    for address in addresses:
        assert containerd.fetch("cli", address) == "web"
        assert containerd.execute("cli", "ping", "-c", "1", "-W", "10", address).returncode == 0


def test_policy_selects_containers_by_label(containerd):
    node = containerd.node
    node.put(tendril.pod_object("default-web", labels={"app": "web"}),
             tendril.pod_object("default-fri", labels={"app": "friend"}),
             tendril.policy_object("web", "default", {"matchLabels": {"app": "web"}},
                                   policyTypes=["Ingress"],
                                   ingress=[{"from": [{"podSelector": {
                                       "matchLabels": {"app": "friend"}}}]}]))
    addresses = containerd.serve("web")
    containerd.start("fri", "sleep", "1000")
    containerd.start("str", "sleep", "1000")
    for address in addresses:
        assert containerd.fetch("fri", address) == "web"
        assert containerd.fetch("str", address, seconds=1) == ""


def test_end_of_a_container_removes_everything(containerd):
    node = containerd.node
    containerd.start("one", "sleep", "1000")
    containerd.stop("one")
    tendril.wait_for(lambda: node.api("GET", "/v1/endpoints") == [], "no endpoint")
    tendril.wait_for(lambda: "veth" not in node.netns.ip("-d", "link").stdout, "no interface")
    assert not os.listdir(node.run_dir / "deleted")
