# SPDX-License-Identifier: Apache-2.0
"""Nodes whose network carries 9,000 bytes: pods know it, and packets of every size pass between them."""

import pytest

import lan

MODES = {"direct": (["--auto-direct-node-routes"], 9000), "tunnel": (["--routing-mode=tunnel"], 8950)}
HEADERS = [20 + 8, 40 + 8]  # of IP and an echo
PORT = 80


class JumboLan(lan.Lan):
    @staticmethod
    def addresses(number):
        return f"198.51.100.{number}", f"2001:db8:1::{number}"

    def configure(self, netns, number):
        self.netns.ip("link", "set", f"p{number}", "mtu", "9000")
        netns.ip("link", "set", "eth0", "mtu", "9000")
        super().configure(netns, number)
        netns.ip("route", "add", "default", "dev", "eth0")  # whose MTU counts


@pytest.fixture(scope="module", params=MODES)
def nodes(request):
    arguments, mtu = MODES[request.param]
    made = lan.Nodes(2, *arguments, lan=JumboLan)
    try:
        made.mtu = mtu
        made.pods = [node.pod(f"p{number}") for number, node in enumerate(made.all, 1)]
        for pod in made.pods:
            pod.serve(tcp=[PORT], udp=[PORT])
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_packets_of_every_size_pass(nodes, family):
    client, server = nodes.pods
    address = [server.v4, server.v6][family]

    def echoes(size):
        """A packet of so many bytes that nobody may fragment."""
        return client.run("ping", "-n", "-c1", "-W10", "-M", "do", "-s", size - HEADERS[family], address,
                          check=False).returncode == 0
    assert f"mtu {nodes.mtu} " in client.run("ip", "link", "show", "eth0").stdout
    assert echoes(1500) and echoes(nodes.mtu)
    assert not echoes(nodes.mtu + 1)
    text = "".join(chr(ord("a") + i % 26) for i in range(60000))
    echo = client.connect(address, PORT, send=text)["echo"]
    assert len(echo) > 0 and text.startswith(echo)
    for size in (1400, nodes.mtu, 30000):
        assert client.udp(address, PORT, size=size)["result"] == "ok"
