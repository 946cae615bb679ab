# SPDX-License-Identifier: Apache-2.0
"""The variants, and how each is set up.

    lo                 127.0.0.1, ::1: TCP without any network, the limit
    veth               two namespaces, one veth pair
    routed             two namespaces, each with a veth to a forwarding namespace, no netfilter
    bridge             Debian's bridge and host-local plugins, services by iptables-nft
    bridge-legacy      the same with iptables-legacy
    tendril            pods of a Tendril node, no policy
    tendril-policy     both ends isolated, in both directions
    tendril-perpacket  reached by a service that is translated packet by packet
    tendril-bigtcp     packets of up to 192 KiB; for the stream alone
    tendril-noflows    without the record of flows
    tendril-accel      both pods ask for acceleration
    before             tendril by the programs of another build: BEFORE=FOLDER names it
    before-policy      tendril-policy by those
"""

import os

from cnirun import plugin_run
from lab import HTTP_PORT, PORT, Pair, make_pod, widen_ports
from services import FIRST_VIPS, POD_CIDRS, PORTS, iptables_load, service_objects
from tendril import pod_object, policy_object, wait_for

SERVERS = ["server", "server2"]
ROUTED_POD = "10.1.{0}.2", "fd01:{0}::2"  # of namespace number {0}, and its gateway
GATEWAY = "10.1.{0}.1", "fd01:{0}::1"
FORWARDING = "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"


# ---- without a network plugin ----

def join(a, b, a_dev, b_dev, a_addrs, b_addrs):
    a.ip("link", "add", a_dev, "type", "veth", "peer", "name", b_dev, "netns", b.name)
    for ns, dev, addrs in ((a, a_dev, a_addrs), (b, b_dev, b_addrs)):
        for addr in addrs:
            ns.ip("addr", "add", addr, "dev", dev, *(["nodad"] if ":" in addr else []))
        ns.ip("link", "set", "dev", dev, "up")


def with_length(addresses):
    return [f"{address}/{64 if ':' in address else 24}" for address in addresses]


def route(netns, destination, via):
    netns.ip("-6" if ":" in via else "-4", "route", "add", destination, "via", via)


def routed_pod(lab, node, number):
    """A namespace behind a veth of a forwarding one."""
    pod = lab.namespace()
    gateway = [address.format(number) for address in GATEWAY]
    join(pod, node, "eth0", f"pod{number}", with_length(a.format(number) for a in ROUTED_POD),
         with_length(gateway))
    for via in gateway:
        route(pod, "default", via)
    return pod


def build_lo(lab):
    ns = lab.namespace()
    return Pair("lo", [ns], ns, ["127.0.0.1", "::1"])


def build_veth(lab):
    a, b = lab.namespace(), lab.namespace()
    join(a, b, "eth0", "eth0", ["10.1.0.1/24", "fd01::1/64"], ["10.1.0.2/24", "fd01::2/64"])
    return Pair("veth", [b], a, ["10.1.0.2", "fd01::2"])


def build_routed(lab):
    router = lab.namespace()
    client, server = [routed_pod(lab, router, number) for number in (1, 2)]
    router.run("sysctl", "-qw", *FORWARDING)
    return Pair("routed", [server], client, [address.format(2) for address in ROUTED_POD])


# ---- Tendril ----

def tendril_pair(lab, variant, *agent_args, policies=(), accelerate=False, servers=1, **more):
    node = lab.node(*agent_args, **more)
    pods = [make_pod(node, name) for name in ["client", *SERVERS[:servers]]]
    for pod in pods:
        widen_ports(pod)
    node.put(*[pod_object(p.pod_name, "default", {"app": p.pod_name}, p.addresses,
                          accelerate=accelerate) for p in pods], *policies)
    if accelerate:
        wait_for(lambda: node.status()["acceleration"]["state"] == "on", "acceleration")
    client, *servers = pods
    return Pair(variant, servers, client, sum((pod.addresses for pod in servers), []),
                node.join_cgroup, node)


def both_isolated():
    """A policy that isolates both pods in both directions and lets the client reach the server."""
    ports = [{"port": PORT}, {"port": PORT, "protocol": "UDP"}, {"port": HTTP_PORT}]
    ends = {name: [{"podSelector": {"matchLabels": {"app": name}}}]
            for name in ("client", "server")}
    return policy_object("all", "default", {}, policyTypes=["Ingress", "Egress"],
                         ingress=[{"from": ends["client"], "ports": ports}],
                         egress=[{"to": ends["server"], "ports": ports}])


def build_tendril(lab):
    return tendril_pair(lab, "tendril")


def build_tendril_policy(lab):
    return tendril_pair(lab, "tendril-policy", policies=[both_isolated()])


def build_tendril_perpacket(lab):
    pair = tendril_pair(lab, "tendril-perpacket", "--socket-services=false")
    pair.node.put(*service_objects(0, [pair.addresses], PORTS))
    pair.addresses = [*FIRST_VIPS.values()]
    return pair


def build_tendril_bigtcp(lab):
    return tendril_pair(lab, "tendril-bigtcp", "--big-tcp")


def build_tendril_noflows(lab):
    return tendril_pair(lab, "tendril-noflows", "--flows=false")


def build_tendril_accel(lab):
    return tendril_pair(lab, "tendril-accel", accelerate=True)


def build_before(lab):
    return tendril_pair(lab, "before", build=os.environ["BEFORE"])


def build_before_policy(lab):
    return tendril_pair(lab, "before-policy", policies=[both_isolated()],
                        build=os.environ["BEFORE"])


# ---- Debian's bridge plugin, and what kube-proxy does with iptables ----

def bridge_conf(state):
    """The network; host-local keeps its addresses in the folder `state`."""
    return {"cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "bench0",
            "isGateway": True,
            "ipam": {"type": "host-local", "dataDir": str(state),
                     "ranges": [[{"subnet": cidr}] for cidr in POD_CIDRS.values()],
                     "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}


def bridge_pair(lab, variant, kind="nft", services=1, servers=1, load_limit=20):
    """Pods on a bridge whose packets netfilter sees, as a Kubernetes node wants it."""
    node = lab.namespace()
    node.run("sysctl", "-qw", *FORWARDING,
             "net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
    state = lab.folder()
    pods = [lab.namespace() for _ in range(1 + servers)]
    results = [plugin_run("/usr/lib/cni/bridge", "ADD", bridge_conf(state), pod.name,
                          netns=pod.path, enter=node.enter()) for pod in pods]
    endpoints = [[ip["address"].split("/")[0] for ip in result.json["ips"]]
                 for result in results[1:]]
    for pod in pods:
        # The plugin leaves duplicate address detection on; until it is over IPv6 does not work.
        wait_for(lambda: "tentative" not in pod.ip("-6", "addr", "show", "dev", "eth0").stdout,
                 "addresses")
    iptables_load(node, kind, services, endpoints, load_limit)
    return Pair(variant, pods[1:], pods[0], sum(endpoints, []), node=node)


def build_bridge(lab):
    return bridge_pair(lab, "bridge")


def build_bridge_legacy(lab):
    return bridge_pair(lab, "bridge-legacy", "legacy")


BUILDERS = {
    "lo": build_lo,
    "veth": build_veth,
    "routed": build_routed,
    "bridge": build_bridge,
    "bridge-legacy": build_bridge_legacy,
    "tendril": build_tendril,
    "tendril-policy": build_tendril_policy,
    "tendril-perpacket": build_tendril_perpacket,
    "tendril-bigtcp": build_tendril_bigtcp,
    "tendril-noflows": build_tendril_noflows,
    "tendril-accel": build_tendril_accel,
    **({"before": build_before, "before-policy": build_before_policy}
       if "BEFORE" in os.environ else {}),
}
