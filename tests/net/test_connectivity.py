# SPDX-License-Identifier: Apache-2.0
"""`tendril connectivity test`: all is well; then one thing is broken at a time, and the answer names it."""

import json
import re
import signal
import subprocess

import pytest

import lan
from kubenode import CLUSTER_POLICIES, NAMESPACES, KubeNodes
from tendril import HARNESS, pod_object, policy_object, service_object, slice_object, wait_for

NAMESPACE = "tendril-connectivity-test"
DIRECT = "--auto-direct-node-routes=true"


def argv(node, *options):
    return ["nsenter", f"--net=/run/netns/{node.netns.name}", str(node.build / "tendril"),
            "--socket", str(node.socket), "connectivity", "test", *options]


def connectivity(node, *options):
    done = subprocess.run(argv(node, "-o", "json", *options), capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["failed"] else 0), done
    return answer


def rows(answer, result):
    return {(row["from"], row["to"], row["protocol"]) for row in answer["tests"]
            if row["result"] == result}


def broken(answer):
    """Each thing that is broken, with the advice, as one text."""
    assert bool(answer["broken"]) == bool(answer["failed"]), answer
    return [f"{each['what']} {each['advice']}" for each in answer["broken"]]


def left(node):
    """What a test has left on the node: endpoints, objects, devices."""
    objects = [each["name"] for each in node.api("GET", "/v1/objects") if each["namespace"] == NAMESPACE]
    endpoints = [each["name"] for each in node.api("GET", "/v1/endpoints") if each["namespace"] == NAMESPACE]
    return objects + endpoints


def nft(node, text):
    node.netns.run("sh", "-c", f"nft -f - <<'END'\n{text}\nEND\n")


MODES = {"direct": (DIRECT,), "VXLAN": ("--routing-mode=tunnel",)}


@pytest.fixture(scope="module", params=MODES)
def three(request):
    made = lan.Nodes(3, *MODES[request.param])
    made.mode = request.param
    yield made
    made.close()


@pytest.fixture
def two():
    made = lan.Nodes(2, DIRECT)
    yield made
    made.close()


# ---- all is well --------------------------------------------------------------------------------

def test_nothing_is_broken(three):
    first = three.all[0]
    answer = connectivity(first, "--external", "192.0.2.2" if three.mode == "direct" else "10.200.2.1")
    assert (answer["failed"], answer["broken"]) == (0, []), answer
    assert {row["to"] for row in answer["tests"] if row["result"] == "skipped"} == {"kubernetes.default"}
    told = json.dumps(answer)
    for text in ("pods of node n2 10.200.2.1", "pods of node n3 fd00:200:0:3::1", "node n2 192.0.2.2",
                 "service 198.18.255.254", "service 2001:2:0:ffff::fffe", "isolated pod server",
                 "this node 192.0.2.1", "this node 2001:db8::1",
                 f"{1500 if three.mode == 'direct' else 1450} bytes, not fragmented"):
        assert text in told, text
    wait_for(lambda: not left(first), "the pods to be gone")


def test_the_table_says_so_too(three):
    done = subprocess.run(argv(three.all[1]), capture_output=True, text=True)
    assert done.returncode == 0 and "nothing is broken" in done.stdout and "FROM" in done.stdout, done


# ---- one thing at a time ------------------------------------------------------------------------

def test_a_node_whose_link_is_down(three):
    first, second = three.all[:2]
    second.netns.ip("link", "set", "eth0", "down")
    try:
        answer = connectivity(first)
        [told] = broken(answer)
        assert told.startswith("Node n2 does not answer at its own address: node n2 192.0.2.2") \
            and "ip -br link" in told
        assert ("pod client", "pods of node n3 10.200.3.1", "TCP") in rows(answer, "ok")
    finally:
        second.netns.ip("link", "set", "eth0", "up")
        second.netns.ip("addr", "replace", f"{lan.Lan.addresses(2)[1]}/64", "dev", "eth0", "nodad")
        wait_for(lambda: connectivity(first)["failed"] == 0, "n2 to be back", timeout=60)


def test_a_wire_that_loses_large_packets(three):
    first = three.all[0]
    three.lan.netns.ip("link", "set", "p2", "mtu", "1300")
    least = 1300 if three.mode == "direct" else 1250
    try:
        [told] = broken(connectivity(first))
        assert told.startswith("MTU: pods of node n2 ")
        passing = int(re.search(r"of (\d+) bytes pass", told)[1])
        assert least <= passing <= least + 4, "a bridge lets VLAN tags pass"
        assert f'set "mtu": {passing} in agent.json' in told
    finally:
        three.lan.netns.ip("link", "set", "p2", "mtu", "1500")


def test_a_rule_of_the_other_node_that_drops_what_is_for_pods(three):
    """In a tunnel its own port is dropped, else the range."""
    first, second = three.all[:2]
    what = "ip daddr 10.200.2.0/24" if three.mode == "direct" else "udp dport 8472"
    nft(second, f"""table inet t {{
        chain c {{
            type filter hook input priority 0
            {what} drop
        }}
    }}""")
    try:
        [told] = broken(connectivity(first))
        assert told.startswith("Node n2 answers, its pods do not")
        assert ("nft list ruleset" if three.mode == "direct" else "8472") in told
    finally:
        nft(second, "flush ruleset")


def test_a_rule_of_this_node_that_drops(two):
    first = two.all[0]
    nft(first, """table inet t {
        chain c {
            type filter hook forward priority 0
            ip daddr 10.200.2.0/24 drop
        }
    }""")
    wait_for(lambda: first.status()["hostRouting"]["mode"] == "legacy", "the rule to be seen")
    [told] = broken(connectivity(first))
    assert "pods of node n2 10.200.2.1" in told and "nft list ruleset" in told
    assert "netfilter rule of this node drops" in told or "though the node itself does" in told


def test_no_route_to_the_pods_of_a_node():
    """The host's routes are the administrator's business: the agent does not repair them."""
    made = lan.Nodes(2)
    try:
        for number, node in enumerate(made.all, 1):
            for cidr, gateway in zip(lan.Nodes.cidrs(3 - number), lan.Lan.addresses(3 - number)):
                node.netns.ip("route", "add", cidr, "via", gateway)
        first = made.all[0]
        assert connectivity(first)["failed"] == 0
        first.netns.ip("route", "del", lan.Nodes.cidrs(2)[0])
        [told] = broken(connectivity(first))
        assert told.startswith("Node n2 answers, its pods do not: this node has no route to them")
        assert '"autoDirectNodeRoutes": true' in told
    finally:
        made.close()


def test_a_policy_that_denies(node):
    node.write("deny.json", policy_object("guard", NAMESPACE, {}, policyTypes=["Ingress"]))
    node.wait_object("NetworkPolicy", NAMESPACE, "guard")
    [told] = broken(connectivity(node))
    assert told.startswith("pod client to pod server ") and f"a policy denies it: {NAMESPACE}/guard" in told


def test_policy_that_is_not_enforced(node):
    node.stop()
    node.agent_args = [*node.agent_args, "--audit=true"]
    node.start()
    [told] = broken(connectivity(node))
    assert told.startswith("Policy is not enforced: this node is in audit mode") and '"audit": false' in told


def test_an_agent_that_is_dead(node):
    node.kill()
    done = subprocess.run(argv(node), capture_output=True, text=True)
    assert done.returncode == 1 and "is tendrild running?" in done.stderr


def test_dns_of_the_cluster(node):
    dns = node.pod("dns", "kube-system")
    node.put(service_object("kube-dns", "kube-system", ["10.96.0.10"], [{"port": 53, "protocol": "UDP"}]),
             slice_object("kube-dns-x", "kube-system", "kube-dns", "IPv4", [{"port": 53, "protocol": "UDP"}],
                          [dns.v4]))
    server = dns.popen("python3", HARNESS / "dnsserver.py", "serve", dns.v4, "10.96.0.1", "5",
                       stdout=subprocess.PIPE, text=True)
    assert server.stdout.readline() == "serving\n"
    answer = connectivity(node)
    assert answer["failed"] == 0
    assert ("pod client", "kubernetes.default at 10.96.0.10", "DNS") in rows(answer, "ok")
    server.kill()
    server.wait()
    [told] = broken(connectivity(node))
    assert "cluster's DNS: kubernetes.default at 10.96.0.10" in told and "tendril service get" in told


def test_who_may_run_it(node):
    done = subprocess.run([*argv(node)[:2], "setpriv", "--reuid=65534", "--clear-groups", *argv(node)[2:]],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "needs root" in done.stderr
    done = subprocess.run(argv(node, "--external", "example.org"), capture_output=True, text=True)
    assert done.returncode == 2 and "not an address" in done.stderr


def test_in_the_agents_container(node):
    """There it has the agent's capabilities, and cannot become another user."""
    words = ["setpriv", "--bounding-set=-all,+net_admin,+sys_admin,+net_broadcast,+sys_ptrace"]
    done = subprocess.run([*argv(node)[:2], *words, *argv(node)[2:]], capture_output=True, text=True)
    assert done.returncode == 0 and "nothing is broken" in done.stdout, done


def privileges(pid):
    status = open(f"/proc/{pid}/status").read()
    return {line.split(":")[0]: line.split()[1] for line in status.splitlines()
            if line.split(":")[0] in ("Uid", "CapEff", "CapPrm", "NoNewPrivs")}


def test_who_reads_from_the_network_has_no_privileges(node):
    process = begin(node)
    children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
    names = {open(f"/proc/{pid}/comm").read().strip(): pid for pid in children}
    for name in ("client", "server", "host"):
        assert privileges(names[name]) == {"Uid": "65534", "CapEff": "0" * 16, "CapPrm": "0" * 16,
                                           "NoNewPrivs": "1"}
    process.kill()
    process.communicate(timeout=30)


# ---- an API server ------------------------------------------------------------------------------

def test_where_objects_come_from_an_api_server(tmp_path):
    """The pods of the test have no Pod object there, are wired at once, and are under policy."""
    made = KubeNodes(tmp_path, 2)
    try:
        made.api_server.put(NAMESPACES, "shop")
        first = made.all[0]
        wait_for(lambda: first.api("POST", "/v1/probe") == {} and first.status()["nodes"]["reachable"] == 2,
                 "the other node")
        known = wait_for(lambda: (now := first.objects_of("kubernetes")) and
                         ("Namespace", "", "shop") in now and now, "its objects")
        answer = connectivity(first)
        assert answer["failed"] == 0
        assert [to for _, to, _ in rows(answer, "ok") if to.startswith("isolated pod server")]
        wait_for(lambda: not left(first), "the pods to be gone")
        assert first.objects_of("kubernetes") == known and first.kube()["state"] == "synced"
        assert not [each for each in made.all[1].api("GET", "/v1/objects") if each["namespace"] == NAMESPACE]
    finally:
        made.close()


def test_a_cluster_policy_for_everybody_is_named(tmp_path):
    made = KubeNodes(tmp_path, 1)
    try:
        made.api_server.put(CLUSTER_POLICIES, "guard", spec={
            "tier": "Admin", "priority": 5, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]})
        first = made.all[0]
        wait_for(lambda: first.status()["policies"] == 1, "the policy")
        told = broken(connectivity(first))
        assert len(told) == 1 and "a policy denies it: /guard" in told[0]
    finally:
        made.close()


# ---- interrupted --------------------------------------------------------------------------------

def begin(node):
    """A test that is on its way: it has pods, and waits for what is dropped."""
    node.write("deny.json", policy_object("guard", NAMESPACE, {}, policyTypes=["Ingress"]))
    node.wait_object("NetworkPolicy", NAMESPACE, "guard")
    process = subprocess.Popen(argv(node), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: "server" in [each["name"] for each in node.api("GET", "/v1/endpoints")], "its pods")
    return process


def own(node):
    return [name for name in left(node) if name != "guard"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(node, number):
    process = begin(node)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1 and "interrupted" in errors, errors
    wait_for(lambda: not own(node), "the pods to be gone")


def test_killed_it_leaves_what_the_next_one_removes(node):
    process = begin(node)
    second = subprocess.run(argv(node), capture_output=True, text=True)
    assert second.returncode == 1 and "another test is running" in second.stderr
    process.kill()
    process.communicate(timeout=30)
    assert own(node)
    (node.objects / "deny.json").unlink()
    wait_for(lambda: "guard" not in left(node), "the policy to be gone")
    assert connectivity(node)["failed"] == 0
    wait_for(lambda: not own(node), "everything to be gone")


def test_what_somebody_else_has_in_its_namespace_stays(node):
    pod = node.pod("mine", NAMESPACE)
    node.put(pod_object("mine", NAMESPACE, {}, pod.addresses))
    assert connectivity(node)["failed"] == 0
    wait_for(lambda: own(node) == ["mine", "mine"], "all else to be gone")  # an object and an endpoint
