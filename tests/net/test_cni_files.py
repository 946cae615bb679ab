# SPDX-License-Identifier: Apache-2.0
"""The plugin and its conflist, which an agent puts where the container runtime looks for them; and
what an agent in a container finds and makes: mounts, switches."""

import json
import os
import re
import stat
import subprocess

import pytest

import tendril
from tendril import BUILD, ROOT, Node, wait_for


@pytest.fixture
def folders(tmp_path):
    for name in ("bin", "conf"):
        (tmp_path / name).mkdir()
    return tmp_path


def options(folders):
    return "--cni-bin-dir", folders / "bin", "--cni-conf-dir", folders / "conf"


def names(folders):
    return sorted(str(path.relative_to(folders)) for path in folders.rglob("*") if path.is_file())


BOTH = ["bin/tendril", "conf/10-tendril.conflist"]


def conflist(folders):
    return json.loads((folders / "conf/10-tendril.conflist").read_text())


def test_they_are_there_when_the_agent_is_ready_and_stay_when_it_stops(folders):
    with Node(*options(folders)) as node:
        assert names(folders) == BOTH
        assert (folders / "bin/tendril").read_bytes() == (BUILD / "tendril-cni").read_bytes()
        assert stat.S_IMODE((folders / "bin/tendril").stat().st_mode) == 0o755
        assert [plugin["type"] for plugin in conflist(folders)["plugins"]] == ["tendril"]
        node.stop()
        assert names(folders) == BOTH
        node.start()
        assert names(folders) == BOTH


def test_the_conflist_is_the_packages(folders):
    with Node(*options(folders)):
        assert conflist(folders) == json.loads((ROOT / "deploy/10-tendril.conflist").read_text())


def test_an_upgrade_replaces_both_and_no_reader_sees_a_part(folders):
    (folders / "bin/tendril").write_text("an older one")
    (folders / "conf/10-tendril.conflist").write_text("{}")
    running = os.open(folders / "bin/tendril", os.O_RDONLY)
    try:
        with Node(*options(folders)):
            assert (folders / "bin/tendril").read_bytes() == (BUILD / "tendril-cni").read_bytes()
            assert conflist(folders)["name"] == "tendril"
            assert os.read(running, 100) == b"an older one"  # another file took its name
            assert names(folders) == BOTH
    finally:
        os.close(running)


def test_a_node_takes_no_pods_before_all_objects_are_known(folders):
    with Node("--kubernetes=true", *options(folders)) as node:
        assert names(folders) == []
        for line, there in (("RESET", []), ("SYNCED", BOTH)):
            connection = tendril.UnixConnection(node.socket)
            connection.request("POST", "/v1/sources/kubernetes", f'{{"type":"{line}"}}\n')
            response = connection.getresponse()
            assert response.status == 200, response.read()
            connection.close()
            wait_for(lambda there=there: names(folders) == there, f"{there} after {line}")


def test_a_folder_that_is_missing_is_a_failure_in_status(folders):
    (folders / "conf").rmdir()
    with Node(*options(folders)) as node:
        assert any(f"{folders}/conf/10-tendril.conflist" in text
                   for text in node.status()["failures"])
        assert names(folders) == ["bin/tendril"]
        assert node.pod("served").v4  # what is in force and what others installed still counts


def test_another_cni_that_comes_first_is_named(folders):
    def warnings():
        return [text for text in node.status()["warnings"] if "take" in text]

    other = folders / "conf/05-other.conflist"
    (folders / "conf/99-last.conf").write_text('{"type": "bridge"}')
    (folders / "conf/00-notes.txt").write_text("no configuration")
    with Node(*options(folders)) as node:
        assert warnings() == []
        other.write_text('{"plugins": [{"type": "bridge"}]}')
        assert warnings() == [f"new pods do not get Tendril's network: container runtimes take {other} first"]
        other.write_text('{"plugins": [{"type": "bridge"}, {"type": "tendril", "chained": true}]}')
        assert warnings() == []


def test_cleanup_removes_them_last(folders):
    with Node(*options(folders)) as node:
        refused = subprocess.run(node.argv("--cleanup"), text=True, capture_output=True)
        assert refused.returncode == 1 and names(folders) == BOTH
        node.stop()
        assert subprocess.run(node.argv("--cleanup")).returncode == 0
        assert names(folders) == [] and not node.run_dir.exists()


# ---- in a container ----

class ContainedNode(Node):
    """With a /proc/sys that is read-only, as container runtimes leave it."""

    def argv(self, *more):
        argv = super().argv(*more)
        if "--cleanup" in more:
            return argv
        inner = len(self.netns.enter())
        script = ("mount --bind /proc/sys /proc/sys && "
                  "mount -o remount,bind,ro,nosuid,nodev,noexec /proc/sys && exec \"$@\"")
        return [*argv[:inner], "unshare", "-m", "-p", "--fork", "--kill-child", "--mount-proc",
                "--propagation", "slave", "sh", "-ec", script, "sh", *argv[inner:]]


def test_switches_are_turned_where_proc_sys_is_read_only():
    with ContainedNode(start=False) as node:
        before = node.netns.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip()
        node.start()
        assert (before, node.netns.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip()) == (
            "0", "1")
        first, second = node.pod("first"), node.pod("second")
        second.serve(tcp=[80])
        assert all(first.connect(address, 80)["result"] == "ok" for address in second.addresses)


def mount_in_a_container(tmp_path, propagation):
    """tendrild --mount where /sys/fs/bpf holds no bpffs; what is mounted there afterwards, as the
    node sees it, and the answer."""
    inner = (f"exec '{BUILD}/tendrild' --mount --run-dir '{tmp_path}/run' --cgroup /sys/fs/cgroup "
             "--pod-cidr 10.1.0.0/24")
    script = (f"umount -l /sys/fs/bpf; mount -t tmpfs none /sys/fs && mkdir /sys/fs/bpf && "
              f"mount --make-{propagation} /sys/fs && "
              f"unshare -m -p --fork --mount-proc --propagation unchanged sh -c \"{inner}\"; "
              "echo status $?; stat -f -c %T /sys/fs/bpf")
    return tendril.run("unshare", "-m", "--propagation", "private", "sh", "-c", script)


def test_mount_makes_a_bpffs_that_the_node_sees(tmp_path):
    done = mount_in_a_container(tmp_path, "shared")
    assert done.stdout.split() == ["status", "0", "bpf_fs"], done.stdout + done.stderr


def test_mount_refuses_what_the_node_would_not_see(tmp_path):
    done = mount_in_a_container(tmp_path, "private")
    assert done.stdout.split() == ["status", "1", "tmpfs"]
    assert re.search("bpf.*would not reach the node.*Bidirectional", done.stderr), done.stderr
