# SPDX-License-Identifier: Apache-2.0
"""Random worlds of services, slices and nodes: connections get what harness/servicepol.py says.

The objects go through the library and the agent's sync into real maps, and real programs decide about
packets (BPF_PROG_TEST_RUN) and sockets: build/tests/policy/service_answers.

A world that differs is kept below build/ and its seed is printed; SEED=N WORLDS=1 repeats it.  WORLDS=N
asks that many (10000 take three minutes), else WORLD_SECONDS=N says how long it goes on.
"""

import dataclasses
import json
import os
import random
import subprocess
import sys
import time

import pytest

from cli import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests/harness"))
import servicepol  # noqa: E402

SECONDS = float(os.environ.get("WORLD_SECONDS", "4"))
WORLDS = int(os.environ.get("WORLDS", "0"))
HOSTS = ["192.0.2.1", "198.51.100.1", "2001:db8::1"]
NAMES = ["", "http", "dns"]
PROTOCOLS = ["TCP", "UDP", "SCTP"]
POD = {4: "10.99.0.2", 6: "fd99::2"}
# Who may be an endpoint, of each family: pods of this node, the client among them, the node itself, and
# addresses elsewhere.
HERE = {4: ["10.99.0.2", "10.99.0.3", "10.99.0.4", HOSTS[0]], 6: ["fd99::2", "fd99::3", "fd99::4", HOSTS[2]]}
ELSEWHERE = {4: [f"10.1.0.{n}" for n in range(1, 5)], 6: [f"fd01::{n}" for n in range(1, 5)]}


def maybe(draw, chance, value):
    return value if draw.random() < chance else None


def without_none(thing):
    return {k: v for k, v in thing.items() if v is not None}


def service(draw, i):
    kind = draw.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName"])
    versions = draw.choice([[4], [6], [4, 6]])
    ports, names = [], draw.sample(NAMES[1:], 2) if draw.random() < .4 else [draw.choice(NAMES)]
    for k, name in enumerate(names):
        ports.append(without_none({
            "name": name or None, "port": 80 + k, "protocol": draw.choice(PROTOCOLS),
            "nodePort": 30000 + 10 * i + k if kind in ("NodePort", "LoadBalancer") else None}))
    spec = {
        "type": kind, "ports": ports,
        "clusterIPs": ([] if kind == "ExternalName" else ["None"] if kind == "ClusterIP"
                       and draw.random() < .1
                       else [f"10.96.0.{10 + i}" if v == 4 else f"fd96::{10 + i}" for v in versions]),
        "internalTrafficPolicy": maybe(draw, .5, draw.choice(["Cluster", "Local"])),
        "externalTrafficPolicy": maybe(draw, .7, draw.choice(["Cluster", "Local"])),
        "publishNotReadyAddresses": maybe(draw, .2, draw.random() < .5),
        "sessionAffinity": maybe(draw, .3, draw.choice(["None", "ClientIP", "ClientIP"])),
        "sessionAffinityConfig": maybe(draw, .7, {"clientIP": {"timeoutSeconds": draw.choice(
            [60, 3600, 86400])}}),
        "externalIPs": maybe(draw, .3, draw.sample([f"203.0.113.{100 + i}", f"2001:db8:e::{i + 1}"], 1)),
        "loadBalancerSourceRanges": maybe(draw, .3, draw.choice([
            ["198.18.0.0/15"], ["10.99.0.0/24", "2001:db8:1::/48"], ["0.0.0.0/0", "::/0"]])),
    }
    status = {}
    if draw.random() < .7:
        status = {"loadBalancer": {"ingress": [
            without_none({"ip": ip, "ipMode": maybe(draw, .5, draw.choice(["VIP", "Proxy"]))})
            for ip in draw.sample([f"203.0.113.{i + 1}", f"2001:db8:f::{i + 1}"], draw.randint(1, 2))]}}
    labels = draw.choice([{}] * 9 + [{draw.choice(servicepol.LABELS): ""}])
    return {"apiVersion": "v1", "kind": "Service", "spec": without_none(spec), "status": status,
            "metadata": {"name": f"s{i}", "namespace": "default", "labels": labels,
                         "annotations": draw.choice([{}, {}, {"tendril.io/lb-algorithm": "maglev"},
                                                     {"tendril.io/lb-algorithm": "random"}])}}


def endpoint(draw, version):
    here, conditions = draw.random() < .6, {}
    for each, chance in (("ready", .8), ("serving", .6), ("terminating", .6)):
        if draw.random() < chance:
            conditions[each] = draw.random() < (.4 if each == "ready" else .6)
    hints = {}
    if draw.random() < .7:
        hints["forZones"] = [{"name": z} for z in draw.sample(["a", "b"], draw.randint(1, 2))]
    if draw.random() < .5:
        hints["forNodes"] = [{"name": z} for z in draw.sample(["n1", "n2"], draw.randint(1, 2))]
    return without_none({
        "addresses": [draw.choice((HERE if here else ELSEWHERE)[version])],
        "conditions": maybe(draw, .8, conditions), "hints": maybe(draw, .8, hints),
        "nodeName": draw.choice([None, "n1", "n1"] if here else [None, "n2"]), "zone": draw.choice([None, "a", "b"])})


def slice_of(draw, i, owner):
    version = draw.choice([4, 6])
    ports = [without_none({"name": p.get("name"), "port": 8080 + k,
                           "protocol": draw.choice([p["protocol"]] * 9 + ["TCP"])})
             for k, p in enumerate(owner["spec"]["ports"])]
    labels = {"kubernetes.io/service-name": owner["metadata"]["name"]}
    if draw.random() < .05:
        labels[draw.choice(servicepol.LABELS)] = ""
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": f"IPv{version}",
            "metadata": {"name": f"x{i}", "namespace": "default", "labels": labels}, "ports": ports,
            "endpoints": [endpoint(draw, version) for _ in range(draw.randint(0, 4))]}


def world(seed):
    draw = random.Random(seed)
    services = [service(draw, i) for i in range(draw.randint(1, 2))]
    slices = [slice_of(draw, i, draw.choice(services)) for i in range(draw.randint(0, 9))]
    labels = draw.choice([{}, {servicepol.ZONE: "a"}, {servicepol.ZONE: "b"}])
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": own},
              "status": {"addresses": [{"type": "InternalIP", "address": address}]}}
             for name, own, address in (("n1", labels, HOSTS[0]), ("n2", {}, "192.0.2.2"))]
    external_ips, maglev = draw.random() < .5, draw.random() < .3
    return services, slices, nodes, servicepol.Node("n1", labels, HOSTS, external_ips), maglev


# Where the client's connections come from: packets of a pod or from the uplink, or sockets.
CLIENTS = [
    *((servicepol.Client(at, True), ("pod", "pod-connect", "pod-send")) for at in POD.values()),
    *((servicepol.Client(at, True, True), ("node-connect", "node-send")) for at in (HOSTS[0], HOSTS[2])),
    *((servicepol.Client(at, False), ("uplink",))
      for at in ("198.18.0.9", "203.0.113.200", "2001:db8:1::9", "2001:db8:9::9"))]


def questions(made):
    """(where, client, frontend, expected answer, seconds without use); a number that no service has is asked
    for, too.  Where clients stay with their backends they are asked again: shortly before the affinity ends,
    and, after everybody, when it has."""
    fresh, owners = list(questions_once(made)), owners_of(made)
    for where, client, key, want in fresh:
        yield where, client, key, want, 0
    for late in (-5, 5):
        for where, client, key, want in fresh:
            if isinstance(want, set) and owners[key].affinity:
                yield where, client, key, want, owners[key].affinity + late


def questions_once(made):
    services, slices, _, node, _ = made
    keys = {key for each in services for key in servicepol.frontends(each, node)}
    keys |= {(address, 79, protocol) for address, _, protocol in keys}
    for address, port, protocol in sorted(keys):
        for client, ways in CLIENTS:
            loopback = servicepol.ip_address(address).is_loopback
            if servicepol.family(client.address) != servicepol.family(address) or loopback and not client.is_node:
                continue
            want = servicepol.answer(services, slices, node, client, address, port, protocol)
            for where in ways:
                if where.endswith("-send") and protocol != "UDP" or "-" in where and protocol == "SCTP":
                    continue
                yield where, client, (address, port, protocol), want


class Node:
    """The node of build/tests/policy/service_answers, which goes from one world to the next."""

    def __init__(self):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen([BUILD / "tests/policy/service_answers"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def answers(self, made, asked):
        services, slices, nodes, node, maglev = made
        owners = owners_of(made)
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": services + slices + nodes}).encode()
        head = f"world {len(body)} {int(node.external_ips)} {int(maglev)} {','.join(HOSTS)}\n"
        lines = [f"ask {where} {client.address} {address} {port} {protocol} "
                 f"{len(want) if isinstance(want, set) and not owners[key].keeps(idle) else 1} {idle}\n"
                 for where, client, key, want, idle in asked for address, port, protocol in [key]]
        self.process.stdin.write(head.encode() + body + "".join([*lines, "end\n"]).encode())
        self.process.stdin.flush()
        got = list(iter(lambda: self.process.stdout.readline().decode() or ".\n", ".\n"))
        assert len(got) >= len(lines), "no answer: the program died"
        frontends = [tuple(line.split()[1:]) for line in got[:len(got) - len(lines)]]
        return ({(address, int(port), protocol) for address, port, protocol in frontends},
                [set(line.split()) for line in got[len(got) - len(lines):]])

    def leave(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=20) == 0


@dataclasses.dataclass
class Owner:
    """Of a frontend; affinity: seconds, 0: clients do not stay with their backends."""

    name: str
    port: int
    affinity: int

    def keeps(self, idle):
        """Whether a client that did nothing for so many seconds keeps its backend."""
        return self.affinity and idle <= self.affinity


def owners_of(made):
    services, _, _, node, _ = made
    found = {}
    for each in services:
        spec = each["spec"]
        config = spec.get("sessionAffinityConfig") or {"clientIP": {"timeoutSeconds": 10800}}
        affinity = config["clientIP"]["timeoutSeconds"] if spec.get("sessionAffinity") == "ClientIP" else 0
        for key, (_, port) in servicepol.frontends(each, node).items():
            found.setdefault(key, Owner(each["metadata"]["name"], port["port"], affinity))
    return found


def wanted(where, want):
    """A pod's socket is not told that its connection is dropped: its packets are."""
    if isinstance(want, set):
        return want
    return {"none" if want is None or want == servicepol.DROPPED and where.startswith("pod-") else want}


def check(made, asked, frontends, got):
    services, _, _, node, _ = made
    owners = owners_of(made)
    kept = {}  # (client, service, port, protocol, family) -> backend, where clients stay with theirs
    assert frontends == {key for each in services for key in servicepol.frontends(each, node)}, "other frontends"
    for (where, client, key, want, idle), met in zip(asked, got):
        expected = wanted(where, want)
        if isinstance(want, set) and owners[key].keeps(idle):
            owner = owners[key]
            assert len(met) == 1 and met <= expected, f"{where} {client} {key}: {met}, one of {expected}"
            same = (client.address if not client.is_node else "node", owner.name, owner.port, key[2],
                    servicepol.family(client.address))
            before = kept.get(same, met)
            assert met == before or not before <= expected, f"{where} {client} {key}: {met}, before {before}"
            kept[same] = met
        else:
            assert met == expected, f"{where} {client} {key}: {met}, not {expected}"


def test_random_worlds():
    first = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 40)))
    node, until, seed, count = Node(), time.monotonic() + SECONDS, first, 0
    while seed < first + WORLDS if WORLDS else time.monotonic() < until:
        made = world(seed)
        asked = list(questions(made))
        try:
            frontends, got = node.answers(made, asked)
            check(made, asked, frontends, got)
        except AssertionError as wrong:
            kept = BUILD / f"service-world-{seed}.json"
            kept.write_text(json.dumps(made[:3], indent=1))
            pytest.fail(f"SEED={seed} WORLDS=1, kept as {kept}: {wrong}")
        seed, count = seed + 1, count + len(asked)
    print(f"SEED={first}: {seed - first} worlds, {count} questions")
    node.leave()
    assert count > seed - first or WORLDS == 1, "worlds without frontends prove nothing"
