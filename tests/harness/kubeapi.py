# SPDX-License-Identifier: Apache-2.0
"""A scripted Kubernetes API server (TLS, lists in pages, streaming lists, watches) and a scripted agent
that takes what tendril-kube hands on: what real ones do only rarely, these do when told."""

import base64
import http.server
import json
import os
import queue
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.parse

PATHS = {
    "/api/v1/namespaces": ("v1", "Namespace"),
    "/api/v1/nodes": ("v1", "Node"),
    "/api/v1/pods": ("v1", "Pod"),
    "/api/v1/services": ("v1", "Service"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "/apis/networking.k8s.io/v1/networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy"),
    "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies":
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
}


def field(item, path):
    for name in path.split("."):
        item = item.get(name, "") if isinstance(item, dict) else ""
    return item


def selector(query):
    """What fieldSelector (a=b, a!=b) and labelSelector (!key) of a query pick."""
    terms = [term for term in query.get("fieldSelector", "").split(",") if term]
    absent = [term[1:] for term in query.get("labelSelector", "").split(",") if term]

    def matches(item):
        labels = item["metadata"].get("labels", {})
        return not any(key in labels for key in absent) and all(
            field(item, term.split("!=")[0]) != term.split("!=")[1] if "!=" in term
            else field(item, term.split("=")[0]) == term.split("=")[1] for term in terms)
    return matches


def make_certificate(folder, name="server"):
    """A self-signed certificate for 127.0.0.1 and kubernetes.default; returns its path and the key's."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", cert,
                    "-addext", "subjectAltName=IP:127.0.0.1,DNS:kubernetes.default"],
                   check=True, capture_output=True)
    return cert, key


def write_kubeconfig(path, url, cert, token="secret", **cluster):
    """For the server at url, with a token file beside it; returns path."""
    ca = base64.b64encode(cert.read_bytes()).decode()
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority-data": ca,
                                               **cluster}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}]}))
    (path.parent / "token").write_text(token + "\n")
    return path


class FakeApi:
    """Objects by (path, namespace, name); watchers get what changes.  Knobs:

    streaming   answers sendInitialEvents (else 400, as a server of before 1.32)
    token       a request with another one gets 401
    answer      called with (handler, path, query) before anything else; True: it has answered
    held        paths whose changes are not told to watches until release()
    mangle      called with each line of a watch, returns the bytes to send instead and whether to cut
    written     (method, path, body) of each PATCH and POST; write_status is what they are answered
    """

    def __init__(self, folder, port=0, cert=None):
        self.cert, self.key = cert or make_certificate(folder)
        self.lock = threading.RLock()
        self.version, self.objects, self.watchers = 100, {}, []
        self.history = []
        self.streaming, self.token = True, "secret"
        self.optional = False  # whether the cluster has ClusterNetworkPolicy
        self.answer = self.mangle = None
        self.held, self.untold = set(), []
        self.requests, self.connections = [], set()
        self.written, self.write_status = [], 200
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                api.connections.add(self.connection)

            def finish(self):
                api.connections.discard(self.connection)
                super().finish()

            def do_GET(self):
                try:
                    api.serve(self)
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    self.close_connection = True

            def do_PATCH(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with api.lock:
                    api.written.append((self.command, self.path, body))
                api.status(self, api.write_status, "as told")

            do_POST = do_PATCH

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # clients that leave are part of the tests

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                 do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended by itself
        self.end_watches()

    # ---- objects ----

    def put(self, path, name, namespace="", **fields):
        version, kind = PATHS[path]
        with self.lock:
            self.version += 1
            metadata = dict(fields.pop("metadata", {}), name=name, uid=f"uid-{name}",
                            resourceVersion=str(self.version),
                            managedFields=[{"manager": "test", "operation": "Update"}])
            if namespace:
                metadata["namespace"] = namespace
            item = {"metadata": metadata, **fields}
            former = self.objects.get((path, namespace, name))
            self.objects[path, namespace, name] = item
            self.tell(path, former, item)

    def delete(self, path, name, namespace=""):
        with self.lock:
            self.version += 1
            item = self.objects.pop((path, namespace, name))
            former = dict(item, metadata=dict(item["metadata"], resourceVersion=str(self.version)))
            self.tell(path, former, None)

    def tell(self, path, former, item):
        if path in self.held:
            self.untold.append((path, former, item))
            return
        self.history.append((int((item or former)["metadata"]["resourceVersion"]), path, former, item))
        for watcher_path, events, matches in self.watchers:
            if watcher_path == path:
                self.tell_one(events, matches, former, item)

    def tell_one(self, events, matches, former, item):
        before, after = former and matches(former), item and matches(item)
        if before or after:
            kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
            shown = item or former
            if not after and item:  # it is told with the version of what it has become
                shown = dict(former, metadata=dict(former["metadata"], resourceVersion=item[
                    "metadata"]["resourceVersion"]))
            events.put({"type": kind, "object": shown})

    def release(self):
        with self.lock:
            self.held, untold = set(), self.untold
            self.untold = []
            for change in untold:
                self.tell(*change)

    def items(self, path, matches):
        return [item for (item_path, _, _), item in sorted(self.objects.items())
                if item_path == path and matches(item)]

    def end_watches(self, path=None):
        """Every watch ends as at its timeout."""
        with self.lock:
            for watcher_path, events, _ in self.watchers:
                if path in (None, watcher_path):
                    events.put(None)

    def error(self, code, path=None):
        """Every watch gets an ERROR event."""
        with self.lock:
            for watcher_path, events, _ in self.watchers:
                if path in (None, watcher_path):
                    events.put({"type": "ERROR", "object": {"kind": "Status", "code": code,
                                                            "message": f"error {code}"}})

    def forget_history(self):
        """As compaction does: watches from an older version get 410."""
        with self.lock:
            self.history = []
            self.version += 1
            self.compacted = self.version

    compacted = 0

    # ---- requests ----

    def count(self, needle):
        return sum(needle in request for request in self.requests)

    def reply(self, handler, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def status(self, handler, code, message, headers=()):
        self.reply(handler, code, {"kind": "Status", "code": code, "message": message}, headers)

    def serve(self, handler):
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.requests.append(handler.path)
        if self.answer and self.answer(handler, url.path, query):
            return
        if handler.headers.get("Authorization") != f"Bearer {self.token}":
            self.status(handler, 401, "Unauthorized")
        elif url.path == "/livez":
            self.reply(handler, 200, b"ok")
        else:
            self.serve_objects(handler, url.path, query)

    def serve_objects(self, handler, path, query):
        """A kind, its objects in one namespace, or one object."""
        parts = path.split("/")
        namespace = name = None
        if path not in PATHS and "namespaces" in parts[:-1]:
            at = parts.index("namespaces")
            namespace, name = parts[at + 1], "/".join(parts[at + 3:])
            path = "/".join(parts[:at] + parts[at + 2:at + 3])
        if path not in PATHS or ("clusternetworkpolicies" in path and not self.optional):
            self.status(handler, 404, "the server could not find the requested resource")
        elif name:
            self.one(handler, path, namespace, name)
        elif query.get("watch") == "1" and "sendInitialEvents" in query and not self.streaming:
            self.status(handler, 400, "sendInitialEvents is forbidden for watch")
        else:
            picks = selector(query)
            (self.watch if query.get("watch") == "1" else self.list)(
                handler, path, query, lambda item: picks(item) and
                namespace in (None, item["metadata"].get("namespace")))

    def one(self, handler, path, namespace, name):
        with self.lock:
            item = self.objects.get((path, namespace, name))
        if item:
            self.reply(handler, 200, self.shown(handler, path, item))
        else:
            self.status(handler, 404, f'"{name}" not found')

    def shown(self, handler, path, item):
        """An object as the client wants it."""
        version, kind = PATHS[path]
        if "as=PartialObjectMetadata" in handler.headers.get("Accept"):
            return {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": item["metadata"]}
        return {"apiVersion": version, "kind": kind, **item}

    def list(self, handler, path, query, matches):
        with self.lock:
            items, version = self.items(path, matches), self.version
        first, limit = int(query.get("continue", "0")), int(query["limit"])
        metadata = {"resourceVersion": str(version)}
        if first + limit < len(items):
            metadata["continue"] = str(first + limit)
        partial = "as=PartialObjectMetadataList" in handler.headers.get("Accept")
        self.reply(handler, 200, {"kind": PATHS[path][1] + "List", "metadata": metadata, "items": [
            {"metadata": item["metadata"]} if partial else item
            for item in items[first:first + limit]]})

    def watch(self, handler, path, query, matches):
        version, kind = PATHS[path]
        events = queue.Queue()
        with self.lock:
            if "sendInitialEvents" in query:
                for item in self.items(path, matches):
                    events.put({"type": "ADDED", "object": item})
                events.put({"type": "BOOKMARK", "object": {
                    "kind": kind, "apiVersion": version,
                    "metadata": {"resourceVersion": str(self.version),
                                 "annotations": {"k8s.io/initial-events-end": "true"}}}})
            elif int(query["resourceVersion"]) < self.compacted:
                events.put({"type": "ERROR", "object": {
                    "kind": "Status", "code": 410, "reason": "Expired",
                    "message": "too old resource version"}})
                events.put(None)
            else:
                for number, event_path, former, item in self.history:
                    if event_path == path and number > int(query["resourceVersion"]):
                        self.tell_one(events, matches, former, item)
            watcher = (path, events, matches)
            self.watchers.append(watcher)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                event = events.get()
                if event is None:
                    break
                if event["type"] not in ("BOOKMARK", "ERROR"):
                    event["object"] = self.shown(handler, path, event["object"])
                line, cut = json.dumps(event).encode() + b"\n", False
                if self.mangle:
                    line, cut = self.mangle(path, line)
                if line:
                    handler.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    handler.wfile.flush()
                if cut:
                    handler.close_connection = True
                    handler.connection.shutdown(socket.SHUT_RDWR)
                    return
            handler.wfile.write(b"0\r\n\r\n")
        finally:
            with self.lock:
                self.watchers.remove(watcher)

    # ---- configuration ----

    def kubeconfig(self, folder, name="kubeconfig", cert=None, **cluster):
        return write_kubeconfig(folder / name, self.url, cert or self.cert, self.token, **cluster)


class FakeAgent:
    """Takes POST /v1/sources/kubernetes: objects by (kind, namespace, name), as the agent would have
    them."""

    def __init__(self, path):
        self.path = str(path)
        self.objects, self.stale, self.synced, self.resets = {}, set(), False, 0
        self.status, self.refused, self.batches = 200, [], 0
        self.node, self.known, self.questions = None, 0, queue.Queue()
        self.told = lambda event: None  # called with each event that is taken
        self.delay, self.problem = 0, None
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                while True:
                    question = agent.questions.get()
                    if question is None:
                        return
                    self.wfile.write(json.dumps(question).encode() + b"\n")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(agent.delay)
                if agent.status == 200:
                    agent.take(body)
                data = json.dumps({"refused": agent.refused}).encode()
                self.send_response(agent.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def get_request(self):
                connection, _ = super().get_request()
                return connection, ("client", 0)

        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = Server(self.path, Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.questions.put(None)
        self.server.shutdown()
        self.server.server_close()
        if os.path.exists(self.path):
            os.unlink(self.path)

    def ask(self, kind, **question):
        self.questions.put({"type": kind, **question})

    def take(self, body):
        self.batches += 1
        for line in body.decode().splitlines():
            event = json.loads(line)
            if event["type"] == "RESET":
                self.resets += 1
                self.node = event["object"].get("node")
                self.stale, self.synced = set(self.objects), False
            elif event["type"] == "SYNCED":
                for key in self.stale:
                    del self.objects[key]
                self.stale, self.synced = set(), True
            elif event["type"] == "KNOWN":
                self.known = event["object"]["number"]
            elif event["type"] == "STATUS":
                self.problem = event["object"]["problem"]
            else:
                item = event["object"]
                key = (item["kind"], item["metadata"].get("namespace", ""),
                       item["metadata"]["name"])
                self.stale.discard(key)
                if event["type"] == "DELETED":
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = item
                self.told(event)
