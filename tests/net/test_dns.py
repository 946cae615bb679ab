# SPDX-License-Identifier: Apache-2.0
"""Names that pods ask DNS for: they stand beside addresses in flows, hostile ones are harmless, and who
reads the answers can do nothing else."""

import json
import os
import pathlib
import subprocess

import pytest

from tendril import BUILD, HARNESS, Node, wait_for
from test_flow_log import find, source_works, wait_flow

PORT, OUTSIDE = 8080, "198.51.100.7"
HOSTILE = [b"\x1b[2J<script>\"", b"a.b", b"ok"]
HOSTILE_SHOWN = r"\027\0912j\060script\062\034.a\046b.ok"


def hexed(*labels):
    return ".".join(label.hex() for label in labels)


class World:
    def __init__(self):
        self.node = Node("--dns-names")
        self.web, self.dns = (self.node.pod(name) for name in ("web", "dns"))
        self.servers = []
        wait_for(lambda: source_works(self.node, "dns"), "the reader of names", 10)

    def serve(self, addr, answer, ttl=300):
        server = self.dns.popen("python3", HARNESS / "dnsserver.py", "serve", addr, answer, str(ttl),
                                stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout.readline() == "serving\n"

    def ask(self, addr, name, count=1):
        self.web.run("python3", HARNESS / "dnsserver.py", "ask", addr, name, str(count))

    def reader(self):
        """The process that reads answers: a child of the agent."""
        for stat in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":\t", 1) for line in stat.read_text().splitlines()
                             if ":\t" in line)
            except OSError:
                continue
            if lines["Name"] == "tendril-dns" and int(lines["PPid"]) == agent_pid(self.node):
                return int(lines["Pid"]), lines
        return None


def agent_pid(node):
    return next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and
                str(node.run_dir) in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode() and
                pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "tendrild")


@pytest.fixture(scope="module")
def world():
    made = World()
    made.serve(made.dns.v4, OUTSIDE)
    made.serve(made.dns.v6, "198.51.100.8")
    yield made
    for server in made.servers:
        server.kill()
        server.wait()
    made.node.close()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_a_name_stands_beside_its_address(world, family):
    target = {"v4": OUTSIDE, "v6": "198.51.100.8"}[family]
    world.ask(getattr(world.dns, family), hexed(b"Api", b"example", b"org"))

    def named():
        world.web.connect(target, PORT, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, target, "EGRESS")
                if "destination_names" in flow]
    flow = wait_for(named, "a flow with a name", 20)[-1]
    assert flow["destination_names"] == ["api.example.org"]
    shown = world.node.cli("flows", "--last", "1", "--to", target, "--from", "default/web").stdout
    assert f"-> {target} (api.example.org):{PORT}" in shown
    assert not [flow for flow in find(world.node, world.dns.v4, target, "EGRESS")
                if "destination_names" in flow]  # who did not ask


def test_a_hostile_name_is_harmless(world):
    world.ask(world.dns.v4, hexed(*HOSTILE))

    def named():
        world.web.connect(OUTSIDE, 81, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, OUTSIDE, "EGRESS")
                if flow.get("destination_names") == [HOSTILE_SHOWN]]
    wait_for(named, "the name", 20)
    for words in (["flows"], ["flows", "-o", "json"], ["flows", "-o", "dict"], ["drops"],
                  ["tcp", "connect"]):
        shown = world.node.cli(*words).stdout
        assert "\x1b" not in shown and "<" not in shown


def test_who_was_not_asked_tells_nothing(world):
    """An answer without a question, in the name of a server."""
    world.dns.run("python3", "-c", f"""
import socket, sys
sys.path.insert(0, {str(HARNESS)!r})
import dnsserver
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
data = dnsserver.answer(dnsserver.question([b"forged", b"org"]), "198.51.100.9", 300)
sock.sendto(bytes([0, 53, 0x9c, 0x40]) + (8 + len(data)).to_bytes(2, "big") + bytes(2) + data,
            ("{world.web.v4}", 0))
""")
    world.ask(world.dns.v4, hexed(b"asked", b"org"))

    def named():
        world.web.connect(OUTSIDE, 82, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, OUTSIDE, "EGRESS")
                if flow.get("destination_names") == ["asked.org"]]
    wait_for(named, "the name that came later", 20)
    world.web.connect("198.51.100.9", PORT, timeout=0.1)
    flow = wait_flow(world.node, world.web.v4, "198.51.100.9", "EGRESS", timeout=20)
    assert "destination_names" not in flow


def test_a_pod_that_asks_much_is_held_to_its_share(world):
    world.ask(world.dns.v4, hexed(b"flood", b"org"), 3000)
    lost = wait_for(lambda: next((notice["count"] for notice in world.node.status()["notices"]
                                  if notice["name"] == "DNS_LOST"), 0), "the limit", 20)
    assert 0 < lost < 3000


def test_the_reader_can_do_nothing_else(world):
    pid, status = world.reader()
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp_filters"] == "2"
    open_files = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert not [name for name in open_files if name.startswith("net:")]
    os.kill(pid, 9)
    wait_for(lambda: not source_works(world.node, "dns"), "the agent, which notices", 10)
    wait_for(lambda: source_works(world.node, "dns"), "another reader", 30)
    world.ask(world.dns.v4, hexed(b"again", b"org"))

    def named():
        world.web.connect(OUTSIDE, 83, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, OUTSIDE, "EGRESS")
                if flow.get("destination_names") == ["again.org"]]
    wait_for(named, "a name by the new one", 20)


def test_policies_are_recorded_with_names(world):
    world.ask(world.dns.v4, hexed(b"record", b"org"))
    recorder = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "policy", "record",
                                 "--for", "8s", "web"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    assert "observing" in recorder.stderr.readline()
    world.web.connect(OUTSIDE, PORT, timeout=0.1)
    world.web.connect(OUTSIDE, PORT, timeout=0.1)
    _, notes = recorder.communicate(timeout=60)
    assert f"policy record: {OUTSIDE} is record.org\n" in notes


def test_nobody_reads_them_by_default():
    with Node() as node:
        source = next(source for source in node.status()["flows"]["sources"]
                      if source["name"] == "dns")
        assert source == {"name": "dns", "works": False, "problem": "the setting dnsNames is false"}
        assert json.dumps(node.status()).count("tendril-dns") == 0
