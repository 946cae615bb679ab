# SPDX-License-Identifier: Apache-2.0
"""TCP as it is now: sockets of pods, and the screens that are drawn again and again.

    pods "web" and "cart"; "cart" is behind a service
"""

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

from tendril import (BUILD, Node, UnixConnection, pod_object, policy_object, service_object, slice_object,
                     wait_for)

PORT, VIP = 8080, "10.96.0.9"
GREETING = len("cart\n")
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class World:
    def __init__(self):
        self.node = Node()
        self.web, self.cart = (self.node.pod(name) for name in ("web", "cart"))
        for pod in (self.web, self.cart):
            pod.serve(tcp=[PORT])
        self.node.put(service_object("cart", "default", [VIP], [{"port": 80, "targetPort": PORT}]),
                      slice_object("cart-1", "default", "cart", "IPv4", [{"port": PORT}], [self.cart.v4]),
                      *[pod_object(pod.pod_name, labels={"app": pod.pod_name}, addresses=pod.addresses)
                        for pod in (self.web, self.cart)])
        wait_for(lambda: self.node.status()["flows"]["sources"][0]["works"], "the source")

    def state(self, *argv):
        return json.loads(self.node.cli("tcp", "state", "-o", "json", *argv).stdout)

    def sockets(self, *argv, **wanted):
        return [socket for socket in self.state(*argv)["sockets"]
                if all(socket.get(key) == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def world():
    made = World()
    yield made
    made.node.close()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_both_ends_of_a_connection_are_listed(world, family):
    addr = getattr(world.cart, family)
    world.web.call("hold", id=family, addr=addr, port=PORT)
    try:
        assert world.web.call("ping", id=family, timeout=10)["result"] == "ok"
        client, = world.sockets("--pod", "web", "--port", str(PORT), "--state", "established",
                                peerAddress=addr)
        server, = world.sockets("--pod", "default/cart", state="ESTABLISHED",
                                peerPort=client["port"], peerAddress=client["address"])
        assert (client["pod"], client["peer"], client["peerPort"]) == ("default/web", "default/cart", PORT)
        assert (server["pod"], server["peer"], server["port"]) == ("default/cart", "default/web", PORT)
        assert (client["sent"], client["received"]) == (4, GREETING + 4)
        assert (server["sent"], server["received"]) == (GREETING + 4, 4)
        assert client["roundTripUs"] > 0 and client["retransmits"] == 0
        assert client["sendQueue"] == client["receiveQueue"] == 0
        world.web.call("send", id=family)  # its echo stays in the queue
        wait_for(lambda: world.sockets("--pod", "web", peerAddress=addr, receiveQueue=4), "the queue")
        assert "default/cart:8080" in world.node.cli("tcp", "state", "--pod", "web").stdout
    finally:
        world.web.call("close", id=family)


def test_listeners_and_services_are_named(world):
    assert world.sockets("--pod", "cart", "--state", "LISTEN", port=PORT)
    world.web.call("hold", id="vip", addr=VIP, port=80)
    try:
        client, = world.sockets("--pod", "web", "--state", "ESTABLISHED")
        assert (client["service"], client["servicePort"], client["peer"]) == (
            "default/cart", 80, "default/cart")
    finally:
        world.web.call("close", id="vip")


def test_states_are_counted(world):
    world.web.call("hold", id="counted", addr=world.cart.v4, port=PORT)
    answer = world.state("-n", "default")
    assert answer["leftOut"] == 0 and answer["counts"]["ESTABLISHED"] == 2
    assert sum(answer["counts"].values()) == len(answer["sockets"])
    first = world.node.cli("tcp", "state", "-A").stdout.splitlines()[0]
    assert first.startswith(f"{len(answer['sockets'])} sockets: ") and "2 ESTABLISHED" in first
    world.web.call("close", id="counted")
    assert world.state("-n", "elsewhere") == {"counts": {}, "sockets": [], "leftOut": 0}
    assert "not NAMESPACE/NAME" in world.node.cli("tcp", "state", "--pod", "none", check=False).stderr


# ---- what is dropped ----

def dropped(world, *argv, cause):
    """The first event of `tendril tcp drop` that cause() leads to."""
    process = start(world, "tcp", "drop", "-o", "json", *argv, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(20):  # the stream may begin after the first attempts
            cause()
            if select.select([process.stdout], [], [], 0.2)[0]:
                return json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    raise AssertionError("nothing was told")


def programs_on(tracepoint):
    links = json.loads(subprocess.run(["bpftool", "-j", "link"], capture_output=True, text=True,
                                      check=True).stdout)
    return sum(link.get("tp_name") == tracepoint for link in links)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_what_the_kernel_drops_is_told_with_its_reason(world, family):
    """A segment for a port that nobody listens on; and afterwards nothing is attached any more."""
    source, target = getattr(world.web, family), getattr(world.cart, family)
    event = dropped(world, "--to", target, "--port", "9",
                    cause=lambda: world.web.connect(target, 9, timeout=0.5))
    assert (event["type"], event["reason"]) == ("kernel", "NO_SOCKET")
    assert (event["source"]["address"], event["source"]["pod"]) == (source, "default/web")
    assert (event["destination"]["pod"], event["destination"]["port"]) == ("default/cart", 9)
    assert (event["direction"], event["tcpFlags"]) == ("ingress", "S")
    wait_for(lambda: programs_on("kfree_skb") == 0, "the program to be detached")


def test_what_policy_drops_is_told_once(world):
    world.node.put(policy_object("closed", "default", {"matchLabels": {"app": "cart"}},
                                 policyTypes=["Ingress"]))
    try:
        event = dropped(world, "--to", "cart", "-n", "default",
                        cause=lambda: world.web.connect(world.cart.v4, PORT, timeout=0.2))
        assert (event["type"], event["reason"]) == ("drop", "INGRESS_DENIED")
    finally:
        world.node.api("DELETE", "/v1/objects/NetworkPolicy/default/closed")


def test_the_source_is_listed(world):
    sources = {source["name"]: source["works"] for source in world.node.status()["flows"]["sources"]}
    assert sources == {"tcp_state": True, "packets": True, "drops": True, "dns": False, "kfree_skb": True}


# ---- again and again ----

def start(world, *argv, **more):
    return subprocess.Popen([BUILD / "tendril", "--socket", world.node.socket, *argv], **more)


def picture(stream):
    """The next array of a stream."""
    text = ""
    while True:
        line = stream.readline()
        assert line, f"the command ended after {text!r}"
        text += line
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            pass


def test_tcp_top_counts_what_is_open_and_what_has_closed_once(world):
    """More pictures than the log is read back for: what has closed must not count again.  What is sent fits
    into the first window: the client closes before it has read all, which discards what waits to be sent."""
    world.web.call("hold", id="top", addr=world.cart.v4, port=PORT)
    top = start(world, "tcp", "top", "--interval", "1s", "--for", "6s", "-o", "json", "-n", "default",
                stdout=subprocess.PIPE, text=True)
    assert [row["connections"] for row in picture(top.stdout)] == [1, 1]
    assert world.web.connect(world.cart.v4, PORT, send="x" * 8000)["result"] == "ok"
    for _ in range(10):
        assert world.web.call("ping", id="top", timeout=10)["result"] == "ok"
    shown = [{row["name"]: row for row in picture(top.stdout)} for _ in range(5)]
    assert top.wait(10) == 0 and not top.stdout.read()
    top.stdout.close()
    sent = sum(rows["default/web"]["bytesOut"] for rows in shown)
    assert 8040 * 0.9 < sent <= 8040
    assert sum(rows["default/cart"]["bytesIn"] for rows in shown) == sent
    assert [rows["default/web"]["connections"] for rows in shown] == [2, 1, 1, 1, 1]
    world.web.call("close", id="top")


@pytest.mark.parametrize("by, name", [("pod", "default/web"), ("namespace", "default"),
                                      ("service", "default/cart"), ("connection", "default/web:")])
def test_tcp_top_sums_by(world, by, name):
    world.web.call("hold", id="by", addr=VIP, port=80)
    out = world.node.cli("tcp", "top", "--by", by, "--interval", "1s", "--for", "1s").stdout
    world.web.call("close", id="by")
    assert out.startswith("NAME ") and "\x1b" not in out
    assert any(line.startswith(name) for line in out.splitlines()), out


class Terminal:
    """A command on a terminal of 24 lines."""

    def __init__(self, world, *argv):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 100))
        self.before = termios.tcgetattr(slave)
        self.slave, self.text = slave, b""
        self.process = start(world, *argv, stdin=slave, stdout=slave, stderr=slave)

    def read_until(self, wanted):
        end = time.monotonic() + 15
        while wanted not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.mark.parametrize("words, shown", [(["tcp", "top"], b"BYTES-OUT/S"),
                                          (["top", "--watch"], b"BYTES-OUT")])
@pytest.mark.parametrize("end", ["q", signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_as_it_was(world, words, shown, end):
    world.web.call("hold", id="shown", addr=world.cart.v4, port=PORT)
    terminal = Terminal(world, *words, "--interval", "1s")
    try:
        terminal.read_until(shown)
        assert terminal.text.index(ENTER) < terminal.text.index(shown)
        assert termios.tcgetattr(terminal.slave) != terminal.before, "keys come one by one"
        if end == "q":
            os.write(terminal.master, b"xq")
        else:
            terminal.process.send_signal(end)
        assert terminal.process.wait(5) == 0
        terminal.read_until(LEAVE)
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()
        world.web.call("close", id="shown")


def test_top_is_sorted_as_asked(world):
    assert world.web.connect(world.cart.v4, PORT, send="x" * 1000)["result"] == "ok"
    wait_for(lambda: len(world.node.cli("top").stdout.splitlines()) > 2, "both pods")

    def order(key):
        rows = json.loads(world.node.cli("top", "--sort", key, "-o", "json").stdout)
        return [row["name"] for row in rows], rows
    assert order("name")[0] == ["default/cart", "default/web"]
    for key, member in (("out", "bytesOut"), ("in", "bytesIn"), ("connections", "connections")):
        numbers = [row[member] for row in order(key)[1]]
        assert numbers == sorted(numbers, reverse=True)
    assert "--sort x: must be" in world.node.cli("top", "--sort", "x", check=False).stderr
    assert "for --watch" in world.node.cli("top", "--interval", "1s", check=False).stderr


def test_pods_come_and_go_while_sockets_are_listed(world):
    """The list is made in pieces: others have their turn, and the pods that stay are all there."""
    node = world.node
    for turn in range(10):
        guest = node.pod(f"guest-{turn}")
        asked = [UnixConnection(node.socket, timeout=20) for _ in range(4)]
        for connection in asked:
            connection.request("GET", "/v1/sockets")
        guest.cni("DEL")
        for connection in asked:
            answer = json.loads(connection.getresponse().read())
            connection.close()
            names = {pod["name"] for pod in answer["pods"]}
            assert {"web", "cart"} <= names <= {"web", "cart", f"guest-{turn}"}
            assert any(one["state"] == "LISTEN" and one["port"] == PORT for pod in answer["pods"]
                       if pod["name"] == "cart" for one in pod["sockets"])
    assert node.agent.poll() is None
