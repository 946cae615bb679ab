# SPDX-License-Identifier: Apache-2.0
"""Nodes whose objects come from an API server (scripted, kubeapi.py) by the real tendril-kube."""

import signal
import subprocess

import lan
from kubeapi import FakeApi
from tendril import BUILD, Node, UnixConnection, pod_object, wait_for

PODS, NAMESPACES, NODES = "/api/v1/pods", "/api/v1/namespaces", "/api/v1/nodes"
POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"
CLUSTER_POLICIES = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"


class KubeNode(Node):
    """A node whose objects come from an API server, by tendril-kube."""

    def __init__(self, folder, *agent_args, kube_name="n1", api_server=None, **more):
        self.kube_name = kube_name
        self.api_server = api_server or FakeApi(folder)
        self.kubeconfig = self.api_server.kubeconfig(folder)
        self.kube_log = folder / f"{kube_name}.kube.log"
        self.client = None
        super().__init__("--kubernetes=true", *agent_args, **more)

    def client_start(self):
        self.client = subprocess.Popen(
            [BUILD / "tendril-kube", "--kubeconfig", self.kubeconfig, "--socket", self.run_dir / "kube/kube.sock",
             "--node", self.kube_name],
            stderr=open(self.kube_log, "a"), stdin=subprocess.DEVNULL)

    def client_stop(self, signum=signal.SIGTERM):
        self.client.send_signal(signum)
        self.client.wait(timeout=10)
        self.client = None

    def kube(self):
        return self.status()["kubernetes"]

    def wait_synced(self):
        wait_for(lambda: self.kube()["state"] == "synced", "all objects of the API server")

    def objects_of(self, source):
        return {(o["kind"], o["namespace"], o["name"]) for o in self.api("GET", "/v1/objects")
                if o["source"] == source}

    def announce(self, name, labels, addresses=(), namespace="shop", node=None):
        """The Pod object, as the API server has it before (or once) its kubelet reports addresses."""
        made = pod_object(name, namespace, labels, addresses)
        self.api_server.put(PODS, name, namespace, metadata={"labels": labels},
                            spec=dict(made["spec"], nodeName=node or self.kube_name),
                            status=made["status"])

    def kube_pod(self, name, labels, namespace="shop"):
        self.announce(name, labels, namespace=namespace)
        pod = self.pod(name, namespace)
        self.announce(name, labels, pod.addresses, namespace)
        return pod

    def batch(self, *lines, status=200):
        connection = UnixConnection(self.socket)
        try:
            connection.request("POST", "/v1/sources/kubernetes",
                               "".join(line + "\n" for line in lines))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == status, text
            return text
        finally:
            connection.close()

    def close(self):
        if self.client:
            self.client.kill()
            self.client.wait()
        self.api_server.close()
        super().close()


class KubeNodes:
    """Nodes n1, n2 ... on one link, of one API server; node number I has the ranges cidrs(I)."""

    def __init__(self, folder, count, *agent_args):
        self.api_server = FakeApi(folder)
        self.api_server.optional = True
        self.lan = lan.Lan()
        self.all = []
        try:
            for number in range(1, count + 1):
                self.join(folder, number, agent_args)
            for node in self.all:
                node.start()
                node.client_start()
            for node in self.all:
                node.wait_synced()
                lan.settled(node.netns)
        except BaseException:
            self.close()
            raise

    def join(self, folder, number, agent_args):
        cidrs = lan.Nodes.cidrs(number)
        node = KubeNode(folder, "--auto-direct-node-routes=true", *agent_args, start=False,
                        kube_name=f"n{number}", api_server=self.api_server, cidrs=())
        self.all.append(node)
        self.lan.join(node.netns, number)
        made = lan.node_object(node.kube_name, lan.Lan.addresses(number), cidrs)
        self.api_server.put(NODES, node.kube_name, spec=made["spec"], status=made["status"])

    def close(self):
        for node in self.all:
            node.close()
        self.lan.close()
