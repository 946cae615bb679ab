# SPDX-License-Identifier: Apache-2.0
"""Policy-only mode on a node of the real cluster: its kubelet's runtime wires pods with the bridge plugin,
and Tendril stands behind it."""

import json
import os
import signal

import pytest

from conftest import BUILD, wait_for
from test_cluster import answer, client, get, policy, web  # noqa: F401: a fixture

NODE = 2
CONFLIST = "/run/cni/net.d/05-bridge.conflist"
# A part of the node's range that Tendril's own pods do not get to in a test.
BRIDGE = {"cniVersion": "0.4.0", "name": "bridged", "plugins": [
    {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.192/26"}]],
              "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "tendril", "chained": True},
    {"type": "portmap", "capabilities": {"portMappings": True}}]}


def guarded_pod(name):
    one = client(name, NODE)
    one["spec"]["containers"][0]["command"] = ["sh", "-c", "exec httpd -f -p 8080 -h /etc"]
    return one


def reaches(cluster, source, address):
    done = cluster.run(1, "kubectl", "exec", source, "--", "curl", "-s", "-o", "/dev/null", "-m", "1",
                       f"http://{address}:8080/hostname", check=False)
    return done.returncode == 0


@pytest.fixture(scope="module")
def bridged(web):
    """The addresses of two pods that the bridge plugin wired, on a node that also has pods of ours."""
    for plugin in ("bridge", "host-local", "portmap"):
        web.run(NODE, "cp", f"/usr/lib/cni/{plugin}", "/run/cni/bin")
    web.write(NODE, CONFLIST, json.dumps(BRIDGE))
    try:
        web.apply(guarded_pod("bridged-1"), guarded_pod("bridged-2"))
        web.kubectl("wait", "--for=condition=Ready", "pod/bridged-1", "pod/bridged-2",
                    "--timeout=180s")
        yield {name: json.loads(web.kubectl("get", "pod", name, "-o", "json"))["status"]["podIP"]
               for name in ("bridged-1", "bridged-2")}
    finally:  # what comes after has pods of its own on this node
        web.run(NODE, "rm", CONFLIST)
        web.delete("pod/bridged-1", "pod/bridged-2")
        web.run(NODE, "ip", "link", "del", "cni0", check=False)


def test_pods_of_another_plugin_are_guarded(web, bridged):
    first, second = bridged["bridged-1"], bridged["bridged-2"]
    assert all(address.startswith("10.244.1.") and int(address.split(".")[3]) > 192
               for address in bridged.values()), bridged
    for source in ("client-1", "client-2", "bridged-2"):
        wait_for(lambda source=source: reaches(web, source, first), f"{source} to reach the pod")
    assert answer(web, "bridged-1")  # a service by its name
    web.apply(policy("bridged", "bridged-1", [{"from": [
        {"podSelector": {"matchLabels": {"app": "client-1"}}}]}]))
    wait_for(lambda: not reaches(web, "bridged-2", first), "its neighbour on the bridge to be refused")
    assert not reaches(web, "client-2", first) and reaches(web, "client-1", first)
    pid = web.pid(NODE, "tendrild")
    os.kill(pid, signal.SIGKILL)
    assert not reaches(web, "bridged-2", first) and reaches(web, "client-1", first)
    wait_for(lambda: web.pid(NODE, "tendrild") not in (pid, None) and
             web.status(NODE).get("kubernetes", {}).get("state") == "synced", "the agent to be back")
    assert not reaches(web, "bridged-2", first) and reaches(web, "client-1", first)
    web.delete("networkpolicy/bridged")
    wait_for(lambda: reaches(web, "bridged-2", first) and reaches(web, "bridged-1", second),
             "the policy to be gone")
    listed = json.loads(web.run(NODE, BUILD / "tendril", "endpoint", "list", "-o", "json").stdout)
    assert {"bridged-1", "bridged-2"} <= {one["name"] for one in listed}
