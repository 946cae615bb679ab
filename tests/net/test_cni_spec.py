# SPDX-License-Identifier: Apache-2.0
"""Corners of the CNI specification 1.1 and its conventions, one line each.

Beside test_cni_protocol.py, which has the plain cases, and with the same stand-in for the agent.
"""

import pytest

from test_cni_protocol import plugin, pod, result_in, run_dir  # noqa: F401  fixtures

NOBODY = {"container_id": None, "ifname": None, "netns": None}
OTHERS = [{"containerID": "of-another-network", "ifname": "eth7"}]
MAPPING = [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]
EARLIER = {"prevResult": result_in("1.1.0")}


def asks(**capabilities):
    return {"runtimeConfig": capabilities}


CORNERS = [
    # what it is about, command, configuration, environment, code of the error (0: success)
    ("a key that is not known", "ADD", {}, {"args": "IgnoreUnknown=1;FOO=BAR"}, 0),
    ("the same without IgnoreUnknown", "ADD", {}, {"args": "FOO=BAR"}, 0),
    ("a key without a value", "ADD", {}, {"args": "FOO=;K8S_POD_NAME="}, 0),
    ("nothing between semicolons", "ADD", {}, {"args": ";;K8S_POD_NAME=web;"}, 0),
    ("no pair at all", "ADD", {}, {"args": "IgnoreUnknown=1;nonsense"}, 4),
    ("a value without a key", "ADD", {}, {"args": "=web"}, 4),
    ("args of others", "ADD", {"args": {"org.example": {"colour": 1}}}, {}, 0),
    ("args that are no object", "ADD", {"args": ["web"]}, {}, 7),
    ("fields of the list", "ADD", {"disableCheck": True, "disableGC": True}, {}, 0),
    ("a capability that only informs", "ADD", asks(infinibandGUID="c2:11"), {}, 0),
    ("port mappings, of another plugin", "ADD", asks(portMappings=MAPPING), {}, 0),
    ("a bandwidth, of another plugin", "ADD", asks(bandwidth={"ingressRate": 2048}), {}, 0),
    ("ranges, of another plugin", "ADD", asks(ipRanges=[[{"subnet": "10.1.0.0/16"}]]), {}, 0),
    ("an address and a MAC", "ADD", asks(ips=["10.1.0.2"], mac="02:00:00:00:00:02"), {}, 0),
    ("an address that is none", "ADD", asks(ips=["10.1"]), {}, 7),
    ("the MAC of a group", "ADD", asks(mac="03:00:00:00:00:02"), {}, 7),
    ("a version that never was", "ADD", {"cniVersion": "0.3.2"}, {}, 1),
    ("a later version", "ADD", {"cniVersion": "1.2.0"}, {}, 1),
    ("a version cut short", "ADD", {"cniVersion": "1.1"}, {}, 1),
    ("no version: the first one", "ADD", {"cniVersion": ""}, {}, 0),
    ("a list of versions", "ADD", {"cniVersion": "", "cniVersions": ["1.0.0", "7.0.0"]}, {}, 0),
    ("a list of later versions", "ADD", {"cniVersion": "", "cniVersions": ["7.0.0"]}, {}, 1),
    ("no namespace any more", "DEL", {}, {"netns": None}, 0),
    ("a namespace that is gone", "DEL", {}, {"netns": "/run/netns/gone"}, 0),
    ("no result of an ADD", "DEL", {}, {}, 0),
    ("a result of another plugin", "DEL", {"prevResult": {"cniVersion": "0.3.0", "ips": []}}, {}, 0),
    ("what ADD would refuse", "DEL", asks(ips=["10.1"]), {}, 0),
    ("fields of the list", "CHECK", {**EARLIER, "disableCheck": True}, {}, 0),
    ("no result of an ADD", "CHECK", {}, {}, 7),
    ("no namespace", "CHECK", EARLIER, {"netns": None}, 4),
    ("before CHECK came", "CHECK", {**EARLIER, "cniVersion": "0.3.1"}, {}, 1),
    ("attachments that are not known", "GC", {"cni.dev/valid-attachments": OTHERS}, NOBODY, 0),
    ("no attachment is left", "GC", {"cni.dev/valid-attachments": []}, NOBODY, 0),
    ("the name that libcni 1.2.0 has", "GC", {"cni.dev/attachments": OTHERS}, NOBODY, 0),
    ("attachments without a container", "GC", {"cni.dev/valid-attachments": [{}]}, NOBODY, 7),
    ("no list of attachments", "GC", {}, NOBODY, 7),
    ("before GC came", "GC", {"cniVersion": "1.0.0", "cni.dev/attachments": []}, NOBODY, 1),
    ("nothing but the command", "STATUS", {}, NOBODY, 0),
    ("what no ADD would take", "STATUS", asks(ips=["10.1"]), NOBODY, 7),
    ("before STATUS came", "STATUS", {"cniVersion": "1.0.0"}, NOBODY, 1),
]


@pytest.mark.parametrize("what, command, conf, env, code", CORNERS,
                         ids=[f"{corner[1]}: {corner[0]}" for corner in CORNERS])
def test_corner(plugin, what, command, conf, env, code):  # noqa: F811
    answers = {"/v1/cni/add": result_in("1.1.0")}
    with plugin.agent(lambda path, body: (200, answers.get(path, {}))) as agent:
        answer = plugin(command, conf, **env)
    assert answer.code == code, answer.text
    assert bool(agent.calls) == (code == 0)
    if command != "ADD" and code == 0:
        assert answer.text == ""


def test_gc_believes_the_name_of_the_specification(plugin):  # noqa: F811
    both = {"cni.dev/valid-attachments": OTHERS, "cni.dev/attachments": []}
    with plugin.agent(lambda path, body: (200, {})) as agent:
        assert plugin("GC", both, **NOBODY).status == 0
    assert agent.calls[0][1]["validAttachments"] == OTHERS
