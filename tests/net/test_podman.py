# SPDX-License-Identifier: Apache-2.0
"""podman with Tendril as its CNI network: real containers of a real runtime.

    node netns: tendrild, podman                       container "web"     container "client"
      tendril0   tdlN ============================== eth0          tdlM == eth0

Everything podman keeps is private to the test; images are made here.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import image
import tendril
from tendril import run

IMAGE = "localhost/tendril-busybox:1"
HTTPD = "echo {} > /www/index.html && exec httpd -f -p 80 -h /www"
CONFLIST = tendril.ROOT / "deploy" / "10-tendril.conflist"

# runc, for crun refuses the mixed cgroup hierarchies of some machines; file locks, for the shared
# memory ones are common to all podmans of a machine; limits that root without CAP_SYS_RESOURCE may
# set.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
static_dir = "{dir}/static"
tmp_dir = "{dir}/tmp"
volume_path = "{dir}/volumes"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{dir}/bin", "/usr/lib/cni"]
network_config_dir = "{dir}/net.d"
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "{dir}/root"
runroot = "{dir}/run"
"""


class Podman:
    def __init__(self, node):
        self.node = node
        self.dir = pathlib.Path(node.dir) / "podman"
        for folder in ("bin", "net.d", "tmp"):
            (self.dir / folder).mkdir(parents=True)
        (self.dir / "bin" / "tendril").symlink_to(tendril.BUILD / "tendril-cni")
        conflist = json.loads(CONFLIST.read_text())
        conflist["plugins"][0]["socket"] = str(node.socket)
        (self.dir / "net.d" / CONFLIST.name).write_text(json.dumps(conflist))
        for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
            (self.dir / name).write_text(text.replace("{dir}", str(self.dir)))
        self.env = dict(os.environ, CONTAINERS_CONF=str(self.dir / "containers.conf"),
                        CONTAINERS_STORAGE_CONF=str(self.dir / "storage.conf"))
        image.image_write(self.dir / "image.tar", IMAGE)
        self("load", "-q", "-i", self.dir / "image.tar")

    def __call__(self, *argv, check=True):
        done = subprocess.run(self.node.netns.enter("podman", *argv), env=self.env, text=True,
                              capture_output=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"podman {argv}: {done.stderr}\n{self.node.log()[-4000:]}")
        return done

    def start(self, name, *options, command=("sleep", "1000")):
        """A running container of this name; returns its addresses, IPv4 first."""
        self("run", "-d", "--name", name, "--network", "tendril", *options, IMAGE, *command)
        return self.addresses(name)

    def addresses(self, name):
        return self.node.api("GET", f"/v1/endpoints/default/{name}")["addresses"]

    def serve(self, name, *options):
        addresses = self.start(name, *options, command=("sh", "-c", HTTPD.format(name)))
        tendril.wait_for(lambda: self("exec", name, "wget", "-qO-", "http://127.0.0.1/",
                                      check=False).stdout.strip() == name, f"{name} to serve")
        return addresses

    def fetch(self, name, address, port=80, seconds=10):
        """What container name gets from http://address:port/; empty if nothing in that time."""
        host = f"[{address}]" if ":" in address else address
        return self("exec", name, "timeout", str(seconds), "wget", "-qO-", f"http://{host}:{port}/",
                    check=False).stdout.strip()

    def close(self):
        self("rm", "-fa", "-t", "0", check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_podman(shared_node):
    made = Podman(shared_node)
    yield made
    made.close()


@pytest.fixture
def podman(shared_podman):
    yield shared_podman
    shared_podman("rm", "-fa", "-t", "0")
    for each in shared_podman.node.api("GET", "/v1/objects"):
        shared_podman.node.api("DELETE", "/v1/objects/{kind}/{namespace}/{name}".format(**each))


def test_containers_reach_each_other_by_both_families(podman):
    addresses = podman.serve("web")
    assert [":" in a for a in addresses] == [False, True]
    podman.start("client", "--cap-add", "NET_RAW")
    for address in addresses:
        assert podman.fetch("client", address) == "web"
        podman("exec", "client", "ping", "-c", "1", "-W", "10", address)


def test_network_is_listed(podman):
    assert "tendril" in podman("network", "ls").stdout


def test_published_port_is_reached(podman):
    podman.serve("web", "-p", "18080:80")
    podman.start("client")
    links = json.loads(podman.node.netns.ip("-j", "addr", "show", "tendril0").stdout)
    gateway = next(a["local"] for a in links[0]["addr_info"] if a["family"] == "inet")
    assert podman.fetch("client", gateway, 18080) == "web"
    for address in (gateway, "127.0.0.1"):
        fetched = podman.node.netns.run("/bin/busybox", "timeout", "10", "wget", "-qO-",
                                        f"http://{address}:18080/",
                                        preexec_fn=podman.node.join_cgroup)
        assert fetched.stdout.strip() == "web"
    assert "18080" not in podman.node.netns.run("iptables-save").stdout
    podman("rm", "-f", "-t", "0", "web")
    assert podman.fetch("client", gateway, 18080, seconds=1) == ""


def test_runtime_chooses_address_and_mac(podman):
    addresses = podman.start("fixed", "--ip", "10.200.0.99", "--mac-address", "02:aa:00:00:00:99")
    assert addresses[0] == "10.200.0.99"
    assert "02:aa:00:00:00:99" in podman("exec", "fixed", "ip", "link", "show", "eth0").stdout


def test_policy_selects_containers_by_label(podman):
    node = podman.node
    node.put(tendril.pod_object("web", labels={"app": "web"}),
             tendril.pod_object("friend", labels={"app": "friend"}),
             tendril.policy_object("web", "default", {"matchLabels": {"app": "web"}},
                                   policyTypes=["Ingress"],
                                   ingress=[{"from": [{"podSelector": {
                                       "matchLabels": {"app": "friend"}}}]}]))
    addresses = podman.serve("web")
    podman.start("friend")
    podman.start("stranger")
    for address in addresses:
        assert podman.fetch("friend", address) == "web"
        assert podman.fetch("stranger", address, seconds=1) == ""


def test_restarted_container_is_wired_again(podman):
    podman.serve("web")
    podman.start("client")
    podman("restart", "-t", "0", "web")
    address = podman.addresses("web")[0]
    tendril.wait_for(lambda: podman.fetch("client", address) == "web", "web after its restart")
    assert len(podman.node.api("GET", "/v1/endpoints")) == 2


@pytest.mark.parametrize("agent", ["up", "killed"])
def test_rm_removes_everything(podman, agent):
    node = podman.node
    podman.start("one", "-p", "18081:80")
    podman.start("two")
    if agent == "killed":
        node.kill()
    podman("rm", "-f", "-t", "0", "one", "two")
    if agent == "killed":
        node.start()
    tendril.wait_for(lambda: node.api("GET", "/v1/endpoints") == [], "no endpoint")
    tendril.wait_for(lambda: "veth" not in node.netns.ip("-d", "link").stdout, "no interface")
    assert "18081" not in node.netns.run("iptables-save").stdout


# ---- doc/containers.md ----

PAGE = (tendril.ROOT / "doc" / "containers.md").read_text()
COMMAND = re.compile(r"^    ((?:make|systemctl|tendril|printf|podman|ctr|nft|cp|cd) .*)$", re.MULTILINE)
ELSEWHERE = {  # what cannot run here, and who runs it
    "make deps && make && make install": "tests/fresh/check",
    "systemctl enable --now tendrild": "tests/net/test_install.py",
    "ctr run --cni --rm IMAGE web": "tests/net/test_containerd.py",
}

def test_the_page_for_containers_is_done_as_printed():
    """Each command in its order, one shell session from the source's folder."""
    commands = COMMAND.findall(PAGE)
    assert len(commands) >= 12
    for command, who in ELSEWHERE.items():
        commands.remove(command)
        assert (tendril.ROOT / who).exists()
    with tendril.Node(cidrs=("10.127.0.0/24", "fd00:10:127::/112")) as node:
        podman = Podman(node)
        etc = node.dir / "etc"
        run("cp", "-a", "/etc", etc)
        for folder in ("tendril/objects", "containers/containers.conf.d"):
            (etc / folder).mkdir(parents=True, exist_ok=True)
        image_command = f"{IMAGE} sh -c '{HTTPD.format('web')}'"
        script = node.dir / "page.sh"
        lines = ["set -ex", f"mount --bind {etc} /etc",
                 f"mount --bind {node.objects} /etc/tendril/objects"]
        for command in commands:
            if command.startswith("tendril monitor"):  # it would run for ever
                lines += [f"if timeout 1 {command}", "then false; else [ $? = 124 ]; fi"]
            elif command == "tendril service list":  # the file was copied a moment ago
                lines += [f"until {command} | grep '^default/web .* 10.128.0.1'; do :; done"]
            else:
                lines += [command.replace("IMAGE", image_command)]
        script.write_text("\n".join(lines))
        try:
            done = subprocess.run(
                node.netns.enter("unshare", "-m", "--propagation", "private", "sh", script),
                env={**podman.env, "TENDRIL_SOCKET": str(node.socket),
                     "PATH": f"{tendril.BUILD}:{os.environ['PATH']}"},
                cwd=tendril.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            assert done.returncode == 0, done.stdout
            assert 'network_backend = "cni"' in (
                etc / "containers/containers.conf.d/cni.conf").read_text()
            assert podman.addresses("web")
            policies = node.cli("get", "policies", "-n", "default", "-o", "name").stdout
            assert "web" in policies
        finally:
            podman.close()
