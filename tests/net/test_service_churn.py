# SPDX-License-Identifier: Apache-2.0
"""Random services, slices and nodes under real connections, held against harness/servicepol.py.

    client 192.0.2.9  ----+---- wire ----+----  node "n1" 192.0.2.1: pods near-1, near-2, inside
           2001:db8::9                   +----  node "n2" 192.0.2.2: pods far-1, far-2

CHURN_SECONDS=N runs so long (15), SEED=N repeats one run.  A connection may begin before a change and
end after it: it gets what one of the worlds of that time gives.
"""

import os
import random
import threading
import time

import pytest

import servicepol
from tendril import node_object, service_object, slice_object
from test_north_south import Lab

SECONDS = float(os.environ.get("CHURN_SECONDS", "15"))
SERVICES, TARGETS = 6, (8080, 8081)
OWN = ["192.0.2.1", "2001:db8::1"]
TIMEOUT, PATIENCE = 0.25, 10  # where nothing may come, and where something must
ENDED = "Software caused connection abort"  # of a socket whose backend went
PROTOCOLS = ("TCP", "UDP")


@pytest.fixture(scope="module")
def lab():
    made = Lab("--external-ips", served=False)
    try:
        made.pods = {name: node.pod(name) for name, node in (
            ("near-1", made.one), ("near-2", made.one), ("far-1", made.two), ("far-2", made.two))}
        for pod in made.pods.values():
            pod.serve(tcp=list(TARGETS), udp=list(TARGETS))
        made.inside = made.one.pod("inside")
        for prefix, via in (("203.0.113.0/24", OWN[0]), ("2001:db8:e::/64", OWN[1]),
                            ("2001:db8:f::/64", OWN[1])):
            made.client.ip(*["-6"] * (":" in via), "route", "add", prefix, "via", via)
        yield made
    finally:
        made.close()


# ---- worlds ----

def service(draw, i):
    """Both families, so that all addresses of the client's choosing are the service's."""
    kind = draw.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"])
    ports = [{"name": p.lower(), "port": 80, "protocol": p, "nodePort": 30000 + i}
             for p in draw.choice([PROTOCOLS, PROTOCOLS[:1]])]
    if kind == "ClusterIP":
        for port in ports:
            del port["nodePort"]
    spec = {"type": kind, "publishNotReadyAddresses": draw.random() < .15,
            "internalTrafficPolicy": draw.choice(["Cluster", "Cluster", "Local"]),
            "externalTrafficPolicy": draw.choice(["Cluster", "Local"]),
            "sessionAffinity": draw.choice(["None", "None", "ClientIP"])}
    if draw.random() < .4:
        spec["externalIPs"] = [f"203.0.113.{100 + i}", f"2001:db8:e::{i + 1}"]
    if draw.random() < .4:
        spec["loadBalancerSourceRanges"] = draw.choice([
            ["192.0.2.0/24", "2001:db8::/64"], ["10.200.1.0/24", "fd00:200:1::/112"]])
    made = service_object(f"s{i}", "default", [f"10.96.7.{10 + i}", f"fd96::{10 + i}"], ports, **spec)
    if kind == "LoadBalancer":
        made["status"] = {"loadBalancer": {"ingress": [
            {"ip": ip, "ipMode": draw.choice(["VIP", "VIP", "VIP", "Proxy"])}
            for ip in (f"203.0.113.{i + 1}", f"2001:db8:f::{i + 1}")]}}
    return made


def conditions(draw):
    if draw.random() < .6:
        return {"ready": True, "serving": True, "terminating": False}
    terminating = draw.random() < .6
    return {"ready": False, "serving": draw.random() < .6, "terminating": terminating}


def endpoint(draw, pod, name, version):
    hints = {}
    if draw.random() < .7:
        hints["forZones"] = [{"name": zone} for zone in draw.sample(["a", "b"], draw.randint(1, 2))]
    return {"addresses": [pod.v4 if version == 4 else pod.v6], "conditions": conditions(draw),
            "nodeName": "n1" if name.startswith("near") else "n2", "hints": hints,
            "targetRef": {"kind": "Pod", "namespace": "default", "name": name}}


def slices_of(draw, owner, pods):
    made = []
    for version in (4, 6):
        chosen = draw.sample(sorted(pods), draw.choice([0, 1, 2, 2, 3, 4]))
        ports = [{"name": p["name"], "protocol": p["protocol"], "port": draw.choice(TARGETS)}
                 for p in owner["spec"]["ports"]]
        made.append(slice_object(f"{owner['metadata']['name']}-{version}", "default",
                                 owner["metadata"]["name"], f"IPv{version}", ports,
                                 [endpoint(draw, pods[name], name, version) for name in chosen]))
    return made


class World:
    """The objects that are in force, and who has which address."""

    def __init__(self, services, slices, zone):
        self.services, self.slices = services, slices
        self.node = servicepol.Node("n1", {servicepol.ZONE: zone}, OWN, external_ips=True)

    def frontends(self):
        return [key for each in self.services.values() for key in servicepol.frontends(each, self.node)
                if not servicepol.ip_address(key[0]).is_loopback]

    def answer(self, client, key):
        return servicepol.answer(list(self.services.values()),
                                 [each for pair in self.slices.values() for each in pair],
                                 self.node, client, *key)

    def serving(self, key):
        """Endpoints that may keep a flow of datagrams, whose port another socket may have had."""
        return {e.target for each in self.services.values()
                for kind, port in [servicepol.frontends(each, self.node).get(key, (None, None))] if kind
                for e in servicepol.endpoints_of(each, port, servicepol.family(key[0]), [
                    each for pair in self.slices.values() for each in pair], self.node)
                if e.ready or e.serving}


# ---- what happens ----

class Asker:
    """A client, and what it may get."""

    def __init__(self, lab, inside):
        self.lab, self.inside = lab, inside
        self.names = {f"{address}:{port}": name for name, pod in lab.pods.items()
                      for address in pod.addresses for port in TARGETS}

    def client(self, version):
        addresses = self.lab.inside.addresses if self.inside else ("192.0.2.9", "2001:db8::9")
        return servicepol.Client(next(a for a in addresses if servicepol.family(a) == version),
                                 self.inside)

    def ask(self, key, timeout, connected):
        """connected: of a datagram's socket."""
        address, port, protocol = key
        call = self.lab.inside.call if self.inside else self.lab.client.call
        if protocol == "TCP":
            answer = call("connect", addr=address, port=port, timeout=timeout)
        else:
            answer = call("udp", addr=address, port=port, timeout=timeout, connected=connected)
            if answer["result"] == "ok" and answer["peer"] != [address, port]:
                return f"an answer from {answer['peer']}"
        return answer.get("name") if answer["result"] == "ok" else answer["result"]

    def allowed(self, worlds, key):
        found, serving = set(), []
        for world in worlds:
            answer = world.answer(self.client(servicepol.family(key[0])), key)
            serving.append(world.serving(key))
            if isinstance(answer, set):
                more = serving[-1] if key[2] == "UDP" else set()
                found |= {self.names[target] for target in answer | more}
            else:
                found.add({servicepol.REFUSED: "refused", servicepol.DROPPED: "timeout",
                           None: None}[answer])
        if any(former - latter for former, latter in zip(serving, serving[1:])):
            found.add(ENDED)
        return found


class Churn:
    def __init__(self, lab, seed):
        self.lab, self.draw, self.seed = lab, random.Random(seed), seed
        self.worlds = [World({}, {}, "a")]
        self.put = [node_object("n1", {servicepol.ZONE: "a"}, OWN),
                    node_object("n2", {servicepol.ZONE: "b"}, ["192.0.2.2", "2001:db8::2"])]
        lab.one.put(*self.put)
        self.done, self.wrong, self.asked = False, [], 0

    def change(self):
        """One service is made, replaced or deleted, or gets other endpoints."""
        last, i = self.worlds[-1], self.draw.randrange(SERVICES)
        services, slices = dict(last.services), dict(last.slices)
        name = f"s{i}"
        if name in services and self.draw.random() < .1:
            del services[name], slices[name]
            self.worlds.append(World(services, slices, "a"))
            self.lab.one.api("DELETE", f"/v1/objects/Service/default/{name}")
            for each in last.slices[name]:
                self.lab.one.api("DELETE", f"/v1/objects/EndpointSlice/default/"
                                           f"{each['metadata']['name']}")
            return
        if name not in services or self.draw.random() < .3:
            services[name] = service(self.draw, i)
        slices[name] = slices_of(self.draw, services[name], self.lab.pods)
        self.worlds.append(World(services, slices, "a"))  # before: it may be in force at once
        self.lab.one.put(services[name], *slices[name])

    def ask(self, asker, key):
        first = max(len(self.worlds) - 2, 0)  # the one before the last may still be in force
        patient = "timeout" not in asker.allowed(self.worlds[first:], key)
        # Outside a socket that is not connected does not hear that it was refused.
        got = asker.ask(key, PATIENCE if patient else TIMEOUT, not asker.inside or random.random() < .5)
        allowed = asker.allowed(self.worlds[first:], key)
        self.asked += 1
        if got not in allowed and None not in allowed:
            self.wrong.append(f"SEED={self.seed}: world {len(self.worlds)}: "
                              f"{'inside' if asker.inside else 'outside'} to {key}: got {got}, "
                              f"wanted {sorted(map(str, allowed))}")

    def traffic(self, inside):
        draw, asker = random.Random(self.seed + inside), Asker(self.lab, inside)
        while not self.done and not self.wrong:
            keys = self.worlds[-1].frontends()
            if not inside:
                keys = [key for key in keys if not key[0].startswith(("10.96.", "fd96:"))]
            if keys:
                self.ask(asker, draw.choice(keys))


def test_connections_get_what_the_documents_say(lab):
    """World by world: after a change, every address for the client outside and one inside."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 40)))
    print(f"SEED={seed}")
    churn = Churn(lab, seed)
    askers = [Asker(lab, inside) for inside in (False, True)]
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends and not churn.wrong:
        for _ in range(3):
            churn.change()
        del churn.worlds[:-1]  # nothing is under way: only the last counts
        for asker in askers:
            keys = churn.worlds[-1].frontends()
            for key in churn.draw.sample(keys, min(len(keys), 25)):
                if asker.inside or not key[0].startswith(("10.96.", "fd96:")):
                    churn.ask(asker, key)
    assert not churn.wrong, churn.wrong
    assert churn.asked > 20 * SECONDS


def test_nothing_goes_astray_while_services_change(lab):
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 40)))
    print(f"SEED={seed}")
    churn = Churn(lab, seed)
    threads = [threading.Thread(target=churn.traffic, args=[inside]) for inside in (False, True)]
    ends = time.monotonic() + SECONDS
    for thread in threads:
        thread.start()
    while time.monotonic() < ends and not churn.wrong:
        churn.change()
    churn.done = True
    for thread in threads:
        thread.join()
    assert not churn.wrong, churn.wrong
    assert churn.asked > 10 * SECONDS
