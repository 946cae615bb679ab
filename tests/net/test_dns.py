# SPDX-License-Identifier: Apache-2.0
"""Names that pods ask DNS for: they stand beside addresses in flows, hostile ones are harmless, and who
reads the answers can do nothing else."""

import os
import pathlib
import signal
import subprocess

import pytest

from tendril import BUILD, HARNESS, Node, pod_object, wait_for
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

    def serve(self, addr, answer, ttl=300, pod=None):
        server = (pod or self.dns).popen("python3", HARNESS / "dnsserver.py", "serve", addr, answer, str(ttl),
                                stdout=subprocess.PIPE, text=True)
        self.servers.append(server)
        assert server.stdout.readline() == "serving\n"

    def __enter__(self):
        return self

    def __exit__(self, *what):
        for server in self.servers:
            server.kill()
            server.wait()
        self.node.close()

    def ask(self, addr, name, count=1, client=None):
        (client or self.web).run("python3", HARNESS / "dnsserver.py", "ask", addr, name, str(count))

    def reader(self):
        """The process that reads answers: a child of the agent."""
        for stat in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":\t", 1) for line in stat.read_text().splitlines()
                             if ":\t" in line)
            except OSError:
                continue
            if lines["Name"] == "tendril-dns" and int(lines["PPid"]) == self.node.agent.pid:
                return int(lines["Pid"]), lines
        return None


def maps_of_bpf(pid):
    """Permissions and pages of each piece of a map's memory that a process sees."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "bpf-map" in line:
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            yield line.split()[1], (end - begin) // os.sysconf("SC_PAGESIZE")


@pytest.fixture(scope="module")
def world():
    with World() as made:
        made.serve(made.dns.v4, OUTSIDE)
        made.serve(made.dns.v6, "198.51.100.8")
        yield made


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


def name_is_known(world, name, port, target=OUTSIDE):
    def named():
        world.web.connect(target, port, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, target, "EGRESS")
                if flow.get("destination_names") == [name]]
    wait_for(named, f"a flow to {name}", 20)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_names_come_by_tcp_too(world, family):
    """The last answer of a connection as well as the first; from a server whose connections could be
    accelerated, too."""
    target = {"v4": OUTSIDE, "v6": "198.51.100.8"}[family]
    names = [(name, family.encode()) for name in (b"first", b"second", b"third")]
    cut_off = world.node.status()["flows"]["dnsCutOff"]
    for count in (1, 3):
        world.web.run("python3", HARNESS / "dnsserver.py", "ask-tcp", getattr(world.dns, family),
                      *[hexed(*name) for name in names[:count]])
        name_is_known(world, b".".join(names[count - 1]).decode(), 90 + count, target)
    assert world.node.status()["flows"]["dnsCutOff"] == cut_off


def test_who_did_not_open_the_connection_is_told_nothing(world):
    """Its peer sends from port 53, and what looks like an answer."""
    listening = world.web.popen("python3", "-c", f"""
import socket
listener = socket.create_server(("{world.web.v4}", 5353))
print("listening", flush=True)
listener.accept()[0].recv(1)
""", stdout=subprocess.PIPE, text=True)
    assert listening.stdout.readline() == "listening\n"
    pusher = world.node.pod("pusher")
    pusher.run("python3", "-c", f"""
import socket, sys
sys.path.insert(0, {str(HARNESS)!r})
import dnsserver
sock = socket.socket()
sock.bind(("{pusher.v4}", 53))
sock.connect(("{world.web.v4}", 5353))
data = dnsserver.answer(dnsserver.question([b"pushed", b"org"]), "198.51.100.12", 300)
sock.sendall(len(data).to_bytes(2, "big") + data)
""")
    listening.wait(timeout=10)
    world.ask(world.dns.v4, hexed(b"later", b"org"))
    name_is_known(world, "later.org", 94)
    world.web.connect("198.51.100.12", PORT, timeout=0.1)
    flow = wait_flow(world.node, world.web.v4, "198.51.100.12", "EGRESS", timeout=20)
    assert "destination_names" not in flow


def test_a_name_is_over_after_its_time(world):
    """For connections that fail, too; they never began."""
    target = "198.51.100.10"
    short = world.node.pod("short")
    world.serve(short.v4, target, ttl=1, pod=short)
    world.ask(short.v4, hexed(b"short", b"org"))

    def named():
        world.web.connect(target, PORT, timeout=0.1)
        flows = find(world.node, world.web.v4, target, "EGRESS")
        return flows and "destination_names" in flows[-1]
    wait_for(named, "a flow with a name", 20)
    wait_for(lambda: not named(), "the end of the name", 30)


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
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == 3 * ["/dev/null"]
    # Of the maps it has the ring alone: how far it has read, and what is in it to be read.
    assert sorted(maps_of_bpf(pid)) == [("r--s", 1 + 2 * 64), ("rw-s", 1)]
    os.kill(pid, 9)
    wait_for(lambda: not source_works(world.node, "dns"), "the agent, which notices", 10)
    wait_for(lambda: source_works(world.node, "dns"), "another reader", 30)
    world.ask(world.dns.v4, hexed(b"again", b"org"))

    def named():
        world.web.connect(OUTSIDE, 83, timeout=0.1)
        return [flow for flow in find(world.node, world.web.v4, OUTSIDE, "EGRESS")
                if flow.get("destination_names") == ["again.org"]]
    wait_for(named, "a name by the new one", 20)


def test_no_child_of_the_agent_sees_its_maps(world):
    agent = world.node.agent.pid
    assert [perms for perms, _ in maps_of_bpf(agent) if perms == "rw-s"]
    children = pathlib.Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    names = {pathlib.Path(f"/proc/{pid}/comm").read_text().strip(): pid for pid in children}
    assert set(names) == {"tendril-dns", "tendril-links", "tendril-fork"}
    assert not list(maps_of_bpf(names["tendril-links"]))
    assert not list(maps_of_bpf(names["tendril-fork"]))


def test_a_reader_that_hangs_is_replaced(world):
    pid, _ = world.reader()
    os.kill(pid, signal.SIGSTOP)
    world.ask(world.dns.v4, hexed(b"hangs", b"org"))

    def problem():
        return next(source["problem"] for source in world.node.status()["flows"]["sources"]
                    if source["name"] == "dns")
    assert wait_for(problem, "the agent, which notices", 20) == "their process does not answer"
    wait_for(lambda: source_works(world.node, "dns"), "another reader", 30)
    assert world.reader()[0] != pid


def test_one_pod_does_not_crowd_out_the_names_of_others():
    """It holds names of the greatest length by its flows, which are kept."""
    with World() as world:
        world.serve(world.dns.v4, OUTSIDE)
        world.web.run("python3", "-c", f"""
import socket, sys, time
sys.path.insert(0, {str(HARNESS)!r})
import dnsserver
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(10)
for i in range(300):
    sock.sendto(dnsserver.question([b"%063d" % i, b"y" * 63, b"z" * 63, b"w" * 58]),
                ("{world.dns.v4}", dnsserver.PORT))
    sock.recv(4096)
    time.sleep(0.08)  # the name is known, and the pod stays within its rate
    with socket.socket() as flow:
        flow.setblocking(False)
        flow.connect_ex(("{OUTSIDE}", 81))
""")
        left_out = wait_for(lambda: world.node.status()["flows"]["namesLeftOut"],
                            "names without room", 20)
        assert left_out <= 300
        other = world.node.pod("other")
        world.ask(world.dns.v4, hexed(b"more", b"org"), client=other)

        def named():
            other.connect(OUTSIDE, 82, timeout=0.1)
            return [flow for flow in find(world.node, other.v4, OUTSIDE, "EGRESS")
                    if flow.get("destination_names") == ["more.org"]]
        wait_for(named, "a name of another pod", 20)


def test_policies_are_recorded_with_names(world):
    world.node.put(pod_object("web", labels={"app": "web"}, addresses=world.web.addresses))
    world.ask(world.dns.v4, hexed(b"record", b"org"))
    recorder = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "policy", "record",
                                 "--for", "8s", "web"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    assert "observing" in recorder.stderr.readline()
    world.web.connect(OUTSIDE, PORT, timeout=0.1)
    world.web.connect(OUTSIDE, PORT, timeout=0.1)
    policies, notes = recorder.communicate(timeout=60)
    assert f"cidr: \"{OUTSIDE}/32\"  # record.org\n" in policies
    assert f"policy record: {OUTSIDE} is record.org\n" in notes


@pytest.mark.parametrize("options, problem", [
    ([], "the setting dnsNames is false"),
    (["--dns-names", "--flows=false"], "the setting flows is false")])
def test_nobody_reads_them_unless_wanted(options, problem):
    want = {"name": "dns", "works": False, "problem": problem}
    with Node(*options) as node:
        wait_for(lambda: want in node.status()["flows"]["sources"], "the reason", 10)
        agent = node.agent.pid
        children = pathlib.Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        assert "tendril-dns\n" not in [pathlib.Path(f"/proc/{pid}/comm").read_text()
                                       for pid in children]
