# SPDX-License-Identifier: Apache-2.0
"""Several nodes on one link: a bridge in a namespace of its own, and a veth pair to each node."""

import tendril


def settled(netns, device="eth0"):
    """Waits until the link-local address may be used: it asks for neighbours."""
    tendril.wait_for(lambda: "inet6 fe80" in netns.ip("-6", "addr", "show", "dev", device).stdout
                     and not netns.ip("-6", "addr", "show", "dev", device, "tentative").stdout,
                     f"the link-local address of {netns.name}")


class Outside(tendril.Prober, tendril.Namespace):
    """A machine beside the nodes."""

    pod_name = "a machine outside"

    def delete(self):
        self.quit()
        super().delete()


class Wire:
    """A bridge in a namespace of its own, and what is plugged into it."""

    def __init__(self, name):
        self.netns = tendril.Namespace(name)
        self.netns.ip("link", "add", "wire", "type", "bridge")
        self.netns.ip("link", "set", "wire", "up")
        self.count = 0

    def plug(self, netns, addresses, device="up0"):
        self.count += 1
        port = f"port{self.count}"
        self.netns.ip("link", "add", port, "type", "veth", "peer", "name", device, "netns",
                      netns.name)
        self.netns.ip("link", "set", port, "master", "wire", "up")
        for each in addresses:
            netns.ip("addr", "add", each, "dev", device, *(["nodad"] if ":" in each else []))
        netns.ip("link", "set", device, "up")


class Lan:
    """Node number I has 192.0.2.I and 2001:db8::I on eth0."""

    def __init__(self):
        self.netns = tendril.Namespace(f"tdllan{tendril.os.getpid()}n{next(tendril.COUNTER)}")
        self.netns.ip("link", "add", "br0", "type", "bridge")
        self.netns.ip("link", "set", "br0", "up")

    @staticmethod
    def addresses(number):
        return f"192.0.2.{number}", f"2001:db8::{number}"

    def join(self, netns, number):
        port = f"p{number}"
        self.netns.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
                      netns.name)
        self.netns.ip("link", "set", port, "master", "br0", "up")
        self.configure(netns, number)

    def configure(self, netns, number):
        netns.ip("link", "set", "eth0", "up")
        v4, v6 = self.addresses(number)
        netns.ip("addr", "add", f"{v4}/24", "dev", "eth0")
        netns.ip("addr", "add", f"{v6}/64", "dev", "eth0", "nodad")

    def close(self):
        self.netns.delete()


class Cable(Lan):
    """Two nodes on one veth pair, with nothing between them that takes time."""

    def __init__(self):
        self.first = None

    def join(self, netns, number):
        if self.first is None:
            self.first = netns
            return
        self.first.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                      netns.name)
        self.configure(self.first, number - 1)
        self.configure(netns, number)

    def close(self):
        pass


class Nodes:
    """Agents on one link; node number I has the pod ranges cidrs(I)."""

    def __init__(self, count, *arguments, lan=Lan):
        self.lan = lan()
        self.all = []
        try:
            for number in range(1, count + 1):
                node = tendril.Node(*arguments, start=False, cidrs=self.cidrs(number))
                self.all.append(node)
                self.lan.join(node.netns, number)
            self.tell()
            for node in self.all:
                node.start()
            for node in self.all:
                settled(node.netns)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def cidrs(number):
        return f"10.200.{number}.0/24", f"fd00:200:0:{number}::/112"

    def objects(self):
        """The Node objects, in order."""
        return [node_object(f"n{number}", self.lan.addresses(number), self.cidrs(number))
                for number in range(1, len(self.all) + 1)]

    def tell(self, objects=None, *more):
        """Hands the Node objects, and more, to every agent."""
        for node in self.all:
            node.write("nodes.json", *(self.objects() if objects is None else objects), *more)

    def close(self):
        for node in self.all:
            node.close()
        self.lan.close()


def node_object(name, addresses, cidrs):
    made = tendril.node_object(name, {}, addresses)
    made["spec"] = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}
    return made
