# SPDX-License-Identifier: Apache-2.0
"""make install and uninstall into a DESTDIR, and what the installed unit allows the agent."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import image
import tendril

UNIT = tendril.ROOT / "deploy" / "tendrild.service"


def make(*argv):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", "-C", str(tendril.ROOT), *argv], env=env, check=True, text=True,
                          capture_output=True)


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "dest"


def test_everything_is_where_it_belongs(dest):
    make("install", f"DESTDIR={dest}")
    installed = files(dest)
    assert {"usr/sbin/tendrild", "usr/bin/tendril", "opt/cni/bin/tendril",
            "usr/lib/systemd/system/tendrild.service", "etc/tendril/agent.json",
            "etc/cni/net.d/10-tendril.conflist", "usr/share/man/man8/tendrild.8",
            "usr/share/man/man8/tendril-cni.8", "usr/share/man/man1/tendril.1",
            "usr/share/bash-completion/completions/tendril",
            "usr/share/zsh/vendor-completions/_tendril",
            "usr/share/fish/vendor_completions.d/tendril.fish"} <= installed
    assert (dest / "etc/tendril/objects").is_dir()
    # What the conflist chains is found beside the plugin.
    conflist = json.loads((dest / "etc/cni/net.d/10-tendril.conflist").read_text())
    for plugin in conflist["plugins"]:
        assert os.access(dest / "opt/cni/bin" / plugin["type"], os.X_OK)


def test_installed_programs_run(dest):
    make("install", f"DESTDIR={dest}")
    for program in ("usr/sbin/tendrild", "usr/bin/tendril"):
        assert "0.1.0" in tendril.run(dest / program, "--version").stdout
    answer = tendril.run(dest / "opt/cni/bin/tendril", input="", env={"CNI_COMMAND": "VERSION"})
    assert "1.1.0" in json.loads(answer.stdout)["supportedVersions"]
    assert (dest / "opt/cni/bin/tendril").stat().st_size < 100_000
    checked = tendril.run(dest / "usr/sbin/tendrild", "--check-config", "--config",
                          dest / "etc/tendril/agent.json")
    assert "10.127.0.0/24" in checked.stdout


def test_prefix_and_folders_are_honoured(dest):
    make("install", f"DESTDIR={dest}", "PREFIX=/usr/local", "CNIBINDIR=/usr/lib/cni",
         "SYSCONFDIR=/usr/local/etc")
    assert {"usr/local/sbin/tendrild", "usr/local/bin/tendril", "usr/lib/cni/tendril",
            "usr/local/etc/tendril/agent.json"} <= files(dest)
    unit = (dest / "usr/local/lib/systemd/system/tendrild.service").read_text()
    assert "ExecStart=/usr/local/sbin/tendrild\n" in unit
    assert not (dest / "etc").exists()


def test_configuration_that_is_there_stays(dest):
    changed = {"etc/tendril/agent.json": '{"logLevel": "debug"}\n',
               "etc/cni/net.d/10-tendril.conflist": "{}\n"}
    for name, text in changed.items():
        (dest / name).parent.mkdir(parents=True)
        (dest / name).write_text(text)
    for command in ("install", "install", "uninstall"):
        make(command, f"DESTDIR={dest}")
        for name, text in changed.items():
            assert (dest / name).read_text() == text


def test_uninstall_leaves_nothing(dest):
    make("install", f"DESTDIR={dest}")
    (dest / "etc/tendril/objects/mine.json").write_text("{}")
    for _ in range(2):
        make("uninstall", f"DESTDIR={dest}")
    assert files(dest) == {"etc/tendril/objects/mine.json"}
    (dest / "etc/tendril/objects/mine.json").unlink()
    make("uninstall", f"DESTDIR={dest}")
    assert not (dest / "etc/tendril").exists()


def test_uninstall_refuses_while_pods_are_wired(tmp_path):
    places = [f"{name}={tmp_path / name}" for name in ("PREFIX", "SYSCONFDIR", "CNIBINDIR")]
    make("install", "DESTDIR=", *places)
    before = files(tmp_path)
    run_dir = tmp_path / "run"
    (run_dir / "endpoints").mkdir(parents=True)
    (run_dir / "endpoints" / "1.json").write_text("{}")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        make("uninstall", "DESTDIR=", f"RUNDIR={run_dir}", *places)
    assert "pods are wired on this node" in refused.value.stderr
    assert "tendrild --cleanup" in refused.value.stderr
    assert before < files(tmp_path)
    (run_dir / "endpoints" / "1.json").unlink()
    make("uninstall", "DESTDIR=", f"RUNDIR={run_dir}", *places)
    assert not files(tmp_path)


# ---- the unit ----

def setting(name):
    return re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)[1].split()


def test_systemd_understands_the_unit(tmp_path):
    if not shutil.which("systemd-analyze"):
        assert "ExecStart=" in UNIT.read_text()  # a machine without systemd has no use for it
        return
    # The program and its page are not installed here.
    text = UNIT.read_text().replace("/usr/sbin/tendrild", str(tendril.BUILD / "tendrild"))
    (tmp_path / "tendrild.service").write_text(text.replace("Documentation=man:tendrild(8)\n", ""))
    done = tendril.run("systemd-analyze", "verify", tmp_path / "tendrild.service", check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_unit_lists_the_capabilities_that_the_agent_keeps():
    source = (tendril.ROOT / "agent" / "privilege.c").read_text()
    kept = set(re.findall(r'^\t\{ "(CAP_[A-Z_]+)",', source, re.MULTILINE))
    assert kept == set(setting("CapabilityBoundingSet"))


class ConfinedNode(tendril.Node):
    """Its agent starts with the unit's capabilities, no new privileges, and a file system that is
    read-only but for what the unit leaves writable."""

    def argv(self, *more):
        if "--cleanup" in more:
            return super().argv(*more)
        names = [c.lower().removeprefix("cap_") for c in setting("CapabilityBoundingSet")]
        bounding = ",".join(["-all", *(f"+{n}" for n in names)])
        mounts = (f"mount --bind {self.dir} {self.dir} && mount -o remount,bind,ro / && "
                  "exec setpriv --no-new-privs --inh-caps=-all "
                  f"--bounding-set={bounding} \"$@\"")
        return ["unshare", "-m", "--propagation", "slave", "sh", "-ec", mounts, "sh",
                *super().argv(*more)]


def test_agent_works_within_the_units_limits():
    with ConfinedNode() as node:
        first, second = node.pod("first"), node.pod("second")
        status = pathlib.Path(f"/proc/{node.agent.pid}/status").read_text()
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        second.serve(tcp=[80])
        for address in second.addresses:
            assert first.connect(address, 80)["result"] == "ok"
        node.stop()
        node.start()
        assert first.connect(second.v4, 80)["result"] == "ok"
        assert first.cni("DEL") == {}


# ---- as a user would: make install, then the runtimes with their own defaults ----

# Everything that is written, mounted or started belongs to these namespaces and ends with them.
INSTALLED = r"""
tree=$1 scratch=$2
mount -t tmpfs none "$scratch"
image=$3
for folder in etc opt usr var; do
	mkdir -p "$scratch/$folder/upper" "$scratch/$folder/work"
	mount -t overlay -o "lowerdir=/$folder,upperdir=$scratch/$folder/upper,workdir=$scratch/$folder/work" \
		none "/$folder"
done
rm -rf /etc/cni /etc/tendril /etc/containers/storage.conf /var/lib/containers
mount -t tmpfs none /run
mount -t bpf none /sys/fs/bpf
make -C "$tree" install >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }

until_true() { for i in $(seq 500); do "$@" >/dev/null 2>&1 && return; sleep 0.01; done; return 1; }
tendrild 2>"$scratch/log" &
until_true tendril status || { cat "$scratch/log"; exit 1; }

# Only what this machine's root may not do differs from podman's defaults.
cat >"$scratch/containers.conf" <<END
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
[network]
network_backend = "cni"
END
# By the file, not by STORAGE_DRIVER: that leaves a folder behind by which the next call would choose.
cat >"$scratch/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
END
export CONTAINERS_CONF="$scratch/containers.conf" CONTAINERS_STORAGE_CONF="$scratch/storage.conf"
podman load -q -i "$image" >/dev/null
podman run --rm --network tendril localhost/tendril-busybox:1 ip -o addr show eth0 | sed 's/^/podman: /'

containerd >"$scratch/containerd.log" 2>&1 &
until_true ctr version || { cat "$scratch/containerd.log"; exit 1; }
ctr images import --snapshotter native "$image" >/dev/null
ctr run --snapshotter native --cni --rm localhost/tendril-busybox:1 c1 ip -o addr show eth0 \
	</dev/null | sed 's/^/ctr: /'
until_true sh -c 'test "$(tendril endpoint list -o json)" = "[]"'
make -C "$tree" uninstall >/dev/null
find /etc/cni /etc/tendril /opt/cni /usr/lib/systemd /usr/share/man -name '*tendril*' 2>/dev/null |
	sed 's/^/left: /'
"""


def test_podman_and_containerd_use_what_was_installed(tmp_path):
    archive, scratch = tmp_path / "image.tar", tmp_path / "scratch"
    scratch.mkdir()
    image.image_write(archive, "localhost/tendril-busybox:1")
    netns = tendril.Namespace(f"tdlinstall{os.getpid()}")
    try:
        done = subprocess.run(
            netns.enter("unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc",
                        "--propagation", "private", "sh", "-ec", INSTALLED, "sh", tendril.ROOT,
                        scratch, archive),
            text=True, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
    finally:
        netns.delete()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for runtime in ("podman", "ctr"):
        given = " ".join(line for line in lines if line.startswith(runtime + ": "))
        assert "10.127.0." in given and "fd00:10:127::" in given, done.stdout + done.stderr
    assert not [line for line in lines if line.startswith("left: ")]
