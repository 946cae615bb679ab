# SPDX-License-Identifier: Apache-2.0
"""Other versions of the programs, to upgrade from and to.

previous() is the last release as it was: the commit PREVIOUS, built from the history.
following() is this tree as the next one might be: every map's value grew by 8 bytes, and entries
of ct_map need a converter.

Each is built once, below build/releases; a later run only builds what has changed.
"""

import os
import re
import shutil
import subprocess

from tendril import BUILD, ROOT

PREVIOUS = "bd7a6cd649e1"  # a release's tag, once there is one

PARTS = ["Makefile", "VERSION", "lib", "datapath", "policy", "agent", "cli", "cni", "kube", "deploy",
         "tests/tests.mk", "tests/lint/lint.mk", "tests/harness/have", "tests/harness/deps"]
PROGRAMS = ["build/tendrild", "build/tendril-cni", "build/tendril"]


def git(*argv, **kwargs):
    return subprocess.run(["git", "-C", ROOT, "-c", f"safe.directory={ROOT}", *argv],
                          check=False, capture_output=True, **kwargs)


def history_is_missing():
    """Why there is no previous version here, or None."""
    if shutil.which("git") and git("cat-file", "-e", f"{PREVIOUS}^{{commit}}").returncode == 0:
        return None
    return (f"commit {PREVIOUS} is not here: the upgrade test needs the history (git fetch "
            "--unshallow; in CI, fetch-depth: 0)")


def build(folder):
    done = subprocess.run(["make", "-C", folder, "--no-print-directory", f"-j{os.cpu_count()}",
                           "WERROR=", *PROGRAMS], capture_output=True, text=True,
                          env={**os.environ, "MAKEFLAGS": ""})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return folder / "build"


def previous():
    folder = BUILD / "releases" / PREVIOUS
    if not (folder / "Makefile").exists():
        archive = git("archive", PREVIOUS)
        assert archive.returncode == 0, archive.stderr.decode()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with subprocess.Popen(["tar", "-x", "-C", folder], stdin=subprocess.PIPE) as tar:
            tar.communicate(archive.stdout)
        assert tar.returncode == 0
    return build(folder)


# ---- the following version ----

GROWS = ["endpoint_entry", "endpoint_stats", "ipcache_entry", "policy_entry", "node_state",
         "ct_entry", "flow_record", "service", "backend", "sock_bucket",
         "nat_entry", "frag_ports"]
MARK = 0x7e0d


def replaced(pattern, replacement, text):
    text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
    assert count == 1, f"{pattern} is there {count} times"
    return text


def abi_grown(text):
    version = int(re.search(r"#define ABI_VERSION (\d+)", text)[1])
    text = replaced(r"(#define ABI_VERSION) \d+", rf"\1 {version + 1}", text)
    text = replaced(r"(_Static_assert\(sizeof\(type\)) == \(size\)", r"\1 >= (size)", text)
    for struct in GROWS:
        text = replaced(rf"(struct {struct} {{[^}}]*)}};\nABI_SIZE\(struct {struct},",
                        rf"\1\t__u32 grown[2];\n}};\nABI_SIZE(struct {struct},", text)
    return text


def converter_added(text):
    text = replaced(r"static const struct map_rule rules", f"""\
static void ct_convert(const void *old_key, const void *old_value, void *key, void *value)
{{
	struct ct_entry *entry = value;

	memcpy(key, old_key, sizeof(struct ct_key));
	memcpy(value, old_value, sizeof(*entry) - sizeof(entry->grown));
	entry->grown[1] = {MARK};
}}

static const struct map_rule rules""", text)
    return replaced(r'{ "ct_map", ', '{ "ct_map", .since = ABI_VERSION, .convert = ct_convert, ', text)


def place(source, target, change=None):
    """Copies a file, unless it is there as it should be: make looks at times."""
    content = source.read_bytes()
    if change:
        content = change(content.decode()).encode()
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(source.stat().st_mode)


def following():
    folder = BUILD / "releases" / "following"
    changes = {"datapath/abi.h": abi_grown, "datapath/convert.c": converter_added}
    for part in PARTS:
        path = ROOT / part
        for source in sorted(path.rglob("*")) if path.is_dir() else [path]:
            name = source.relative_to(ROOT)
            if source.is_file():
                place(source, folder / name, changes.get(str(name)))
    for made in folder.rglob("*"):
        name = made.relative_to(folder)
        if made.is_file() and name.parts[0] != "build" and not (ROOT / name).exists():
            made.unlink()
    return build(folder)
