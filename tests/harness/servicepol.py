# SPDX-License-Identifier: Apache-2.0
"""Services read once more, from the words of the API reference and of the KEPs, for expected answers.

Shares nothing with the policy library.  Objects are plain dictionaries, as in a manifest.  The
question: a client opens a connection to an address, a port and a protocol; which endpoints may it
reach through this node?  The answer is a set of "address:port", or REFUSED, DROPPED, or None where no
service has this address.

    KEP-1669  terminating endpoints serve where nothing is ready
    KEP-3015  PreferSameZone and PreferSameNode by hints
    KEP-1860  ipMode of load balancers
    KEP-2086  internalTrafficPolicy
"""

import dataclasses
import functools
import ipaddress

ip_address = functools.lru_cache(maxsize=None)(ipaddress.ip_address)
ip_network = functools.lru_cache(maxsize=None)(ipaddress.ip_network)

REFUSED, DROPPED = "refused", "dropped"
LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
ZONE = "topology.kubernetes.io/zone"


@dataclasses.dataclass
class Client:
    """Who opens the connection: "node" is a process of this node, others have an address."""

    address: str
    inside: bool
    is_node: bool = False


def family(address):
    return ip_address(address).version


class Node:
    def __init__(self, name, labels, addresses, external_ips=False, node_port_addresses=()):
        self.name, self.zone, self.addresses = name, labels.get(ZONE), addresses
        self.external_ips, self.node_port_addresses = external_ips, node_port_addresses

    def has_node_ports_at(self, address):
        at = ip_address(address)
        if address not in self.addresses and address not in ("127.0.0.1", "::1"):
            return False
        networks = [ip_network(each) for each in self.node_port_addresses]
        return not networks or any(at in network for network in networks
                                   if network.version == at.version)


def is_foreign(thing):
    return any(label in thing["metadata"].get("labels", {}) for label in LABELS)


@dataclasses.dataclass
class Endpoint:
    target: str
    ready: bool
    serving: bool
    terminating: bool
    local: bool
    zones: list
    nodes: list


def endpoints_of(service, port, version, slices, node):
    """One for each address and port; where slices differ, the one that can do more."""
    found = {}
    for each in slices:
        if (each["metadata"].get("labels", {}).get("kubernetes.io/service-name")
                != service["metadata"]["name"] or is_foreign(each)
                or each["metadata"].get("namespace") != service["metadata"].get("namespace")
                or each["addressType"] != f"IPv{version}"):
            continue
        numbers = [p["port"] for p in each.get("ports") or []
                   if p.get("name", "") == port.get("name", "")
                   and p.get("protocol", "TCP") == port.get("protocol", "TCP") and p.get("port")]
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready", True)
            hints = endpoint.get("hints") or {}
            for address in endpoint["addresses"] if numbers else []:
                made = Endpoint(
                    f"{address}:{numbers[0]}",
                    bool(ready or service["spec"].get("publishNotReadyAddresses")),
                    conditions.get("serving", ready), conditions.get("terminating", False),
                    endpoint.get("nodeName") == node.name,
                    [z["name"] for z in hints.get("forZones") or []],
                    [n["name"] for n in hints.get("forNodes") or []])
                before = found.get(made.target)
                if not before or (made.ready, made.serving) > (before.ready, before.serving):
                    found[made.target] = made
    return list(found.values())


def fallen_back(endpoints, chosen):
    """Who is ready; or, if nobody is, who serves while it terminates."""
    return chosen or {e.target for e in endpoints if e.serving and e.terminating}


def cluster_wide(endpoints, node):
    ready = [e for e in endpoints if e.ready]
    chosen = {e.target for e in ready}
    for names, own in ((lambda e: e.nodes, node.name), (lambda e: e.zones, node.zone)):
        if ready and all(names(e) for e in ready):
            near = {e.target for e in ready if own in names(e)}
            if near:
                chosen = near
                break
    return fallen_back(endpoints, chosen)


def local_only(endpoints):
    here = [e for e in endpoints if e.local]
    return fallen_back(here, {e.target for e in here if e.ready})


def frontends(service, node):
    """(address, port, protocol) -> (kind, port of the service)."""
    spec, found = service["spec"], {}
    addresses = [a for a in spec.get("clusterIPs") or [] if a and a != "None"]
    if is_foreign(service) or spec.get("type") == "ExternalName":
        return found
    families = {family(a) for a in addresses}
    for port in spec.get("ports") or []:
        protocol = port.get("protocol", "TCP")

        def add(address, number, kind, port=port, protocol=protocol):
            if number and family(address) in families:
                found.setdefault((address, number, protocol), (kind, port))
        for address in addresses:
            add(address, port["port"], "ClusterIP")
        if spec.get("type") == "LoadBalancer":
            ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
            for each in ingress:
                if each.get("ip") and each.get("ipMode", "VIP") == "VIP":
                    add(each["ip"], port["port"], "LoadBalancer")
        if node.external_ips:
            for address in spec.get("externalIPs") or []:
                add(address, port["port"], "ExternalIP")
        if spec.get("type") in ("NodePort", "LoadBalancer"):
            for address in [*node.addresses, "127.0.0.1", "::1"]:
                if node.has_node_ports_at(address):
                    add(address, port.get("nodePort"), "NodePort")
    return found


def admits(service, kind, client):
    ranges = service["spec"].get("loadBalancerSourceRanges") or []
    if kind != "LoadBalancer" or not ranges or client.is_node:
        return True
    at = ip_address(client.address)
    return any(at in ip_network(each) for each in ranges
               if ip_network(each).version == at.version)


def answer(services, slices, node, client, address, port, protocol):
    for service in services:
        kind, service_port = frontends(service, node).get((address, port, protocol), (None, None))
        if not kind:
            continue
        if not admits(service, kind, client):
            return DROPPED
        spec = service["spec"]
        endpoints = endpoints_of(service, service_port, family(address), slices, node)
        everywhere = cluster_wide(endpoints, node)
        if kind == "ClusterIP":
            local = spec.get("internalTrafficPolicy", "Cluster") == "Local"
        else:
            local = not client.inside and spec.get("externalTrafficPolicy", "Cluster") == "Local"
        chosen = local_only(endpoints) if local else everywhere
        return chosen or (DROPPED if everywhere else REFUSED)
    return None
