# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# A real server is not part of this tree; where it is not there, its tests are left out and say so.
MINI_APISERVER = pathlib.Path(os.environ.get(
    "KUBERNETES", ROOT.parent / "shared/k8s")) / "mini-apiserver"
collect_ignore = [] if MINI_APISERVER.exists() else ["test_apiserver.py"]
sys.path.insert(0, str(ROOT / "tests/harness"))

import kubeapi  # noqa: E402


def pytest_report_header(config):
    if collect_ignore:
        return f"left out: {MINI_APISERVER} is not there (KUBERNETES names another place)"
    return None


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    return kubeapi.make_certificate(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def api(tmp_path, certificate):
    server = kubeapi.FakeApi(tmp_path, cert=certificate)
    yield server
    server.close()


@pytest.fixture
def agent(tmp_path):
    server = kubeapi.FakeAgent(tmp_path / "agent.sock")
    yield server
    server.close()


class Client:
    """A running tendril-kube; its log is in a file."""

    def __init__(self, folder, *arguments):
        self.log_path = folder / "kube.log"
        self.process = subprocess.Popen(
            [ROOT / "build/tendril-kube", "--socket", folder / "agent.sock", "--log-level", "debug",
             *arguments], stderr=open(self.log_path, "w"), stdin=subprocess.DEVNULL)

    def log(self):
        return self.log_path.read_text()

    def stop(self):
        self.process.terminate()
        return self.process.wait(timeout=10)


@pytest.fixture
def client(tmp_path, api, agent):
    """Starts the client; by default with the kubeconfig of the fake API server."""
    running = []

    def start(*arguments):
        one = Client(tmp_path, *(arguments or ("--kubeconfig", api.kubeconfig(tmp_path))))
        running.append(one)
        return one

    yield start
    for one in running:
        if one.process.poll() is None:
            assert one.stop() == 0, one.log()
