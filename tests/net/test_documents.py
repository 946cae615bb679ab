# SPDX-License-Identifier: Apache-2.0
"""What doc/containers.md shows does what it says.

    pods web, client, other        node                          outside
      eth0 == tdlN              uplink 198.51.100.1 ===== eth0 198.51.100.2
                                                          (has no route to the pods)
"""

import shutil
import subprocess

import pytest

import lan
import tendril

EXAMPLES = tendril.ROOT / "doc" / "examples" / "containers"
UPLINK = ("198.51.100.1", "2001:db8::1")
OUTSIDE = ("198.51.100.2", "2001:db8::2")
SERVER = """
import socket
listener = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
while True:
    conn, peer = listener.accept()
    conn.sendall(peer[0].removeprefix("::ffff:").encode() + b"\\n")
    conn.close()
"""


@pytest.fixture
def node():
    with tendril.Node("--masquerade", cidrs=("10.127.0.0/24", "fd00:10:127::/112")) as made:
        yield made


@pytest.fixture
def outside(node):
    made = tendril.Namespace(f"{node.name}-out")
    server = None
    try:
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", made.name)
        for netns, device, addresses in ((node.netns, "uplink", UPLINK), (made, "eth0", OUTSIDE)):
            for address, length in zip(addresses, (24, 64)):
                netns.ip("addr", "add", f"{address}/{length}", "dev", device,
                         *(["nodad"] if ":" in address else []))
            netns.ip("link", "set", device, "up")
        lan.settled(node.netns, "uplink")
        lan.settled(made)
        server = subprocess.Popen(made.enter("python3", "-c", SERVER), stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "listening\n"
        yield made
    finally:
        if server:
            server.kill()
            server.wait()
            server.stdout.close()
        made.delete()


def test_containers_get_out(node, outside):
    tendril.wait_for(lambda: "services are served on uplink" in node.log(), "the uplink")
    pod = node.pod("web")
    for address, uplink in zip(OUTSIDE, UPLINK):
        assert pod.connect(address, 80)["name"] == uplink


def test_labels_policy_and_service_of_the_page(node):
    for name in ("pod.yaml", "service.yaml"):
        shutil.copy(EXAMPLES / name, node.objects / name)
    node.wait_object("EndpointSlice", "default", "web")
    web = node.pod("web", conf={"runtimeConfig": {"ips": ["10.127.0.100/24"]}})
    client, other = node.pod("client", labels={"app": "client"}), node.pod("other")
    web.serve(tcp=[80, 81])
    for pod in (client, other):
        assert pod.connect("10.128.0.1", 80)["name"] == "web"
    node.cli("policy", "apply", "-f", EXAMPLES / "policy.yaml")
    assert client.connect("10.128.0.1", 80)["name"] == "web"
    assert client.connect(web.v4, 81, timeout=0.3)["result"] != "ok"
    for address in (*web.addresses, "10.128.0.1"):
        assert other.connect(address, 80, timeout=0.3)["result"] != "ok"
