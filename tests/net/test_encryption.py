# SPDX-License-Identifier: Apache-2.0
"""Encryption between nodes where the kernel may have no WireGuard.  Packets: tests/kernels/encryption."""

import pytest

from tendril import Node


@pytest.fixture
def node():
    made = Node("--encryption=wireguard", start=False)
    yield made
    made.close()


def has_wireguard(node):
    """Whether this kernel has it; leaves nothing."""
    made = node.netns.ip("link", "add", "probe", "type", "wireguard", check=False).returncode == 0
    if made:
        node.netns.ip("link", "delete", "probe")
    return made


def devices(node):
    return node.netns.ip("-br", "link", "show").stdout


def test_a_kernel_without_wireguard_is_named_and_nothing_is_set_up(node):
    if has_wireguard(node):
        node.start()
        assert "tendril_wg" in devices(node)
        assert (node.run_dir / "wireguard.key").stat().st_mode & 0o777 == 0o600
        return
    with pytest.raises(AssertionError, match="did not get ready"):
        node.start()
    assert node.stop() == 1
    assert ("this kernel has no WireGuard: install or load its module (modprobe wireguard), or set "
            "encryption to none") in node.log()
    assert "tendril_wg" not in devices(node) and "tendril0" not in devices(node)
    assert not list(node.run_dir.glob("wireguard*"))
    assert not (node.bpffs / "maps").exists()
