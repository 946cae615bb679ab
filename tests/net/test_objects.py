# SPDX-License-Identifier: Apache-2.0
"""Objects from the directory and the API, through the agent, into the pinned maps."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import pytest

from tendril import (Node, UnixConnection, namespace_object, pod_object, policy_object, run, service_object,
                     slice_object, wait_for)

MAPS = ("ipcache_map", "cidr_map", "policy_map", "port_map", "service_map", "backend_map",
        "node_map", "endpoint_map")


def dump(node, *names):
    """A digest of each map's contents, whatever their order."""
    digests = {}
    for name in names or MAPS:
        text = run("bpftool", "-j", "map", "dump", "pinned", node.bpffs / "maps" / name).stdout
        lines = sorted(json.dumps(entry["formatted"]) for entry in json.loads(text))
        digests[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return digests


def entries(node, name):
    text = run("bpftool", "-j", "map", "dump", "pinned", node.bpffs / "maps" / name).stdout
    # An entry that is deleted during the walk is listed without its contents.
    return [(entry["formatted"]["key"], entry["formatted"]["value"])
            for entry in json.loads(text) if "formatted" in entry]


def file_status(node, file):
    files = {entry["file"]: entry for entry in node.status()["objects"]["files"]}
    return files.get(file, {"state": "absent"})


def wait_file(node, file, state):
    wait_for(lambda: file_status(node, file)["state"] == state, f"{file} to be {state}")
    return file_status(node, file)


def names(node, kind):
    return {f"{o['namespace']}/{o['name']}" for o in node.api("GET", "/v1/objects")
            if o["kind"] == kind}


def service(i, backends=2, port=80):
    """A service with its slice, as an API server gives them."""
    name = f"service-{i}"
    return [service_object(name, "shop", [f"10.96.{i // 250}.{i % 250 + 1}"],
                           [{"name": "http", "port": port, "targetPort": 8080}]),
            slice_object(f"{name}-x7k2p", "shop", name, "IPv4", [{"name": "http", "port": 8080}],
                         [{"addresses": [f"10.{100 + b}.{i // 250}.{i % 250 + 1}"],
                           "conditions": {"ready": True},
                           "targetRef": {"kind": "Pod", "namespace": "shop",
                                         "name": f"{name}-{b}"}} for b in range(backends)])]


def resident_mib(node):
    status = pathlib.Path(f"/proc/{node.agent.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


# ---- files ----

def test_file_is_created_edited_replaced_and_deleted(shared_node):
    node = shared_node
    node.write("edit.json", *service(1))
    wait_file(node, "edit.json", "ok")
    wait_for(lambda: "shop/service-1" in names(node, "Service"), "the service")
    (node.objects / "edit.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": service(2)}))
    wait_for(lambda: names(node, "Service") == {"shop/service-2"}, "the edit in place")
    assert len(entries(node, "service_map")) == 1
    node.write("edit.json", *service(3))
    wait_for(lambda: names(node, "Service") == {"shop/service-3"}, "the replacement")
    (node.objects / "edit.json").unlink()
    wait_for(lambda: not names(node, "Service"), "the deletion")
    wait_for(lambda: not entries(node, "backend_map"), "no backends to be left")
    assert not entries(node, "service_map")


def test_yaml_stream_is_read(shared_node):
    node = shared_node
    (node.objects / "stream.yaml").write_text(
        "# two documents\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: yams\n---\n"
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        "metadata: {name: closed, namespace: yams}\nspec: {podSelector: {}}\n")
    wait_for(lambda: "yams/closed" in names(node, "NetworkPolicy"), "the policy")
    (node.objects / "stream.yaml").unlink()
    wait_for(lambda: "yams/closed" not in names(node, "NetworkPolicy"), "the deletion")


def test_bad_file_is_named_and_what_it_held_stays_enforced(node):
    web = node.pod("web", labels={"app": "web"})
    cart = node.pod("cart", labels={"app": "cart"})
    cart.serve(tcp=[80, 81])
    policy = policy_object("cart", "default", {"matchLabels": {"app": "cart"}},
                           ingress=[{"ports": [{"port": 80}]}])
    node.write("policy.json", policy)
    wait_for(lambda: names(node, "NetworkPolicy"), "the policy")
    policy["spec"]["ingress"][0]["ports"][0]["port"] = 81000
    node.write("policy.json", policy)
    refused = wait_file(node, "policy.json", "refused")
    assert "policy.json:1:" in refused["error"]
    assert "NetworkPolicy default/cart: spec.ingress[0].ports[0].port" in refused["error"]
    assert refused["objects"] == 1
    assert web.connect(cart.v4, 80)["result"] == "ok"
    assert web.connect(cart.v4, 81, timeout=0.25)["result"] == "timeout"

    # The agent starts again, and the file is still bad: its pods must not be open.
    node.kill()
    assert web.connect(cart.v4, 81, timeout=0.25)["result"] == "timeout"
    node.start()
    assert file_status(node, "policy.json")["state"] == "refused"
    assert web.connect(cart.v4, 80)["result"] == "ok"
    assert web.connect(cart.v4, 81, timeout=0.25)["result"] == "timeout"

    policy["spec"]["ingress"][0]["ports"][0]["port"] = 81
    node.write("policy.json", policy)
    wait_file(node, "policy.json", "ok")
    assert web.connect(cart.v4, 81)["result"] == "ok"
    assert web.connect(cart.v4, 80, timeout=0.25)["result"] == "timeout"


def test_duplicate_across_files_is_named_and_takes_over(shared_node):
    node = shared_node
    node.write("first.json", *service(1))
    wait_file(node, "first.json", "ok")
    node.write("a-second.json", *service(1, port=81))
    refused = wait_file(node, "a-second.json", "refused")
    assert "shop/service-1" in refused["error"] and "first.json" in refused["error"]
    frontend, = node.api("GET", "/v1/services/shop/service-1")["frontends"]
    assert frontend["port"] == 80
    (node.objects / "first.json").unlink()
    wait_file(node, "a-second.json", "ok")
    frontend, = node.api("GET", "/v1/services/shop/service-1")["frontends"]
    assert frontend["port"] == 81
    (node.objects / "a-second.json").unlink()
    wait_for(lambda: not names(node, "Service"), "the end")


def test_contradiction_names_both_objects_and_files(shared_node):
    node = shared_node
    node.write("one.json", pod_object("one", addresses=["10.9.9.9"]))
    wait_file(node, "one.json", "ok")
    node.write("two.json", pod_object("two", addresses=["10.9.9.9"]))
    error = wait_file(node, "two.json", "refused")["error"]
    for part in ("Pod default/two", "Pod default/one", "10.9.9.9", "one.json"):
        assert part in error
    for file in ("one.json", "two.json"):
        (node.objects / file).unlink()
    wait_for(lambda: not names(node, "Pod"), "the end")


def test_strange_files_are_refused(shared_node):
    node = shared_node
    os.mkfifo(node.objects / "fifo.json")
    (node.objects / "null.json").symlink_to("/dev/null")
    with open(node.objects / "huge.json", "wb") as huge:
        huge.truncate(65 << 20)
    assert "regular file" in wait_file(node, "fifo.json", "refused")["error"]
    assert "regular file" in wait_file(node, "null.json", "refused")["error"]
    assert "64 MiB" in wait_file(node, "huge.json", "refused")["error"]
    for file in ("fifo.json", "null.json", "huge.json"):
        (node.objects / file).unlink()
        wait_file(node, file, "absent")


def test_unreadable_file_is_reported_and_read_once_it_is_readable(shared_node):
    node = shared_node
    path = node.objects / "secret.json"
    node.write("secret.json", *service(7))
    wait_file(node, "secret.json", "ok")
    # Another owner's private file: the agent gave up the capability to read it.
    os.chown(path, 65534, 65534)
    path.chmod(0o600)
    path.rename(node.objects / "stranger.json")
    assert "Permission denied" in wait_file(node, "stranger.json", "refused")["error"]
    (node.objects / "stranger.json").chmod(0o644)
    wait_file(node, "stranger.json", "ok")
    (node.objects / "stranger.json").unlink()
    wait_for(lambda: not names(node, "Service"), "the end")


# ---- addresses that two want ----

def test_service_on_a_pods_address_is_not_served(node):
    pod = node.pod("web")
    node.write("service.json", service_object("thief", "shop", [pod.v4], [{"port": 80}]))
    wait_for(lambda: any("shop/thief" in text and pod.v4 in text
                         for text in node.status()["warnings"]), "the warning")
    assert not entries(node, "service_map")
    pod.cni("DEL")
    wait_for(lambda: entries(node, "service_map"), "the service, now that the address is free")
    assert not any("thief" in text for text in node.status()["warnings"])


# ---- full maps ----

def test_full_map_is_named_and_filled_later():
    with Node("--max-backends", "64") as node:
        node.put(*service(1, backends=20), *service(2, backends=20), *service(3, backends=20))
        error = node.api("PUT", "/v1/objects", {"apiVersion": "v1", "kind": "List",
                                                "items": service(4, backends=20)},
                         status=507)["error"]
        assert "backend_map is full: 16 service entries did not fit (max-backends)" in error
        assert any("backend_map is full" in text for text in node.status()["warnings"])
        node.api("DELETE", "/v1/objects/EndpointSlice/shop/service-1-x7k2p")
        wait_for(lambda: sum(value["backends"] for _, value in entries(node, "service_map")) == 60,
                 "the room to be used")
        assert not any("backend_map is full" in text for text in node.status()["warnings"])


def test_policy_without_room_isolates():
    with Node("--max-policies", "64") as node:
        web = node.pod("web", labels={"app": "web"})
        cart = node.pod("cart", labels={"app": "cart"})
        cart.serve(tcp=[80])
        assert web.connect(cart.v4, 80)["result"] == "ok"
        apps = [f"peer-{i}" for i in range(80)]
        policy = policy_object("cart", "default", {"matchLabels": {"app": "cart"}}, ingress=[
            {"from": [{"podSelector": {"matchLabels": {"app": app}}} for app in apps]}])
        error = node.api("PUT", "/v1/objects", {
            "apiVersion": "v1", "kind": "List",
            "items": [pod_object(app, labels={"app": app}, addresses=[f"10.9.0.{i + 1}"])
                      for i, app in enumerate(apps)] + [policy]}, status=507)["error"]
        assert "policy_map is full" in error
        assert any("policy_map is full" in text for text in node.status()["warnings"])
        assert web.connect(cart.v4, 80, timeout=0.25)["result"] == "timeout"
        node.api("DELETE", "/v1/objects/NetworkPolicy/default/cart")
        assert web.connect(cart.v4, 80)["result"] == "ok"
        assert not any("policy_map is full" in text for text in node.status()["warnings"])


# ---- speed, size and restarts ----

def test_policy_change_reaches_a_live_connection_at_once(node):
    web = node.pod("web", labels={"app": "web"})
    cart = node.pod("cart", labels={"app": "cart"})
    cart.serve(tcp=[80])
    assert web.call("hold", id="live", addr=cart.v4, port=80)["result"] == "ok"
    before = node.status()["revision"]
    node.write("policy.json", policy_object("cart", "default", {"matchLabels": {"app": "cart"}}))
    began = time.monotonic()
    wait_for(lambda: node.status()["revision"] != before, "the revision", timeout=0.1)
    print(f"file to revision: {(time.monotonic() - began) * 1000:.1f} ms")
    assert web.call("ping", id="live", timeout=0.25)["result"] == "timeout"
    (node.objects / "policy.json").unlink()
    wait_for(lambda: not names(node, "NetworkPolicy"), "the deletion")
    # What was sent meanwhile is sent again by TCP.
    assert web.call("ping", id="live", timeout=10)["result"] in ("ok", "corrupt")


def test_ten_thousand_services_and_a_restart():
    count = 10000
    with Node() as node:
        empty = resident_mib(node)
        items = [item for i in range(count) for item in service(i)]
        node.write("services.json", *items)
        began = time.monotonic()
        wait_for(lambda: len(names(node, "Service")) == count, "the services", timeout=10)
        seconds = time.monotonic() - began
        cost = resident_mib(node) - empty
        print(f"{count} services: loaded in {seconds:.2f} s, {cost:.1f} MiB")
        assert seconds < 5
        assert cost < 22
        node.write("policy.json", namespace_object("shop"),
                   policy_object("p", "shop", {}, egress=[{"to": [{"ipBlock": {
                       "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                       "ports": [{"port": p} for p in range(100, 160, 2)]}]))
        node.pod("web", "shop")
        wait_for(lambda: entries(node, "port_map"), "the policy")
        ids = {json.dumps(key): value["id"] for key, value in entries(node, "service_map")}
        before = dump(node)
        node.kill()
        assert dump(node) == before
        node.start()
        # node_map holds the revision: not one entry of a policy was written.
        assert dump(node) == before

        # One service changes: its entries alone are written.
        items[0]["spec"]["ports"][0]["port"] = 81
        node.write("services.json", *items)
        wait_for(lambda: node.api("GET", "/v1/services/shop/service-0")["frontends"][0]["port"]
                 == 81, "the change")

        def changes():
            now = {json.dumps(key): value["id"] for key, value in entries(node, "service_map")}
            return now.items() ^ ids.items()
        wait_for(lambda: len(changes()) == 2, "the change in the map")
        assert dump(node, "policy_map", "node_map") == {
            name: before[name] for name in ("policy_map", "node_map")}

        # All but one go while no agent runs.
        node.kill()
        node.write("services.json", *items[:2])
        node.start()
        wait_for(lambda: len(entries(node, "backend_map")) == 2, "the rest to go")
        assert len(entries(node, "service_map")) == 1


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_killed_in_the_middle_of_loading(node, family):
    """Whatever was half-written is completed, and nothing is left over."""
    def items(backends):
        made = []
        for i in range(2000):
            name = f"s{i}"
            v6 = family == "IPv6"
            made.append(service_object(name, "shop", [f"fd00:96::{i:x}" if v6 else
                                                      f"10.96.{i // 250}.{i % 250 + 1}"],
                                       [{"port": 80}]))
            made.append(slice_object(name, "shop", name, family, [{"port": 80}],
                                     [f"fd00:{b}::{i:x}" if v6 else
                                      f"10.{b}.{i // 250}.{i % 250 + 1}" for b in backends]))
        return made
    node.write("services.json", *items([1, 2, 3]))
    for _ in range(3):
        wait_for(lambda: entries(node, "backend_map"), "the first backends")
        node.kill()
        node.start()
    wait_for(lambda: len(entries(node, "backend_map")) == 6000, "all backends")
    node.kill()
    node.write("services.json", *items([3, 4]))
    node.start()
    wait_for(lambda: len(entries(node, "backend_map")) == 4000, "the new backends alone")
    assert len(entries(node, "service_map")) == 2000
    wanted = {(key["service_id"], key["index"]) for key, _ in entries(node, "backend_map")}
    assert wanted == {(value["id"], i) for _, value in entries(node, "service_map")
                      for i in range(value["backends"])}


@pytest.mark.parametrize("source", ["store", "empty store", "link loop", "plain file", "missing"])
def test_policies_that_cannot_be_read_at_start_stay_in_force(node, source):
    client, server = node.pod("client"), node.pod("server")
    server.serve(tcp=[80])
    closed = policy_object("closed", "default", {}, policyTypes=["Ingress"])
    in_store = "store" in source
    if in_store:
        node.put(closed)
    else:
        node.write("closed.json", closed)
        node.wait_object("NetworkPolicy", "default", "closed")
    node.kill()
    aside = node.dir / "aside"
    hidden = node.run_dir / "objects.json" if in_store else node.objects
    hidden.rename(aside)
    if source == "store":
        hidden.write_text('{"apiVersion": "v1", "ki')
    elif source == "empty store":
        hidden.touch()
    elif source == "link loop":
        hidden.symlink_to(hidden.name)
    elif source == "plain file":
        hidden.write_text("{}")
    node.start()
    assert client.connect(server.v4, 80, timeout=0.3)["result"] == "timeout"
    assert "no pod can be added" in node.status()["warnings"][0]
    late = node.pod("late", wire=False)
    assert late.cni("ADD", check=False)["code"] == 11
    hidden.unlink(missing_ok=True)
    aside.rename(hidden)
    if in_store:
        node.kill()
        node.start()
    else:
        node.agent.send_signal(signal.SIGHUP)
    wait_for(lambda: not node.status()["warnings"], "the policies")
    late.add()
    assert client.connect(server.v4, 80, timeout=0.3)["result"] == "timeout"
    if in_store:
        node.api("DELETE", "/v1/objects/NetworkPolicy/default/closed")
    else:
        (node.objects / "closed.json").unlink()
    wait_for(lambda: client.connect(server.v4, 80, timeout=0.3)["result"] == "ok", "open pods")


@pytest.mark.parametrize("text", ["{", "", "null"])
@pytest.mark.parametrize("mended", ["read", "removed"])
def test_policy_that_a_reboot_finds_broken_keeps_pods_out(node, text, mended):
    """While the agent ran, what the file held stayed in force: after the reboot nobody knows it."""
    client, server = node.pod("client"), node.pod("server")
    server.serve(tcp=[80])
    closed = policy_object("closed", "default", {}, policyTypes=["Ingress"])
    node.write("closed.json", closed)
    node.wait_object("NetworkPolicy", "default", "closed")
    (node.objects / "closed.json").write_text(text)
    wait_file(node, "closed.json", "refused")
    assert client.connect(server.v4, 80, timeout=0.3)["result"] == "timeout"
    for pod in (client, server):
        pod.cni("DEL")
    node.stop()
    subprocess.run(node.argv("--cleanup"), check=True, stderr=subprocess.DEVNULL)
    assert not node.run_dir.exists()
    node.start()
    assert server.cni("ADD", check=False)["code"] == 11
    assert node.cni("STATUS", "", "", node.conf, check=False)["code"] == 50
    assert "closed.json" in node.status()["warnings"][0]
    assert "closed.json" in node.cli("status", check=False).stdout
    if mended == "read":
        node.write("closed.json", closed)
    else:
        (node.objects / "closed.json").unlink()
    wait_for(lambda: not node.status()["warnings"], "the policies")
    server.add()
    client.add()
    server.serve(tcp=[80])
    result = client.connect(server.v4, 80, timeout=0.3)["result"]
    assert result == ("timeout" if mended == "read" else "ok")


def test_a_directory_that_goes_away_deletes_nothing(node):
    client, server = node.pod("client"), node.pod("server")
    server.serve(tcp=[80])
    node.write("closed.json", policy_object("closed", "default", {}, policyTypes=["Ingress"]))
    node.wait_object("NetworkPolicy", "default", "closed")
    aside = node.dir / "aside"
    node.objects.rename(aside)
    wait_file(node, str(node.objects), "refused")
    assert client.connect(server.v4, 80, timeout=0.3)["result"] == "timeout"
    assert "No such file" in node.cli("status", check=False).stdout
    aside.rename(node.objects)
    wait_file(node, str(node.objects), "absent")
    (node.objects / "closed.json").unlink()
    wait_for(lambda: client.connect(server.v4, 80, timeout=0.3)["result"] == "ok", "open pods")


def test_a_file_name_that_is_no_text_leaves_the_answers_text(shared_node):
    for name in (b"\xff.json", b"\xed\xa0\x80.json", "é.json".encode()):
        path = os.fsencode(shared_node.objects) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"{")
    wait_for(lambda: {"?.json", "???.json", "é.json"} <=
             {file["file"] for file in shared_node.status()["objects"]["files"]}, "the files")
    for name in (b"\xff.json", b"\xed\xa0\x80.json", "é.json".encode()):
        os.unlink(os.fsencode(shared_node.objects) + b"/" + name)


def large_yaml(mib):
    """A List of Services in YAML, as "kubectl get -o yaml" prints them."""
    item = ("- apiVersion: v1\n  kind: Service\n  metadata:\n    name: s{0}\n    namespace: shop\n"
            "    annotations:\n      note: " + "x" * 700 + "\n  spec:\n    clusterIP: 10.{1}.{2}.{3}\n"
            "    ports:\n    - name: http\n      port: 80\n      protocol: TCP\n")
    count = mib * 2**20 // len(item)
    return "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        item.format(i, 96 + i // 50000, i // 250 % 200, i % 250 + 1) for i in range(count))


class Slowest:
    """The slowest of many short calls while something else goes on."""

    def __init__(self, node):
        self.node, self.seconds, self.calls = node, 0.0, 0

    def until(self, done, timeout=30):
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end
            began = time.perf_counter()
            self.node.api("POST", "/v1/cni/status", {})
            self.seconds = max(self.seconds, time.perf_counter() - began)
            self.calls += 1


def test_large_texts_do_not_keep_the_plugin_waiting(node):
    warm = node.pod("warm")
    text = large_yaml(20)
    began = time.perf_counter()
    (node.objects / "large.yaml").write_text(text)
    slowest = Slowest(node)
    pods = iter(range(100))
    adds = []

    def loaded():
        if len(adds) < 10:
            adds.append(node.pod(f"p{next(pods)}").add_seconds)
        return file_status(node, "large.yaml")["state"] == "ok"
    slowest.until(loaded)
    took = time.perf_counter() - began
    print(f"20 MiB of YAML in {took:.2f} s, {slowest.calls} calls, slowest {slowest.seconds:.3f} s, "
          f"slowest ADD {max(adds):.3f} s")
    assert warm.addresses and max(adds) < 0.5
    (node.objects / "large.yaml").unlink()
    wait_file(node, "large.yaml", "absent")

    body = large_yaml(7)
    answers = []

    def put():
        connection = UnixConnection(node.socket, timeout=30)
        connection.request("PUT", "/v1/objects", body)
        answers.append(connection.getresponse().status)
        connection.close()
    thread = threading.Thread(target=put)
    thread.start()
    slowest = Slowest(node)
    slowest.until(lambda: answers)
    thread.join()
    print(f"7 MiB in a body: {slowest.calls} calls, slowest {slowest.seconds:.3f} s")
    assert answers == [200]
    assert slowest.seconds < 0.5
