# SPDX-License-Identifier: Apache-2.0
"""Processes of the node that listen on a port that a service has are named in status.

    node 192.0.2.10, 2001:db8:10::10  ---  a process on port 30080  |  Service default/web, node port 30080
"""

import subprocess

import pytest

from tendril import Node, service_object, slice_object, wait_for

PORT = 30080
ADDRESSES = ["192.0.2.10/32", "2001:db8:10::10/128"]


@pytest.fixture(scope="module")
def node():
    with Node() as made:
        for address in ADDRESSES:
            made.netns.ip("address", "add", address, "dev", "lo", *["nodad"] * (":" in address))
        made.pod_a = made.pod("a")
        yield made


@pytest.fixture
def service(node):
    ports = [{"name": proto, "port": 80, "protocol": proto, "nodePort": PORT} for proto in ("TCP", "UDP")]
    ends = [{"name": p["name"], "port": 8080, "protocol": p["protocol"]} for p in ports]
    node.put(service_object("web", "default", ["10.96.0.7", "fd00:96::7"], ports, type="NodePort"),
             slice_object("web-4", "default", "web", "IPv4", ends, [node.pod_a.v4]),
             slice_object("web-6", "default", "web", "IPv6", ends, [node.pod_a.v6]))
    yield
    node.api("DELETE", "/v1/objects/Service/default/web")
    wait_for(lambda: not named(node), "nobody to be named", 15)


class Listener:
    def __init__(self, node, kind, address, port=PORT, v6only=True):
        family = "AF_INET6" if ":" in address else "AF_INET"
        script = (f"import socket\ns = socket.socket(socket.{family}, socket.{kind})\n"
                  + f"s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, {int(v6only)})\n"
                  * (":" in address) + f"s.bind(('{address}', {port}))\n"
                  + "s.listen()\n" * (kind == "SOCK_STREAM") + "print('ready', flush=True); input()")
        self.process = subprocess.Popen(node.netns.enter("python3", "-c", script), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate("\n")


def named(node):
    return [text for text in node.status()["warnings"] if "a process of the node listens" in text]


@pytest.mark.parametrize("kind, address, text", [
    ("SOCK_STREAM", "0.0.0.0", "TCP port 30080 of all addresses in vain"),
    ("SOCK_STREAM", "192.0.2.10", "TCP port 30080 of 192.0.2.10 in vain"),
    ("SOCK_STREAM", "127.0.0.1", "TCP port 30080 of 127.0.0.1 in vain"),
    ("SOCK_STREAM", "::", "TCP port 30080 of all addresses in vain"),
    ("SOCK_DGRAM", "0.0.0.0", "UDP port 30080 of all addresses in vain"),
    ("SOCK_DGRAM", "2001:db8:10::10", "UDP port 30080 of 2001:db8:10::10 in vain")])
def test_a_listener_that_was_there_first(node, kind, address, text, request):
    with Listener(node, kind, address):
        request.getfixturevalue("service")
        found = wait_for(lambda: named(node), "its name", 15)
        assert len(found) == 1 and text in found[0]
        assert "Service default/web has it" in found[0]
    wait_for(lambda: not named(node), "its end", 15)


def test_a_listener_that_comes_later_and_serves_both_families(node, service):
    """The port that the service has in IPv4 alone is a socket's that takes IPv4, too."""
    node.put(service_object("v4", "default", ["10.96.0.8"], [{"name": "a", "port": 80, "nodePort": PORT + 2}],
                            type="NodePort"))
    try:
        with Listener(node, "SOCK_STREAM", "::", PORT + 2), Listener(node, "SOCK_STREAM", "::"):
            found = wait_for(lambda: named(node), "its name", 15)
            assert len(found) == 1 and f" {PORT} " in found[0]
        wait_for(lambda: not named(node), "its end", 15)
        with Listener(node, "SOCK_STREAM", "::", PORT + 2, v6only=False):
            found = wait_for(lambda: named(node), "its name", 15)
            assert len(found) == 1 and f" {PORT + 2} " in found[0] and "default/v4" in found[0]
    finally:
        node.api("DELETE", "/v1/objects/Service/default/v4")


def test_others_are_left_alone(node, service):
    """Another port, another address, and a socket in a pod's namespace; the last is the sign that
    all were looked at."""
    node.netns.ip("address", "add", "127.0.0.5/8", "dev", "lo")
    with Listener(node, "SOCK_STREAM", "0.0.0.0", PORT + 1), \
            Listener(node, "SOCK_STREAM", "127.0.0.5"), \
            Listener(node, "SOCK_STREAM", "192.0.2.10"):
        node.pod_a.serve(tcp=[PORT])
        found = wait_for(lambda: named(node), "the last", 15)
        assert len(found) == 1 and " of 192.0.2.10 " in found[0]
