# SPDX-License-Identifier: Apache-2.0
"""NetworkPolicy and ClusterNetworkPolicy read once more, from the words of the API references, for
expected tables.

Shares nothing with the policy library nor with tests/unit/oracle.c.  Objects are plain
dictionaries, as in a manifest.
"""

import dataclasses
import ipaddress


@dataclasses.dataclass
class Host:
    """Somebody with an address: a pod, the node, or somebody outside the cluster."""

    name: str
    kind: str = "pod"  # "pod", "node" or "outside"
    namespace: str = ""
    labels: dict = dataclasses.field(default_factory=dict)
    ports: list = dataclasses.field(default_factory=list)  # (name, number, protocol)
    sidecar_ports: list = dataclasses.field(default_factory=list)  # of init containers that stay
    phase: str = "Running"
    addresses: list = dataclasses.field(default_factory=list)  # IPv4, IPv6

    @property
    def is_pod(self):
        # To others; what is left of its interface stays under its policies.
        return self.kind == "pod" and self.phase not in ("Succeeded", "Failed")


@dataclasses.dataclass
class Connection:
    source: Host
    target: Host
    protocol: str
    port: int
    family: int  # 0: IPv4


def requirement_holds(requirement, labels):
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or []
    return {"In": key in labels and labels[key] in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels}[operator]


def selects(selector, labels):
    """"The requirements are ANDed. An empty label selector matches all objects." """
    wanted = (selector.get("matchLabels") or {}).items()
    return (all(labels.get(key) == value for key, value in wanted)
            and all(requirement_holds(r, labels) for r in selector.get("matchExpressions") or []))


class Policies:
    """All policies, the labels of all namespaces, and all nodes."""

    def __init__(self, policies, namespaces, nodes=None):
        # (namespace, name) -> spec; the namespace of a ClusterNetworkPolicy is "".
        self.policies = policies
        self.namespaces = namespaces
        self.nodes = nodes or {}  # name -> (labels, addresses)

    def namespace_labels(self, name):
        # The API server sets this label on every namespace.
        return {**self.namespaces.get(name, {}), "kubernetes.io/metadata.name": name}

    def block_holds(self, block, address):
        def inside(cidr):
            network = ipaddress.ip_network(cidr, strict=False)
            return ipaddress.ip_address(address) in network
        return inside(block["cidr"]) and not any(map(inside, block.get("except") or []))

    def peer_holds(self, peer, own_namespace, host, family):
        if peer.get("ipBlock") is not None:
            return self.block_holds(peer["ipBlock"], host.addresses[family])
        if not host.is_pod:
            return False
        pods, namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
        if namespaces is None:
            return host.namespace == own_namespace and selects(pods, host.labels)
        return (selects(namespaces, self.namespace_labels(host.namespace))
                and (pods is None or selects(pods, host.labels)))

    def port_holds(self, entry, connection):
        if (entry.get("protocol") or "TCP") != connection.protocol:
            return False
        port = entry.get("port")
        if port is None:
            return True
        if isinstance(port, str):
            # What the pod that is connected to calls so.
            return connection.target.is_pod and any(
                (port, connection.port, connection.protocol) == tuple(declared)
                for declared in connection.target.ports + connection.target.sidecar_ports)
        return port <= connection.port <= (entry.get("endPort") or port)

    def rule_holds(self, rule, peers_name, own_namespace, other, connection):
        peers, ports = rule.get(peers_name) or [], rule.get("ports") or []
        return ((not peers or any(self.peer_holds(peer, own_namespace, other, connection.family)
                                  for peer in peers))
                and (not ports or any(self.port_holds(port, connection) for port in ports)))

    def types(self, spec):
        """"policies that contain an egress section are assumed to affect egress, and all
        policies [...] are assumed to affect ingress" """
        return spec.get("policyTypes") or (
            ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])

    def pods_hold(self, pods, host):
        """NamespacedPod: pods in namespaces, both by their labels."""
        return (selects(pods.get("namespaceSelector") or {},
                        self.namespace_labels(host.namespace))
                and selects(pods["podSelector"], host.labels))

    def node_holds(self, selector, address):
        return any(selects(selector, labels) for labels, addresses in self.nodes.values()
                   if address in addresses)

    def cluster_peer_holds(self, peer, host, family):
        (kind, value), = peer.items()
        address = host.addresses[family]
        if kind == "networks":
            return any(self.block_holds({"cidr": cidr}, address) for cidr in value)
        if kind == "nodes":
            return not host.is_pod and self.node_holds(value, address)
        if not host.is_pod:
            return False
        return (selects(value, self.namespace_labels(host.namespace)) if kind == "namespaces"
                else self.pods_hold(value, host))

    def protocol_holds(self, entry, connection):
        (kind, value), = entry.items()
        if kind == "destinationNamedPort":
            return connection.target.is_pod and any(
                (value, connection.port, connection.protocol) == tuple(declared)
                for declared in connection.target.ports)
        port = value["destinationPort"]
        span = port.get("range") or {"start": port.get("number"), "end": port.get("number")}
        return (kind.upper() == connection.protocol
                and span["start"] <= connection.port <= span["end"])

    def cluster_rule_holds(self, rule, peers_name, other, connection):
        return (any(self.cluster_peer_holds(peer, other, connection.family)
                    for peer in rule[peers_name])
                and ("protocols" not in rule
                     or any(self.protocol_holds(p, connection) for p in rule["protocols"])))

    def is_subject(self, subject, pod):
        if "namespaces" in subject:
            return selects(subject["namespaces"], self.namespace_labels(pod.namespace))
        return self.pods_hold(subject["pods"], pod)

    def tier_says(self, tier, pod, other, rules_name, peers_name, connection):
        """The action of the first rule that matches: by priority, then (as this implementation
        has it) by name, then as written."""
        specs = sorted(((spec["priority"], name, spec)
                        for (namespace, name), spec in self.policies.items()
                        if not namespace and spec["tier"] == tier), key=lambda one: one[:2])
        return next((rule["action"] for _, _, spec in specs
                     if self.is_subject(spec["subject"], pod)
                     for rule in spec.get(rules_name) or []
                     if self.cluster_rule_holds(rule, peers_name, other, connection)), "Pass")

    def side_allows(self, pod, other, direction, connection):
        rules_name, peers_name = {"Ingress": ("ingress", "from"),
                                  "Egress": ("egress", "to")}[direction]
        action = self.tier_says("Admin", pod, other, rules_name, peers_name, connection)
        if action != "Pass":
            return action == "Accept"
        allowed = self.policies_say(pod, other, direction, rules_name, peers_name, connection)
        if allowed is not None:
            return allowed
        return self.tier_says("Baseline", pod, other, rules_name, peers_name,
                              connection) != "Deny"

    def policies_say(self, pod, other, direction, rules_name, peers_name, connection):
        """None: no NetworkPolicy selects the pod."""
        isolated = False
        for (namespace, _), spec in self.policies.items():
            if (namespace != pod.namespace or direction not in self.types(spec)
                    or not selects(spec.get("podSelector") or {}, pod.labels)):
                continue
            isolated = True
            if any(self.rule_holds(rule, peers_name, namespace, other, connection)
                   for rule in spec.get(rules_name) or []):
                return True
        return False if isolated else None

    def allows(self, connection):
        source, target = connection.source, connection.target
        if source is target:
            return True
        if source.kind == "pod" and not self.side_allows(source, target, "Egress", connection):
            return False
        if target.kind != "pod" or source.kind == "node":
            return True
        return self.side_allows(target, source, "Ingress", connection)
