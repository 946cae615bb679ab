# SPDX-License-Identifier: Apache-2.0
"""tendril-kube against the API machinery of Kubernetes 1.36: etcd and a real server behind it."""

import json
import os
import ssl
import subprocess
import urllib.request

import pytest

from conftest import MINI_APISERVER, ROOT
from test_client import wait_for

PODS = "/api/v1/namespaces/shop/pods"


class Server:
    def __init__(self, folder, *flags):
        self.env = dict(os.environ, MINI_DIR=str(folder), PORT="16543", ETCD_PORT="12479")
        subprocess.run([MINI_APISERVER / "start.sh", *flags], env=self.env, check=True,
                       stdout=subprocess.DEVNULL)
        self.folder = folder
        self.kubeconfig = folder / "run/kubeconfig"

    def stop(self):
        subprocess.run([MINI_APISERVER / "stop.sh"], env=self.env, check=True)

    def compact(self):
        subprocess.run([MINI_APISERVER / "compact.sh", "http://127.0.0.1:12479"], check=True,
                       stdout=subprocess.DEVNULL)

    def call(self, method, path, body=None):
        request = urllib.request.Request(
            f"https://127.0.0.1:16543{path}", method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Authorization": "Bearer mini", "Content-Type": "application/json"})
        context = ssl.create_default_context(cafile=self.folder / "run/certs/apiserver.crt")
        with urllib.request.urlopen(request, context=context) as answer:
            return json.load(answer)

    def pod(self, name, address):
        self.call("POST", PODS, {"metadata": {"name": name},
                                 "spec": {"nodeName": "n1", "containers": []},
                                 "status": {"podIP": address, "podIPs": [{"ip": address}]}})

    def names(self):
        return {item["metadata"]["name"] for item in self.call("GET", PODS)["items"]}


@pytest.fixture(params=[(), ("--feature-gates=WatchList=false",)], ids=["WatchList", "pages"])
def server(request, tmp_path):
    made = Server(tmp_path / "server", *request.param)
    yield made
    made.stop()


def pods_of(agent):
    return {name for kind, _, name in agent.objects if kind == "Pod"}


def test_a_real_api_server_is_followed(server, agent, client):
    for number in range(130):
        server.pod(f"pod-{number}", f"10.0.1.{number}")
    one = client("--kubeconfig", server.kubeconfig)
    wait_for(lambda: agent.synced and pods_of(agent) == server.names(), "the first list")
    server.pod("late", "10.0.2.1")
    server.call("DELETE", f"{PODS}/pod-3")
    wait_for(lambda: pods_of(agent) == server.names(), "the changes")
    assert ("Namespace", "", "default") in agent.objects
    printed = json.loads(subprocess.run(
        [ROOT / "build/tendril-kube", "--print", "--kubeconfig", server.kubeconfig], text=True,
        check=True, capture_output=True).stdout)["items"]
    assert {one["metadata"]["name"] for one in printed if one["kind"] == "Pod"} == server.names()
    # What a watch could go on from is forgotten: by etcd, and by the server, which starts again.
    server.compact()
    server.stop()
    again = Server(server.folder)
    again.pod("after", "10.0.2.2")
    again.call("DELETE", f"{PODS}/pod-4")
    wait_for(lambda: pods_of(agent) == again.names(), "the changes after a restart", timeout=40)
    assert agent.resets == 1 and one.process.poll() is None

