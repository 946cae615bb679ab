# SPDX-License-Identifier: Apache-2.0
"""The alert rules and the dashboard: what they ask for exists, and the rules say what they should."""

import json
import re
import subprocess

from cli import ROOT

GRAFANA = ROOT / "deploy/grafana"
METRIC = re.compile(r"\btendril_[a-z_]+")


def known():
    """Names of metrics in the agent's sources, with what Prometheus makes of histograms."""
    sources = "".join((ROOT / file).read_text() for file in
                      ("agent/api/api_metrics.c", "agent/flow/flow_metric.c"))
    names = {f"tendril_{name}" for name in re.findall(r'family\(out, "([a-z_]+)"', sources)}
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}


def test_the_alert_rules_say_what_they_should():
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
        done = subprocess.run(["promtool", *words], cwd=GRAFANA, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_ask_for_metrics_that_exist():
    dashboard = json.loads((GRAFANA / "tendril.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts = queries + [(GRAFANA / "alerts.yaml").read_text()] + \
        [variable["query"] for variable in dashboard["templating"]["list"]]
    asked = {name for text in texts for name in METRIC.findall(text)}
    assert len(asked) > 8 and asked <= known(), asked - known()


def test_every_query_of_the_dashboard_is_understood(tmp_path):
    """Each as a recording rule, which promtool parses."""
    dashboard = json.loads((GRAFANA / "tendril.json").read_text())
    rules = [{"record": f"query:{n}", "expr": target["expr"].replace("$namespace", ".*")}
             for n, target in enumerate(target for panel in dashboard["panels"]
                                        for target in panel["targets"])]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "q", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stderr
