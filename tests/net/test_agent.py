# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: start, refusal, signals, restarts, limits of its API, cleanup.

One node netns with the agent in it; pods only where something must survive or be removed.
"""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

import tendril
from tendril import BUILD, Node, policy_object, run, wait_for

CAPS_KEPT = {"net_broadcast": 11, "net_admin": 12, "sys_ptrace": 19, "sys_admin": 21,
             "perfmon": 38, "bpf": 39}
NOBODY = 65534


def pinned(node):
    """Every pin below the node's bpffs directory with the id of the object behind it."""
    ids = {}
    for path in sorted(node.bpffs.rglob("*")):
        if path.is_file():
            kind = "link" if path.parent.name == "links" else "map"
            shown = json.loads(run("bpftool", "-j", kind, "show", "pinned", path).stdout)
            ids[str(path.relative_to(node.bpffs))] = shown["id"]
    return ids


def once(node, *more, timeout=10):
    """Runs another agent with the node's options to its end."""
    return subprocess.run(node.argv(*more), capture_output=True, text=True, timeout=timeout)


def raw(node, data, timeout=20.0):
    """Sends bytes to the API and returns all that comes back until it closes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout)
        sock.connect(str(node.socket))
        try:
            sock.sendall(data)
        except BrokenPipeError:
            pass
        answer = b""
        try:
            while part := sock.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


# ---- start ----

def test_status_tells_how_the_agent_is(shared_node):
    status = shared_node.status()
    assert status["ready"] is True
    assert status["pid"] > 0 and status["version"]
    assert 0 < status["startMilliseconds"] < 2000
    assert status["datapath"]["attach"] in ("tcx", "clsact")
    assert status["datapath"]["socketServices"] is True
    assert status["datapath"]["instructions"] == sum(
        p["instructions"] for p in status["datapath"]["programs"]) > 1000
    assert {"from_pod", "to_pod", "connect4"} <= {
        p["name"] for p in status["datapath"]["programs"]}
    assert 1 << 20 < status["memory"]["rssBytes"] < 10 << 20
    assert status["memory"]["mapBytes"] > 1 << 20
    assert status["podCIDRs"] == list(shared_node.cidrs)
    maps = {m["name"]: m for m in status["maps"]}
    assert maps["ct_map"]["capacity"] == 32768
    assert all(m["used"] <= m["capacity"] for m in maps.values())
    assert status["warnings"] == []


def test_what_is_not_needed_is_given_up(shared_node):
    pid = shared_node.status()["pid"]
    fields = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    kept = sum(1 << bit for bit in CAPS_KEPT.values())
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(fields[name], 16) & ~kept == 0, f"{name} {fields[name]}"
    assert int(fields["CapEff"], 16) & 1 << CAPS_KEPT["net_admin"]
    assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


def test_files_are_private(shared_node):
    assert shared_node.run_dir.stat().st_mode & 0o777 == 0o700
    assert shared_node.socket.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("argv, parts", [
    (["--mtu=99999"], ["option --mtu: 99999 is not between"]),
    (["--pod-cidr=10.0.0.1/8"], ["option --pod-cidr", "did you mean 10.0.0.0/8"]),
    (["--config=/nonexistent.json"], ["/nonexistent.json", "No such file"]),
    (["--encryption-strict"], ["encryptionStrict is for encryption wireguard"]),
    (["--frobnicate"], ["--frobnicate"]),
])
def test_bad_options_are_refused_before_anything_is_touched(argv, parts):
    done = run(BUILD / "tendrild", *argv, check=False)
    assert done.returncode == 2
    assert all(part in done.stderr for part in parts), done.stderr


def test_check_config_names_file_and_field(tmp_path):
    file = tmp_path / "agent.json"
    file.write_text('{"mtu": 1400, "socketServices": false, "podCIDRs": ["10.9.0.0/16"]}')
    done = run(BUILD / "tendrild", "--config", file, "--check-config")
    assert json.loads(done.stdout)["podCIDRs"] == ["10.9.0.0/16"]
    assert json.loads(done.stdout)["socketServices"] is False
    file.write_text('{"podCIDRs": ["10.9.0.0/16", "10.9.9.0/24"]}')
    done = run(BUILD / "tendrild", "--config", file, "--check-config", check=False)
    assert done.returncode == 2
    assert f"{file}: podCIDRs[1]: " in done.stderr and "overlaps" in done.stderr


def test_help_and_manual_page_know_the_same_options():
    text = run(BUILD / "tendrild", "--help").stdout
    options = set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE))
    assert {"--run-dir", "--pod-cidr", "--cleanup", "--check-config"} <= options
    page = (tendril.ROOT / "doc/man/tendrild.8").read_text().replace("\\-", "-")
    assert set(re.findall(r"--[a-z-]+", page)) - {"--"} >= options
    assert set(re.findall(r"--[a-z][a-z-]+", page)) - options - {"--no-"} == set()
    assert run(BUILD / "tendrild", "--version").stdout.startswith("tendrild ")


def test_the_shipped_configuration_is_valid():
    file = tendril.ROOT / "deploy/agent.json"
    run(BUILD / "tendrild", "--config", file, "--check-config")


def test_the_api_document_names_every_route():
    document = (tendril.ROOT / "agent/api/API.md").read_text()
    source = (tendril.ROOT / "agent/api/api.c").read_text()
    paths = {path.split("/*")[0] for path in re.findall(r'"(/v1/[a-z/*]+)"', source)}
    assert len(paths) > 10
    missing = [path for path in paths if path not in document]
    assert not missing


def test_an_agent_without_privileges_says_what_is_missing(tmp_path):
    done = run("setpriv", f"--reuid={NOBODY}", "--clear-groups", BUILD / "tendrild", "--run-dir",
               tmp_path / "run", check=False)
    assert done.returncode == 1
    assert "CAP_NET_ADMIN is missing" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_second_agent_with_the_same_pins_is_refused(node):
    """It lives in another network namespace: nothing else keeps the two apart."""
    one, two = node.pod("one"), node.pod("two")
    with Node(start=False) as other:
        for more in ([], ["--cleanup"]):
            done = run(*other.argv("--bpffs", node.bpffs, *more), check=False, timeout=20)
            assert done.returncode == 1
            assert f"{node.bpffs} is in use by another agent" in done.stderr
    assert one.run("ping", "-c", "1", "-W", "10", two.v4, check=False).returncode == 0
    node.kill()  # and the lock is free
    node.start()
    assert one.run("ping", "-c", "1", "-W", "10", two.v4, check=False).returncode == 0


def test_a_second_agent_is_refused(node):
    same_dir = once(node)
    assert same_dir.returncode == 1
    assert f"{node.run_dir} is in use by another agent (pid {node.agent.pid})" in same_dir.stderr
    same_netns = once(node, "--run-dir", node.dir / "other")
    assert same_netns.returncode == 1
    assert f"another agent (pid {node.agent.pid}) serves this network namespace" in \
        same_netns.stderr
    assert once(node, "--cleanup").returncode == 1
    assert node.status()["ready"] is True


def test_a_stranger_in_the_namespace_does_not_keep_the_agent_from_starting():
    with Node(start=False) as node:
        holder = subprocess.Popen(
            node.netns.enter("setpriv", f"--reuid={NOBODY}", "--clear-groups", sys.executable, "-c",
                             "import socket; s = socket.socket(socket.AF_UNIX); "
                             "s.bind('\\0tendrild'); s.listen(); print(flush=True); input()"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            holder.stdout.readline()
            node.start()
            assert "held by pid" in node.log()
        finally:
            holder.kill()
            holder.wait()
            holder.stdin.close()
            holder.stdout.close()


def test_without_a_bpffs_one_is_mounted():
    with Node(start=False) as node:
        node.bpffs = node.dir / "bpf"
        enter = node.netns.enter
        node.netns.enter = lambda *argv: ["unshare", "--mount", *enter(*argv)]
        node.start()
        assert f"mounted a bpffs on {node.bpffs}" in node.log()
        assert node.status()["ready"] is True
        assert not node.bpffs.exists() or not any(node.bpffs.iterdir()), \
            "the mount is the agent's namespace's own"


# ---- signals and restarts ----

def test_restart_keeps_links_maps_and_endpoints(node):
    pod = node.pod("web", labels={"app": "web"})
    node.put(policy_object("deny", "default", {}, policyTypes=["Ingress"]))
    wait_for(lambda: node.status()["acceleration"]["state"] == "on", "what comes after READY")
    before, endpoints = pinned(node), node.api("GET", "/v1/endpoints")
    links = node.netns.ip("-json", "link").stdout
    for signum, status in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGKILL, -9)):
        assert node.stop(signum) == status
        assert pinned(node) == before, f"after signal {signum}"
        node.start()
        assert pinned(node) == before, f"after a restart that follows signal {signum}"
        assert node.netns.ip("-json", "link").stdout == links
        for kept, now in zip(endpoints, node.api("GET", "/v1/endpoints"), strict=True):
            assert {k: kept[k] for k in kept if k != "stats"} == \
                {k: now[k] for k in now if k != "stats"}
        assert node.api("GET", "/v1/policies")[0]["name"] == "deny"
    assert pod.cni("CHECK", conf=dict(pod.conf, prevResult=pod.result)) == {}


# Sends a numbered datagram every millisecond until its standard input closes, waits for the last
# answers and prints how many were sent and which numbers never came back.  No more than 50 are on
# their way: a socket buffer that overflows because the machine is busy would prove nothing.
STEADY_TRAFFIC = """
import select, socket, sys, time
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 80))
missing, sent, asked, due = set(), 0, True, time.monotonic()
while asked or (missing and time.monotonic() < due + 1):
    if asked and len(missing) < 50 and time.monotonic() >= due:
        sock.send(b"%d" % sent)
        missing.add(sent)
        sent += 1
        due = time.monotonic() + 0.001
    ready = select.select([sock] + ([sys.stdin] if asked else []), [], [], 0.001)[0]
    if sock in ready:
        missing.discard(int(sock.recv(100).split()[1]))
    if sys.stdin in ready:
        asked = False
print(sent, *sorted(missing))
"""


def test_no_packet_is_lost_when_the_agent_is_killed_and_restarted(node):
    server, client = node.pod("server"), node.pod("client")
    server.serve(tcp=[80], udp=[80])
    peer = [{"podSelector": {}}]
    node.put(policy_object("both", "default", {}, policyTypes=["Ingress", "Egress"],
                           ingress=[{"from": peer}], egress=[{"to": peer}]))
    assert client.call("hold", id="kept", addr=server.v4, port=80)["result"] == "ok"
    traffic = [client.popen(sys.executable, "-c", STEADY_TRAFFIC, addr, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
               for addr in (server.v4, server.v6)]
    for signum in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        node.stop(signum)
        assert client.connect(server.v4, 80)["result"] == "ok", "a new connection, no agent"
        assert client.call("ping", id="kept")["result"] == "ok"
        node.start()
    assert client.call("ping", id="kept")["result"] == "ok"
    for process in traffic:
        sent, *missing = process.communicate("", timeout=20)[0].split()
        assert int(sent) > 100
        assert missing == []


def test_sighup_reads_configuration_and_objects_again(node):
    file = node.dir / "agent.json"
    file.write_text('{"logLevel": "info"}')
    node.stop()
    node.agent_args += ["--config", str(file)]
    node.start()
    file.write_text('{"logLevel": "debug", "mtu": 1400}')
    node.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloaded" in node.log(), "the reload")
    assert "mtu has changed and takes effect with the next start" in node.log()
    file.write_text('{"logLevel": 3}')
    node.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: "logLevel: a number, where a string is needed" in node.log(), "the complaint")
    assert node.status()["ready"] is True


def test_cleanup_leaves_nothing(node):
    node.pod("web")
    node.put(policy_object("deny", "default", {}, policyTypes=["Ingress"]))
    assert node.bpffs.exists()
    node.stop()
    done = once(node, "--cleanup")
    assert done.returncode == 0, done.stderr
    assert not node.bpffs.exists()
    assert not node.run_dir.exists()
    links = {link["ifname"] for link in json.loads(node.netns.ip("-json", "link").stdout)}
    assert links == {"lo"}
    for family in ("-4", "-6"):
        assert len(json.loads(node.netns.ip("-json", family, "rule").stdout or "[]")) <= 3
        assert node.netns.ip(family, "route", "show", "table", "main").stdout == ""
    assert run("bpftool", "cgroup", "show", node.cgroup, check=False).stdout == ""
    again = once(node, "--cleanup")
    assert again.returncode == 0, again.stderr


FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/lo/forwarding",
              "net/ipv6/conf/default/accept_ra")


def switches(node):
    return node.netns.run("sh", "-c", "cd /proc/sys && cat " + " ".join(FORWARDING)).stdout.split()


@pytest.mark.parametrize("turned", [None, "net/ipv4/ip_forward"])
def test_cleanup_puts_switches_back_that_the_agent_turned(turned):
    with Node(start=False) as node:
        node.netns.run("sysctl", "-qw", "net/ipv4/ip_forward=0", "net/ipv6/conf/all/forwarding=0",
                       "net/ipv6/conf/default/accept_ra=1")
        before = switches(node)
        for _ in range(2):  # the second start finds them as the first has turned them
            node.start()
            assert switches(node) != before
            node.stop()
        if turned:  # somebody else's will since: not ours to turn
            node.netns.run("sysctl", "-qw", f"{turned}=0", f"{turned}=2")
            before[FORWARDING.index(turned)] = "2"
        assert once(node, "--cleanup").returncode == 0
        assert switches(node) == before
        assert not node.run_dir.exists()


def test_a_bpffs_that_would_vanish_is_refused(node):
    """ip netns exec hides what is mounted on /sys, and mounts made there end with the command."""
    other = tendril.Namespace(f"{node.name}x")
    try:
        argv = [BUILD / "tendrild", "--run-dir", node.dir / "other", "--objects", node.objects,
                "--cgroup", "", "--bpffs", f"/sys/fs/bpf/{node.name}x"]
        done = run("ip", "netns", "exec", other.name, *argv, check=False, timeout=10)
        assert done.returncode == 1
        assert f"nsenter --net=/run/netns/{other.name} tendrild" in done.stderr
    finally:
        other.delete()


# ---- what confines it ----

def test_the_agent_and_its_children_are_confined(node):
    wait_for(lambda: node.status()["acceleration"]["state"] != "testing", "the self-test")
    children = pathlib.Path(f"/proc/{node.agent.pid}/task/{node.agent.pid}/children").read_text()
    assert children.split()
    for pid in (node.agent.pid, *children.split()):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE), pid
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), pid


def memory_has(pid, secret):
    """Whether a process has these bytes in memory that it can read."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            if line.split()[1][0] != "r" or "[v" in line:
                continue
            memory.seek(begin)
            try:
                if secret in memory.read(end - begin):
                    return True
            except OSError:
                pass  # a piece of a file that ends before
    return False


def children_of(pid):
    return {pathlib.Path(f"/proc/{child}/comm").read_text().strip(): int(child) for child in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_no_child_has_anything_of_the_agents_memory():
    """Nor what it read before a child was started, in code that sees bytes from a network least of
    all."""
    secret = "quite-unlikely-7f3a"
    with Node("--dns-names") as node:
        node.put(tendril.pod_object("any", labels={"secret": secret}, addresses=["10.9.9.9"]))
        wait_for(lambda: "tendril-dns" in children_of(node.agent.pid), "the reader of names", 20)
        os.kill(children_of(node.agent.pid)["tendril-dns"], 9)
        wait_for(lambda: "tendril-dns" not in children_of(node.agent.pid), "its end", 20)
        wait_for(lambda: "tendril-dns" in children_of(node.agent.pid), "another one", 40)
        wait_for(lambda: node.status()["acceleration"]["state"] != "testing", "the self-test")
        children = children_of(node.agent.pid)
        assert set(children) == {"tendril-fork", "tendril-links", "tendril-dns"}
        assert memory_has(node.agent.pid, secret.encode())
        for name, pid in children.items():
            assert not memory_has(pid, secret.encode()), name


def test_an_agent_that_can_start_no_children_ends(node):
    """Its filter of system calls lets nobody execute: the next agent can."""
    os.kill(children_of(node.agent.pid)["tendril-fork"], 9)
    assert node.agent.wait(timeout=20) == 1
    assert "the process that starts children died" in node.log()
    node.start()


@pytest.mark.parametrize("watched", ["this", "another"])
def test_the_watchdog_is_fed_while_the_loop_turns(watched):
    with Node(start=False) as node, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = node.dir / "watch.sock"
        notify.bind(str(path))
        notify.settimeout(20)
        env = dict(os.environ, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="200000")
        if watched == "another":
            env["WATCHDOG_PID"] = "1"
        node.agent = subprocess.Popen(node.argv(), stderr=open(node.log_path, "wb"), env=env)
        while b"READY=1" not in notify.recv(4096):
            pass
        if watched == "another":
            notify.settimeout(0.5)
            with pytest.raises(TimeoutError):
                notify.recv(4096)
            return
        for _ in range(3):
            assert notify.recv(4096) == b"WATCHDOG=1"
        node.agent.send_signal(signal.SIGSTOP)
        notify.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while True:
                notify.recv(4096)
        node.agent.send_signal(signal.SIGCONT)
        notify.settimeout(20)
        assert notify.recv(4096) == b"WATCHDOG=1"


def test_an_idle_agent_uses_no_cpu(node):
    def ticks():
        fields = pathlib.Path(f"/proc/{node.agent.pid}/stat").read_text().rsplit(") ", 1)[1]
        return sum(int(n) for n in fields.split()[11:13])

    wait_for(lambda: node.status()["acceleration"]["state"] != "testing", "the self-test")
    before, until = ticks(), threading.Event()
    until.wait(1.0)  # a second of doing nothing is what is measured
    assert ticks() - before <= 1


# ---- API ----

def test_only_root_is_served(shared_node):
    os.chmod(shared_node.run_dir, 0o755)
    os.chmod(shared_node.socket, 0o666)
    os.chmod(shared_node.dir, 0o755)
    try:
        code = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
                "s.send(b'GET /v1/status HTTP/1.1\\r\\n\\r\\n'); print(s.recv(4096).decode())")
        done = run("setpriv", f"--reuid={NOBODY}", "--clear-groups", sys.executable, "-c", code,
                   shared_node.socket)
        assert done.stdout.startswith("HTTP/1.1 403 ")
        assert "version" not in done.stdout
    finally:
        os.chmod(shared_node.run_dir, 0o700)
        os.chmod(shared_node.socket, 0o600)
        os.chmod(shared_node.dir, 0o700)


@pytest.mark.parametrize("data, status, part", [
    (b"GET /v1/nothing HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"/v1/nothing"),
    (b"POST /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n", 405, b"the method is GET"),
    (b"GET /v1/endpoints/a/b HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"endpoint a/b"),
    (b"GET /v1/services/a/b HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"Service a/b"),
    (b"GET /v1/policies/a/b HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"NetworkPolicy a/b"),
    (b"GET /v1/objects/cow/a/b HTTP/1.1\r\nConnection: close\r\n\r\n", 404, b"cow"),
    (b"GET /v1/conntrack?limit=0 HTTP/1.1\r\nConnection: close\r\n\r\n", 400, b"limit"),
    (b"GET /v1/conntrack?limit=x HTTP/1.1\r\nConnection: close\r\n\r\n", 400, b"limit"),
    (b"GET /v1/events?type=cow HTTP/1.1\r\nConnection: close\r\n\r\n", 400, b"type"),
    (b"POST /v1/cni/add HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}", 400,
     b'"code":4'),
    (b"POST /v1/cni/add HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{[", 400,
     b'"code":6'),
    (b"POST /v1/cni/del HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]", 400,
     b"not an object"),
    (b"PUT /v1/objects HTTP/1.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{", 400, b""),
    (b"PUT /v1/objects HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n", 413, b"limit"),
    (b"GET /" + b"x" * 9000, 431, b"head longer"),
    (b"\x00\xff\r\n\r\n", 400, b"error"),
])
def test_a_bad_request_gets_a_clear_answer(shared_node, data, status, part):
    answer = raw(shared_node, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert part in answer
    assert "error" in json.loads(answer.split(b"\r\n\r\n", 1)[1])


def test_connections_without_a_request_give_way_to_requests(shared_node):
    held = []
    try:
        for _ in range(64):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].connect(str(shared_node.socket))
        assert raw(shared_node, b"GET /v1/status HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        assert held[0].recv(100).startswith(b"HTTP/1.1 503 ")  # the oldest
        held[7].sendall(b"GET /v1/identities HTTP/1.1\r\n\r\n")
        assert held[7].recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in held:
            sock.close()


def test_idle_event_streams_leave_the_plugin_its_place(node):
    answers = []  # each keeps its connection
    for _ in range(64):
        connection = tendril.UnixConnection(node.socket)
        connection.request("GET", "/v1/events?type=drop")
        answers.append(connection.getresponse())
    assert [answer.status for answer in answers] == [200] * 32 + [503] * 32
    pod = node.pod("late")  # ADD
    assert pod.addresses
    pod.cni("DEL")
    assert not list((node.run_dir / "deleted").glob("*"))  # DEL reached the agent, too
    wait_for(lambda: not node.api("GET", "/v1/endpoints"), "the endpoint to be gone")
    for answer in answers:
        answer.close()


def test_each_request_has_a_connection_of_its_own(shared_node):
    connection = tendril.UnixConnection(shared_node.socket)
    for _ in range(3):
        connection.request("GET", "/v1/identities")
        response = connection.getresponse()
        assert response.status == 200 and json.loads(response.read()) is not None
        assert response.getheader("Connection") == "close"
    connection.close()


def test_curl_works(shared_node, tmp_path):
    big = {"apiVersion": "v1", "kind": "Namespace",
           "metadata": {"name": "big", "annotations": {"note": "x" * 100000}}}
    file = tmp_path / "big.json"
    file.write_text(json.dumps(big))
    for method, path, more in (("PUT", "objects", ["--data-binary", f"@{file}"]),
                               ("GET", "objects/namespace/-/big", []),
                               ("DELETE", "objects/namespace/-/big", [])):
        done = run("curl", "-sS", "-m", "5", "--unix-socket", shared_node.socket, "-X", method,
                   *more, f"http://localhost/v1/{path}")
        assert "error" not in json.loads(done.stdout), done.stdout
    # So large that curl asks first whether to send it, and does after a second without an answer.
    big["metadata"]["annotations"]["note"] = "x" * 2000000
    file.write_text(json.dumps(big))
    done = run("curl", "-sS", "-m", "5", "--unix-socket", shared_node.socket, "-X", "PUT", "-v",
               "--data-binary", f"@{file}", "http://localhost/v1/objects")
    assert "Expect: 100-continue" in done.stderr
    assert json.loads(done.stdout) == {"applied": 1}, done.stdout
    shared_node.api("DELETE", "/v1/objects/namespace/-/big")


# ---- events ----

class Events:
    """Follows the API's event stream in a thread-free way: a socket and a buffer."""

    def __init__(self, node, types):
        self.connection = tendril.UnixConnection(node.socket, timeout=20)
        self.connection.request("GET", f"/v1/events?type={types}")
        self.response = self.connection.getresponse()
        assert self.response.status == 200

    def next(self, **wanted):
        while line := self.response.readline():
            event = json.loads(line)
            if all(event[key] == value for key, value in wanted.items()):
                return event
        raise AssertionError(f"the stream ended without {wanted}")

    def close(self):
        self.response.close()
        self.connection.close()


def test_drops_and_verdicts_are_streamed_with_names(node):
    server, client = node.pod("server"), node.pod("client")
    server.serve(tcp=[80])
    events = Events(node, "drop,verdict")
    assert client.connect(server.v4, 80)["result"] == "ok"
    verdict = events.next(type="verdict", protocol="TCP")
    assert verdict["source"]["pod"] == "default/client"
    assert verdict["destination"] | {"identity": 0} == {
        "address": server.v4, "port": 80, "pod": "default/server", "identity": 0}
    assert verdict["tcpFlags"] == "S"
    node.put(policy_object("deny", "default", {}, policyTypes=["Ingress"]))
    assert client.connect(server.v6, 80, timeout=0.3)["result"] == "timeout"
    drop = events.next(type="drop")
    assert drop["reason"] == "INGRESS_DENIED"
    assert drop["text"] == "ingress policy of the receiver does not allow it"
    assert drop["source"]["pod"] == "default/client"
    assert drop["destination"]["pod"] == "default/server"
    assert drop["destination"]["address"] == server.v6
    assert drop["time"].endswith("Z") and drop["length"] > 0
    events.close()
    dropped = {d["reason"]: d["count"] for d in node.status()["drops"]}
    assert dropped["INGRESS_DENIED"] > 0
    entry = next(e for e in node.api("GET", "/v1/endpoints") if e["name"] == "client")
    assert entry["stats"]["txPackets"] > 0


def test_verdicts_are_reported_only_while_somebody_asks(node):
    def flags():
        shown = run("bpftool", "-j", "map", "dump", "pinned", node.bpffs / "maps/node_map").stdout
        value = json.loads(shown)[0]
        value = value.get("formatted", value)["value"]
        return value["flags"] if isinstance(value, dict) else int(value[4], 16)

    wait_for(lambda: not flags() & 2, "no watcher")
    watchers = [Events(node, "verdict"), Events(node, "drop")]
    wait_for(lambda: flags() & 2, "the flag")
    watchers[0].close()
    wait_for(lambda: not flags() & 2, "the flag to go")
    watchers[1].close()
    killed = Events(node, "verdict")
    wait_for(lambda: flags() & 2, "the flag")
    node.kill()
    killed.close()
    node.start()
    assert not flags() & 2


def test_a_stream_ends_with_the_agent(node):
    events = Events(node, "drop")
    node.stop()
    try:
        assert events.response.readline() == b""
    except (http.client.IncompleteRead, ConnectionResetError):
        pass
    events.close()
