# SPDX-License-Identifier: Apache-2.0
"""Who reaches whom, measured: nine pods, their node, a service and somebody outside, every pair of
them by TCP, UDP, SCTP and echo, to two ports, over IPv4 and IPv6, all at once.

    x/a x/b x/c   y/a y/b y/c   z/a z/b z/c          outside 198.51.100.2, 2001:db8::2
         |             |             |                  |
         +-------------+-------------+---- node --------+      service 10.96.0.80 -> y/a, port 81

The sockets are those of tests/net/prober.c; what is expected comes from netpol.py.  A table is a
set of cells, held as one large number.
"""

import copy
import json
import re
import subprocess
import time

import netpol
from tendril import (BUILD, Namespace, Node, cluster_policy_object, namespace_object, node_object,
                     pod_object, policy_object, service_object, slice_object, wait_for)

HOSTS, PROBES = 16, 16
PORTS = [80, 81]
# By number: protocol, port, family.
PROBE_LIST = ([(protocol, port, family) for protocol in ("TCP", "UDP", "SCTP")
               for port in PORTS for family in (0, 1)]
              + [("ICMP", 0, 0), ("ICMP", 0, 1)])
VIPS = ["10.96.0.80", "fd00:96::80"]
SERVICE = ("y/a", 81)  # what answers behind port 80 of the service
DEADLINE_MS = 1000     # for what is expected and does not come, before it is asked for again
PATIENCE_MS = 10000    # the second time
QUIET_MS = 20          # for what is not expected: everybody else was answered that long ago
ROOM = "--max-connections=262144"
PROMISE_S = 0.1        # a change is in force then, for new and live connections

NAMESPACES = {"x": {"ns": "x", "team": "red"}, "y": {"ns": "y", "team": "blue"}, "z": {"ns": "z"}}
LABELS = {"a": {"pod": "a", "tier": "front"}, "b": {"pod": "b"}, "c": {"pod": "c", "tier": "back"}}
# "web" and "dns" are other numbers in y than in x; z/a has "web" by another protocol only.
DECLARED = {"x": [("web", 80, "TCP"), ("dns", 81, "UDP"), ("sig", 80, "SCTP")],
            "y": [("web", 81, "TCP"), ("dns", 80, "UDP")]}


def declared_ports(name):
    return [("web", 80, "UDP")] if name == "z/a" else DECLARED.get(name[0], [])


def cell(source, target, probe):
    return (source * HOSTS + target) * PROBES + probe


class TableProber:
    """The process that has the sockets of all pods: tests/net/prober.c."""

    def __init__(self, node):
        self.process = subprocess.Popen([BUILD / "tests/net/prober"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=node.join_cgroup)

    def call(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer, f"the prober died at {words[0]}"
        return answer

    def cells(self, *words):
        answer = self.call(*(f"{w:x}" if isinstance(w, int) and i in (1, 2) and
                             not (words[0] == "live" and i == 2) else w
                             for i, w in enumerate(words)))
        return int(answer[0], 16)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Table:
    promise = PROMISE_S

    def __init__(self, accelerated=False):
        self.accelerated = accelerated
        self.node = self.make_node()
        self.outside = None
        try:
            self.prober = TableProber(self.node)
            self.build()
        except BaseException:
            self.close()
            raise

    # ---- the cast ----

    def make_node(self):
        return Node(ROOM)

    def build(self):
        self.pods, self.hosts, self.order = {}, {}, []
        self.policies, self.namespaces = {}, copy.deepcopy(NAMESPACES)
        self.nodes = {}
        self.kept, self.last_addresses, self.extra = 0, {}, []
        for namespace in NAMESPACES:
            for name in LABELS:
                self.add_pod(f"{namespace}/{name}", LABELS[name])
        gateways = [ip["gateway"] for ip in self.pods["x/a"].result["ips"]]
        self.add_host(netpol.Host("node", "node", addresses=gateways), self.node.netns.path)
        self.connect_outside()
        self.add_hosts()
        self.add_host(netpol.Host("outside", "outside",
                                    addresses=["198.51.100.2", "2001:db8::2"]), self.outside.path)
        self.add_host(netpol.Host("service", "service", addresses=VIPS), "-", SERVICE[0])
        self.publish()
        self.fixed = list(self.order)
        if self.accelerated:
            wait_for(lambda: self.node.status()["acceleration"]["state"] == "on",
                     "acceleration")

    def add_hosts(self):
        """What else there is."""

    def add_host(self, host, netns, answers_as=None):
        if host.name not in self.order:
            self.order.append(host.name)
        index = self.order.index(host.name)
        self.hosts[host.name] = host
        self.prober.call("host", index, self.order.index(answers_as or host.name), netns,
                         *host.addresses)

    def add_pod(self, name, labels, conf=None):
        namespace, short = name.split("/")
        pod = self.node.pod(short, namespace, conf=conf)
        self.pods[name] = pod
        self.add_host(netpol.Host(name, namespace=namespace, labels=dict(labels),
                                    ports=declared_ports(name),
                                    addresses=[pod.v4, pod.v6]), pod.path)

    def connect_outside(self):
        node = self.node
        self.outside = Namespace(f"{node.name}-outside")
        node.netns.ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns",
                      self.outside.name)
        for ns, device, addrs in ((node.netns, "uplink", ("198.51.100.1/24", "2001:db8::1/64")),
                                  (self.outside, "eth0", ("198.51.100.2/24", "2001:db8::2/64"))):
            for addr in addrs:
                ns.ip("addr", "add", addr, "dev", device, *(["nodad"] if ":" in addr else []))
            ns.ip("link", "set", device, "up")
        self.outside.ip("route", "add", node.cidrs[0], "via", "198.51.100.1")
        self.outside.ip("-6", "route", "add", node.cidrs[1], "via", "2001:db8::1")

    def pod_object(self, host):
        namespace, name = host.name.split("/")
        made = pod_object(name, namespace, host.labels, host.addresses, host.ports,
                          accelerate=self.accelerated, phase=host.phase)
        if host.sidecar_ports:
            made["spec"]["initContainers"] = [{
                "name": "sidecar", "restartPolicy": "Always", "ports": [
                    {"name": n, "containerPort": p, "protocol": proto}
                    for n, p, proto in host.sidecar_ports]}]
        return made

    def publish(self):
        """All objects but policies, as they are from the beginning."""
        backend, port = SERVICE
        ports = [{"name": p.lower(), "port": 80, "protocol": p, "targetPort": port}
                 for p in ("TCP", "UDP")]
        slices = [slice_object(f"service-{family}", "y", "service", kind,
                               [{**p, "port": port} for p in ports],
                               [self.hosts[backend].addresses[family]])
                  for family, kind in enumerate(("IPv4", "IPv6"))]
        self.node.put(*[namespace_object(n, l) for n, l in self.namespaces.items()],
                      *[self.pod_object(self.hosts[name]) for name in self.pods],
                      service_object("service", "y", VIPS, ports), *slices)

    def close(self):
        if hasattr(self, "prober"):
            self.prober.close()
        self.node.close()
        if self.outside:
            self.outside.delete()

    # ---- what is asked and what is expected ----

    def probe_exists(self, source, target, protocol, port):
        kinds = (source.kind, target.kind)
        if source.kind == "service" or (self.accelerated and protocol != "TCP"):
            return False
        if "pod" not in kinds or source.phase != "Running" and target is source:
            return False
        if target.kind == "service":  # the socket layer knows it, and only TCP and UDP to port 80
            return protocol in ("TCP", "UDP") and port == 80
        return True

    def expectation(self):
        """Two tables: the cells that are asked, and those that shall succeed."""
        policies = netpol.Policies(self.policies, self.namespaces, self.known_nodes())
        ask = want = 0
        for s, source_name in enumerate(self.order):
            for t, target_name in enumerate(self.order):
                source, target = self.hosts.get(source_name), self.hosts.get(target_name)
                if not source or not target:
                    continue
                for number, (protocol, port, family) in enumerate(PROBE_LIST):
                    if not self.probe_exists(source, target, protocol, port):
                        continue
                    bit = 1 << cell(s, t, number)
                    ask |= bit
                    if self.allows(policies, source, target, protocol, port, family):
                        want |= bit
        return ask, want

    def known_nodes(self):
        return self.nodes

    def allows(self, policies, source, target, protocol, port, family):
        if target.kind == "service":  # policy sees what is behind it
            name, port = SERVICE
            if name not in self.pods:
                return False
            target = self.hosts[name]
        return policies.allows(netpol.Connection(source, target, protocol, port, family))

    def cells_matching(self, pattern):
        """The cells of "x/* -> y/a TCP/80"; protocol and port may be left out."""
        match = re.fullmatch(r"(\S+) -> (\S+)(?: (\w+))?(?:/(\d+))?", pattern)
        assert match, f"{pattern!r}: not SOURCE -> TARGET [PROTOCOL[/PORT]]"
        source, target, protocol, port = match.groups()

        def is_meant(name, wanted):
            return name == wanted or (wanted.endswith("/*") and name.startswith(wanted[:-1]))
        table = 0
        for s, source_name in enumerate(self.order):
            for t, target_name in enumerate(self.order):
                if not is_meant(source_name, source) or not is_meant(target_name, target):
                    continue
                for number, (p, n, _) in enumerate(PROBE_LIST):
                    if protocol in (None, p) and port in (None, str(n)):
                        table |= 1 << cell(s, t, number)
        return table

    def describe(self, table):
        """The cells in words, families and then protocols joined where they agree."""
        lines = []
        for s, source in enumerate(self.order):
            for t, target in enumerate(self.order):
                hits = [PROBE_LIST[n] for n in range(len(PROBE_LIST))
                        if table >> cell(s, t, n) & 1]
                if hits:
                    lines.append(f"{source} -> {target}: " + ", ".join(
                        f"{p}/{n} IPv{'46'[f]}" for p, n, f in hits))
        return "\n".join(lines[:40] + ([f"... {len(lines)} pairs"] if len(lines) > 40 else []))

    # ---- measuring ----

    def check(self, when, changed_at=None, keep=False):
        """One table.  What differs may be a change that is not yet due, or a packet that a busy
        machine lost: it is asked once more.  What passes and shall not is neither, once the
        promised time is over."""
        ask, want = self.expectation()
        due = (changed_at or 0) + self.promise
        began = time.monotonic()
        got = self.prober.cells("table", ask, want, DEADLINE_MS, QUIET_MS, int(keep))
        if got != want and (began < due or not got & ~want):
            wait_for(lambda: time.monotonic() > due, "the promise")
            got = self.prober.cells("table", ask, want, PATIENCE_MS, 4 * QUIET_MS, int(keep))
        assert got == want, self.difference(when, got, want)
        self.kept = want & self.live_mask() if keep else 0
        return want

    def difference(self, when, got, want):
        text = f"{when}\n"
        if want & ~got:
            text += f"should pass, does not:\n{self.describe(want & ~got)}\n"
        if got & ~want:
            text += f"should not pass, does:\n{self.describe(got & ~want)}\n"
        return text + f"policies: {self.policies}"

    def live_mask(self):
        return sum(1 << cell(s, t, n) for s in range(len(self.order))
                   for t in range(len(self.order)) for n, (protocol, port, _) in
                   enumerate(PROBE_LIST) if protocol in ("TCP", "UDP") and port == 80)

    def unprovable(self):
        """Live TCP from outside the node to a pod whose egress is isolated, while it may not have
        been when the connection was opened: only the pod could say who opened it
        (doc/datapath.md), so its answers wait for a new connection."""
        table = 0
        for (namespace, _), spec in self.policies.items():
            egress = spec.get("egress") or "Egress" in (spec.get("policyTypes") or [])
            for name in self.pods if egress else ():
                if namespace in ("", name.split("/")[0]):
                    for source in self.strangers(name):
                        table |= self.cells_matching(f"{source} -> {name} TCP")
                        if name == SERVICE[0]:
                            table |= self.cells_matching(f"{source} -> service TCP")
        return table

    def strangers(self, pod):
        """Whose connections to the pod its node has not seen from the beginning."""
        return ["outside"]

    def check_live(self, when, changed_at):
        """The flows that were open before the change: those still allowed go on, the others have
        ended.  Returns the seconds until all did."""
        ask, want = self.expectation()
        want &= self.kept
        unsure = (self.unprovable() & want) | (self.kept & ~ask)
        deadline, lost = changed_at + self.promise, 0
        while True:
            began = time.monotonic()
            got = self.prober.cells("live", want & ~unsure, PATIENCE_MS, QUIET_MS)
            wrong = (got ^ want) & ~unsure
            if not wrong:
                return began - changed_at
            # A round that began in time and saw an old state does not break the promise, nor does
            # a packet that a busy machine lost.
            lost += began >= deadline
            assert began < deadline or (not wrong & got and lost < 3), \
                self.difference(f"live connections, {when}", got, want)

    def accelerated_connections(self):
        return sum(e["stats"]["accelConnections"] for e in self.node.api("GET", "/v1/endpoints"))

    # ---- changes ----

    def with_addresses(self, spec):
        """"<x/a 4>" and "<x/a 6>" stand for addresses of hosts."""
        def address(match):
            return self.hosts[match[1]].addresses["46".index(match[2])]
        return json.loads(re.sub(r"<(\S+) ([46])>", address, json.dumps(spec)))

    def apply_policies(self, policies, objects, gone):
        """"x/name": a NetworkPolicy, "/name": a ClusterNetworkPolicy; None takes it away."""
        for key, spec in policies.items():
            namespace, name = key.split("/")
            if spec is None:
                del self.policies[namespace, name]
                gone.append(f"NetworkPolicy/{key}" if namespace
                            else f"ClusterNetworkPolicy/-/{name}")
                continue
            spec = self.with_addresses(spec)
            self.policies[namespace, name] = spec
            if namespace:
                objects.append(policy_object(name, namespace, **{
                    "pod_selector": spec.get("podSelector", {}),
                    **{k: v for k, v in spec.items() if k != "podSelector"}}))
            else:
                objects.append(cluster_policy_object(name, **spec))

    def apply_nodes(self, nodes, objects, gone):
        """{name: {at: the host with its addresses, labels: ...}}, or None."""
        for name, how in nodes.items():
            if how is None:
                del self.nodes[name]
                gone.append(f"Node/-/{name}")
                continue
            labels, addresses = how.get("labels", {}), self.hosts[how["at"]].addresses
            self.nodes[name] = labels, addresses
            objects.append(node_object(name, labels, addresses))

    def apply(self, policies=None, pods=None, namespaces=None, nodes=None, delete=(), create=None,
              objects=()):
        """Makes one change; returns when (monotonic seconds) it was given to the agent."""
        objects, gone = self.with_addresses(list(objects)), []
        self.extra += [f"{o['kind']}/{o['metadata']['namespace']}/{o['metadata']['name']}"
                       for o in objects]
        self.apply_policies(policies or {}, objects, gone)
        self.apply_nodes(nodes or {}, objects, gone)
        for name, changes in (pods or {}).items():
            for field, value in changes.items():
                setattr(self.hosts[name], field, value)
            objects.append(self.pod_object(self.hosts[name]))
        for name, labels in (namespaces or {}).items():
            if labels is None:
                self.namespaces.pop(name, None)
                gone.append(f"Namespace/-/{name}")
            else:
                self.namespaces[name] = labels
                objects.append(namespace_object(name, labels))
        began = time.monotonic()
        if objects:
            self.node.put(*objects)
        for path in gone:
            self.node.api("DELETE", f"/v1/objects/{path}")
        for name in delete:
            began = self.delete_pod(name)
        for name, how in (create or {}).items():
            began = self.create_pod(name, how)
        return began

    def delete_pod(self, name):
        host = self.hosts.pop(name)
        pod = self.pods.pop(name)
        self.last_addresses[name] = host.addresses
        self.prober.call("gone", self.order.index(name))
        for index in range(len(self.order)):
            for pair in ((index, self.order.index(name)), (self.order.index(name), index)):
                self.kept &= ~(((1 << PROBES) - 1) << cell(*pair, 0))
        began = time.monotonic()
        pod.cni("DEL")
        self.node.api("DELETE", f"/v1/objects/Pod/{name}")
        return began

    def create_pod(self, name, how):
        """how: labels; "address of": a deleted pod whose addresses this one gets."""
        conf = None
        if "address of" in how:
            v4, v6 = self.last_addresses[how["address of"]]
            conf = {"runtimeConfig": {"ips": [f"{v4}/24", f"{v6}/112"]},
                    "capabilities": {"ips": True}}
        # As in a cluster, the object is there first; it has no address yet.
        host = netpol.Host(name, namespace=name.split("/")[0], labels=how.get("labels", {}),
                             ports=declared_ports(name))
        self.node.put(self.pod_object(host))
        self.add_pod(name, host.labels, conf)
        began = time.monotonic()
        self.node.put(self.pod_object(self.hosts[name]))
        return began

    def reset(self):
        """Back to the beginning, whatever a scenario left."""
        for namespace, name in list(self.policies):
            self.apply(policies={f"{namespace}/{name}": None})
        for name in list(self.nodes):
            self.apply(nodes={name: None})
        while self.extra:
            self.node.api("DELETE", f"/v1/objects/{self.extra.pop()}")
        for name in [n for n in self.pods if n not in self.fixed]:
            self.delete_pod(name)
            self.order.remove(name)
        for name in self.fixed[:9]:
            if name not in self.pods:
                self.create_pod(name, {"labels": LABELS[name[2:]]})
            host = self.hosts[name]
            host.labels, host.phase = dict(LABELS[name[2:]]), "Running"
            host.ports, host.sidecar_ports = declared_ports(name), []
        self.namespaces = copy.deepcopy(NAMESPACES)
        self.publish()
