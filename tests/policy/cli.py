# SPDX-License-Identifier: Apache-2.0
"""Runs build/tendril, and a stand-in for the agent: canned answers over a unix socket."""

import http.server
import json
import os
import pathlib
import socketserver
import subprocess
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))


def tendril(*words, text=None, cwd=None, program=BUILD / "tendril", **env):
    clean = {k: v for k, v in os.environ.items() if k not in ("TENDRIL_SOCKET", "NO_COLOR")}
    return subprocess.run([program, *map(str, words)], input=text or "", text=True, cwd=cwd,
                          capture_output=True, timeout=20, env=dict(clean, **env))


def document(kind, name, namespace=None, version="v1", **fields):
    metadata = {"name": name}
    if namespace:
        metadata["namespace"] = namespace
    metadata.update(fields.pop("metadata", {}))
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def pod(name, namespace, address, labels=None, **fields):
    return document("Pod", name, namespace, metadata={"labels": labels or {}},
                    status={"podIPs": [{"ip": a} for a in address.split()]}, **fields)


def policy(name, namespace, **spec):
    return document("NetworkPolicy", name, namespace, "networking.k8s.io/v1", spec=spec)


class Agent:
    """answers: {"GET /v1/status": value or (status, value)}; what was sent is in requests."""

    def __init__(self, path, answers):
        self.path, self.answers, self.requests = str(path), answers, []
        self.next_answer = None  # or a function: one answer after the other, whatever is asked
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                agent.requests.append((self.command, self.path, json.loads(body) if body else None))
                value = agent.next_answer() if agent.next_answer else agent.answers.get(
                    f"{self.command} {self.path}", (404, {"error": f"no {self.path}"}))
                status, value = value if isinstance(value, tuple) else (200, value)
                lines = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if isinstance(value, bytes):
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(lines), lines))
                    return
                self.send_header("Content-Length", str(len(lines)))
                self.end_headers()
                self.wfile.write(lines)

            do_GET = do_PUT = do_DELETE = do_POST = answer

            def address_string(self):
                return "unix"

            def log_message(self, *args):
                pass

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self.server = Server(self.path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
