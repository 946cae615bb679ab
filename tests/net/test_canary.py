# SPDX-License-Identifier: Apache-2.0
"""tendril policy apply --dry-run and --canary over real pods: whom a change would cut off, before it
is applied.

    pods "web", "cart", "probe" in shop; web holds a connection to cart
"""

import json
import signal
import subprocess

import pytest

from tendril import BUILD, pod_object, policy_object, run

PORT = 8080


def cart_only_from(name, app):
    return policy_object(name, "shop", {"matchLabels": {"app": "cart"}}, ingress=[
        {"from": [{"podSelector": {"matchLabels": {"app": app}}}]}])


class World:
    def __init__(self, node, directory):
        self.node, self.directory = node, directory
        self.pods = {name: node.pod(name, "shop") for name in ("web", "cart", "probe")}
        self.web, self.cart, self.probe = self.pods.values()
        for pod in self.pods.values():
            pod.serve(tcp=[PORT], udp=[PORT])
        node.put(*[pod_object(name, "shop", {"app": name}, pod.addresses)
                   for name, pod in self.pods.items()])
        self.web.call("hold", id="old", addr=self.cart.v4, port=PORT)

    def file(self, *policies):
        file = self.directory / "change.json"
        file.write_text("\n".join(json.dumps(policy) for policy in policies))
        return file

    def apply(self, *argv):
        return self.node.cli("policy", "apply", *argv, check=False)

    def policies(self):
        return [policy["name"] for policy in self.node.api("GET", "/v1/policies")]


@pytest.fixture(scope="module")
def module_world(shared_node, tmp_path_factory):
    return World(shared_node, tmp_path_factory.mktemp("canary"))


@pytest.fixture
def world(module_world):
    yield module_world
    for name in module_world.policies():
        module_world.node.cli("policy", "delete", f"shop/{name}")


class Canary:
    def __init__(self, world, *argv):
        self.process = subprocess.Popen(
            [BUILD / "tendril", "--socket", world.node.socket, "policy", "apply", *argv],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = self.process.stderr.readline()
        assert "nothing is applied; watching for" in first, first

    def line_with(self, *words):
        for line in self.process.stdout:
            if all(word in line for word in words):
                return line
        raise AssertionError(f"it ended before it said {words}: {self.process.stderr.read()}")

    def end(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


def test_dry_run_shows_what_changes_and_whom_it_would_cut_off(world):
    done = world.apply("--dry-run", "-f", world.file(cart_only_from("cart", "probe")))
    assert done.returncode == 1, done.stderr
    cut = [line for line in done.stdout.splitlines() if line.startswith("WOULD CUT")]
    assert len(cut) == 1
    assert f"live TCP shop/web ({world.web.v4}) -> shop/cart ({world.cart.v4}) port {PORT}" in \
        cut[0]
    assert cut[0].endswith("ingress: no ingress rule allows it")
    assert "1 would be cut off, 0 newly allowed" in done.stdout
    assert done.stdout.endswith("not applied\n")
    assert done.stdout.index("shop/") < done.stdout.index("WOULD CUT"), "the difference comes first"
    assert world.policies() == []
    assert world.web.call("ping", id="old")["result"] == "ok"


def test_dry_run_of_a_change_that_cuts_nobody_off(world):
    done = world.apply("--dry-run", "-f", world.file(cart_only_from("cart", "web")), "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wouldCut"] == [] and report["applied"] is False
    assert report["flows"] >= 1 and report["incomplete"] is False
    assert report["change"], "others lose their way to cart"
    assert world.policies() == []


def test_a_change_replaces_what_the_agent_holds(world):
    world.node.put(cart_only_from("cart", "probe"))
    assert world.web.call("ping", id="old", timeout=0.2)["result"] != "ok"
    canary = Canary(world, "--canary", "60s", "-f", world.file(cart_only_from("cart", "web")))
    assert world.web.connect(world.cart.v6, PORT, timeout=0.2)["result"] == "timeout"
    assert "new  TCP shop/web" in canary.line_with("would allow", world.cart.v6)
    assert world.probe.connect(world.cart.v4, PORT)["result"] == "ok"
    assert "new  TCP shop/probe" in canary.line_with("WOULD CUT", world.cart.v4)
    status, out, err = canary.end()
    assert status == 1 and "1 would be cut off, " in out, (out, err)


def test_canary_shows_it_as_it_happens_and_applies_nothing(world):
    canary = Canary(world, "--canary", "60s", "--then-apply", "-f",
                    world.file(cart_only_from("cart", "nobody")))
    canary.line_with("WOULD CUT", "live", "shop/web")
    assert world.probe.udp(world.cart.v6, PORT)["result"] == "ok"
    assert "new  UDP shop/probe" in canary.line_with("WOULD CUT", world.cart.v6)
    late = world.node.pod("late", "shop")  # came while it watches
    assert late.connect(world.cart.v4, PORT)["result"] == "ok"
    canary.line_with("WOULD CUT", "shop/late")
    status, out, _ = canary.end()
    assert status == 1 and "3 would be cut off" in out and out.endswith("not applied\n")
    assert world.policies() == []


def test_a_canary_that_cuts_nobody_off_applies_only_when_told_to(world):
    file = world.file(cart_only_from("cart", "web"))
    done = world.apply("--canary", "1s", "-f", file)
    assert done.returncode == 0 and done.stdout.endswith("not applied\n")
    assert world.policies() == []
    done = world.apply("--canary", "1s", "--then-apply", "-f", file)
    assert done.returncode == 0 and done.stdout.endswith("\napplied\n"), done.stdout
    assert world.policies() == ["cart"]
    assert world.web.connect(world.cart.v4, PORT)["result"] == "ok"
    assert world.probe.connect(world.cart.v4, PORT, timeout=0.2)["result"] == "timeout"


@pytest.mark.parametrize("argv, text", [
    (["--dry-run", "--canary", "1s"], "give either --dry-run or --canary"),
    (["--then-apply", "--dry-run"], "--then-apply goes with --canary"),
    (["--canary", "soon"], '"soon" is not a time such as 60s, 5m or 1h, up to a day'),
])
def test_bad_questions_are_refused_at_once(world, argv, text):
    done = world.apply(*argv, "-f", world.file(cart_only_from("cart", "web")))
    assert done.returncode == 2 and text in done.stderr
    assert world.policies() == []


def test_bad_objects_and_no_agent_are_told(world, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
                   "metadata: {name: x}\nspec: {podSelector: 7}\n")
    done = world.apply("--dry-run", "-f", bad)
    assert done.returncode == 2 and f"{bad}:4:" in done.stderr
    done = run(BUILD / "tendril", "--socket", tmp_path / "none", "policy", "apply", "--dry-run",
               "-f", world.file(cart_only_from("cart", "web")), check=False)
    assert done.returncode == 2 and "is tendrild running?" in done.stderr
