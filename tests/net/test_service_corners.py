# SPDX-License-Identifier: Apache-2.0
"""Services where something else is in the way, or wrong: leftovers of kube-proxy, odd names, hostile objects.

    client  ------  10.96.0.10, fd00:96::10  port 80  ------  one, two  port 8080
"""

import pytest

from tendril import NodeProcess, run, service_object, slice_object, wait_for
from test_services import FAMILIES, PORT, PROTOCOLS, TARGET, VIPS, lab, module_lab  # noqa: F401: fixtures

TCP = [{"name": "web", "port": PORT, "protocol": "TCP", "targetPort": TARGET}]


@FAMILIES
@PROTOCOLS
def test_leftovers_of_kube_proxy_lead_nobody_astray(lab, family, proto):
    """Rules that it left in iptables name a backend of then."""
    iptables = [["iptables", "ip6tables"][family], "-w", "-t", "nat"]
    rule = ["-d", VIPS[family], "-p", proto, "--dport", str(PORT), "-j", "DNAT", "--to-destination",
            [f"{lab.two.v4}:{TARGET}", f"[{lab.two.v6}]:{TARGET}"][family]]
    chains = ("PREROUTING", "OUTPUT")
    for chain in chains:
        lab.node.netns.run(*iptables, "-A", chain, *rule)
    try:
        lab.publish(lab.one)
        assert lab.served_by(family, proto, count=20) == {"one": 20, "two": 0}
        assert lab.call(family, proto)["peer"] == [VIPS[family], PORT]
        if lab.layer == "socket" and proto == "tcp":
            assert lab.from_host(VIPS[family], PORT) == "one"
    finally:
        for chain in chains:
            lab.node.netns.run(*iptables, "-D", chain, *rule)


@FAMILIES
def test_a_name_may_begin_with_a_digit(lab, family):
    """Names were labels of RFC 1035 before KEP-5311, and are labels of RFC 1123 since."""
    lab.publish(lab.one, name="1web")
    assert lab.call(family)["name"] == "one"
    shown = lab.node.cli("service", "get", "default/1web").stdout
    assert "default/1web" in shown and [lab.one.v4, lab.one.v6][family] in shown
    assert "1web" in lab.node.cli("service", "list").stdout
    shown = lab.node.cli("service", "explain", "--from", "default/client", "--to",
                         [f"{VIPS[0]}:{PORT}", f"[{VIPS[1]}]:{PORT}"][family]).stdout
    assert "Service default/1web" in shown, shown


@FAMILIES
def test_each_protocol_has_an_affinity_of_its_own(lab, family):
    """As with kube-proxy, which keeps it by port: of many services some differ."""
    vips = [[f"10.96.3.{i}", f"fd00:96:3::{i:x}"] for i in range(1, 17)]
    differ = 0
    for i, both in enumerate(vips):
        lab.publish(lab.one, lab.two, name=f"sticky-{i}", vips=both, sessionAffinity="ClientIP")
        seen = [{lab.call(family, proto, vip=both[family])["name"] for _ in range(3)} for proto in ("tcp", "udp")]
        assert [len(each) for each in seen] == [1, 1], seen
        differ += seen[0] != seen[1]
    assert 0 < differ < len(vips)


@FAMILIES
def test_a_service_gets_and_loses_its_second_family_in_place(lab, family):
    """PreferDualStack in a cluster that has been given the other family."""
    other = 1 - family
    lab.publish(lab.one, vips=[VIPS[family]], ipFamilyPolicy="PreferDualStack")
    assert lab.call(family)["name"] == "one"
    assert lab.call(other, timeout=0.25)["result"] != "ok"
    lab.publish(lab.one, vips=[VIPS[family], VIPS[other]], ipFamilyPolicy="PreferDualStack")
    assert lab.call(family)["name"] == lab.call(other)["name"] == "one"
    lab.publish(lab.one, vips=[VIPS[family]], ipFamilyPolicy="SingleStack")
    assert lab.call(family)["name"] == "one"
    assert lab.call(other, timeout=0.25)["result"] != "ok"


def annotated(text):
    made = service_object("web", "default", VIPS, TCP)
    made["metadata"]["annotations"] = {"tendril.io/lb-algorithm": text, "service.cilium.io/lb-algorithm": text,
                                       "service.kubernetes.io/topology-mode": text, "x" * 300: text}
    return made


@FAMILIES
@pytest.mark.parametrize("text", ["", "Maglev", "maglev\u0000", "\u202e\u001b[31m", "%s%n" * 50, "x" * 200_000],
                         ids=["empty", "case", "NUL", "control", "format", "huge"])
def test_odd_annotations_change_nothing(lab, family, text):
    lab.publish(lab.one, lab.two)
    if "\u0000" in text:
        with pytest.raises(AssertionError):  # JSON may have it, an object of Kubernetes may not
            lab.node.put(annotated(text))
    else:
        lab.node.put(annotated(text))
    lab.publish(lab.one, lab.two, ports=TCP)
    assert min(lab.served_by(family).values()) >= 5
    assert "\u001b" not in lab.node.cli("service", "get", "default/web").stdout


@FAMILIES
def test_ten_thousand_endpoints_come_and_go(lab, family):
    ports = [{"name": "web", "port": TARGET, "protocol": "TCP"}]
    kind, base = [("IPv4", "10.7"), ("IPv6", "fd07::")][family]

    def slices(count):
        return [slice_object(f"many-{i}", "default", "web", kind, ports, [
            f"{base}.{i}.{n}" if family == 0 else f"{base}{i:x}:{n:x}" for n in range(1, 251)] if i < count else [])
            for i in range(40)]

    def backends():
        service = lab.node.api("GET", "/v1/services/default/web")
        return {end["address"] for front in service["frontends"] for end in front["backends"]}
    lab.node.put(service_object("web", "default", [VIPS[family]], TCP), *slices(40))
    assert len(backends()) == 10_000 and not lab.node.status()["warnings"]
    own = slice_object("own", "default", "web", kind, ports, [[lab.one.v4, lab.one.v6][family]])
    lab.node.put(*slices(0), own)
    assert lab.served_by(family, count=10) == {"one": 10, "two": 0}
    assert backends() == {[lab.one.v4, lab.one.v6][family]}


@FAMILIES
def test_an_endpoint_that_is_listed_again_and_again_counts_once(lab, family):
    """In one slice and in several, as its own pod and as nobody's."""
    kind, first, second = [("IPv4", lab.one.v4, lab.two.v4), ("IPv6", lab.one.v6, lab.two.v6)][family]
    ports = [{"name": "web", "port": TARGET, "protocol": "TCP"}]
    lab.node.put(service_object("web", "default", [VIPS[family]], TCP),
                 *(slice_object(f"web-{i}", "default", "web", kind, ports * 2, [first] * 20) for i in range(4)),
                 slice_object("web-x", "default", "web", kind, ports, [second]))
    served = lab.served_by(family, count=60)
    assert min(served.values()) >= 12, served
    front = lab.node.api("GET", "/v1/services/default/web")["frontends"][0]
    assert sorted(end["address"] for end in front["backends"]) == sorted([first, second])


@FAMILIES
def test_the_nodes_own_address_as_endpoint(lab, family):
    """As that of the API server on a control-plane node: its service leads to a process of the node."""
    address, length = [("192.0.2.10", 32), ("2001:db8:10::10", 128)][family]
    lab.node.netns.ip("address", "add", f"{address}/{length}", "dev", "lo", check=False)
    wait_for(lambda: address in lab.node.status()["nodeAddresses"], "the node's address")
    process = NodeProcess(lab.node)
    try:
        process.call("serve", name="api", tcp=[TARGET], udp=[])
        lab.node.put(service_object("kubernetes", "default", [VIPS[family]], TCP),
                     slice_object("kubernetes", "default", "kubernetes", ["IPv4", "IPv6"][family],
                                  [{"name": "web", "port": TARGET, "protocol": "TCP"}], [address]))
        answer = lab.call(family, send="hello")
        assert (answer["result"], answer["name"], answer["echo"]) == ("ok", "api", "hello")
        assert answer["peer"] == [VIPS[family], PORT]
        if lab.layer == "socket":
            assert lab.from_host(VIPS[family], PORT) == "api"
    finally:
        process.quit()
        run("ip", "-n", lab.node.name, "address", "del", f"{address}/{length}", "dev", "lo")


def web_slice(family, address, port=TARGET, protocol="TCP"):
    return slice_object("web-x", "default", "web", ["IPv4", "IPv6"][family],
                        [{"name": "web", "port": port, "protocol": protocol}], [address])


@FAMILIES
def test_a_slice_may_come_before_its_service_and_outlive_it(lab, family):
    first, second = [[pod.v4, pod.v6][family] for pod in (lab.one, lab.two)]
    lab.node.put(web_slice(family, first))
    assert lab.call(family, timeout=0.25)["result"] != "ok"
    assert not lab.node.status()["warnings"]
    assert 'no Service "web"' in lab.node.status()["notCarriedOut"][0]
    assert 'no effect: EndpointSlice default/web-' in lab.node.cli("status").stdout
    lab.node.put(service_object("web", "default", VIPS, TCP))
    assert lab.call(family)["name"] == "one"
    assert not lab.node.status()["notCarriedOut"]
    lab.node.api("DELETE", "/v1/objects/Service/default/web")
    lab.node.put(web_slice(family, second))
    assert lab.call(family, timeout=0.25)["result"] != "ok"
    lab.node.put(service_object("web", "default", VIPS, TCP))
    assert lab.call(family)["name"] == "two"


@FAMILIES
def test_port_protocol_and_address_are_changed_in_place(lab, family):
    """What was there before is gone.  An open connection stays, packet by packet as long as the service has
    the address."""
    others = ["10.96.0.44", "fd00:96::44"]

    def ping():
        assert lab.client.call("ping", id="stays")["result"] == "ok"
    lab.publish(lab.one, ports=TCP)
    assert lab.client.call("hold", id="stays", addr=VIPS[family], port=PORT)["name"] == "one"
    lab.publish(lab.one, ports=[dict(TCP[0], port=81)])
    assert lab.call(family, port=81)["name"] == "one"
    assert lab.call(family, timeout=0.25)["result"] != "ok"
    ping()
    lab.publish(lab.one, ports=[dict(TCP[0], port=81, protocol="UDP")])
    assert lab.call(family, "udp", port=81)["name"] == "one"
    assert lab.call(family, port=81, timeout=0.25)["result"] != "ok"
    ping()
    lab.publish(lab.one, ports=TCP, vips=others)
    assert lab.call(family, vip=others[family])["name"] == "one"
    assert lab.call(family, timeout=0.25)["result"] != "ok"
    assert lab.call(family, "udp", port=81, timeout=0.25)["result"] != "ok"
    if lab.layer == "socket":
        ping()
    lab.client.call("close", id="stays")


def test_a_protocol_that_nobody_knows_is_named(lab):
    """And the rest of the objects works."""
    odd = service_object("odd", "default", ["10.96.0.45"], [dict(TCP[0], protocol="DCCP")])
    with pytest.raises(AssertionError, match="DCCP"):
        lab.node.put(odd)
    lab.publish(lab.one)
    assert lab.call(0)["name"] == "one"
