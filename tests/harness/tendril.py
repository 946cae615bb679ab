# SPDX-License-Identifier: Apache-2.0
"""A private Tendril node for tests and the demo: agent, pods, the CNI protocol, the API.

    root netns                  node netns (the agent lives here)         pod netns, one a pod
    test process  --- unix socket --- tendrild    tendril0   veth ======== eth0

Everything made carries one unique name and is removed by Node.close(), also after failures.
"""

import http.client
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
HARNESS = ROOT / "tests" / "harness"
BPFFS = pathlib.Path("/sys/fs/bpf")
COUNTER = itertools.count(1)
DROP_S = 0.25  # how long a test waits for an answer that must not come


def wait_for(condition, what, timeout=30.0):
    """Polls until condition() is true and returns its value; fails loudly at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.005)  # pace of the poll, not a wait for the event


def run(*argv, check=True, **kwargs):
    return subprocess.run([str(a) for a in argv], check=check, text=True,
                          capture_output=True, **kwargs)


def cgroup2_root():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        if tail.split()[0] == "cgroup2":
            return pathlib.Path(fields.split()[4])
    raise RuntimeError("no cgroup2 mount in /proc/self/mountinfo")


def bpffs_ensure():
    """Mounts a bpffs where systemd would, on machines that have none."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    if f" {BPFFS} " not in mounts:
        run("mount", "-t", "bpf", "bpf", BPFFS)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=10):
        super().__init__("localhost", timeout=timeout)
        self.unix_path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.unix_path)


class Namespace:
    """A named network namespace with its loopback up."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def enter(self, *argv):
        # Not "ip netns exec": that remounts /sys and hides bpffs and the cgroups.
        return ["nsenter", f"--net={self.path}", *[str(a) for a in argv]]

    def run(self, *argv, **kwargs):
        return run(*self.enter(*argv), **kwargs)

    def ip(self, *argv, **kwargs):
        return run("ip", "-n", self.name, *argv, **kwargs)

    def delete(self):
        run("ip", "netns", "del", self.name, check=False)


class Prober:
    """Whatever podproc.py can run in: self.enter() says how, self.node whose cgroup, if it is in one."""

    process = node = None
    pod_name = "nobody"

    def popen(self, *argv, **kwargs):
        """Starts a program in the namespace and in the node's cgroup."""
        return subprocess.Popen(self.enter(*argv),
                                preexec_fn=self.node.join_cgroup if self.node else None, **kwargs)

    def call(self, op, **arguments):
        if not self.process:
            self.process = self.popen("python3", HARNESS / "podproc.py", stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"process of {self.pod_name} died during {op}")
        return json.loads(line)

    def quit(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


class NodeProcess(Prober):
    """A process of the node itself."""

    pod_name = "the node"

    def __init__(self, node, in_cgroup=True):
        self.node = node if in_cgroup else None
        self.enter = node.netns.enter


class Pod(Prober, Namespace):
    """A namespace wired by the CNI plugin, with a process inside that probes and serves."""

    def __init__(self, node, name, namespace="default", labels=None, conf=None, cni_args=None,
                 wire=True):
        self.node = node
        self.pod_name = name
        self.pod_namespace = namespace
        self.container_id = f"{node.name}-{name}-{next(COUNTER)}"
        super().__init__(f"{node.name}-p{next(COUNTER)}")
        node.pods.append(self)
        self.conf = dict(node.conf, **(conf or {}))
        if labels:
            self.conf["args"] = {"cni": {"labels": [
                {"key": key, "value": value} for key, value in labels.items()]}}
        self.cni_args = cni_args or (f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};"
                                     f"K8S_POD_NAME={name}")
        self.addresses = []
        if wire:
            self.add()

    def cni(self, command, conf=None, **env):
        return self.node.cni(command, self.container_id, self.path, conf or self.conf,
                             args=self.cni_args, **env)

    def add(self):
        start = time.perf_counter()
        self.result = self.cni("ADD")
        self.add_seconds = time.perf_counter() - start
        self.addresses = [ip["address"].split("/")[0] for ip in self.result["ips"]]
        return self.result

    @property
    def v4(self):
        return next(a for a in self.addresses if ":" not in a)

    @property
    def v6(self):
        return next(a for a in self.addresses if ":" in a)

    def serve(self, tcp=(), udp=()):
        return self.call("serve", name=self.pod_name, tcp=list(tcp), udp=list(udp))

    def connect(self, addr, port, **more):
        return self.call("connect", addr=addr, port=port, **more)

    def udp(self, addr, port, **more):
        return self.call("udp", addr=addr, port=port, **more)

    def results(self, target, port, proto="tcp", **more):
        """What becomes of probes to a pod or to addresses, by both families."""
        addresses = target.addresses if isinstance(target, Pod) else target
        ask = self.connect if proto == "tcp" else self.udp
        return {ask(addr, port, **more)["result"] for addr in addresses}

    def reaches(self, target, port, proto="tcp"):
        """Whether it is answered by both families; they must agree."""
        found = self.results(target, port, proto)
        assert len(found) == 1, found
        return found == {"ok"}

    def is_dropped(self, target, port, proto="tcp", timeout=DROP_S):
        """Whether no answer comes by either family; they must agree."""
        found = self.results(target, port, proto, timeout=timeout)
        assert len(found) == 1, found
        return found == {"timeout"}

    def delete(self):
        self.quit()
        super().delete()


class Node:
    """A network namespace with an agent of its own."""

    def __init__(self, *agent_args, start=True, cidrs=("10.200.0.0/24", "fd00:200::/112"),
                 build=BUILD):
        self.name = f"tdl{os.getpid()}n{next(COUNTER)}"
        self.pods = []
        self.agent = None
        self.agent_args = list(agent_args)
        self.cidrs = cidrs
        self.build = pathlib.Path(build)  # whose programs run
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=self.name))
        self.run_dir = self.dir / "run"
        self.objects = self.dir / "objects"
        self.log_path = self.dir / "agent.log"
        self.socket = self.run_dir / "tendril.sock"
        self.bpffs = BPFFS / self.name
        self.cgroup = cgroup2_root() / self.name
        self.conf = {"cniVersion": "1.1.0", "name": "tendril", "type": "tendril",
                     "socket": str(self.socket)}
        try:
            bpffs_ensure()
            self.run_dir.mkdir()
            self.objects.mkdir()
            self.cgroup.mkdir()
            self.netns = Namespace(self.name)
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    # ---- the agent ----

    def argv(self, *more):
        argv = [self.build / "tendrild", "--run-dir", self.run_dir, "--bpffs", self.bpffs, "--cgroup",
                self.cgroup, "--objects", self.objects]
        for cidr in self.cidrs:
            argv += ["--pod-cidr", cidr]
        return self.netns.enter(*argv, *self.agent_args, *more)

    def start(self, *more, timeout=30.0):
        """Starts the agent and returns when it says READY=1; returns the seconds that took."""
        notify_path = self.dir / "notify.sock"
        notify_path.unlink(missing_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(notify_path))
        notify.settimeout(0.05)
        env = dict(os.environ, NOTIFY_SOCKET=str(notify_path))
        began = time.perf_counter()
        with open(self.log_path, "ab") as log:
            self.agent = subprocess.Popen(self.argv(*more), stdout=log, stderr=log, env=env)
        try:
            while True:
                try:
                    if b"READY=1" in notify.recv(4096):
                        return time.perf_counter() - began
                except TimeoutError:
                    pass
                if self.agent.poll() is not None or time.perf_counter() - began > timeout:
                    raise AssertionError(f"the agent did not get ready:\n{self.log()}")
        finally:
            notify.close()

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def stop(self, signum=signal.SIGTERM, timeout=20.0):
        if self.agent:
            self.agent.send_signal(signum)
            status = self.agent.wait(timeout)
            self.agent = None
            return status
        return None

    def kill(self):
        return self.stop(signal.SIGKILL)

    def join_cgroup(self):
        (self.cgroup / "cgroup.procs").write_text("0")

    # ---- objects, API, CLI, CNI ----

    def write(self, file, *objects):
        """Writes objects to a file of the JSON directory, atomically."""
        temporary = self.dir / ("." + file)
        document = objects[0] if len(objects) == 1 else {
            "apiVersion": "v1", "kind": "List", "items": list(objects)}
        temporary.write_text(json.dumps(document))
        temporary.rename(self.objects / file)

    def api(self, method, path, body=None, status=200):
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == status, f"{method} {path}: {response.status} {text}"
            return json.loads(text)
        finally:
            connection.close()

    def status(self):
        return self.api("GET", "/v1/status")

    def cli(self, *argv, check=True):
        return run(self.build / "tendril", "--socket", self.socket, *argv, check=check)

    def wait_object(self, kind, namespace, name):
        wait_for(lambda: any((o["kind"], o["namespace"], o["name"]) == (kind, namespace, name)
                             for o in self.api("GET", "/v1/objects")),
                 f"{kind} {namespace}/{name}")

    def put(self, *objects):
        return self.api("PUT", "/v1/objects", {"apiVersion": "v1", "kind": "List",
                                               "items": list(objects)})

    def cni(self, command, container_id, netns, conf, ifname="eth0", args="", plugin=None,
            check=True, path="/usr/lib/cni"):
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": container_id, "CNI_NETNS": netns or "",
               "CNI_IFNAME": ifname, "CNI_ARGS": args, "CNI_PATH": f"{self.build}:{path}",
               "PATH": os.environ["PATH"]}
        done = subprocess.run(self.netns.enter(plugin or self.build / "tendril-cni"), env=env,
                              input=json.dumps(conf), text=True, capture_output=True)
        answer = json.loads(done.stdout) if done.stdout.strip() else {}
        if check and done.returncode != 0:
            raise AssertionError(f"{command} failed: {answer or done.stderr}\n{self.log()}")
        return answer

    def pod(self, name, namespace="default", **more):
        return Pod(self, name, namespace, **more)

    # ---- end ----

    def close(self):
        for pod in self.pods:
            pod.delete()
        if self.agent:
            self.agent.kill()
            self.agent.wait()
            self.agent = None
        if (self.build / "tendrild").exists() and hasattr(self, "netns"):
            run(*self.argv("--cleanup"), check=False)
        if hasattr(self, "netns"):
            self.netns.delete()
        shutil.rmtree(self.bpffs, ignore_errors=True)
        if self.cgroup.exists():
            for pid in (self.cgroup / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            wait_for(lambda: not (self.cgroup / "cgroup.procs").read_text(), "an empty cgroup")
            self.cgroup.rmdir()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- objects in Kubernetes' shape ----

def pod_object(name, namespace="default", labels=None, addresses=(), ports=(), accelerate=False,
               phase="Running", audit=False):
    annotations = {"tendril.io/accelerate": accelerate, "tendril.io/policy-audit": audit}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {},
                         "annotations": {key: "true" for key, on in annotations.items() if on}},
            "spec": {"containers": [{"name": "main", "ports": [
                {"name": n, "containerPort": p, "protocol": proto} for n, p, proto in ports]}]},
            "status": {"phase": phase, **({"podIP": addresses[0], "podIPs": [
                {"ip": a} for a in addresses]} if addresses else {})}}


def node_object(name, labels, addresses):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
            "status": {"addresses": [{"type": "InternalIP", "address": a} for a in addresses]}}


def namespace_object(name, labels=None):
    return {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels or {}}}


def service_object(name, namespace, cluster_ips, ports, **spec):
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"type": "ClusterIP", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips,
                     "ports": ports, **spec}}


def slice_object(name, namespace, service, family, ports, endpoints):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace,
                         "labels": {"kubernetes.io/service-name": service}},
            "addressType": family, "ports": ports,
            "endpoints": [e if isinstance(e, dict) else
                          {"addresses": [e], "conditions": {"ready": True}} for e in endpoints]}


def policy_object(name, namespace, pod_selector, **spec):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"podSelector": pod_selector, **spec}}


def cluster_policy_object(name, tier, priority, **spec):
    return {"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name}, "spec": {"tier": tier, "priority": priority, **spec}}
