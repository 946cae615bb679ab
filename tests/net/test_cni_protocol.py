# SPDX-License-Identifier: Apache-2.0
"""The plugin's protocol, from its environment to the agent's socket.

    test --- environment, stdin ---> tendril-cni --- unix socket ---> stand-in for the agent
         <---- stdout, status -----              <--- any answer ----

What only a failing agent does is done by the stand-in here; test_cni.py has the real one.
"""

import json
import os
import stat
import subprocess
import threading
import time

import pytest

import cnirun
import tendril

PLUGIN = tendril.BUILD / "tendril-cni"

AGENT_RESULT = {
    "interfaces": [
        {"name": "tdl5", "mac": "02:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "NETNS"}],
    "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1},
            {"address": "fd00:1::2/112", "gateway": "fd00:1::1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}]}


def result_in(version):
    """AGENT_RESULT as the specification's version has it."""
    routes = AGENT_RESULT["routes"]
    if version < "0.3.0":
        return {"cniVersion": version,
                "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": routes[:1]},
                "ip6": {"ip": "fd00:1::2/112", "gateway": "fd00:1::1", "routes": routes[1:]}}
    result = json.loads(json.dumps(AGENT_RESULT))
    if version < "1.1.0":
        for interface in result["interfaces"]:
            del interface["mtu"]
    if version < "1.0.0":
        result["ips"][0]["version"], result["ips"][1]["version"] = "4", "6"
    return {"cniVersion": version, **result}


@pytest.fixture(scope="module")
def pod():
    namespace = tendril.Namespace(f"tdlproto{os.getpid()}")
    yield namespace
    namespace.delete()


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


class Plugin:
    def __init__(self, run_dir, pod):
        self.run_dir, self.pod = run_dir, pod
        self.socket = run_dir / "tendril.sock"
        self.conf = {"cniVersion": "1.1.0", "name": "net", "type": "tendril",
                     "socket": str(self.socket)}

    def __call__(self, command, conf=None, netns=True, **more):
        answer = cnirun.plugin_run(PLUGIN, command, {**self.conf, **(conf or {})},
                                   netns=self.pod.path if netns is True else netns, **more)
        assert answer.stderr == ""
        if answer.status:
            assert answer.json["msg"], "an error says why"
            assert answer.json["cniVersion"] in cnirun.SUPPORTED
        return answer

    def raw(self, text, command="ADD", **more):
        return cnirun.plugin_run(PLUGIN, command, text, netns=self.pod.path, **more)

    def agent(self, answer=None):
        return cnirun.FakeAgent(self.socket, answer or (lambda path, body: (200, AGENT_RESULT)))

    def spool(self):
        folder = self.run_dir / "deleted"
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def plugin(run_dir, pod):
    return Plugin(run_dir, pod)


# ---- VERSION ----

@pytest.mark.parametrize("version", cnirun.SUPPORTED)
def test_version_lists_all_in_the_version_asked_for(plugin, version):
    answer = plugin.raw(json.dumps({"cniVersion": version}), "VERSION")
    assert answer.json == {"cniVersion": version, "supportedVersions": cnirun.SUPPORTED}


@pytest.mark.parametrize("text", ["", "{}", '{"cniVersion":"9.9.9"}'])
def test_version_needs_no_known_version(plugin, text):
    answer = cnirun.plugin_run(PLUGIN, "VERSION", text, None, None, None, None, None)
    assert answer.json == {"cniVersion": "1.1.0", "supportedVersions": cnirun.SUPPORTED}


# ---- ADD ----

@pytest.mark.parametrize("version", cnirun.SUPPORTED)
def test_add_answers_in_the_version_asked_for(plugin, version):
    with plugin.agent():
        answer = plugin("ADD", {"cniVersion": version})
    assert (answer.status, answer.json) == (0, result_in(version))


def test_add_takes_the_best_of_cni_versions(plugin):
    plugin.conf.pop("cniVersion")
    with plugin.agent():
        answer = plugin("ADD", {"cniVersions": ["0.3.1", "1.0.0", "3.0.0"]})
    assert answer.json == result_in("1.0.0")


def test_add_hands_over_namespace_and_request(plugin):
    conf = {"mtu": 1400, "dns": {"nameservers": ["10.1.0.10"]},
            "args": {"cni": {"labels": [{"key": "app", "value": "web"}], "ips": ["10.1.0.9"]}},
            "runtimeConfig": {"mac": "02:00:00:00:00:AA", "portMappings": [
                {"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]}}
    with plugin.agent() as agent:
        answer = plugin("ADD", conf, args="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;X=y;"
                                          "K8S_POD_NAME=cart;K8S_POD_UID=u-1")
    assert agent.calls == [("/v1/cni/add", {
        "containerId": "c1", "ifname": "eth0", "netns": plugin.pod.path, "network": "net",
        "pod": {"namespace": "shop", "name": "cart", "uid": "u-1"}, "labels": {"app": "web"},
        "portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}],
        "mtu": 1400, "mac": "02:00:00:00:00:aa", "ips": ["10.1.0.9"]},
        os.stat(plugin.pod.path).st_ino)]
    assert answer.json["dns"] == {"nameservers": ["10.1.0.10"]}


@pytest.mark.parametrize("asked,result", [
    ({"servers": ["10.2.0.10"], "searches": ["shop"], "options": ["ndots:5"]},
     {"nameservers": ["10.2.0.10"], "search": ["shop"], "options": ["ndots:5"]}),
    ({"searches": ["shop"], "servers": []}, {"search": ["shop"]}),
    ({"servers": []}, {"nameservers": ["10.1.0.10"]}),
])
def test_dns_of_the_runtime_wins(plugin, asked, result):
    with plugin.agent():
        answer = plugin("ADD", {"dns": {"nameservers": ["10.1.0.10"]}, "capabilities": {"dns": True},
                                "runtimeConfig": {"dns": asked}})
    assert answer.json["dns"] == result


def test_add_waits_for_an_agent_that_restarts(plugin):
    started = []
    timer = threading.Timer(0.3, lambda: started.append(plugin.agent()))
    timer.start()
    try:
        assert plugin("ADD").status == 0
    finally:
        timer.join()
        started[0].close()


def test_add_is_repeated_when_the_agent_dies_at_it(plugin):
    answers = [None, (503, {"error": "too many clients"}), (200, AGENT_RESULT)]
    with plugin.agent(lambda path, body: answers.pop(0)) as agent:
        assert plugin("ADD").status == 0
    assert [path for path, _, _ in agent.calls] == ["/v1/cni/add"] * 3


def test_add_without_agent_is_to_be_tried_again(plugin):
    began = time.monotonic()
    answer = plugin("ADD")
    assert answer.code == 11
    assert str(plugin.socket) in answer.json["msg"]
    assert time.monotonic() - began < 3
    assert plugin.spool() == []


def test_add_takes_back_what_a_lost_agent_may_have_made(plugin):
    with plugin.agent(lambda path, body: None):
        assert plugin("ADD").code == 11
    assert plugin.spool() == ["c1-eth0.json"]


def test_add_gives_up_on_a_silent_agent(plugin):
    silence = threading.Event()
    answers = {"/v1/cni/add": silence, "/v1/cni/del": (200, {})}
    with plugin.agent(lambda path, body: answers[path]):
        began = time.monotonic()
        assert plugin("ADD").code == 11
        assert 14 < time.monotonic() - began < 25
        silence.set()
    assert plugin.spool() == ["c1-eth0.json"]  # it may get to the ADD yet


@pytest.mark.parametrize("code", [3, 4, 7, 100, 101, 102])
def test_add_passes_the_agents_refusal_on(plugin, code):
    with plugin.agent(lambda path, body: (500, {"error": "because", "code": code,
                                                "step": "create veth"})):
        answer = plugin("ADD", {"cniVersion": "0.3.1"})
    assert answer.json == {"cniVersion": "0.3.1", "code": code, "msg": "because",
                           "details": "failed step: create veth"}


@pytest.mark.parametrize("answer", [(500, {}), (500, "oops"), (200, "oops"), (200, "[]"),
                                    (200, {"ips": [{"address": "x"}]})])
def test_add_refuses_an_answer_without_sense(plugin, answer):
    with plugin.agent(lambda path, body: answer):
        assert plugin("ADD").code == 103


def test_add_joins_interfaces_of_earlier_plugins(plugin):
    earlier = {"cniVersion": "1.0.0", "interfaces": [{"name": "dummy0"}], "ips": [],
               "dns": {"search": ["s"]}}
    with plugin.agent():
        answer = plugin("ADD", {"cniVersion": "1.0.0", "prevResult": earlier})
    assert [i["name"] for i in answer.json["interfaces"]] == ["dummy0", "tdl5", "eth0"]
    assert {ip["interface"] for ip in answer.json["ips"]} == {2}
    assert answer.json["dns"] == {"search": ["s"]}


def test_add_behind_a_plugin_that_made_the_interface_is_refused(plugin):
    earlier = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]}
    with plugin.agent() as agent:
        answer = plugin("ADD", {"prevResult": earlier})
    assert (answer.code, agent.calls) == (7, [])
    assert "prevResult" in answer.json["msg"]


# ---- errors before the agent is asked ----

CONF = '{"cniVersion":"0.4.0","name":"net","type":"tendril"%s}'

FAULTS = [
    # stdin, environment, code, part of the message, version of the answer
    ("", {}, 6, "not valid JSON", "1.1.0"),
    ("{", {}, 6, "not valid JSON", "1.1.0"),
    ("[]", {}, 6, "not a JSON object", "1.1.0"),
    (CONF % "" + "x", {}, 6, "more than one JSON value", "1.1.0"),
    ('{"cniVersion":"0.5.0","name":"n","type":"t"}', {}, 1, "0.5.0", "1.1.0"),
    ('{"cniVersion":"0.3.1","type":"t"}', {}, 7, "name: missing", "0.3.1"),
    (CONF % ',"mtu":"big"', {}, 7, "mtu: ", "0.4.0"),
    (CONF % ',"socket":"sock"', {}, 7, "socket: ", "0.4.0"),
    (CONF % ',"ipMasq":true', {}, 2, "ipMasq: true", "0.4.0"),
    (CONF % ',"ipam":{"type":"nowhere"}', {}, 7, "nowhere", "0.4.0"),
    (CONF % "", {"command": ""}, 4, "CNI_COMMAND", "1.1.0"),
    (CONF % "", {"command": "add"}, 4, "CNI_COMMAND", "0.4.0"),
    (CONF % "", {"container_id": None}, 4, "CNI_CONTAINERID", "0.4.0"),
    (CONF % "", {"container_id": "a/b"}, 4, "CNI_CONTAINERID", "0.4.0"),
    (CONF % "", {"container_id": "a" * 129}, 4, "CNI_CONTAINERID", "0.4.0"),
    (CONF % "", {"ifname": "a-name-too-long1"}, 4, "CNI_IFNAME", "0.4.0"),
    (CONF % "", {"ifname": "a/b"}, 4, "CNI_IFNAME", "0.4.0"),
    (CONF % "", {"netns": None}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"netns": "/nowhere"}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"netns": "relative"}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"netns": "/etc/passwd"}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"netns": "/proc/self/ns/mnt"}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"netns": "/proc/self/ns/net"}, 4, "CNI_NETNS", "0.4.0"),
    (CONF % "", {"args": "nonsense"}, 4, "CNI_ARGS", "0.4.0"),
    (CONF % "", {"args": "K8S_POD_NAME=a b"}, 4, "CNI_ARGS", "0.4.0"),
    (CONF % "", {"command": "CHECK"}, 7, "prevResult", "0.4.0"),
    (CONF % "", {"command": "GC"}, 1, "GC", "0.4.0"),
    (CONF % "", {"command": "STATUS"}, 1, "STATUS", "0.4.0"),
    ('{"cniVersion":"0.3.1","name":"n","type":"t"}', {"command": "CHECK"}, 1, "CHECK", "0.3.1"),
    ('{"cniVersion":"1.1.0","name":"n","type":"t"}', {"command": "GC"}, 7,
     "cni.dev/valid-attachments", "1.1.0"),
]


@pytest.mark.parametrize("text,env,code,part,version", FAULTS)
def test_fault_has_its_code_and_names_the_culprit(pod, text, env, code, part, version):
    env = {"command": "ADD", "netns": pod.path, **env}
    answer = cnirun.plugin_run(PLUGIN, conf=text, **env)
    assert (answer.status, answer.code) == (1, code)
    assert part in answer.json["msg"]
    assert answer.json["cniVersion"] == version
    assert answer.stderr == ""


def test_fifo_as_namespace_does_not_hang(plugin, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert plugin("ADD", netns=tmp_path / "fifo", timeout=20).code == 4


def test_configuration_is_bounded(plugin):
    fits = json.dumps({**plugin.conf, "filler": "x" * (1024 * 1024 - 200)})
    with plugin.agent():
        assert plugin.raw(fits).code == 0
        assert plugin.raw(fits + " " * 300).code == 6


def test_unreadable_input_is_an_io_failure():
    folder = os.open("/", os.O_RDONLY)
    try:
        done = subprocess.run([PLUGIN], stdin=folder, env={"CNI_COMMAND": "ADD"},
                              capture_output=True, text=True)
    finally:
        os.close(folder)
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)


# ---- DEL ----

@pytest.mark.parametrize("version", cnirun.SUPPORTED)
def test_del_is_silent_in_every_version(plugin, version):
    with plugin.agent(lambda path, body: (200, {})) as agent:
        answer = plugin("DEL", {"cniVersion": version})
    assert (answer.status, answer.text) == (0, "")
    assert agent.calls == [("/v1/cni/del", {"containerId": "c1", "ifname": "eth0"}, None)]
    assert plugin.spool() == []


@pytest.mark.parametrize("netns", [None, "", "/nowhere", "/etc/passwd"])
@pytest.mark.parametrize("agent", ["up", "down"])
def test_del_does_not_look_at_the_namespace(plugin, netns, agent):
    if agent == "up":
        with plugin.agent(lambda path, body: (200, {})):
            assert plugin("DEL", netns=netns).status == 0
    else:
        assert plugin("DEL", netns=netns).status == 0


def test_del_without_agent_leaves_a_note(plugin):
    for _ in range(2):
        assert plugin("DEL").status == 0
    assert plugin.spool() == ["c1-eth0.json"]
    note = plugin.run_dir / "deleted" / "c1-eth0.json"
    assert json.loads(note.read_text()) == {"containerId": "c1", "ifname": "eth0"}
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(note.parent.stat().st_mode) == 0o700


def test_note_is_there_before_the_agent_is_asked(plugin):
    seen = []

    def answer(path, body):
        seen.append(plugin.spool())
        return 200, {}

    with plugin.agent(answer):
        assert plugin("DEL").status == 0
    assert (seen, plugin.spool()) == ([["c1-eth0.json"]], [])


def test_add_takes_an_old_note_away(plugin):
    assert plugin("DEL").status == 0
    with plugin.agent():
        assert plugin("ADD").status == 0
    assert plugin.spool() == []


def test_del_without_run_directory_succeeds(plugin, tmp_path):
    answer = plugin("DEL", {"socket": str(tmp_path / "none" / "tendril.sock")})
    assert answer.status == 0
    assert not (tmp_path / "none").exists()


def test_del_survives_an_agent_that_dies_at_it(plugin):
    with plugin.agent(lambda path, body: None):
        assert plugin("DEL").status == 0
    assert plugin.spool() == ["c1-eth0.json"]


def test_del_that_the_agent_could_not_do_fails(plugin):
    with plugin.agent(lambda path, body: (500, {"error": "busy", "code": 100})):
        assert plugin("DEL").code == 100
    assert plugin.spool() == ["c1-eth0.json"]


def test_del_does_not_use_fields_of_add(plugin):
    with plugin.agent(lambda path, body: (200, {})):
        assert plugin("DEL", {"mtu": "x", "args": 1, "ipMasq": True, "dns": 3}).status == 0
        assert plugin("DEL", args="nonsense").status == 0
        assert plugin("DEL", container_id="a" * 129).status == 0


@pytest.mark.parametrize("env", [{"container_id": None}, {"ifname": None}, {"ifname": "a/b"}])
def test_del_needs_to_know_what(plugin, env):
    assert plugin("DEL", **env).code == 4


def test_note_that_cannot_be_left_is_an_error(plugin):
    (plugin.run_dir / "deleted").write_text("")
    assert plugin("DEL").code == 5


# ---- CHECK, GC, STATUS ----

@pytest.mark.parametrize("version", cnirun.SUPPORTED[4:])
def test_check_sends_what_add_gave(plugin, version):
    previous = {**result_in(version)}
    with plugin.agent(lambda path, body: (200, {})) as agent:
        answer = plugin("CHECK", {"cniVersion": version, "prevResult": previous})
    assert (answer.status, answer.text) == (0, "")
    (path, body, inode), = agent.calls
    assert (path, inode) == ("/v1/cni/check", os.stat(plugin.pod.path).st_ino)
    assert body["prevResult"]["ips"] == AGENT_RESULT["ips"]


def test_check_reports_a_difference(plugin):
    with plugin.agent(lambda path, body: (500, {"error": "eth0 is gone", "code": 102})):
        answer = plugin("CHECK", {"prevResult": result_in("1.1.0")})
    assert (answer.code, answer.json["msg"]) == (102, "eth0 is gone")


def test_check_without_agent_is_to_be_tried_again(plugin):
    assert plugin("CHECK", {"prevResult": result_in("1.1.0")}).code == 11


def test_gc_names_network_and_attachments(plugin):
    alive = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth1"}]
    with plugin.agent(lambda path, body: (200, {"removed": 1})) as agent:
        answer = plugin("GC", {"cni.dev/valid-attachments": alive}, container_id=None,
                        ifname=None, netns=None)
    assert (answer.status, answer.text) == (0, "")
    assert agent.calls == [("/v1/cni/gc", {"network": "net", "validAttachments": alive}, None)]


def test_status_is_that_of_the_agent(plugin):
    env = {"container_id": None, "ifname": None, "netns": None}
    assert plugin("STATUS", **env).code == 50
    for code, want in ((50, 50), (51, 51), (100, 50)):
        with plugin.agent(lambda path, body, code=code: (500, {"error": "x", "code": code})):
            assert plugin("STATUS", **env).code == want
    with plugin.agent(lambda path, body: (200, {})):
        answer = plugin("STATUS", **env)
        assert (answer.status, answer.text) == (0, "")
        assert plugin("STATUS", {"mtu": -1}, **env).code == 7


# ---- delegated IPAM: Debian's host-local ----

class HostLocal:
    def __init__(self, folder):
        self.folder = folder
        self.conf = {"ipam": {"type": "host-local", "dataDir": str(folder), "ranges": [
            [{"subnet": "10.88.7.0/24"}], [{"subnet": "fd00:88::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}

    def reserved(self):
        folder = self.folder / "net"
        names = (p.name for p in folder.iterdir()) if folder.exists() else ()
        return sorted(n for n in names if n[0].isdigit() or n[0] == "f")


@pytest.fixture
def host_local(tmp_path):
    return HostLocal(tmp_path / "ipam")


@pytest.mark.parametrize("version", cnirun.SUPPORTED)
def test_host_local_gives_the_addresses(plugin, host_local, version):
    conf = {"cniVersion": version, **host_local.conf}
    with plugin.agent() as agent:
        assert plugin("ADD", conf).status == 0
        asked = agent.calls[-1][1]
        assert asked["ipam"]["ips"] == [
            {"address": "10.88.7.2/24", "gateway": "10.88.7.1"},
            {"address": "fd00:88::2/64", "gateway": "fd00:88::1"}]
        assert {r["dst"] for r in asked["ipam"]["routes"]} == {"0.0.0.0/0", "::/0"}
        assert "ips" not in asked
        assert host_local.reserved() == ["10.88.7.2", "fd00:88::2"]
        for _ in range(2):
            assert plugin("DEL", conf).status == 0
        assert host_local.reserved() == []


def test_host_local_takes_the_requested_address(plugin, host_local):
    conf = {**host_local.conf, "args": {"cni": {"ips": ["10.88.7.77"]}}}
    with plugin.agent() as agent:
        assert plugin("ADD", conf).status == 0
    assert agent.calls[-1][1]["ipam"]["ips"][0]["address"] == "10.88.7.77/24"


def test_host_local_gets_its_address_back_when_add_fails(plugin, host_local):
    seen = []

    def refuse(path, body):
        seen.append(host_local.reserved())
        return 500, {"error": "no veth", "code": 100}

    with plugin.agent(refuse):
        assert plugin("ADD", host_local.conf).json["msg"] == "no veth"
    assert seen == [["10.88.7.2", "fd00:88::2"]]
    assert host_local.reserved() == []


def test_host_local_is_freed_without_agent(plugin, host_local):
    with plugin.agent():
        assert plugin("ADD", host_local.conf).status == 0
    assert plugin("DEL", host_local.conf, netns=None).status == 0
    assert host_local.reserved() == []
    assert plugin.spool() == ["c1-eth0.json"]


def test_address_in_use_is_not_given_back(plugin, host_local):
    with plugin.agent():
        assert plugin("ADD", host_local.conf).status == 0
    with plugin.agent(lambda path, body: (500, {"error": "busy", "code": 100})):
        assert plugin("DEL", host_local.conf).code == 100
    assert host_local.reserved() == ["10.88.7.2", "fd00:88::2"]


@pytest.mark.parametrize("version", cnirun.SUPPORTED[4:])
def test_check_asks_host_local_too(plugin, host_local, version):
    conf = {"cniVersion": version, **host_local.conf}
    with plugin.agent():
        assert plugin("ADD", conf).status == 0
        conf["prevResult"] = result_in(version)
        assert plugin("CHECK", conf).status == 0
        for name in host_local.reserved():
            (host_local.folder / "net" / name).unlink()
        assert "host-local" in plugin("CHECK", conf).json["msg"]


def test_status_and_gc_spare_a_plugin_without_them(plugin, host_local):
    with plugin.agent(lambda path, body: (200, {})):
        assert plugin("STATUS", host_local.conf).status == 0
        assert plugin("GC", {**host_local.conf, "cni.dev/valid-attachments": []}).status == 0


def test_exhausted_range_is_reported_in_host_locals_words(plugin, host_local):
    host_local.conf["ipam"]["ranges"] = [[{"subnet": "10.88.7.0/30"}]]
    with plugin.agent() as agent:
        assert plugin("ADD", host_local.conf).status == 0
        answer = plugin("ADD", host_local.conf, container_id="c2")
    assert "host-local" in answer.json["msg"]
    assert len(agent.calls) == 1
