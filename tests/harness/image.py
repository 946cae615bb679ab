# SPDX-License-Identifier: Apache-2.0
"""Container images, made without a registry: one of nothing but busybox, and Tendril's."""

import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile


def tar_add(archive, name, content=None, link=None, mode=0o755):
    info = tarfile.TarInfo(name)
    info.mode = mode
    if link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, link
        archive.addfile(info)
    elif content is None:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


# What the tests call in a container; an image without one of them would fail in odd ways.
NEEDED = {"sh", "sleep", "ip", "ping", "wget", "httpd", "timeout", "cat"}


def layer():
    with open("/bin/busybox", "rb") as file:
        busybox = file.read()
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True,
                             check=True).stdout.split()
    missing = NEEDED.difference(applets)
    assert not missing, f"/bin/busybox has no {missing}: is busybox-static installed? It has {applets}"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp", "www"):
            tar_add(archive, folder)
        tar_add(archive, "bin/busybox", busybox)
        for applet in applets:
            if applet != "busybox":
                tar_add(archive, f"bin/{applet}", link="busybox")
    return buffer.getvalue()


def image_write(path, name):
    """Writes a docker-archive, which podman load and ctr image import both take."""
    content = layer()
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers",
                   "diff_ids": ["sha256:" + hashlib.sha256(content).hexdigest()]},
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}])
    with tarfile.open(path, "w") as archive:
        tar_add(archive, config_name, config, mode=0o644)
        tar_add(archive, "layer.tar", content, mode=0o644)
        tar_add(archive, "manifest.json", manifest.encode(), mode=0o644)


def make_tendril(tree, build, target, *variables):
    """Copies what "make image" makes to target, and returns what it prints.  Suites that run side by
    side share a build folder."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "BUILD")}
    folder = pathlib.Path(tree) / build
    folder.mkdir(exist_ok=True)
    with open(folder / "image.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(["make", "-C", tree, "-j2", f"B={build}", "image", *variables], env=env,
                              text=True, capture_output=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        shutil.copy(folder / "image/tendril.tar", target)
    return done.stdout
