# SPDX-License-Identifier: Apache-2.0
"""The scope that makes namespaces, nodes and processes and takes them down, whatever happened."""

import contextlib
import ctypes
import itertools
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "harness"))

import tendril  # noqa: E402
from signals import held  # noqa: E402
from tendril import Namespace, Node, Pod  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUILD = tendril.BUILD
NETBENCH = BUILD / "tests/bench/netbench"
POLICYBENCH = BUILD / "tests/bench/policybench"
PACKETBENCH = BUILD / "tests/bench/packetbench"
CPU = 1  # of both ends
PORT = 7000
HTTP_PORT = 7080
TICKS = os.sysconf("SC_CLK_TCK")
COUNTER = itertools.count(1)
# What a node keeps in /run is in memory; a disk would be measured instead of the agent.
tempfile.tempdir = "/dev/shm"


def address_of(addresses, family):
    return next(a for a in addresses if (":" in a) == (family == 6))


def make_pod(node, name, **more):
    """node.pod(), whole or not at all."""
    with held():
        return Pod(node, name, **more)


def widen_ports(namespace):
    """Connections that have just been closed must not get in each other's way."""
    namespace.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535")


def process_cpu(pid):
    """Seconds of CPU time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def entered(namespace):
    """This thread inside a network namespace, so that what it starts needs no nsenter."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(namespace.path) as there:
        assert libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), 0) == 0, os.strerror(ctypes.get_errno())


class Pair:
    """Two ends of one variant: where they run, and the addresses clients connect to.

    servers: more than one where a service has several endpoints; all may be in addresses then.
    node: what runs the agent, or the bridge."""

    def __init__(self, variant, servers, client, addresses, preexec=None, node=None):
        self.variant, self.servers, self.client = variant, servers, client
        self.addresses, self.preexec, self.node = addresses, preexec, node

    def netbench(self, name, family, *arguments, port=PORT):
        """Runs the client's end; returns the numbers it prints, a single one as itself."""
        address = ",".join(a for a in self.addresses if (":" in a) == (family == 6))
        done = subprocess.run(self.client.enter(NETBENCH, CPU, name, address, port, *arguments),
                              capture_output=True, text=True, timeout=120,
                              preexec_fn=self.preexec)
        if done.returncode:
            raise RuntimeError(f"netbench {name} to {address} of {self.variant}: {done.stderr}")
        numbers = [float(word) for word in done.stdout.split()]
        return numbers[0] if len(numbers) == 1 else numbers


class Lab(contextlib.ExitStack):
    """Whatever a measurement needs; taken down in reverse order when the scope ends.

    A lab inside another hands out the outer one's pairs: those of plain traffic are made once."""

    def __init__(self, outer=None, builders=None):
        super().__init__()
        self.outer, self.builders, self.pairs = outer, builders, {}

    def namespace(self):
        with held():
            made = Namespace(f"tdb{os.getpid()}n{next(COUNTER)}")
            self.callback(made.delete)
        widen_ports(made)
        return made

    def node(self, *agent_args, **more):
        """A Tendril node, started; its pods go with it."""
        with held():
            return self.enter_context(Node(*agent_args, **more))

    def folder(self):
        """A temporary folder's path."""
        with held():
            return pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="tdb")))

    def process(self, argv, preexec=None, **more):
        with held():
            made = subprocess.Popen([str(a) for a in argv], preexec_fn=preexec, **more)
            self.callback(made.wait)
            self.callback(made.kill)
            return made

    def serve(self, pair, port=PORT):
        """Starts netbench's server at the pair's serving ends; returns the pair."""
        for server in pair.servers:
            process = self.process(server.enter(NETBENCH, CPU, "server", port), pair.preexec,
                                   stdout=subprocess.PIPE, text=True)
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"no server in {pair.variant}")
        return pair

    def pair(self, variant):
        """The variant's two ends with a server running, shared by all who ask."""
        if self.outer:
            return self.outer.pair(variant)
        if variant not in self.pairs:
            self.pairs[variant] = self.serve(self.builders[variant](self))
        return self.pairs[variant]
