# SPDX-License-Identifier: Apache-2.0
"""Flows in the shape of Hubble's: each member is one of its Flow message and has that type.

What flow.proto defines is written down here by hand, as protojson prints it with the names of the file:
enums by name, 64-bit numbers as text, times as RFC 3339.  MISSING is what ours never has; it fails when that
changes, either way.
"""

import json
import re

import pytest

from tendril import (Node, pod_object, policy_object, service_object, slice_object, wait_for)

PORT, VIP = 8080, "10.96.0.9"

# A type is a scalar, an enum or a message of the tables below; [type]: repeated.
MESSAGES = {
    "GetFlowsResponse": {"flow": "Flow", "node_status": "NodeStatusEvent", "lost_events": "LostEvent",
                         "node_name": "string", "time": "Timestamp"},
    "Flow": {
        "time": "Timestamp", "uuid": "string", "verdict": "Verdict", "drop_reason": "uint32",
        "auth_type": "AuthType", "ethernet": "Ethernet", "IP": "IP", "l4": "Layer4",
        "source": "Endpoint", "destination": "Endpoint", "Type": "FlowType", "node_name": "string",
        "source_names": ["string"], "destination_names": ["string"], "l7": "Layer7", "reply": "bool",
        "event_type": "CiliumEventType", "source_service": "Service", "destination_service": "Service",
        "traffic_direction": "TrafficDirection", "policy_match_type": "uint32",
        "trace_observation_point": "TraceObservationPoint", "drop_reason_desc": "DropReason",
        "is_reply": "bool", "debug_capture_point": "DebugCapturePoint", "interface": "NetworkInterface",
        "proxy_port": "uint32", "trace_context": "TraceContext",
        "sock_xlate_point": "SocketTranslationPoint", "socket_cookie": "uint64", "cgroup_id": "uint64",
        "egress_allowed_by": ["Policy"], "ingress_allowed_by": ["Policy"],
        "egress_denied_by": ["Policy"], "ingress_denied_by": ["Policy"], "Summary": "string"},
    "IP": {"source": "string", "destination": "string", "ipVersion": "IPVersion", "encrypted": "bool"},
    "Layer4": {"TCP": "TCP", "UDP": "Ports", "ICMPv4": "ICMP", "ICMPv6": "ICMP", "SCTP": "Ports"},
    "TCP": {"source_port": "uint32", "destination_port": "uint32", "flags": "TCPFlags"},
    "Ports": {"source_port": "uint32", "destination_port": "uint32"},
    "ICMP": {"type": "uint32", "code": "uint32"},
    "TCPFlags": {flag: "bool" for flag in ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")},
    "Endpoint": {"ID": "uint32", "identity": "uint32", "namespace": "string", "labels": ["string"],
                 "pod_name": "string", "workloads": ["Workload"], "cluster_name": "string"},
    "Workload": {"name": "string", "kind": "string"},
    "Service": {"name": "string", "namespace": "string"},
    "Policy": {"name": "string", "namespace": "string", "labels": ["string"], "revision": "uint64",
               "kind": "string"},
}
ENUMS = {
    "Verdict": {"VERDICT_UNKNOWN", "FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRACED",
                "TRANSLATED"},
    "FlowType": {"UNKNOWN_TYPE", "L3_L4", "L7", "SOCK"},
    "TrafficDirection": {"TRAFFIC_DIRECTION_UNKNOWN", "INGRESS", "EGRESS"},
    "IPVersion": {"IP_NOT_USED", "IPv4", "IPv6"},
}
# The number and the name of a reason go together.
DROP_REASONS = {132: "INVALID_SOURCE_IP", 133: "POLICY_DENIED", 134: "INVALID_PACKET_DROPPED",
                158: "SERVICE_BACKEND_NOT_FOUND"}
# Ours alone, and for readers that skip what they do not know.
OURS = {("Flow", "tendril"), ("Policy", "rule")}

MISSING = {
    "GetFlowsResponse": {"node_status", "lost_events"},
    "Flow": {"uuid", "auth_type", "ethernet", "source_names", "destination_names", "l7", "reply",
             "event_type", "source_service", "policy_match_type", "trace_observation_point",
             "debug_capture_point", "interface", "proxy_port", "trace_context", "sock_xlate_point",
             "socket_cookie", "cgroup_id"},
    "IP": {"encrypted"},
    "Layer4": {"SCTP"},  # has the ports of UDP; no pod of this test speaks it
    "ICMP": {"type", "code"},
    "TCPFlags": {"FIN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS"},  # of a first packet
    "Endpoint": {"ID", "cluster_name"},
    "Policy": {"labels", "revision"},
}

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


def check(value, kind, where, seen):
    """Notes in seen which fields of which message occur."""
    if isinstance(kind, list):
        assert isinstance(value, list) and value, where
        for one in value:
            check(one, kind[0], where, seen)
    elif kind in MESSAGES:
        assert isinstance(value, dict), where
        for name, member in value.items():
            if (kind, name) in OURS:
                continue
            assert name in MESSAGES[kind], f"{where}.{name} is no field of {kind}"
            seen.setdefault(kind, set()).add(name)
            check(member, MESSAGES[kind][name], f"{where}.{name}", seen)
    elif kind == "uint32":
        assert type(value) is int and 0 <= value < 1 << 32, where
    elif kind == "bool":
        assert type(value) is bool, where
    else:
        assert isinstance(value, str), where
        if kind in ENUMS:
            assert value in ENUMS[kind], f"{where}: {value}"
        elif kind == "Timestamp":
            assert TIMESTAMP.fullmatch(value), where
        else:
            assert kind in ("string", "DropReason"), f"{where}: {kind} is not written down here"


@pytest.fixture(scope="module")
def flows():
    with Node() as node:
        labels = {"web": {"app": "web", "pod-template-hash": "5f"}, "cart": {"app": "cart"}}
        web, cart = (node.pod(name) for name in ("web", "cart"))
        cart.serve(tcp=[PORT], udp=[PORT])
        node.put(service_object("cart", "default", [VIP], [{"port": 80, "targetPort": PORT}]),
                 slice_object("cart-1", "default", "cart", "IPv4", [{"port": PORT}], [cart.v4]),
                 policy_object("cart", "default", {"matchLabels": {"app": "cart"}}, policyTypes=["Ingress"],
                               ingress=[{"ports": [{"port": PORT}]}]),
                 policy_object("web", "default", {"matchLabels": {"app": "web"}}, policyTypes=["Egress"],
                               egress=[{"ports": [{"port": PORT}, {"port": 81}, {"port": PORT,
                                                                                "protocol": "UDP"}]}]),
                 *[pod_object(pod.pod_name, labels=labels[pod.pod_name], addresses=pod.addresses)
                   for pod in (web, cart)])
        wait_for(lambda: node.status()["flows"]["sources"][0]["works"], "the source")

        def read():
            lines = node.cli("flows", "--since", "1h", "-o", "json").stdout.splitlines()
            return [json.loads(line) for line in lines]

        for addr in (cart.v4, cart.v6, VIP):
            assert web.connect(addr, 80 if addr == VIP else PORT)["result"] == "ok"
        for addr in cart.addresses:
            web.connect(addr, 81, timeout=0.1)  # its ingress denies it
            web.connect(addr, 82, timeout=0.1)  # the egress of web does
            web.udp(addr, PORT, timeout=0.05)
            web.run("ping", "-c1", "-W0.1", addr, check=False)
        wanted = {"TCP", "UDP", "ICMPv4", "ICMPv6"}
        wait_for(lambda: wanted <= {kind for line in read() for kind in line["flow"].get("l4", {})},
                 "flows of each protocol")
        yield read()


def test_every_member_is_a_field_of_that_type(flows):
    seen = {}
    for number, line in enumerate(flows):
        check(line, "GetFlowsResponse", f"line {number + 1}", seen)
    missing = {kind: set(fields) - seen.get(kind, set()) for kind, fields in MESSAGES.items()}
    assert {kind: fields for kind, fields in missing.items() if fields} == MISSING


def test_a_flow_says_what_it_must(flows):
    for line in flows:
        flow = line["flow"]
        assert {"time", "verdict", "IP", "source", "destination", "Type", "node_name",
                "traffic_direction", "is_reply", "Summary"} <= flow.keys()
        assert (line["time"], line["node_name"]) == (flow["time"], flow["node_name"])
        assert ("drop_reason" in flow) == ("drop_reason_desc" in flow) == (
            flow["verdict"] in ("DROPPED", "AUDIT"))
        if "drop_reason" in flow:
            assert DROP_REASONS[flow["drop_reason"]] == flow["drop_reason_desc"]


def test_what_jq_users_ask_for_is_found(flows):
    """As in `jq 'select(.flow.verdict == "DROPPED") | .flow.destination.pod_name'`."""
    flows = [line["flow"] for line in flows]
    dropped = [flow for flow in flows if flow["verdict"] == "DROPPED"]
    assert {flow["destination"]["pod_name"] for flow in dropped} == {"cart"}
    assert any(flow["l4"].get("TCP", {}).get("destination_port") == 81 and
               flow["ingress_denied_by"][0]["name"] == "cart" for flow in dropped)
    assert any(flow["l4"].get("TCP", {}).get("flags") == {"SYN": True} for flow in dropped)
    forwarded = [flow for flow in flows if flow["verdict"] == "FORWARDED" and "TCP" in flow["l4"]]
    assert any(flow.get("destination_service") == {"name": "cart", "namespace": "default"}
               for flow in forwarded)
    assert {flow["source"]["workloads"][0]["name"] for flow in forwarded
            if flow["source"].get("workloads")} == {"web"}
