# SPDX-License-Identifier: Apache-2.0
"""The table of truth.py over three nodes on one link, a third of each namespace's pods on each.

    n1: x/a y/c z/b    n2: x/b y/a z/c    n3: x/c y/b z/a      203.0.113.I, 2001:db8:5::I
         |                  |                  |
         +------------------+------------------+---- outside 198.51.100.2, 2001:db8::2

Somebody outside knows the way to each pod.  "node" is n1, for its own pods; "remote" is n2, for the
pods of the others, which treat it as they do any address.
"""

import ipaddress

import lan
import netpol
from truth import LABELS, NAMESPACES, ROOM, Table


class Link(lan.Lan):
    @staticmethod
    def addresses(number):
        return f"203.0.113.{number}", f"2001:db8:5::{number}"


class Nodes(lan.Nodes):
    """All pods are in 10.200.0.0/24 and fd00:200::/112, as with one node."""

    @staticmethod
    def cidrs(number):
        return f"10.200.0.{64 * number - 64}/26", f"fd00:200::{0x4000 * (number - 1):x}/114"

    def objects(self):
        made = super().objects()
        for each in made:
            each["metadata"]["name"] = "machine-" + each["metadata"]["name"]
        return made


class Cluster:
    """Several nodes, told the same, in the place of one."""

    def __init__(self, *mode):
        self.cluster = Nodes(3, ROOM, *mode, lan=Link)
        self.all = self.cluster.all
        self.places = {f"{namespace}/{name}": (number + k) % len(self.all)
                       for number, namespace in enumerate(NAMESPACES)
                       for k, name in enumerate(LABELS)}

    def __getattr__(self, name):
        return getattr(self.all[0], name)

    def pod(self, name, namespace="default", conf=None):
        place = self.places.get(f"{namespace}/{name}", 0)
        if conf:  # it gets an address that another pod had
            wanted = ipaddress.ip_interface(conf["runtimeConfig"]["ips"][0]).ip
            place = [wanted in ipaddress.ip_network(node.cidrs[0])
                     for node in self.all].index(True)
        return self.all[place].pod(name, namespace, conf=conf)

    def put(self, *objects):
        for node in self.all:
            node.put(*objects)

    def api(self, method, *arguments):
        assert method == "DELETE"
        for node in self.all:
            node.api(method, *arguments)

    def close(self):
        self.cluster.close()


class TableAcrossNodes(Table):
    promise = 0.3  # three agents on few processors

    def __init__(self, *mode):
        self.mode = mode
        super().__init__()

    def make_node(self):
        return Cluster(*self.mode)

    def connect_outside(self):
        link = self.node.cluster.lan
        self.outside = lan.Outside(f"{self.node.name}-outside")
        link.join(self.outside, 99)
        for number, node in enumerate([self.outside, *[n.netns for n in self.node.all]], 2):
            # Deprecated: nodes speak to each other by their own addresses.
            for address in (f"198.51.100.{number}/24", f"2001:db8::{number}/64"):
                node.ip("addr", "add", address, "dev", "eth0", "preferred_lft", "0",
                        *(["nodad"] if ":" in address else []))
        for number, node in enumerate(self.node.all, 3):
            self.outside.ip("route", "add", node.cidrs[0], "via", f"198.51.100.{number}", "src",
                            "198.51.100.2")
            self.outside.ip("-6", "route", "add", node.cidrs[1], "via", f"2001:db8::{number}", "src",
                            "2001:db8::2")

    def add_hosts(self):
        self.add_host(netpol.Host("remote", "outside", addresses=Link.addresses(2)),
                      self.node.all[1].netns.path)

    def known_nodes(self):
        return {**self.nodes, **{f"machine-n{number}": ({}, Link.addresses(number)) for number in (1, 2, 3)}}

    def probe_exists(self, source, target, protocol, port):
        for host, other in ((source, target), (target, source)):
            pod = self.pods.get(other.name)
            place = pod and self.node.all.index(pod.node)
            if host.name == "node" and place != 0 or host.name == "remote" and place in (None, 1):
                return False
        return super().probe_exists(source, target, protocol, port)

    def strangers(self, pod):
        return ["outside", "remote", *(name for name, other in self.pods.items()
                                       if other.node is not self.pods[pod].node)]
