# SPDX-License-Identifier: Apache-2.0
"""`tendril policy validate` over golden/*.in: what it prints is in NAME.ok, or NAME.err where the
file is refused.  GOLDEN=1 writes these files anew; read the difference before committing it."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("source", sorted(GOLDEN.glob("*.in")), ids=lambda path: path.stem)
def test_golden(source):
    done = subprocess.run([BUILD / "tendril", "policy", "validate", source.name], cwd=GOLDEN,
                          text=True, capture_output=True, timeout=10)
    assert done.returncode in (0, 1), done.stderr
    good, bad = source.with_suffix(".ok"), source.with_suffix(".err")
    expected, other = (good, bad) if done.returncode == 0 else (bad, good)
    if os.environ.get("GOLDEN") == "1":
        expected.write_text(done.stdout)
        other.unlink(missing_ok=True)
    assert expected.exists(), f"{source.name} was {'taken' if expected == good else 'refused'}"
    assert not other.exists()
    assert done.stdout == expected.read_text()
    assert done.stderr == ""
