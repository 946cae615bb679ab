# SPDX-License-Identifier: Apache-2.0
"""The command line: usage, exit codes, tables and JSON, files put into an agent."""

import json
import os
import pty
import re
import subprocess

import pytest
import yaml

from cli import BUILD, ROOT, Agent, document, pod, policy, tendril

COMMANDS = ["status", "connectivity test", "get", "endpoint list", "endpoint get", "node list", "node get", "service list", "service get",
            "service explain",
            "identity list", "policy validate", "policy apply", "policy delete", "policy list",
            "policy get", "policy explain", "policy matrix", "policy test", "policy lint", "policy diff",
            "policy record", "policy unused", "monitor", "flows", "tcp life", "tcp connect", "tcp retrans",
            "tcp rtt", "top", "drops", "conntrack list", "help", "version"]

ENDPOINT = {"slot": 1, "containerId": "c" * 64, "ifname": "eth0", "namespace": "shop",
            "name": "web", "uid": "", "state": "ready", "addresses": ["10.0.0.1", "fd00::1"],
            "mac": "02:00:00:00:00:01", "hostInterface": "tdl1", "hostIfindex": 1,
            "identity": 77, "labels": {"app": "web"},
            "policy": {"id": 5, "ingress": "isolated", "egress": "open", "policies": ["shop/p"]},
            "accelerate": False,
            "stats": {"txPackets": 1, "txBytes": 2, "rxPackets": 3, "rxBytes": 4, "drops": 5,
                      "accelConnections": 0, "accelBytes": 0, "accelFallbacks": 0}}
def backend(n, **fields):
    return {"address": f"10.0.0.{n}", "port": 8080, "pod": "shop/cart", "node": f"n{n}", "zone": "a",
            "ready": True, "serving": True, "terminating": False, "use": ["cluster"], **fields}


SERVICE = {"namespace": "shop", "name": "cart", "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"],
           "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "affinitySeconds": 60,
           "healthCheckNodePort": 30999, "sourceRanges": ["10.0.0.0/24", "198.51.100.0/24"],
           "frontends": [{"address": address, "port": 80, "protocol": "TCP", "name": "http", "kind": kind,
                          "hints": "zone",
                          "backends": [backend(2, use=["cluster", "local"]),
                                       backend(3, ready=False, serving=False, use=[]),
                                       backend(4, ready=False, terminating=True, use=["keep"]),
                                       backend(5), backend(6, use=["keep"])]}
                         for address, kind in (("10.96.0.1", "ClusterIP"), ("203.0.113.1", "LoadBalancer"),
                                               ("fd96::1", "ClusterIP"))]}
DROP = {"time": "2026-01-01T00:00:00Z", "type": "drop", "reason": "INGRESS_DENIED",
        "text": "ingress policy of the receiver does not allow it", "direction": "ingress",
        "protocol": "TCP", "tcpFlags": "S", "length": 60,
        "source": {"address": "10.0.0.1", "port": 4000, "pod": "shop/web", "identity": 1},
        "destination": {"address": "10.0.0.2", "port": 80, "pod": "shop/cart", "identity": 2}}
FLOW = {"time": "2026-01-01T00:00:00.5Z", "verdict": "FORWARDED", "IP": {
            "source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 4000, "destination_port": 80}},
        "source": {"identity": 1, "namespace": "shop", "pod_name": "web-1-2", "labels": [],
                   "workloads": [{"name": "web", "kind": "Deployment"}]},
        "destination": {"identity": 2, "namespace": "bank", "pod_name": "cart", "labels": []},
        "destination_service": {"namespace": "bank", "name": "carts"},
        "Type": "SOCK", "node_name": "n1", "traffic_direction": "EGRESS", "Summary": "TCP closed",
        "tendril": {"source_bytes": 7, "destination_bytes": 8, "duration_us": 1500, "srtt_us": 40,
                    "retransmits": 2, "ended": "closed"}}
DROPPED = dict(FLOW, time="2026-01-01T00:00:01Z", verdict="DROPPED", drop_reason_desc="POLICY_DENIED",
               traffic_direction="INGRESS", tendril={"reason": "INGRESS_DENIED", "count": 3})
NODE = {"name": "n2", "local": False, "addresses": ["192.0.2.2"],
        "podCIDRs": ["10.127.2.0/24", "fd00:2::/64"], "labels": {}, "routing": "direct",
        "problem": "Node n2: fd00:2::/64: the node has no InternalIP for it",
        "hostRouting": {"mode": "legacy", "reason": "nf_tables has rules"}, "mtu": 1450,
        "health": {"status": "unreachable", "lastSeen": "2026-01-01T00:00:00.000000Z", "probing": False,
                   "node": {"address": "192.0.2.2", "status": "reachable", "error": "",
                            "latencyMicroseconds": 250},
                   "pods": {"address": "10.127.2.1", "status": "unreachable",
                            "error": "Connection timed out", "latencyMicroseconds": 1500}}}

ANSWERS = {
    "GET /v1/nodes": [NODE], "GET /v1/nodes/n2": NODE,
    "GET /v1/endpoints": [ENDPOINT], "GET /v1/endpoints/shop/web": ENDPOINT,
    "GET /v1/services": [SERVICE], "GET /v1/services/shop/cart": SERVICE,
    "GET /v1/identities": [{"id": 2, "description": "world", "namespace": None, "labels": {},
                            "addresses": []}],
    "GET /v1/conntrack": [{"proto": "TCP", "source": "fd00::1", "sourcePort": 1,
                           "destination": "fd00::2", "destinationPort": 80,
                           "state": "established", "ageSeconds": 3}],
    "GET /v1/policies": [{"namespace": "shop", "name": "p", "source": "api", "ingressRules": 1,
                          "egressRules": 0, "policyTypes": ["Ingress"], "selectedEndpoints": 1,
                          "kind": "NetworkPolicy", "tier": "NetworkPolicy"},
                         {"namespace": "", "name": "guard", "source": "api", "ingressRules": 0,
                          "egressRules": 2, "policyTypes": ["Egress"], "selectedEndpoints": 1,
                          "kind": "ClusterNetworkPolicy", "tier": "Baseline", "priority": 7}],
    "GET /v1/events?type=drop,verdict,audit": json.dumps(DROP).encode() + b"\n",
    **{f"GET /v1/flows/recent?last={last}&since=0&follow=0":
       b"".join(json.dumps(flow).encode() + b"\n" for flow in (FLOW, DROPPED)) for last in (0, 2, 20)},
    "GET /v1/objects?full=1": {"kind": "List", "apiVersion": "v1", "items": []},
    "GET /v1/events?type=audit": json.dumps(dict(DROP, type="audit")).encode() + b"\n",
    "PUT /v1/objects": {"applied": 2},
}


@pytest.fixture
def agent(tmp_path):
    with Agent(tmp_path / "agent.sock", dict(ANSWERS)) as server:
        yield server


def on(agent, *words, **more):
    return tendril(*words, "--socket", agent.path, **more)


# ---- usage ----

@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = tendril(*command.split(), "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: tendril {command}")
    assert "--socket PATH" in done.stdout
    assert re.search(r"^exit status: 0 .*, 1 .*, 2 ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(words):
    done = tendril(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {command}" in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("words", [["policy", "--help"], ["policy", "help"], ["help", "policy"]])
def test_help_of_a_group_lists_its_commands(words):
    done = tendril(*words)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  (\w+ \w+)", done.stdout, re.MULTILINE)
    assert listed == [command for command in listed if command.startswith("policy ")]
    assert set(listed) == {command for command in COMMANDS if command.startswith("policy ")}
    assert tendril("policy").stderr == done.stdout, "a group alone is wrong usage, and says the same"


def test_help_of_a_command():
    assert tendril("help", "policy", "test").stdout == tendril("policy", "test", "--help").stdout
    assert tendril("help", "status").stdout == tendril("status", "-h").stdout


def test_overview_completion_and_manual_know_every_command_and_option():
    overview = tendril("--help").stdout
    manual = (ROOT / "doc/man/tendril.1").read_text().replace("\\", "")
    for command in COMMANDS:
        assert re.search(rf"^  {command}\b", overview, re.MULTILINE)
        assert command in manual
        first, *rest = command.split()
        assert first in tendril("complete", "").stdout.split()
        assert all(word in tendril("complete", first, "").stdout.split() for word in rest)
        offered = tendril("complete", *command.split(), "--").stdout.split()
        for option in re.findall(r"--[a-z-]+", tendril(*command.split(), "--help").stdout):
            assert option in offered and option in manual, option


@pytest.mark.parametrize("words, text", [
    ([], "no command"),
    (["frobnicate"], "unknown command frobnicate"),
    (["endpoint"], "usage: tendril endpoint COMMAND"),
    (["polcy", "list"], "unknown command polcy; did you mean tendril policy?"),
    (["policy", "tset"], "unknown command policy tset; did you mean tendril policy test?"),
    (["policy", "--", "frob"], "unknown command policy frob; see tendril policy --help"),
    (["get"], "usage: tendril get KIND [NAME]"),
    (["get", "secrets"], "secrets: must be pods, services, policies, nodes"),
    (["get", "pods", "-n", "a", "-A"], "give either --namespace or --all-namespaces"),
    (["status", "--sokcet", "x"], "there is no option --sokcet; did you mean --socket?"),
    (["flows", "--verdict", "maybe"], "--verdict maybe: must be one of"),
    (["top", "--by", "colour"], "--by colour: must be pod, namespace, workload or service"),
    (["drops", "--limit", "x"], "--limit x: not a number"),
    (["flows", "--last", "0"], "--last 0: must be a number between 1 and"),
    (["flows", "--since", "never"], "never"),
    (["flows", "-f", "x"], "usage: tendril flows"),
    (["monitor", "--verdict", "maybe"], "--verdict maybe: must be allow, deny or audit"),
    (["monitor", "--verdict", "deny", "--type", "drop"], "give either --type or --verdict"),
    (["monitor", "--port", "http"], "port http: must be N/PROTO"),
    (["policy", "explain", "a/b", "--port", "80"], "policy explain: give FROM TO, or --from and --to"),
    (["policy", "explain", "a/b", "c/d", "--from", "x/y", "--port", "80"], "either as FROM TO or with"),
    (["help", "frob"], "unknown command frob; see tendril --help"),
    (["endpoint", "get"], "usage: tendril endpoint get POD"),
    (["endpoint", "list", "x"], "usage: tendril endpoint list"),
    (["status", "--port", "80"], "status takes no --port"),
    (["status", "-o", "xml"], "--output xml: must be text|json|yaml"),
    (["status", "--nonsense"], "--nonsense"),
    (["policy", "explain", "--from", "a/b", "--to", "c/d"], "policy explain needs --port"),
    (["policy", "apply"], "policy apply: give FILE... or -f FILE|DIR"),
    (["policy", "validate"], "policy validate: give FILE... or -f FILE|DIR"),
    (["policy", "delete"], "policy delete: give either"),
    (["policy", "delete", "a/b", "-f", "x"], "policy delete: give either"),
    (["policy", "get", "a/b/c"], "a/b/c: must be NAMESPACE/NAME"),
    (["policy", "get", "/a b"], "/a b: must be NAMESPACE/NAME or /NAME"),
    (["endpoint", "get", "a/b?x"], "a/b?x: must be NAMESPACE/NAME"),
    (["service", "get", ""], ": must be NAMESPACE/NAME"),
    (["service", "explain", "--from", "a", "--to", "10.96.0.1"], "is not ADDRESS:PORT"),
    (["service", "explain", "--from", "a", "--to", "[::1:80"], "is not ADDRESS:PORT"),
    (["policy", "record", "a//b"], "a//b: must be NAMESPACE/NAME"),
    (["policy", "record", "--for", "1d"], "\"1d\" is not a time"),
    (["policy", "apply", "-f", "x", "--then-apply"], "--then-apply goes with --canary"),
    (["policy", "apply", "-f", "x", "--then-apply", "--dry-run"], "--then-apply goes with --canary"),
    (["policy", "apply", "-f", "x", "--dry-run", "--canary", "60s"], "give either --dry-run or --canary"),
    (["policy", "apply", "-f", "x", "--canary", "soon"], "\"soon\" is not a time"),
    (["policy", "matrix", "--by", "colour"], "--by colour: must be pod, namespace, or labels="),
    (["policy", "matrix", "--port", "http"], "port http: must be N/PROTO"),
    (["policy", "matrix", "--port", "80,443/ICMP"], "port 443/ICMP: only TCP, UDP and SCTP have ports"),
    (["policy", "matrix", "--by", "labels=" + ",".join("abcdefghi")], "more than 8"),
    (["policy", "lint", "-f", "x"] + 1024 * ["x"], "more than 1024 files"),
    (["policy", "validate"] + 1025 * ["x"], "more than 1024 files"),
    (["policy", "validate"] + 1025 * ["-fx"], "more than 1024 files"),
    (["policy", "diff", "-", "-"], "standard input (-) can be read once"),
    (["policy", "test", "-", "-f", "-"], "standard input (-) can be read once"),
    (["policy", "matrix", "--html", "-", "--svg", "-"], "only one of --html, --svg and -o json can"),
    (["policy", "matrix", "--html", "-", "-o", "json"], "only one of --html, --svg and -o json can"),
    (["policy", "matrix", "--by", "labels=app,"], "--by labels=app,: a key is empty"),
    (["policy", "test", "x", "--junit", "-"], "--junit -: use -o junit for standard output"),
    (["status", "--fro", "x"], "status takes no --from"),
    (["status", "--f", "x"], "--f may be several options;"),
    (["status", "--socket"], "no value for --socket;"),
    (["status", "-o"], "no value for -o;"),
    (["status", "--help=x"], "no value is allowed for --help=x;"),
    (["status", "-hx"], "no option -x;"),
    (["status", "--no\033[2J"], "there is no option --no?[2J;"),
    (["policy", "diff"], "usage: tendril policy diff [OLD] NEW"),
    (["policy", "diff", "x"], "--kubeconfig for what there is"),
    (["policy", "test"], "usage: tendril policy test FILE..."),
    (["monitor", "--type", "drop,allow"], "--type drop,allow: must be drop, verdict, audit and kernel"),
    (["monitor", "--type", "drop&x"], "--type drop&x: must be"),
    (["monitor", "--type", ",drop"], "--type ,drop: must be"),
    (["monitor", "--type", ""], "--type : must be"),
    (["conntrack", "list", "--limit", "0"], "--limit 0: must be a number of at least 1"),
    (["conntrack", "list", "--limit", "9x"], "--limit 9x: must be a number of at least 1"),
])
def test_wrong_usage_exits_2(words, text):
    done = tendril(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert text in done.stderr


def test_version():
    assert tendril("version").stdout == tendril("--version").stdout
    assert re.fullmatch(r"tendril \d+\.\d+\.\d+ \(ABI \d+\)\n", tendril("--version").stdout)


def test_no_agent(tmp_path):
    for command in COMMANDS:
        if command.startswith("policy") or " get" in command or command in ("get", "help", "version"):
            continue
        ends = ["--from", "192.0.2.1", "--to", "10.96.0.1:80"] if "explain" in command else []
        done = tendril(*command.split(), *ends, "--socket", tmp_path / "none")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith(f"{command}: no agent answers on {tmp_path}/none")


def test_socket_from_the_environment(agent):
    assert tendril("identity", "list", TENDRIL_SOCKET=agent.path).returncode == 0


def test_an_empty_socket_in_the_environment_is_none():
    assert "on :" not in tendril("identity", "list", TENDRIL_SOCKET="").stderr


# ---- views ----

def test_tables_are_aligned_and_plain_off_a_terminal(agent):
    done = on(agent, "endpoint", "list")
    header, row = done.stdout.splitlines()
    for title, value in (("POD", "shop/web"), ("ADDRESSES", "10.0.0.1, fd00::1"),
                         ("STATE", "ready"), ("ISOLATED", "ingress"), ("LABELS", "app=web")):
        assert header.index(title) == row.index(value)
    assert "\033" not in done.stdout


@pytest.mark.parametrize("command, path", [
    ("endpoint list", "GET /v1/endpoints"), ("endpoint get shop/web", "GET /v1/endpoints/shop/web"),
    ("node list", "GET /v1/nodes"), ("node get n2", "GET /v1/nodes/n2"),
    ("service list", "GET /v1/services"), ("service get shop/cart", "GET /v1/services/shop/cart"),
    ("identity list", "GET /v1/identities"), ("policy list", "GET /v1/policies"),
    ("conntrack list", "GET /v1/conntrack")])
def test_json_is_what_the_agent_said(agent, command, path):
    done = on(agent, *command.split(), "-o", "json")
    assert json.loads(done.stdout) == ANSWERS[path]
    assert on(agent, *command.split()).returncode == 0


@pytest.mark.parametrize("command, texts", [
    ("endpoint get shop/web", ["shop/web", "10.0.0.1, fd00::1", "shop/p", "5 dropped"]),
    ("node list", ["n2", "10.127.2.0/24", "direct", "no InternalIP",
                   "no: pods 10.127.2.1: Connection timed out"]),
    ("node list -o wide", ["1450", "1.500 ms", "2026-01-01T00:00:00.000000Z", "legacy: nf_tables has rules"]),
    ("node get n2", ["1450", "1.500 ms", "2026-01-01T00:00:00.000000Z", "legacy: nf_tables has rules"]),
    ("service get shop/cart", ["10.96.0.1:80", "10.0.0.2:8080", "10.0.0.3:8080 (not ready)",
                               "10.0.0.4:8080 (terminating)", "LoadBalancer", "198.51.100.0/24"]),
    ("service list", ["shop/cart", "LoadBalancer", " 3 ", "4 of 10 used"]),
    ("service explain --from shop/web --to 10.96.0.1:80",
     ["connects: ClusterIP address of Service shop/cart, traffic policy Cluster", "60 s", "not ready",
      "terminates, and another one is ready", "its hints are for other"]),
    ("service explain --from shop/web --to 203.0.113.1:80/tcp", ["connects: LoadBalancer"]),
    ("service explain --from shop/web --to [fd96::1]:80", ["connects: ClusterIP"]),
    ("service explain --from 198.51.100.7 --to 203.0.113.1:80",
     ["connects: LoadBalancer address of Service shop/cart, traffic policy Local",
      "not on this node, and the traffic policy is Local"]),
    ("service explain --from 192.0.2.7 --to 203.0.113.1:80",
     ["dropped: LoadBalancer", "the client is not in loadBalancerSourceRanges"]),
    ("conntrack list", ["[fd00::1]:1", "[fd00::2]:80", "established"]),
    ("policy list", ["shop/p", "Ingress", "api", "/guard", "Baseline 7"]),
    ("identity list", ["world"])])
def test_text_shows_what_matters(agent, command, texts):
    done = on(agent, *command.split())
    assert all(text in done.stdout for text in texts), done.stdout


def test_service_explain_says_what_is_refused_and_what_is_unknown(agent):
    nobody = dict(SERVICE, frontends=[dict(SERVICE["frontends"][0], backends=[backend(3, ready=False, use=[])])])
    agent.answers["GET /v1/services"] = [nobody]
    done = on(agent, "service", "explain", "--from", "shop/web", "--to", "10.96.0.1:80", "-o", "json")
    told = json.loads(done.stdout)
    assert (told["outcome"], told["backends"][0]["eligible"]) == ("refused", False)
    done = on(agent, "service", "explain", "--from", "shop/web", "--to", "10.96.0.1:81")
    assert done.returncode == 1 and "10.96.0.1:81 is no address of a service on this node" in done.stderr


def test_yaml_is_what_json_is(agent):
    for command in ("endpoint list", "policy list", "service get shop/cart", "identity list"):
        done = on(agent, *command.split(), "-o", "yaml")
        assert done.returncode == 0
        assert yaml.safe_load(done.stdout) == json.loads(on(agent, *command.split(), "-o", "json").stdout)


def test_names_and_wide_columns(agent):
    assert on(agent, "endpoint", "list", "-o", "name").stdout == "pod/shop/web\n"
    assert on(agent, "service", "list", "-o", "name").stdout == "service/shop/cart\n"
    assert on(agent, "policy", "list", "-o", "name").stdout == (
        "NetworkPolicy/shop/p\nClusterNetworkPolicy//guard\n")
    assert "tdl1" not in on(agent, "endpoint", "list").stdout
    assert "tdl1" in on(agent, "endpoint", "list", "-o", "wide").stdout


def test_lists_of_one_namespace(agent):
    agent.answers["GET /v1/endpoints"] = [ENDPOINT, dict(ENDPOINT, namespace="bank", name="teller")]
    for words, pods in ((["-n", "bank"], {"bank/teller"}), (["-A"], {"bank/teller", "shop/web"}),
                        ([], {"bank/teller", "shop/web"}), (["--namespace", "none"], set())):
        rows = on(agent, "endpoint", "list", *words).stdout.splitlines()[1:]
        assert {row.split()[0] for row in rows} == pods


def test_a_name_alone_is_in_the_namespace_given(agent):
    assert on(agent, "endpoint", "get", "web", "-n", "shop").returncode == 0
    assert agent.requests[-1][1] == "/v1/endpoints/shop/web"
    on(agent, "policy", "delete", "p", "-n", "shop")
    assert agent.requests[-1][1] == "/v1/objects/NetworkPolicy/shop/p"


OBJECTS = [pod("web", "shop", "10.0.0.1 fd00::1", {"app": "web"}, spec={"nodeName": "n1"}),
           document("Service", "cart", "shop", spec={"clusterIP": "10.96.0.1", "selector": {"a": "b"},
                                                     "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}),
           document("Node", "n1", status={"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}),
           policy("p", "shop", podSelector={}),
           document("ClusterNetworkPolicy", "guard", None, "policy.networking.k8s.io/v1alpha2",
                    spec={"subject": {"namespaces": {}}}),
           document("Namespace", "shop", metadata={"labels": {"team": "x"}})]


@pytest.fixture
def stored(agent):
    agent.answers["GET /v1/objects?full=1"] = {"apiVersion": "v1", "kind": "List", "items": OBJECTS}
    agent.answers["GET /v1/objects"] = [
        {"kind": o["kind"], "namespace": o["metadata"].get("namespace", ""),
         "name": o["metadata"]["name"], "source": f"{o['kind']}.yaml"} for o in OBJECTS]
    return agent


@pytest.mark.parametrize("kind, row", [
    ("pods", "shop/web  10.0.0.1, fd00::1  n1"), ("po", "shop/web  10.0.0.1, fd00::1  n1"),
    ("services", "shop/cart  ClusterIP  10.96.0.1    80/TCP, 53/UDP"), ("nodes", "n1    192.0.2.1"),
    ("policies", "shop/p  NetworkPolicy         all pods"), ("netpol", "shop/p  NetworkPolicy  all pods"),
    ("policies", '/guard  ClusterNetworkPolicy  {"namespaces":{}}'), ("namespaces", "shop       team=x")])
def test_get_shows_what_is_stored(stored, kind, row):
    done = on(stored, "get", kind)
    assert done.returncode == 0 and row in done.stdout.splitlines(), done.stdout
    wide = on(stored, "get", kind, "-o", "wide").stdout
    assert re.search(re.escape(row) + r" .*\.yaml$", wide, re.MULTILINE)


def test_get_prints_objects_as_kubectl_does(stored):
    done = on(stored, "get", "policies", "-o", "yaml")
    assert yaml.safe_load(done.stdout) == {"apiVersion": "v1", "kind": "List", "items": OBJECTS[3:5]}
    assert json.loads(on(stored, "get", "pods", "shop/web", "-o", "json").stdout) == OBJECTS[0]
    assert json.loads(on(stored, "get", "pods", "web", "-n", "shop", "-o", "json").stdout) == OBJECTS[0]
    assert json.loads(on(stored, "get", "policy", "/guard", "-o", "json").stdout) == OBJECTS[4]
    assert on(stored, "get", "pods", "-o", "name").stdout == "Pod/shop/web\n"
    done = on(stored, "get", "pods", "shop/none")
    assert (done.returncode, done.stderr) == (1, "get: there is no pods shop/none\n")


def test_watch_prints_what_comes_changes_and_goes(agent):
    changed = dict(ENDPOINT, state="broken", stats=dict(ENDPOINT["stats"], txPackets=9))
    answers = iter([[ENDPOINT], [dict(ENDPOINT, stats=changed["stats"])],
                    [changed, dict(ENDPOINT, name="new")], [changed], (500, {"error": "no more"})])
    agent.next_answer = lambda: next(answers)
    done = on(agent, "endpoint", "list", "--watch")
    lines = [re.sub(" .* (STATE|ready|broken) .*", r" \1", line) for line in done.stdout.splitlines()]
    assert lines == ["POD STATE", "shop/web ready", "shop/web broken", "shop/new ready",
                     "shop/new  (removed)"], done.stdout
    assert "no more" in done.stderr


def test_what_the_agent_does_not_know(agent):
    done = on(agent, "endpoint", "get", "shop/none")
    assert done.returncode == 1
    assert done.stderr == "endpoint get: no /v1/endpoints/shop/none\n"


def terminal(agent, *words, **env):
    """Output on a pseudo-terminal."""
    master, slave = pty.openpty()
    subprocess.run([BUILD / "tendril", *words, "--socket", agent.path], stdout=slave, timeout=20,
                   env=dict({k: v for k, v in os.environ.items() if k != "NO_COLOR"}, **env))
    os.close(slave)
    output = b""
    try:
        while part := os.read(master, 65536):  # the kernel hands it over piece by piece
            output += part
    except OSError:
        pass  # EIO: the other end is closed, and all was read
    os.close(master)
    return output.decode()


def test_colour_only_on_a_terminal_and_not_with_no_color(agent):
    assert "\033[32mready" in terminal(agent, "endpoint", "list")
    assert "\033" not in terminal(agent, "endpoint", "list", NO_COLOR="1")


def test_names_from_outside_do_not_move_the_cursor(agent):
    agent.answers["GET /v1/identities"] = [{"id": 1, "description": "a\033[2Jb\nc",
                                            "addresses": []}]
    done = on(agent, "identity", "list")
    assert "a?[2Jb?c" in done.stdout


def test_monitor_shows_both_pods_and_the_reason(agent):
    done = on(agent, "monitor")
    assert done.returncode == 0
    assert "DROP" in done.stdout and "shop/web (10.0.0.1) port 4000 -> shop/cart (10.0.0.2) " \
        "port 80  ingress INGRESS_DENIED: ingress policy of the receiver" in done.stdout
    assert json.loads(on(agent, "monitor", "-o", "json").stdout) == DROP
    assert " WOULD DROP TCP " in on(agent, "monitor", "--type", "audit").stdout


@pytest.mark.parametrize("words, shown", [
    (["--from", "shop/web"], True), (["--from", "web", "-n", "shop"], True), (["--from", "shop/cart"], False),
    (["--from", "10.0.0.1"], True), (["--from", "10.0.0.0/31"], True), (["--to", "10.0.1.0/24"], False),
    (["--to", "shop/cart"], True), (["--pod", "shop/cart"], True), (["--pod", "shop/web"], True),
    (["--pod", "shop/no"], False), (["--namespace", "shop"], True), (["-n", "sho"], False),
    (["--port", "80"], True), (["--port", "80/UDP"], False), (["--port", "4000"], False),
    (["--from", "shop/web", "--to", "shop/web"], False)])
def test_monitor_shows_what_is_asked_for(agent, words, shown):
    done = on(agent, "monitor", *words)
    assert done.returncode == 0 and ("shop/web" in done.stdout) == shown
    assert bool(on(agent, "monitor", *words, "-o", "json").stdout) == shown


@pytest.mark.parametrize("verdict, types", [("deny", "drop"), ("DROPPED", "drop"), ("allow", "verdict"),
                                            ("forwarded", "verdict"), ("audit", "audit")])
def test_verdicts_are_types_of_events(agent, verdict, types):
    agent.answers[f"GET /v1/events?type={types}"] = json.dumps(DROP).encode() + b"\n"
    assert on(agent, "monitor", "--verdict", verdict).returncode == 0


def test_flows_tell_both_ends_and_what_became_of_it(agent):
    lines = on(agent, "flows").stdout.splitlines()
    assert "shop/web-1-2 -> bank/cart:80 (service bank/carts)  7 B out, 8 B in, 1.5 ms, rtt 40 us, " \
        "2 retransmits, closed" in lines[0]
    assert "DROPPED   INGRESS TCP" in lines[1] and "INGRESS_DENIED, 3 packets" in lines[1]


def test_flows_as_json_are_hubbles(agent):
    for output in ("json", "jsonpb"):
        lines = [json.loads(line) for line in on(agent, "flows", "-o", output).stdout.splitlines()]
        assert lines == [{"flow": flow, "node_name": "n1", "time": flow["time"]}
                         for flow in (FLOW, DROPPED)]
    assert "DESTINATION: bank/cart:80\n" in on(agent, "flows", "-o", "dict").stdout


@pytest.mark.parametrize("words, shown", [
    ([], 2), (["--from", "shop/web-1-2"], 2), (["--from", "shop/web"], 2), (["--from", "shop/"], 2),
    (["--from", "web", "-n", "shop"], 2), (["--from", "web"], 0), (["--from", "10.0.0.0/31"], 2),
    (["--from", "10.0.0.2"], 0), (["--to", "bank/cart"], 2), (["--to", "sho/"], 0),
    (["--pod", "bank/cart"], 2), (["--pod", "shop/"], 2), (["--pod", "shop/cart"], 0),
    (["-n", "bank"], 2), (["-n", "ban"], 0), (["--service", "bank/carts"], 2),
    (["--service", "carts", "-n", "bank"], 2), (["--service", "carts"], 0), (["--port", "80"], 2),
    (["--port", "80/UDP"], 0), (["--port", "81"], 0), (["--protocol", "tcp"], 2),
    (["--protocol", "UDP"], 0), (["--verdict", "deny"], 1), (["--verdict", "forwarded"], 1),
    (["--verdict", "audit"], 0), (["--reason", "INGRESS_DENIED"], 1),
    (["--reason", "policy_denied"], 1), (["--policy", "bank/none"], 0),
    (["--verdict", "deny", "--not"], 1), (["--from", "shop/", "--to", "bank/", "--not"], 0)])
def test_flows_that_are_asked_for(agent, words, shown):
    agent.answers.update({"GET /v1/objects": [], "GET /v1/status": STATUS})
    for output in ("text", "json"):
        done = on(agent, "flows", *words, "-o", output)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, shown), done.stderr


def test_the_last_flows_are_the_last_that_fit(agent):
    done = on(agent, "flows", "--last", "2", "--port", "80", "-o", "json")
    assert len(done.stdout.splitlines()) == 2
    agent.answers["GET /v1/flows/recent?last=0&since=0&follow=0"] = b"".join(
        json.dumps(dict(FLOW, time=str(n))).encode() + b"\n" for n in range(50))
    lines = on(agent, "flows", "--last", "3", "--port", "80", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["time"] for line in lines] == ["47", "48", "49"]


def test_flows_are_shown_without_policies_if_these_cannot_be_read(agent):
    agent.answers["GET /v1/objects"] = (500, {"error": "no objects today"})
    done = on(agent, "flows")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert done.stderr.count("no objects today") == 1
    done = on(agent, "flows", "--policy", "shop/p")
    assert (done.returncode, done.stdout) == (1, "") and "no objects today" in done.stderr


def test_connections_are_listed_from_the_pods_side(agent):
    agent.answers["GET /v1/flows/recent?last=0&since=0&follow=0"] = b"".join(
        json.dumps(flow).encode() + b"\n" for flow in (
            FLOW, dict(FLOW, traffic_direction="INGRESS"), DROPPED,
            dict(FLOW, tendril={"ended": "refused", "retransmits": 0})))
    life = on(agent, "tcp", "life").stdout.splitlines()
    assert len(life) == 4
    assert life[1].split()[:5] == ["shop/web-1-2", "4000", "bank/cart", "80", "0.0"]
    assert life[2].split()[:4] == ["bank/cart", "80", "shop/web-1-2", "4000"]
    connect = on(agent, "tcp", "connect").stdout.splitlines()
    assert [line.split()[-1] for line in connect[1:]] == ["closed", "refused"]
    assert len(on(agent, "tcp", "retrans").stdout.splitlines()) == 3
    assert json.loads(on(agent, "tcp", "rtt", "-o", "json").stdout) == [
        {"min_us": 32, "below_us": 64, "count": 2}]
    assert "32 -> 63      : 2        |****" in on(agent, "tcp", "rtt").stdout


def test_flows_are_summed_up(agent):
    agent.answers["GET /v1/flows/recent?last=0&since=0&follow=0"] = b"".join(
        json.dumps(flow).encode() + b"\n" for flow in (
            FLOW, FLOW, dict(FLOW, traffic_direction="INGRESS"), DROPPED, DROPPED))
    rows = {row["name"]: row for row in json.loads(on(agent, "top", "-o", "json").stdout)}
    assert rows == {"shop/web-1-2": {"name": "shop/web-1-2", "bytesOut": 14, "bytesIn": 16,
                                     "connections": 2, "retransmits": 4, "drops": 0},
                    "bank/cart": {"name": "bank/cart", "bytesOut": 8, "bytesIn": 7,
                                  "connections": 1, "retransmits": 2, "drops": 6}}
    for by, names in (("namespace", ["shop", "bank"]), ("workload", ["shop/web", "bank/cart"]),
                      ("service", ["bank/carts"])):
        lines = on(agent, "top", "--by", by).stdout.splitlines()[1:]
        assert [line.split()[0] for line in lines] == names
    assert len(on(agent, "top", "--limit", "1").stdout.splitlines()) == 2
    drops = json.loads(on(agent, "drops", "-o", "json").stdout)
    assert drops == [{"count": 6, "reason": "INGRESS_DENIED", "source": "shop/web-1-2",
                      "destination": "bank/cart", "port": "80/TCP", "first": "",
                      "last": DROPPED["time"]}]


def test_rules_that_no_flow_used(agent):
    objects = [document("Namespace", "shop"), document("Namespace", "bank"),
               pod("web-1-2", "shop", "10.0.0.1", {"app": "web"}), pod("cart", "bank", "10.0.0.2"),
               policy("p", "bank", podSelector={}, ingress=[
                   {"from": [{"namespaceSelector": {"matchLabels": {"no": "where"}}}]},
                   {"from": [{"namespaceSelector": {}}], "ports": [{"port": 80}]}])]
    listed = {"kind": "NetworkPolicy", "namespace": "bank", "name": "p", "ingressRules": 2,
              "egressRules": 0, "selectedEndpoints": 1}
    agent.answers.update({
        "GET /v1/objects?full=1": {"kind": "List", "apiVersion": "v1", "items": objects},
        "GET /v1/objects": [], "GET /v1/status": STATUS, "GET /v1/endpoints": [],
        "GET /v1/policies": [listed, dict(listed, name="elsewhere", selectedEndpoints=0)]})
    row = {"kind": "NetworkPolicy", "namespace": "bank", "name": "p", "direction": "ingress"}
    assert json.loads(on(agent, "policy", "unused", "-o", "json").stdout) == [dict(row, rule=1)]
    assert "bank/p" in on(agent, "policy", "unused", "-n", "bank").stdout
    assert "(none)" in on(agent, "policy", "unused", "-n", "shop").stdout
    agent.answers["GET /v1/flows/recent?last=0&since=0&follow=0"] = b'{"lost":1}\n'
    assert json.loads(on(agent, "policy", "unused", "-o", "json").stdout) == [
        dict(row, rule=1), dict(row, rule=2)]


def test_flows_that_came_too_fast_are_told(agent):
    agent.answers["GET /v1/flows/recent?last=20&since=0&follow=0"] = b'{"lost":7}\n'
    done = on(agent, "flows")
    assert done.stdout == "" and "7 flows came faster than they were read" in done.stderr


# ---- status ----

STATUS = {"version": "0.1.0", "pid": 1, "uptimeSeconds": 2, "ready": True, "endpoints": 1,
          "services": 1, "policies": 1, "identities": 1, "brokenEndpoints": 0,
          "audit": {"node": False, "endpoints": 0}, "maps": [], "drops": [], "notices": [],
          "objects": {"directory": "/etc/x", "files": [{"file": "a.yaml", "state": "ok", "objects": 1}]},
          "failures": [], "warnings": ["a map fills"], "notCarriedOut": ["Service a/b: spec.x: no"]}


def test_status_of_a_healthy_agent(agent):
    agent.answers["GET /v1/status"] = STATUS
    done = on(agent, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: a map fills\n" in done.stdout
    assert "no effect: Service a/b: spec.x: no\n" in done.stdout
    assert "\033[31m" not in terminal(agent, "status")


@pytest.mark.parametrize("change, told, advice", [
    ({"ready": False}, "not ready:", "journalctl -u tendrild"),
    ({"objects": {"files": [{"file": "a", "state": "refused", "error": "a:1: no"}]}}, "refused: a:1: no",
     "tendril policy validate FILE"),
    ({"audit": {"node": True, "endpoints": 0}}, "not enforced: no policy is enforced on this node",
     "agent.json"),
    ({"audit": {"node": False, "endpoints": 2}}, "not enforced: some pods", "tendril.io/policy-audit"),
    ({"brokenEndpoints": 2}, "broken: 2 endpoints", "tendril endpoint list"),
    ({"failures": ["a map fills"]}, "failed: a map fills", ""),
])
def test_status_is_red_and_fails_where_something_is_refused_or_not_enforced(agent, change, told, advice):
    agent.answers["GET /v1/status"] = STATUS | change
    done = on(agent, "status")
    assert done.returncode == 1
    assert told in done.stdout and advice in done.stdout
    assert done.stdout.count("a map fills") == 1, "a failure is no warning, too"
    assert f"\033[31m{told.split(':')[0]}:" in terminal(agent, "status")
    assert on(agent, "status", "-o", "json").returncode == 1


# ---- files ----

def test_apply_tells_which_fields_have_no_effect(agent, tmp_path):
    service = document("Service", "web", "shop", spec={"clusterIP": "10.96.0.9", "ports": [{"port": 80}],
                                                       "externalIPs": ["203.0.113.7"]})
    done = on(agent, "policy", "apply", "-f", "-", text=json.dumps(service))
    assert done.returncode == 0 and len(agent.requests) == 1
    assert "warning: Service shop/web: spec.externalIPs: served only where" in done.stderr


def test_apply_sends_yaml_and_json_as_one_list(agent, tmp_path):
    (tmp_path / "a.yaml").write_text(
        "--- {apiVersion: v1, kind: Pod, metadata: {name: a, labels: {port: '80'}}}\n"
        "--- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, "
        "metadata: {name: shop}}]}\n")
    (tmp_path / "b.json").write_text(json.dumps(pod("b", "shop", "10.0.0.2")) + "\n" +
                                     json.dumps(policy("p", "shop", podSelector={})))
    done = on(agent, "policy", "apply", "-f", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("Pod default/a\nNamespace shop\nPod shop/b\nNetworkPolicy shop/p\n"
                           "applied 2 objects\n")
    (method, path, body), = agent.requests
    assert (method, path, body["kind"]) == ("PUT", "/v1/objects", "List")
    assert [item["metadata"]["name"] for item in body["items"]] == ["a", "shop", "b", "p"]
    assert body["items"][0]["metadata"]["labels"] == {"port": "80"}


@pytest.mark.parametrize("command", ["validate", "apply", "lint", "matrix", "delete"])
def test_a_file_may_be_given_with_or_without_f(agent, tmp_path, command):
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, [pod("b", "shop", "10.0.0.2"),
                                                                policy("p", "shop", podSelector={})])))
    agent.answers.update({"DELETE /v1/objects/NetworkPolicy/shop/p": {},
                          "DELETE /v1/objects/Pod/shop/b": {}})
    with_f, without = (on(agent, "policy", command, *words, cwd=tmp_path)
                       for words in (["-f", "a.json"], ["a.json"]))
    assert with_f.returncode == 0, with_f.stderr
    assert (without.returncode, without.stdout) == (with_f.returncode, with_f.stdout)
    half = len(agent.requests) // 2
    assert agent.requests[:half] == agent.requests[half:]


def test_apply_refuses_before_it_asks(agent, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(policy("p", "shop", podselector={})))
    done = on(agent, "policy", "apply", "-f", tmp_path / "a.json")
    assert done.returncode == 1 and agent.requests == []
    assert "spec.podselector: unknown field" in done.stderr
    assert "nothing was changed" in done.stderr


def test_agent_refuses_what_is_applied(agent, tmp_path):
    agent.answers["PUT /v1/objects"] = (409, {"error": "Pod shop/b is in /etc/x.json"})
    done = on(agent, "policy", "apply", "-f", "-", text=json.dumps(pod("b", "shop", "10.0.0.2")))
    assert done.returncode == 1
    assert done.stderr == "policy apply: Pod shop/b is in /etc/x.json\n"


def test_delete_by_name_and_by_file(agent, tmp_path):
    agent.answers.update({"DELETE /v1/objects/NetworkPolicy/shop/p": {},
                          "DELETE /v1/objects/Namespace/-/shop": {}})
    assert on(agent, "policy", "delete", "shop/p").stdout == "deleted NetworkPolicy shop/p\n"
    (tmp_path / "n.json").write_text(json.dumps(document("Namespace", "shop")))
    done = on(agent, "policy", "delete", "-f", tmp_path / "n.json")
    assert done.returncode == 0, done.stderr
    assert [request[1] for request in agent.requests] == [
        "/v1/objects/NetworkPolicy/shop/p", "/v1/objects/Namespace/-/shop"]
    assert on(agent, "policy", "delete", "shop/none").returncode == 1


def test_cluster_policies_are_named_without_a_namespace(agent):
    guard = document("ClusterNetworkPolicy", "guard")
    agent.answers.update({"GET /v1/objects/ClusterNetworkPolicy/-/guard": guard,
                          "DELETE /v1/objects/ClusterNetworkPolicy/-/guard": {}})
    assert json.loads(on(agent, "policy", "get", "/guard").stdout) == guard
    done = on(agent, "policy", "delete", "/guard")
    assert done.stdout == "deleted ClusterNetworkPolicy guard\n"
    for name in ("/", "/a/b"):
        refused = on(agent, "policy", "get", name)
        assert refused.returncode == 2 and "must be NAMESPACE/NAME or /NAME" in refused.stderr


def test_validate_as_json(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(policy("p", "shop", podselector={})))
    done = tendril("policy", "validate", "-o", "json", tmp_path / "a.json")
    assert done.returncode == 1
    problem, = json.loads(done.stdout)
    assert problem["object"] == "NetworkPolicy shop/p" and problem["level"] == "error"
    assert problem["path"] == "spec.podselector" and problem["line"] == 1
    lenient = tendril("policy", "validate", "--lenient", tmp_path / "a.json")
    assert lenient.returncode == 0 and "warning: NetworkPolicy shop/p" in lenient.stdout


def test_validate_tells_all_problems_of_all_files_in_order(tmp_path):
    (tmp_path / "a.yaml").write_text("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
                                     "metadata: {name: a}\nspec:\n  ingress: 1\n  egres: []\n")
    (tmp_path / "b.json").write_text(json.dumps(policy("b", "x", podSelector={"app": "web"})))
    done = tendril("policy", "validate", "a.yaml", "gone", "-f", "b.json", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr == ""
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        "a.yaml:5:12", "a.yaml:6:3", "gone", "b.json:1:135"]
    rows = json.loads(tendril("policy", "validate", "a.yaml", "gone", "-o", "json",
                              cwd=tmp_path).stdout)
    assert [(row["file"], row.get("line")) for row in rows] == [("a.yaml", 5), ("a.yaml", 6),
                                                                ("gone", None)]


def test_validate_files_that_cannot_be_read(tmp_path):
    done = tendril("policy", "validate", tmp_path / "none")
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path}/none: No such file or directory\n"


@pytest.mark.parametrize("words, status", [
    (("policy", "validate"), 1), (("policy", "matrix", "--port", "80", "-f"), 1),
    (("policy", "lint"), 2)])
def test_output_that_cannot_be_written_is_a_failure(tmp_path, words, status):
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, [
        pod("web", "x", "10.0.0.1"), policy("a", "x", podSelector={"matchLabels": {"app": "no"}})])))
    with open("/dev/full", "w") as full:
        done = subprocess.run([BUILD / "tendril", *words, tmp_path / "a.json"], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == status
    assert done.stderr.endswith("standard output cannot be written\n")
