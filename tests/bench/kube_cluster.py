#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The API server of a large cluster that is not there: objects are written when somebody asks for them.

    kube_cluster.py CERT KEY PODS SERVICES POLICIES CHURN

Node n0 is the one that is measured: of every PODS_PER_NODE pods one runs there, all of them in namespace
ns-0, whose policies name the pods of ns-1 and ns-2.  CHURN pods a second change.  Says its port, then
answers lines on standard input:

    pod NAMESPACE NAME LABEL ADDRESS...   a pod of n0, app=LABEL
    policy OPENS                          default/measured for app=a: lets everyone in (1) or nobody (0);
                                          says when it was sent
    watches                               how many there are
    bytes                                 sent so far, and what watching everything would have taken
"""

import collections
import itertools
import json
import re
import socketserver
import ssl
import sys
import threading
import time
import urllib.parse

NAMESPACES, PODS_PER_NODE = 500, 30
CHUNK = 1 << 17
ENV = [{"name": f"SETTING_{i}", "value": f"value of setting {i} of this container"} for i in range(12)]
MANAGED = [{"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {f"f:{part}": {f"f:field{i}": {} for i in range(24)}
                                                   for part in ("metadata", "spec")}}
           for manager in ("kube-controller-manager", "kubelet")]


def template(item):
    """A format for bytes; what differs is written %(name)s, numbers as "%(name)d"."""
    text = json.dumps(item, separators=(",", ":"))
    return re.sub(r'"(%\(\w+\)d)"', r"\1", text)


def metadata(name, namespace="%(ns)s", labels=None, managed=True):
    return {"name": name, **({"namespace": namespace} if namespace else {}), "uid": f"uid-{name}",
            "resourceVersion": "%(rv)s", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels or {},
            **({"managedFields": MANAGED} if managed else {})}


POD = template({
    "kind": "Pod", "apiVersion": "v1",
    "metadata": metadata("p%(i)s", labels={"app": "a%(app)s", "pod-template-hash": "5d78c9869d",
                                           "version": "v%(rv)s"}),
    "spec": {"nodeName": "n%(node)s", "serviceAccountName": "default", "restartPolicy": "Always",
             "volumes": [{"name": f"volume-{i}", "configMap": {"name": f"config-{i}", "defaultMode": 420}}
                         for i in range(4)],
             "tolerations": [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
                              "tolerationSeconds": 300} for key in ("not-ready", "unreachable")],
             "containers": [{"name": "main", "image": "registry.example/app:1.2.3", "env": ENV,
                             "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                             "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                             "volumeMounts": [{"name": f"volume-{i}", "mountPath": f"/etc/config-{i}"}
                                              for i in range(4)]}]},
    "status": {"phase": "Running", "podIP": "%(ip)s", "podIPs": [{"ip": "%(ip)s"}], "hostIP": "192.0.2.1",
               "conditions": [{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                              for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")],
               "containerStatuses": [{"name": "main", "ready": True, "restartCount": 0,
                                      "image": "registry.example/app:1.2.3",
                                      "containerID": "containerd://" + "0" * 64}]}})
SERVICE = template({
    "kind": "Service", "apiVersion": "v1", "metadata": metadata("s%(i)s", labels={"app": "a%(app)s"}),
    "spec": {"type": "ClusterIP", "clusterIP": "%(ip)s", "clusterIPs": ["%(ip)s"], "sessionAffinity": "None",
             "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "selector": {"app": "a%(app)s"},
             "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
    "status": {"loadBalancer": {}}})
SLICE = template({
    "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
    "metadata": metadata("s%(i)s-x", labels={"kubernetes.io/service-name": "s%(i)s"}),
    "endpoints": [{"addresses": [f"%(ip{n})s"], "nodeName": f"n{n}",
                   "conditions": {"ready": True, "serving": True, "terminating": False},
                   "targetRef": {"kind": "Pod", "namespace": "%(ns)s", "name": f"p%(pod{n})s", "uid": "uid"}}
                  for n in (1, 2)],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
POLICY = template({
    "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1", "metadata": metadata("np%(i)s"),
    "spec": {"podSelector": {"matchLabels": {"app": "a%(app)s"}}, "policyTypes": ["Ingress"],
             "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "t%(team)s"}},
                                    "podSelector": {"matchLabels": {"app": "a%(app)s"}}}]}]}})
NAMESPACE = template({"kind": "Namespace", "apiVersion": "v1",
                      "metadata": metadata("ns-%(i)s", None, {"team": "t%(i)s"})})
NODE = template({
    "kind": "Node", "apiVersion": "v1", "metadata": metadata("n%(i)s", None, {"kubernetes.io/hostname": "n%(i)s"}),
    "spec": {"podCIDR": "10.128.0.0/24", "podCIDRs": ["10.128.0.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
               "images": [{"names": [f"registry.example/image-{i}:1.2.3"], "sizeBytes": 123456789}
                          for i in range(50)]}})


def address(first, i):
    return f"{first}.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"


class Cluster:
    def __init__(self, pods, services, policies):
        self.pods, self.services, self.policies = pods, services, policies
        self.nodes = max(1, pods // PODS_PER_NODE)
        self.version = itertools.count(1000)
        self.changed = {}
        self.extra = collections.defaultdict(dict)  # kind -> (namespace, name) -> JSON
        self.watchers, self.lock = [], threading.Lock()
        self.sent = self.churned = 0
        self.kinds = {"pods": (POD, pods, self.pod), "services": (SERVICE, services, self.service),
                      "endpointslices": (SLICE, services, self.slice),
                      "networkpolicies": (POLICY, policies, self.policy),
                      "namespaces": (NAMESPACE, NAMESPACES, self.plain),
                      "nodes": (NODE, self.nodes, self.plain)}

    def pod(self, i):
        return {"i": i, "ns": f"ns-{i // self.nodes % NAMESPACES if i % self.nodes else 0}",
                "node": i % self.nodes, "app": i % 20, "ip": address(10, 0x100000 + i),
                "rv": self.changed.get(i, 100)}

    def service(self, i):
        return {"i": i, "ns": f"ns-{i % NAMESPACES}", "app": i % 20, "ip": address(11, i), "rv": 100}

    def slice(self, i):
        pods = [2 * i % self.pods, (2 * i + 1) % self.pods]
        return {"i": i, "ns": f"ns-{i % NAMESPACES}", "rv": 100,
                **{f"pod{n + 1}": pod for n, pod in enumerate(pods)},
                **{f"ip{n + 1}": address(10, 0x100000 + pod) for n, pod in enumerate(pods)}}

    def policy(self, i):
        """Those of ns-0 name ns-1 and ns-2; the others, namespaces near theirs."""
        own = i % NAMESPACES
        return {"i": i, "ns": f"ns-{own}", "app": i // NAMESPACES % 20,
                "team": 1 + i // NAMESPACES % 2 if own == 0 else (own + 1) % NAMESPACES, "rv": 100}

    @staticmethod
    def plain(i):
        return {"i": i, "rv": 100}

    def items(self, kind, matches):
        form, count, fields = self.kinds[kind]
        for i in range(count):
            values = fields(i)
            if matches(values):
                yield form % values
        for (namespace, _), item in list(self.extra[kind].items()):
            if matches({"ns": namespace, "node": 0}):
                yield json.dumps(item)

    def everything(self):
        """Bytes of all objects as a streaming list."""
        return sum(len(text) + 30 for kind in self.kinds for text in self.items(kind, lambda _: True))

    def tell(self, kind, values, text, verb="MODIFIED"):
        line = f'{{"type":"{verb}","object":{text}}}\n'.encode()
        with self.lock:
            watchers = [w for w in self.watchers if w.kind == kind and w.matches(values)]
        for watcher in watchers:
            watcher.send(line)
        return len(line)

    def churn(self, rate):
        for step in itertools.count():
            i = step * 7919 % self.pods
            self.changed[i] = next(self.version)
            values = self.pod(i)
            self.churned += self.tell("pods", values, POD % values)
            time.sleep(1 / rate)

    def put(self, kind, item):
        meta = item["metadata"]
        known = (meta["namespace"], meta["name"]) in self.extra[kind]
        meta["resourceVersion"] = str(next(self.version))
        self.extra[kind][meta["namespace"], meta["name"]] = item
        now = time.monotonic()
        self.tell(kind, {"ns": meta["namespace"], "node": 0}, json.dumps(item),
                  "MODIFIED" if known else "ADDED")
        return now


def selector(namespace, query):
    fields = dict(re.findall(r"([\w.]+)(!?=[^,]*)", query.get("fieldSelector", "")))
    node = fields.get("spec.nodeName") or fields.get("metadata.name")
    if not node:
        return lambda values: namespace in (None, values.get("ns"))
    equal, number = not node.startswith("!"), int(node.lstrip("!=n"))
    return lambda values: namespace in (None, values.get("ns")) and \
        (values.get("node", values.get("i")) == number) == equal


class Handler(socketserver.StreamRequestHandler):
    """One request a connection: a watch, or one object."""

    def setup(self):
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.writing = threading.Lock()
        super().setup()

    def send(self, data):
        try:
            with self.writing:
                self.request.sendall(b"%x\r\n%s\r\n" % (len(data), data))
            self.server.cluster.sent += len(data)
        except OSError:
            self.gone.set()

    def handle(self):
        path = self.rfile.readline().decode().split()[1]
        while self.rfile.readline() not in (b"\r\n", b""):
            pass
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = url.path.split("/")
        self.kind, self.gone = parts[-1], threading.Event()
        if self.kind not in self.server.cluster.kinds or "watch" not in query:
            self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        self.matches = selector(parts[-2] if "namespaces" in parts[:-1] else None, query)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.watch("sendInitialEvents" in query)

    def watch(self, initial):
        cluster, batch, size = self.server.cluster, [], 0
        with cluster.lock:
            cluster.watchers.append(self)
        for text in cluster.items(self.kind, self.matches) if initial else ():
            batch.append(f'{{"type":"ADDED","object":{text}}}\n')
            size += len(text)
            if size > CHUNK:
                self.send("".join(batch).encode())
                batch, size = [], 0
        batch.append(json.dumps({"type": "BOOKMARK", "object": {"metadata": {
            "resourceVersion": "999", "annotations": {"k8s.io/initial-events-end": "true"}}}}) + "\n")
        self.send("".join(batch).encode())
        while not self.gone.wait(0.2):
            self.request.setblocking(False)
            try:
                if self.request.recv(1) == b"":
                    break
            except ssl.SSLWantReadError:
                pass
            except OSError:
                break
            finally:
                with self.writing:
                    self.request.setblocking(True)
        with cluster.lock:
            cluster.watchers.remove(self)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        pass  # clients that leave


def main():
    cert, key = sys.argv[1:3]
    pods, services, policies, churn = map(int, sys.argv[3:])
    cluster = Cluster(pods, services, policies)
    server = Server(("127.0.0.1", 0), Handler)
    server.cluster = cluster
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(cert, key)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    everything = cluster.everything()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        words = line.split()
        answer = "ok"
        if words[0] == "pod":
            ips = [{"ip": ip} for ip in words[4:]]
            cluster.put("pods", {"metadata": {"namespace": words[1], "name": words[2], "uid": words[2],
                                              "labels": {"app": words[3]}},
                                 "spec": {"nodeName": "n0", "containers": [{"name": "c"}]},
                                 "status": {"phase": "Running", "podIPs": ips}})
        elif words[0] == "policy":
            answer = cluster.put("networkpolicies", {
                "metadata": {"namespace": "default", "name": "measured"},
                "spec": {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Ingress"],
                         "ingress": [{}] if words[1] == "1" else []}})
        elif words[0] == "churn":
            threading.Thread(target=cluster.churn, args=(churn,), daemon=True).start()
        elif words[0] == "watches":
            answer = len(cluster.watchers)
        elif words[0] == "bytes":
            answer = f"{cluster.sent} {everything + cluster.churned}"
        print(answer, flush=True)


main()
