# SPDX-License-Identifier: Apache-2.0
"""What a CNI runtime does: runs plugins, and chains of them; and a stand-in for the agent that
answers as told, for failures that a real one does not have."""

import array
import json
import os
import pathlib
import socket
import subprocess
import threading

SUPPORTED = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


class Answer:
    """What one execution of a plugin gave back."""

    def __init__(self, done):
        self.status = done.returncode
        self.text = done.stdout
        self.stderr = done.stderr
        self.json = json.loads(done.stdout) if done.stdout.strip() else None

    @property
    def code(self):
        """The error's code; 0 on success."""
        if self.status == 0:
            return 0
        assert self.status == 1 and self.json, f"exit {self.status}: {self.text}{self.stderr}"
        return self.json["code"]


def plugin_run(program, command, conf, container_id="c1", ifname="eth0", netns=None, args="",
               path="/usr/lib/cni", enter=(), timeout=30, **more):
    """Runs a plugin; variables that are None are left out of its environment."""
    env = {"CNI_COMMAND": command, "CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname,
           "CNI_NETNS": netns, "CNI_ARGS": args, "CNI_PATH": path, "PATH": os.environ["PATH"],
           **more}
    text = conf if isinstance(conf, (str, bytes)) else json.dumps(conf)
    done = subprocess.run([*enter, str(program)], timeout=timeout, capture_output=True,
                          input=text.encode() if isinstance(text, str) else text,
                          env={k: str(v) for k, v in env.items() if v is not None})
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return Answer(done)


class Chain:
    """A network list run as libcni does it: name and version spread, prevResult handed on,
    runtimeConfig by capability, DEL in reverse."""

    def __init__(self, conflist, folders, enter=()):
        self.conflist, self.folders, self.enter = conflist, folders, list(enter)
        self.result = None

    def program(self, kind):
        for folder in self.folders:
            if (pathlib.Path(folder) / kind).exists():
                return pathlib.Path(folder) / kind
        raise FileNotFoundError(f"plugin {kind} in {self.folders}")

    def conf(self, plugin, runtime, previous):
        conf = {k: v for k, v in plugin.items() if k != "capabilities"}
        conf.update(name=self.conflist["name"], cniVersion=self.conflist["cniVersion"])
        granted = {k: v for k, v in runtime.items() if plugin.get("capabilities", {}).get(k)}
        if granted:
            conf["runtimeConfig"] = granted
        if previous:
            conf["prevResult"] = previous
        return conf

    def run(self, command, container_id, netns, runtime=None, **more):
        """Returns the last plugin's Answer, or the first that failed."""
        plugins = self.conflist["plugins"]
        answer = None
        previous = None if command == "ADD" else self.result
        for plugin in reversed(plugins) if command == "DEL" else plugins:
            answer = plugin_run(self.program(plugin["type"]), command,
                                self.conf(plugin, runtime or {}, previous), container_id,
                                netns=netns, enter=self.enter,
                                path=":".join(map(str, self.folders)), **more)
            if answer.status != 0:
                return answer
            if command == "ADD":
                previous = answer.json
        if command == "ADD":
            self.result = previous
        return answer


class FakeAgent:
    """Listens like the agent.  answer(path, body) returns (status, object or text); None: the
    connection is closed without an answer; an Event: it stays silent until that is set."""

    def __init__(self, path, answer):
        self.path, self.answer = pathlib.Path(path), answer
        self.calls = []  # (path, body, inode of the namespace that was passed)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.serve_one(connection)

    def serve_one(self, connection):
        data, inode = b"", None
        while b"\r\n\r\n" not in data:
            more, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
            if not more:
                return
            data += more
            for _, kind, payload in ancillary:
                assert kind == socket.SCM_RIGHTS
                fds = array.array("i", payload[:4])
                inode = os.fstat(fds[0]).st_ino
                os.close(fds[0])
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                      if line.lower().startswith(b"content-length"))
        while len(body) < length:
            body += connection.recv(65536)
        path = head.split()[1].decode()
        request = json.loads(body)
        self.calls.append((path, request, inode))
        self.reply(connection, self.answer(path, request))

    @staticmethod
    def reply(connection, answer):
        if answer is None:
            return
        if isinstance(answer, threading.Event):
            answer.wait(60)
            return
        status, body = answer
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        try:
            connection.sendall(head.encode() + text)
        except BrokenPipeError:
            pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
