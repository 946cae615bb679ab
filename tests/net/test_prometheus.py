# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a node: what the dashboard and the alert rules ask for, it answers.

    pods "web" and "cart"; "cart" takes no UDP       prometheus in the node's namespace
"""

import json
import math
import pathlib
import signal
import subprocess
import urllib.parse

import pytest

from tendril import Node, policy_object, wait_for

GRAFANA = pathlib.Path(__file__).resolve().parents[2] / "deploy/grafana"
METRICS, PROMETHEUS = "127.0.0.1:9962", "127.0.0.1:9090"
PORT = 80
CONFIG = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{GRAFANA}/alerts.yaml]
scrape_configs:
- job_name: tendril
  static_configs: [{{targets: ["{METRICS}"]}}]
"""


class Prometheus:
    def __init__(self, node, folder):
        self.node = node
        (folder / "prometheus.yml").write_text(CONFIG)
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen(node.netns.enter(
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={PROMETHEUS}", "--log.level=warn"), stderr=self.log)
        wait_for(lambda: self.curl("/-/ready").returncode == 0, "Prometheus", 30)

    def curl(self, path):
        return self.node.netns.run("curl", "-s", "-f", "-m", "10", f"http://{PROMETHEUS}{path}",
                                   check=False)

    def get(self, path):
        done = self.curl(path)
        assert done.returncode == 0, done
        answer = json.loads(done.stdout)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """The numbers of an instant vector."""
        data = self.get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert data["resultType"] == "vector"
        return [float(row["value"][1]) for row in data["result"]]

    def rules(self):
        return [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.close()


class World:
    def __init__(self, folder):
        self.node = Node()
        self.web, self.cart = (self.node.pod(name, "shop", labels={"app": name})
                               for name in ("web", "cart"))
        self.cart.serve(tcp=[PORT], udp=[PORT])
        self.node.put(policy_object("cart", "shop", {"matchLabels": {"app": "cart"}},
                                    policyTypes=["Ingress"], ingress=[{"ports": [{"port": PORT}]}]))
        wait_for(lambda: self.node.status()["flows"]["sources"][0]["works"], "the source")
        self.http = subprocess.Popen(self.node.netns.enter(
            self.node.build / "tendril-http", "--socket", self.node.run_dir / "http/http.sock",
            "--metrics", METRICS))
        self.traffic()  # so that the first scrape finds every series
        self.prometheus = Prometheus(self.node, folder)

    def traffic(self):
        assert self.web.connect(self.cart.v4, PORT, send="x" * 1000)["result"] == "ok"
        self.web.udp(self.cart.v4, PORT, timeout=0.02)

    def close(self):
        self.prometheus.close()
        self.http.kill()
        self.http.wait()
        self.node.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("prometheus"))
    yield made
    made.close()


def dashboard():
    panels = json.loads((GRAFANA / "tendril.json").read_text())["panels"]
    return [pytest.param(panel, target["expr"], id=f"{panel['title']} {target['refId']}")
            for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("panel, expression", dashboard())
def test_every_query_of_the_dashboard_has_an_answer(world, panel, expression):
    """Traffic while Prometheus looks: two scrapes, one before it and one after it, make a rate."""
    def answered():
        world.traffic()
        numbers = world.prometheus.query(expression.replace("$namespace", "shop"))
        return numbers and all(math.isfinite(number) for number in numbers)
    wait_for(answered, panel["title"], 20)


def test_the_variable_of_the_dashboard_finds_the_namespaces(world):
    match = urllib.parse.quote("tendril_flow_connections_total")
    wait_for(lambda: "shop" in world.prometheus.get(f"/api/v1/label/namespace/values?match[]={match}"),
             "the namespace", 20)


def test_what_happens_is_what_is_shown(world):
    sent = 'tendril_flow_bytes_total{namespace="shop", direction="egress"}'
    dropped = 'tendril_flow_drops_total{namespace="shop", reason="INGRESS_DENIED"}'

    def numbers():
        return [world.prometheus.query(expression) for expression in (sent, dropped)]
    before = wait_for(lambda: all(now := numbers()) and now, "both series", 20)
    world.traffic()
    wait_for(lambda: all(now[0] > old[0] for now, old in zip(numbers(), before)), "more", 20)


def test_every_alert_rule_is_evaluated(world):
    wait_for(lambda: all(rule["health"] == "ok" for rule in world.prometheus.rules()), "the rules", 20)
    rules = world.prometheus.rules()
    assert {rule["name"] for rule in rules} == set(
        line.split()[-1] for line in (GRAFANA / "alerts.yaml").read_text().splitlines()
        if "- alert:" in line)
    for rule in rules:
        assert not rule.get("lastError"), rule
        world.prometheus.query(rule["query"])


def test_an_agent_that_is_gone_raises_the_alarm(world):
    """Last: the alert waits for two minutes before it fires, and is pending at once."""
    def state():
        return next(rule["state"] for rule in world.prometheus.rules()
                    if rule["name"] == "TendrilAgentDown")
    wait_for(lambda: state() == "inactive", "the first scrape", 20)
    world.node.kill()
    wait_for(lambda: state() == "pending", "the alert", 20)
