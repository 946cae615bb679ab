# SPDX-License-Identifier: Apache-2.0
"""Random worlds of services, slices and nodes: the library says what harness/servicepol.py says.

A world that differs is kept below build/ and its seed is printed; SEED=N repeats one, WORLDS=N asks
that many (10000 take a minute or two).
"""

import json
import os
import random
import subprocess
import sys

import pytest

from cli import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests/harness"))
import servicepol  # noqa: E402

WORLDS = int(os.environ.get("WORLDS", "500"))
HOSTS = ["192.0.2.1", "198.51.100.1", "2001:db8::1"]
NAMES = ["", "http", "dns"]
PROTOCOLS = ["TCP", "UDP", "SCTP"]


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
        "externalIPs": maybe(draw, .3, draw.sample([f"203.0.113.{100 + i}", f"2001:db8:e::{i + 1}"], 1)),
        "loadBalancerSourceRanges": maybe(draw, .3, draw.choice([
            ["198.18.0.0/15"], ["10.1.0.0/24", "2001:db8:1::/48"], ["0.0.0.0/0", "::/0"]])),
    }
    status = {}
    if draw.random() < .7:
        status = {"loadBalancer": {"ingress": [
            without_none({"ip": ip, "ipMode": maybe(draw, .5, draw.choice(["VIP", "Proxy"]))})
            for ip in draw.sample([f"203.0.113.{i + 1}", f"2001:db8:f::{i + 1}"], draw.randint(1, 2))]}}
    labels = draw.choice([{}] * 9 + [{draw.choice(servicepol.LABELS): ""}])
    return {"apiVersion": "v1", "kind": "Service", "spec": without_none(spec), "status": status,
            "metadata": {"name": f"s{i}", "namespace": "default", "labels": labels}}


def endpoint(draw, version):
    n = draw.randint(1, 6)
    conditions = {}
    for each, chance in (("ready", .8), ("serving", .6), ("terminating", .6)):
        if draw.random() < chance:
            conditions[each] = draw.random() < (.4 if each == "ready" else .6)
    hints = {}
    if draw.random() < .7:
        hints["forZones"] = [{"name": z} for z in draw.sample(["a", "b"], draw.randint(1, 2))]
    if draw.random() < .5:
        hints["forNodes"] = [{"name": z} for z in draw.sample(["n1", "n2"], draw.randint(1, 2))]
    return without_none({
        "addresses": [f"10.1.0.{n}" if version == 4 else f"fd01::{n}"],
        "conditions": maybe(draw, .8, conditions), "hints": maybe(draw, .8, hints),
        "nodeName": draw.choice([None, "n1", "n1", "n2"]), "zone": draw.choice([None, "a", "b"])})


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
    external_ips = draw.random() < .5
    return (services, slices, nodes, servicepol.Node("n1", labels, HOSTS, external_ips), external_ips)


CLIENTS = [servicepol.Client("10.1.0.7", True), servicepol.Client("fd01::7", True),
           servicepol.Client(HOSTS[0], True, True), servicepol.Client(HOSTS[2], True, True),
           servicepol.Client("198.18.0.9", False), servicepol.Client("203.0.113.200", False),
           servicepol.Client("2001:db8:1::9", False), servicepol.Client("2001:db8:9::9", False)]


def library_answer(line, client, services):
    """What a client gets by the library's line about a frontend, as the datapath reads it."""
    address, _, _, kind, flags, cluster, local = line
    if "R" in flags and not any(servicepol.admits(s, kind, client) for s in services
                                if address in json.dumps(s["status"])):
        return servicepol.DROPPED
    is_local = "L" in flags and (kind == "ClusterIP" or not client.inside)
    chosen = local if is_local else cluster
    return chosen or (servicepol.DROPPED if cluster or local else servicepol.REFUSED)


def asked(worlds):
    parts = []
    for services, slices, nodes, _, external_ips in worlds:
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": services + slices + nodes}).encode()
        parts.append(f"{len(body)} {int(external_ips)} {','.join(HOSTS)}\n".encode() + body)
    done = subprocess.run([BUILD / "tests/policy/service_answers"], input=b"".join(parts), capture_output=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    for block in ("\n" + done.stdout.decode()).split("\n.")[:-1]:
        lines = {}
        for line in filter(None, block.splitlines()):
            *key, kind, flags, cluster, local = line.split()
            sets = [set(filter(None, each.split("=", 1)[1].split(","))) for each in (cluster, local)]
            lines[key[0], int(key[1]), key[2]] = (*key, kind, flags, *sets)
        yield lines


def check(made, lines):
    services, slices, _, node, _ = made
    expected = {}
    for each in services:
        for key in servicepol.frontends(each, node):
            expected.setdefault(key, each)
    assert set(lines) == set(expected), "other frontends"
    for address, port, protocol in expected:
        for client in CLIENTS:
            if servicepol.family(client.address) != servicepol.family(address):
                continue
            want = servicepol.answer(services, slices, node, client, address, port, protocol)
            got = library_answer(lines[address, port, protocol], client, services)
            assert got == want, f"{client} to {address} port {port}/{protocol}"


def test_random_worlds():
    seeds = ([int(os.environ["SEED"])] if "SEED" in os.environ
             else random.SystemRandom().sample(range(1 << 40), WORLDS))
    worlds = [world(seed) for seed in seeds]
    answers, count = asked(worlds), 0
    for seed, made in zip(seeds, worlds):
        lines = next(answers, None)
        try:
            assert lines is not None, "no answer"
            check(made, lines)
        except AssertionError as wrong:
            kept = BUILD / f"service-world-{seed}.json"
            kept.write_text(json.dumps(made[:3], indent=1))
            pytest.fail(f"SEED={seed}, kept as {kept}: {wrong}")
        count += len(lines)
    assert count > len(seeds) or "SEED" in os.environ, "worlds without frontends prove nothing"
