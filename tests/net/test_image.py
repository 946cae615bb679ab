# SPDX-License-Identifier: Apache-2.0
"""make image: what is in it, that it runs, and that another folder gives the same bytes."""

import os
import shutil
import tarfile

import pytest

import image
import tendril
from tendril import BUILD, ROOT

PROGRAMS = {"usr/sbin/tendrild", "usr/sbin/tendril-kube", "usr/sbin/tendril-http",
            "usr/sbin/tendril-cni", "usr/bin/tendril"}
EPOCH = 1_600_000_000


def make_image(tree, build, target):
    """What "make image" says, as a table."""
    lines = image.make_tendril(tree, build, target, f"SOURCE_DATE_EPOCH={EPOCH}").splitlines()
    return dict(line.split(maxsplit=1) for line in lines
                if line.split()[0] in ("image", "size", "digest", "layer"))


@pytest.fixture(scope="module")
def archive_path(tmp_path_factory):
    return tmp_path_factory.mktemp("image") / "tendril.tar"


@pytest.fixture(scope="module")
def made(archive_path):
    return make_image(ROOT, BUILD, archive_path)


@pytest.fixture(scope="module")
def layer(made, archive_path, tmp_path_factory):
    """The one layer, unpacked, and its entries."""
    folder = tmp_path_factory.mktemp("layer")
    with tarfile.open(archive_path) as archive:
        blob = archive.extractfile("blobs/" + made["layer"].replace(":", "/"))
        with tarfile.open(fileobj=blob) as content:
            entries = content.getmembers()
            content.extractall(folder)
    return folder, entries


def test_it_is_small_and_holds_only_the_programs_and_their_libraries(made, layer):
    assert float(made["size"].split()[0]) < 12
    _, entries = layer
    executable = {e.name for e in entries if e.isfile() and e.mode & 0o111}
    assert PROGRAMS <= executable
    assert all(name in PROGRAMS or name.startswith("lib") for name in executable), executable
    assert {(e.mtime, e.uid, e.gid) for e in entries} == {(EPOCH, 0, 0)}
    assert not [e.name for e in entries if e.mode & 0o6000 or (e.isfile() and e.mode & 0o022)]


def test_its_programs_run_with_nothing_else(layer):
    folder, _ = layer
    for program, option in (("tendrild", "--version"), ("tendril-kube", "--version"),
                            ("tendril-http", "--version"),                            ("tendrild", "--check-config")):
        assert tendril.run("chroot", folder, f"/usr/sbin/{program}", option).stdout
    assert "0.1.0" in tendril.run("chroot", folder, "/usr/bin/tendril", "--version").stdout


def test_its_plugin_runs_on_a_node_without_any_library(layer, tmp_path):
    folder, _ = layer
    shutil.copy(folder / "usr/sbin/tendril-cni", tmp_path / "tendril")
    answer = tendril.run("chroot", tmp_path, "/tendril", input="",
                         env={"CNI_COMMAND": "VERSION", "PATH": os.environ["PATH"]})
    assert '"1.1.0"' in answer.stdout


def test_another_folder_gives_the_same_bytes(made, tmp_path):
    listed = tendril.run("git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-co",
                         "--exclude-standard", "-z").stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "tree" / name)
    assert make_image(tmp_path / "tree", "build", tmp_path / "tendril.tar") == made
