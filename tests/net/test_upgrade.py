# SPDX-License-Identifier: Apache-2.0
"""An agent of another version takes over under traffic: nothing is lost, nothing opens.

    client, stranger ---- 10.96.0.10 ---- server      outside 198.51.100.2

Everybody is isolated in both directions; the server lets in the client and the outside, not the
stranger.  From: the previous release, as it was built from its commit.  To: this tree, and what may
follow it (harness/releases.py), where every map must be copied.
"""

import collections
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess

import pytest

import releases
from tendril import (HARNESS, Namespace, Node, policy_object, run, service_object, slice_object,
                     wait_for)

VIP = "10.96.0.10"
OUTSIDE = "198.51.100.2"
NODE_END = "198.51.100.1 30080"  # the service, for clients outside
PORT = 8080
NODE_PORT = 30080
TARGET = 8081  # of the service; another one, for client ports are used again
KINDS = "bpf,rename,mkdir,rmdir,unlink,unlinkat,sendto"  # system calls that change something
COPIED = ["ct_map", "policy_map", "ipcache_map", "service_map", "backend_map", "sock_bucket_map",
          "nat_map", "node_map", "endpoint_map"]


@pytest.fixture(scope="module")
def previous():
    return releases.previous()


@pytest.fixture(scope="module")
def following():
    """Built before any traffic flows: a compiler takes the processor from it."""
    return releases.following()


class Load:
    """A process of load.py in a pod or a namespace."""

    def __init__(self, where, *tasks):
        start = where.popen if hasattr(where, "popen") else (
            lambda *argv, **more: subprocess.Popen(where.enter(*argv), **more))
        self.process = start("python3", HARNESS / "load.py", *tasks, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)

    def ready(self):
        assert self.process.stdout.readline() == "ready\n"
        return self

    def end(self):
        out, _ = self.process.communicate(timeout=20)
        return {task.pop("task"): task for task in json.loads(out)}


class Lab:
    def __init__(self, node):
        self.node = node
        node.put(
            policy_object("closed", "default", {}, policyTypes=["Ingress", "Egress"]),
            policy_object("server", "default", {"matchLabels": {"app": "server"}}, ingress=[
                {"from": [{"podSelector": {"matchLabels": {"app": "client"}}},
                          {"ipBlock": {"cidr": "198.51.100.0/24"}}]}]),
            policy_object("out", "default", {}, egress=[{"to": [{"podSelector": {}}]}],
                          policyTypes=["Egress"]))
        self.client, self.stranger, self.server = (
            node.pod(name, labels={"app": name}) for name in ("client", "stranger", "server"))
        self.server.serve(tcp=[PORT, TARGET], udp=[PORT, TARGET])
        ports = [{"name": p, "port": 80, "protocol": p, "targetPort": TARGET, "nodePort": NODE_PORT}
                 for p in ("TCP", "UDP")]
        node.put(service_object("web", "default", [VIP], ports, type="NodePort"), slice_object(
            "web-1", "default", "web", "IPv4",
            [{"name": p, "port": TARGET, "protocol": p} for p in ("TCP", "UDP")], [self.server.v4]))
        self.outside = Namespace(f"{node.name}-outside")
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns",
                      self.outside.name)
        node.netns.ip("addr", "add", "198.51.100.1/24", "dev", "uplink")
        node.netns.ip("link", "set", "uplink", "up")
        self.outside.ip("addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        self.outside.ip("link", "set", "eth0", "up")
        self.outside.ip("route", "add", node.cidrs[0], "via", "198.51.100.1")

    def loads(self, *outside):
        """outside: what clients outside talk to beside the server itself."""
        for end in outside:  # the programs of uplinks come some time after the service
            wait_for(lambda end=end: self.outside.run(
                "bash", "-c", "</dev/tcp/{}/{}".format(*end.split()), check=False).returncode == 0, f"{end} to answer")
        v4, v6 = self.server.addresses
        ends = [f"{v4} {PORT}", f"{v6} {PORT}", f"{VIP} 80"]
        loads = [Load(self.client, *(f"{kind} {end}" for end in ends
                                     for kind in ("tcp", "open", "udp", "ask"))),
                 Load(self.stranger, f"shut {v4} {PORT}", f"shut {v6} {PORT}", f"shut {VIP} 80"),
                 Load(self.outside, *(f"{kind} {end}" for end in (f"{v4} {PORT}", *outside)
                                      for kind in ("tcp", "open", "udp")))]
        return [load.ready() for load in loads]

    def check(self, loads, killed=()):
        """Nothing failed.  Where the agent was killed in the middle, what clients outside begin at these ends
        before the next start may fail (doc/upgrade.md); what they have goes on."""
        found = [load.end() for load in loads]
        may_fail = {f"{kind} {end}" for kind in ("open", "udp") for end in killed}
        assert not [(task, why) for tasks in found for task, what in tasks.items()
                    for why in what["failed"] if task not in may_fail], found
        return {task: what["longest"] for tasks in found for task, what in tasks.items()}

    def close(self):
        self.outside.delete()


@pytest.fixture(params=["socket", "packet"])
def lab(previous, request):
    more = ["--socket-services=false"] if request.param == "packet" else []
    with Node(*more, build=previous) as node:
        made = Lab(node)
        yield made
        made.close()


def upgrade(node, build):
    node.stop()
    node.build = pathlib.Path(build)
    return node.start()


def map_shown(node, name):
    return json.loads(run("bpftool", "-j", "map", "show", "pinned",
                          node.bpffs / "maps" / name).stdout)


def refused(node, build):
    """Starts another build of the agent, which must refuse; what it says."""
    own, node.build = node.build, pathlib.Path(build)
    done = run(*node.argv(), check=False, timeout=20)
    node.build = own
    assert done.returncode == 1
    return done.stderr


def folders(node):
    return sorted(path.name for path in node.bpffs.iterdir())


def test_nothing_is_lost_when_this_version_takes_over_from_the_previous(lab):
    loads = lab.loads()
    upgrade(lab.node, releases.BUILD)
    wait_for(lambda: lab.node.status()["warnings"] == [], "no warnings")
    print(lab.check(loads))
    assert folders(lab.node) == ["links", "maps", "version"]


def test_nothing_is_lost_when_all_maps_are_copied(following, lab):
    node = lab.node
    before = {name: map_shown(node, name) for name in COPIED}
    loads = lab.loads()
    upgrade(node, following)
    wait_for(lambda: node.status()["warnings"] == [], "no warnings")
    print(lab.check(loads))
    assert "at one moment" not in node.log()
    for name in COPIED:
        now = map_shown(node, name)
        assert now["id"] != before[name]["id"]
        assert now["bytes_value"] >= before[name]["bytes_value"] + 8, name
    assert folders(node) == ["links", "maps", "version"]
    assert converted_entries(node) > 0


def test_clients_outside_lose_nothing_when_all_maps_are_copied(following):
    with Node(build=releases.BUILD) as node:
        lab = Lab(node)
        loads = lab.loads(NODE_END)
        upgrade(node, following)
        wait_for(lambda: node.status()["warnings"] == [], "no warnings")
        print(lab.check(loads))
        assert "at one moment" not in node.log()
        assert folders(node) == ["links", "maps", "version"]
        lab.close()


def test_a_downgrade_is_refused_and_names_the_command(following, lab, previous):
    node = lab.node
    upgrade(node, following)
    loads = lab.loads()
    node.stop()
    for build in (releases.BUILD, previous):
        said = refused(node, build)
        assert "run tendrild --cleanup first" in said, said
    assert "made by a later version" in refused(node, releases.BUILD)
    node.start()
    lab.check(loads)


def killed_at(node, call, nth):
    """Starts the agent and kills it before its nth call of a kind; False if it makes fewer."""
    ready = node.dir / "notify.sock"
    ready.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(ready))
        notify.setblocking(False)
        done = run("strace", "-qq", "-o", "/dev/null", f"--trace={call}",
                   f"--inject={call}:signal=KILL:when={nth}", *node.argv(), check=False,
                   timeout=60, env=dict(os.environ, NOTIFY_SOCKET=str(ready)))
        assert done.returncode != 0, done.stderr
        with pytest.raises(BlockingIOError):
            notify.recv(4096)


def calls(node, build):
    """The calls of an upgrade to a build that change something, each as (kind, number)."""
    trace = node.dir / "trace"
    argv, node.build = node.argv, pathlib.Path(build)
    node.argv = lambda *more: ["strace", "-qq", "-o", str(trace), f"--trace={KINDS}", *argv(*more)]
    node.start()
    os.kill(node.status()["pid"], signal.SIGTERM)
    node.agent.wait(10)
    node.agent, node.argv = None, argv
    count, found = collections.Counter(), []
    for line in trace.read_text().splitlines():
        kind = line.split("(")[0]
        count[kind] += 1
        found.append((line, kind, count[kind]))
    began = next(i for i, (line, *_) in enumerate(found) if "/new\"" in line)
    ended = next(i for i, (line, *_) in enumerate(found) if "rmdir" in line and "/old\"" in line)
    return [(kind, number) for line, kind, number in found[began:ended + 1]
            if kind != "bpf" or re.search("PIN|LINK_UPDATE|MAP_UPDATE_ELEM", line)]


def test_killed_at_any_step_the_next_start_goes_on(following, previous):
    """A sample of the steps, another one each time; tests/bpf/test_killed takes the rest."""
    kill_at_steps(previous, following)


def test_clients_outside_do_not_notice_either(following):
    kill_at_steps(releases.BUILD, following, NODE_END)


def kill_at_steps(previous, following, *outside):
    with Node(build=previous) as node:
        lab = Lab(node)
        node.stop()
        steps = calls(node, following)
        lab.close()
    assert len(steps) > 100
    renames = [step for step in steps if step[0] == "rename"]
    for kind, number in renames + random.sample(steps, 5):
        with Node(build=previous) as node:
            lab = Lab(node)
            loads = lab.loads(*outside)
            node.stop()
            node.build = following
            print(kind, number)
            killed_at(node, kind, number)
            node.start()
            lab.check(loads, killed=outside)
            assert folders(node) == ["links", "maps", "version"]
            lab.close()


def converted_entries(node):
    entries = json.loads(run("bpftool", "-j", "map", "dump", "pinned",
                             node.bpffs / "maps/ct_map").stdout)
    mark = [f"0x{byte:02x}" for byte in releases.MARK.to_bytes(4, "little")]
    return sum(entry["value"][-4:] == mark for entry in entries)
