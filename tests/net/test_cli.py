# SPDX-License-Identifier: Apache-2.0
"""The command line against a real agent: what is stored, names that are completed, events of one pod.

    pod "web": the client      pod "cart": closed by policy
"""

import json
import os
import select
import socket
import stat
import subprocess
import time

import pcapng
import pytest
import yaml

from tendril import BUILD, Node, UnixConnection, pod_object, policy_object, wait_for

PORT = 8080
CLOSED = policy_object("closed", "default", {"matchLabels": {"app": "cart"}}, policyTypes=["Ingress"])


class World:
    def __init__(self):
        self.node = Node()
        self.web, self.cart = (self.node.pod(name) for name in ("web", "cart"))
        self.cart.serve(tcp=[PORT])
        self.node.put(CLOSED, *[pod_object(name, labels={"app": name}, addresses=pod.addresses)
                                for name, pod in (("web", self.web), ("cart", self.cart))])


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.node.close()


def test_get_shows_what_is_stored(world):
    cli = world.node.cli
    assert cli("get", "pods", "-o", "name").stdout == "Pod/default/cart\nPod/default/web\n"
    listed = cli("get", "policies", "-o", "wide").stdout.splitlines()
    assert listed[1].startswith("default/closed  NetworkPolicy") and listed[1].endswith("  api")
    stored = yaml.safe_load(cli("get", "netpol", "closed", "-o", "yaml").stdout)
    assert stored["spec"] == CLOSED["spec"]
    assert cli("get", "pods", "-n", "other", "-o", "name").stdout == ""


def test_the_shell_completes_what_the_agent_has(world):
    def offered(*words):
        return set(subprocess.run([BUILD / "tendril", "complete", *words], capture_output=True, text=True,
                                  env={"TENDRIL_SOCKET": str(world.node.socket)}).stdout.split())
    assert offered("endpoint", "get", "") == {"default/web", "default/cart"}
    assert offered("policy", "delete", "d") == {"default/closed"}
    assert offered("get", "pods", "-n", "") == {"default"}


def test_monitor_shows_the_drops_of_one_pod(world):
    process = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "monitor", "--verdict",
                                "deny", "--to", "cart", "-n", "default", "--port", str(PORT), "-o", "json"],
                               stdout=subprocess.PIPE, text=True)
    try:
        # The stream may begin after the first attempts: each attempt is one more chance.
        for _ in range(20):
            assert world.web.connect(world.cart.v4, PORT, timeout=0.25)["result"] == "timeout"
            if select.select([process.stdout], [], [], 0.1)[0]:
                break
        event = json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
    assert event["type"] == "drop" and event["destination"]["pod"] == "default/cart"
    assert event["destination"]["port"] == PORT and event["source"]["pod"] == "default/web"


# ---- monitor --pcap ----

class Capture:
    """`tendril monitor --pcap FILE`, from when the agent serves it."""

    def __init__(self, node, path, *argv):
        self.path = path
        self.process = subprocess.Popen([BUILD / "tendril", "--socket", node.socket, "monitor", "--pcap",
                                         path, *argv])
        wait_for(lambda: path.exists() and path.stat().st_size > 0, "the file")
        wait_for(self.sleeps, "its request")
        node.status()  # answered after that request

    def sleeps(self):
        with open(f"/proc/{self.process.pid}/wchan") as file:
            return "poll" in file.read()

    def packets(self):
        return pcapng.read(self.path.read_bytes())[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_dropped_packets_are_a_pcapng_file(world, tmp_path, family):
    source, target = getattr(world.web, family), getattr(world.cart, family)
    began = time.time_ns()
    with Capture(world.node, tmp_path / "drops.pcapng", "--type", "drop", "--to", "cart", "-n",
                 "default") as capture:
        assert world.web.connect(target, PORT, timeout=0.3)["result"] == "timeout"
        wait_for(capture.packets, "a packet")
        (snap, packets), now = pcapng.read(capture.path.read_bytes()), time.time_ns()
    assert snap == 128
    packet = packets[0]
    assert began - 10**8 < packet.time_ns <= now
    assert packet.length == len(packet.data) < 128
    af, header = (socket.AF_INET, slice(26, 34)) if family == "v4" else (socket.AF_INET6, slice(22, 54))
    assert packet.data[header] == socket.inet_pton(af, source) + socket.inet_pton(af, target)
    for words in ("drop INGRESS_DENIED: ", f"default/web ({source}) port ",
                  f"-> default/cart ({target}) port {PORT}", "ingress default/closed"):
        assert words in packet.comment, packet.comment
    assert stat.S_IMODE(capture.path.stat().st_mode) == 0o600
    # What everybody reads it with.
    shown = subprocess.run(["tcpdump", "-nn", "-r", capture.path], capture_output=True, text=True,
                           check=True).stdout.splitlines()
    assert len(shown) == len(packets) and f"> {target}.{PORT}: Flags [S]" in shown[0]


def test_packets_of_connections_go_into_a_pipe_cut_to_length(world):
    process = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "monitor", "--pcap", "-",
                                "--verdict", "allow", "--snaplen", "20", "--from", "cart", "-n",
                                "default"], stdout=subprocess.PIPE)
    try:
        data = b""
        for _ in range(20):
            world.cart.connect(world.web.v4, 9, timeout=0.25)
            while select.select([process.stdout], [], [], 0.1)[0]:
                data += os.read(process.stdout.fileno(), 65536)
            if len(list(pcapng.blocks(data))) > 2:
                break
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    snap, packets = pcapng.read(data)
    assert snap == 20 and packets and all(len(packet.data) == 20 for packet in packets)
    assert packets[0].length > 40 and packets[0].comment.startswith("verdict: allowed; default/cart (")


def test_flows_have_packets_while_they_are_followed(world):
    late = world.node.cli("flows", "-o", "pcapng", check=False)
    assert late.returncode == 2 and "only counts are kept" in late.stderr and not late.stdout
    wrong = world.node.cli("flows", "-f", "-o", "pcapng", "--reason", "SPOOFED_MAC", check=False)
    assert wrong.returncode == 2 and "-o pcapng takes --from" in wrong.stderr
    process = subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, "flows", "-f", "-o",
                                "pcapng", "--verdict", "dropped", "--to", "default/cart"],
                               stdout=subprocess.PIPE)
    try:
        data = process.stdout.read1(65536)  # the header: it is about to follow
        for _ in range(40):
            world.web.connect(world.cart.v4, PORT, timeout=0.25)
            while select.select([process.stdout], [], [], 0.1)[0]:
                data += os.read(process.stdout.fileno(), 65536)
            if len(list(pcapng.blocks(data))) > 2:
                break
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    packets = pcapng.read(data)[1]
    assert packets and all(packet.comment.startswith("drop INGRESS_DENIED: ") for packet in packets)


def test_bytes_of_packets_are_for_those_who_ask(world):
    """Beside one who asks, another one gets none; and when he has gone, no program copies any."""
    connection = UnixConnection(world.node.socket, timeout=10)
    connection.request("GET", "/v1/events?type=drop")
    plain = connection.getresponse()
    asking = UnixConnection(world.node.socket, timeout=10)
    asking.request("GET", "/v1/events?type=drop&bytes=60")
    answer = asking.getresponse()
    world.web.udp(world.cart.v4, PORT, timeout=0.05)
    event = json.loads(answer.readline())
    assert bytes.fromhex(event["packet"])[26:30] == socket.inet_aton(world.web.v4)
    assert "packet" not in json.loads(plain.readline())
    connection.close()
    asking.close()
    for bad in ("257", "-1", "x"):
        assert world.node.api("GET", f"/v1/events?bytes={bad}", status=400)["error"]


@pytest.mark.parametrize("words, said", [
    (["--pcap", "/nowhere/file"], "write /nowhere/file: No such file or directory"),
    (["--pcap", "/dev/full"], "/dev/full cannot be written"),
    (["--pcap", "-", "--snaplen", "257"], "--snaplen 257: must be a number up to 256, with --pcap"),
    (["--snaplen", "20"], "--snaplen 20: must be a number up to 256, with --pcap"),
])
def test_what_no_packet_can_be_written_to_is_told(world, words, said):
    done = world.node.cli("monitor", *words, check=False)
    assert done.returncode in (1, 2) and said in done.stderr


def test_explain_names_the_policy(world):
    done = world.node.cli("policy", "explain", "web", "cart", "--port", str(PORT))
    assert done.stdout.startswith("deny") and "NetworkPolicy default/closed" in done.stdout
    assert world.node.cli("status").returncode == 0


# ---- status --wait ----

def waiting(node, *more):
    return subprocess.Popen([BUILD / "tendril", "--socket", node.socket, "status", "-o", "json", *more],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_status_waits_for_an_agent_that_has_yet_to_start():
    with Node(start=False) as node:
        process = waiting(node, "--wait")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        node.start()
        out, err = process.communicate(timeout=20)
        assert (process.returncode, err, json.loads(out)["ready"]) == (0, "", True)


def test_status_waits_until_what_is_wrong_is_mended():
    with Node("--kubernetes=true") as node:
        process = waiting(node, "--wait=60s")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        for line in ("RESET", "SYNCED"):
            connection = UnixConnection(node.run_dir / "kube/kube.sock")
            connection.request("POST", "/v1/sources/kubernetes", f'{{"type":"{line}"}}\n')
            assert connection.getresponse().status == 200
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0 and json.loads(out)["failures"] == []


def test_status_says_what_is_wrong_when_the_time_is_up():
    with Node("--kubernetes=true") as node:
        process = waiting(node, "--wait=1")
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 1 and any("Kubernetes" in text
                                               for text in json.loads(out)["failures"])
        node.stop()
        process = waiting(node, "--wait=1s")
        assert "no agent answers" in process.communicate(timeout=20)[1]
        assert process.returncode == 1
    process = waiting(node, "--wait=soon")
    assert "is not a time" in process.communicate(timeout=20)[1]
    assert process.returncode == 2
