# SPDX-License-Identifier: Apache-2.0
"""The plugin and the real agent: what a runtime asks for and what is then in the kernel.

    node netns: tendrild, tendril0, portmap's rules        pod netns
      tdlN ================================================ eth0
"""

import concurrent.futures
import json
import os

import pytest

import cnirun
import tendril

PLUGIN = tendril.BUILD / "tendril-cni"


@pytest.fixture
def bare(shared_node):
    """A pod that is not wired yet."""
    return shared_node.pod("bare", wire=False)


def links(netns):
    return {link["ifname"]: link for link in json.loads(netns.ip("-j", "addr").stdout)}


def wait_gone(node, container_id, *hosts):
    """DEL cuts the pod off and answers; the interfaces go a little later."""
    tendril.wait_for(lambda: not endpoints(node, container_id), "the endpoint to be forgotten")
    for host in hosts:
        tendril.wait_for(lambda: host not in links(node.netns), f"{host} to be deleted")


def endpoints(node, container_id):
    return [e for e in node.api("GET", "/v1/endpoints") if e["containerId"] == container_id]


def run(pod, command, conf=None, netns=True, **more):
    node = pod.node
    return cnirun.plugin_run(PLUGIN, command, {**node.conf, **(conf or {})}, pod.container_id,
                             netns=pod.path if netns is True else netns,
                             args=more.pop("args", pod.cni_args), enter=node.netns.enter(), **more)


def host_interface(result):
    return next(i["name"] for i in result["interfaces"] if not i.get("sandbox"))


# ---- every version ----

def addresses(result):
    if "ip4" in result:
        return [result["ip4"]["ip"], result["ip6"]["ip"]]
    return [ip["address"] for ip in result["ips"]]


@pytest.mark.parametrize("version", cnirun.SUPPORTED)
def test_life_of_a_container_in_every_version(bare, version):
    node, conf = bare.node, {"cniVersion": version}
    added = run(bare, "ADD", conf)
    assert added.code == 0, added.json
    assert added.json["cniVersion"] == version
    have = links(bare)["eth0"]
    assert have["operstate"] == "UP"
    wired = {f"{a['local']}/{a['prefixlen']}" for a in have["addr_info"] if a["scope"] == "global"}
    assert set(addresses(added.json)) == wired
    assert len(wired) == 2
    # The same again: the same answer, whatever the runtime's reason.
    assert run(bare, "ADD", conf).json == added.json
    if version >= "0.4.0":
        assert run(bare, "CHECK", {**conf, "prevResult": added.json}).code == 0
    assert endpoints(node, bare.container_id)[0]["namespace"] == "default"
    deleted = run(bare, "DEL", {**conf, "prevResult": added.json})
    assert (deleted.code, deleted.text) == (0, "")
    assert run(bare, "DEL", conf).code == 0
    wait_gone(node, bare.container_id)
    assert "eth0" not in links(bare)


def test_result_agrees_with_the_kernel(bare):
    result = run(bare, "ADD", {"mtu": 1400}).json
    try:
        host, inside = result["interfaces"]
        assert inside["sandbox"] == bare.path and "sandbox" not in host
        for interface, netns in ((host, bare.node.netns), (inside, bare)):
            have = links(netns)[interface["name"]]
            assert (have["address"], have["mtu"]) == (interface["mac"], interface["mtu"])
        assert inside["mtu"] == 1400
        assert {ip["interface"] for ip in result["ips"]} == {1}
        assert {r["dst"] for r in result["routes"]} == {"0.0.0.0/0", "::/0"}
        gateways = {ip["gateway"] for ip in result["ips"]}
        held = {a["local"] for a in links(bare.node.netns)["tendril0"]["addr_info"]}
        assert gateways <= held
    finally:
        run(bare, "DEL")


def test_runtime_chooses_addresses_and_mac(bare):
    runtime = {"ips": ["10.200.0.77/24", "fd00:200::77"], "mac": "02:aa:00:00:00:07"}
    result = run(bare, "ADD", {"runtimeConfig": runtime}).json
    assert {a.split("/")[0] for a in addresses(result)} == {"10.200.0.77", "fd00:200::77"}
    assert links(bare)["eth0"]["address"] == runtime["mac"]
    other = bare.node.pod("other", wire=False)
    refused = run(other, "ADD", {"runtimeConfig": {"ips": ["10.200.0.77"]}})
    assert refused.code != 0 and "10.200.0.77" in refused.json["msg"]
    assert "eth0" not in links(other)
    run(bare, "DEL")


def test_pod_is_named_by_cni_args_and_labels(bare):
    run(bare, "ADD", {"args": {"cni": {"labels": [{"key": "app", "value": "web"}]}}},
        args="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=u1")
    endpoint = bare.node.api("GET", "/v1/endpoints/shop/cart-0")
    assert (endpoint["uid"], endpoint["labels"]["app"]) == ("u1", "web")
    run(bare, "DEL")


def test_container_without_a_name_gets_its_id(bare):
    run(bare, "ADD", args="")
    endpoint = endpoints(bare.node, bare.container_id)[0]
    assert (endpoint["namespace"], endpoint["name"]) == ("default", bare.container_id[:12])
    run(bare, "DEL")


def test_second_interface_of_a_container_is_refused_by_name(bare):
    run(bare, "ADD")
    second = run(bare, "ADD", ifname="net1")
    assert second.code != 0 and second.json["code"] == 4
    assert "net1" in str(second.json) and "eth0" in str(second.json)
    assert "eth0" in links(bare) and "net1" not in links(bare)
    assert run(bare, "DEL", ifname="net1").code == 0
    assert [e["ifname"] for e in endpoints(bare.node, bare.container_id)] == ["eth0"]
    run(bare, "DEL")
    assert run(bare, "ADD", ifname="net1").code == 0  # the only one may have any name
    run(bare, "DEL", ifname="net1")


def test_interface_that_is_there_already_is_an_error(bare):
    bare.ip("link", "add", "eth0", "type", "bridge")
    answer = run(bare, "ADD")
    assert answer.code >= 4 and "eth0" in answer.json["msg"] + answer.json.get("details", "")
    assert endpoints(bare.node, bare.container_id) == []


def test_the_hosts_own_namespace_is_refused(bare):
    assert run(bare, "ADD", netns=bare.node.netns.path).code == 4


# ---- DEL ----

@pytest.mark.parametrize("netns", ["given", "absent", "deleted"])
@pytest.mark.parametrize("agent", ["up", "killed"])
def test_del_leaves_nothing(node, netns, agent):
    pod = node.pod("gone")
    host = host_interface(pod.result)
    if agent == "killed":
        node.kill()
    if netns == "deleted":
        tendril.Namespace.delete(pod)
    for _ in range(3):
        assert run(pod, "DEL", netns=None if netns == "absent" else True).code == 0
    if agent == "killed":
        node.start()
    wait_gone(node, pod.container_id, host)
    assert not list((node.run_dir / "endpoints").iterdir())
    assert not list((node.run_dir / "deleted").iterdir())


def test_del_of_the_unknown_succeeds(bare):
    assert run(bare, "DEL").code == 0


def test_add_after_a_del_without_agent(node):
    pod = node.pod("again")
    node.kill()
    assert run(pod, "DEL").code == 0
    node.start()
    added = run(pod, "ADD")
    assert added.code == 0, added.json
    node.kill()
    node.start()  # the old note must not hit the new endpoint
    assert len(endpoints(node, pod.container_id)) == 1
    assert "eth0" in links(pod)


@pytest.fixture
def small_disk():
    """A node whose run directory has a file system of its own, with little room."""
    with tendril.Node(start=False) as node:
        tendril.run("mount", "-t", "tmpfs", "-o", "size=128k,nr_inodes=40", "none", node.run_dir)
        try:
            node.start()
            yield node
        finally:
            node.stop()
            tendril.run("umount", node.run_dir)


def test_del_needs_no_room_while_no_agent_runs(small_disk):
    node, pod = small_disk, small_disk.pod("web")
    host = host_interface(pod.result)
    node.kill()
    with open(node.run_dir / "filler", "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
    assert run(pod, "DEL").code == 0
    assert run(pod, "DEL").code == 0  # as often as the runtime likes
    (node.run_dir / "filler").unlink()
    node.start()
    wait_gone(node, pod.container_id, host)
    assert list((node.run_dir / "deleted").iterdir()) == []


def test_del_that_cannot_be_left_to_the_next_agent_says_why(small_disk):
    node, pod = small_disk, small_disk.pod("web")
    host = host_interface(pod.result)
    node.kill()
    fillers = []
    try:
        while True:
            fillers.append(node.run_dir / f"filler{len(fillers)}")
            fillers[-1].touch()
    except OSError:
        fillers.pop()
    failed = run(pod, "DEL")
    assert failed.json["code"] == 5
    assert "store the deletion for an agent that does not answer" in failed.json["msg"]
    assert "No space left on device" in failed.json["msg"]
    for filler in fillers:
        filler.unlink()
    assert run(pod, "DEL").code == 0
    node.start()
    wait_gone(node, pod.container_id, host)


def test_many_containers_at_once(node):
    pods = [node.pod(f"p{i}", wire=False) for i in range(80)]
    with concurrent.futures.ThreadPoolExecutor(80) as pool:
        added = list(pool.map(lambda pod: run(pod, "ADD"), pods))
        assert {a.code for a in added} == {0}, [a.json for a in added if a.code]
        given = [address for a in added for address in addresses(a.json)]
        assert len(given) == len(set(given)) == 160
        assert {a.code for a in pool.map(lambda pod: run(pod, "DEL"), pods)} == {0}
    tendril.wait_for(lambda: not node.api("GET", "/v1/endpoints"), "no endpoint")


# ---- CHECK, GC, STATUS ----

def test_check_compares_with_what_was_promised(bare):
    result = run(bare, "ADD").json
    promised = json.loads(json.dumps(result).replace("10.200.0.", "10.200.1."))
    answer = run(bare, "CHECK", {"prevResult": promised})
    assert answer.code == 102 and "10.200.0." in answer.json["msg"]
    run(bare, "DEL")
    assert run(bare, "CHECK", {"prevResult": result}).code == 3


def test_check_succeeds_once_a_lost_address_is_put_back(bare):
    result = run(bare, "ADD").json
    bare.ip("addr", "del", addresses(result)[0], "dev", "eth0")
    tendril.wait_for(lambda: run(bare, "CHECK", {"prevResult": result}).code == 0, "the repair")
    have = {a["local"] for a in links(bare)["eth0"]["addr_info"]}
    assert {a.split("/")[0] for a in addresses(result)} <= have
    run(bare, "DEL")


def test_gc_removes_what_is_not_listed_of_its_network(node):
    kept, dropped = node.pod("kept"), node.pod("dropped")
    other = node.pod("other", conf={"name": "othernet"})
    alive = [{"containerID": kept.container_id, "ifname": "eth0"}]
    answer = cnirun.plugin_run(PLUGIN, "GC", {**node.conf, "cni.dev/valid-attachments": alive},
                               None, None)
    assert (answer.code, answer.text) == (0, "")
    node.kill()
    node.start()  # the network is remembered
    gc = {**node.conf, "name": "nonet", "cni.dev/valid-attachments": []}
    assert cnirun.plugin_run(PLUGIN, "GC", gc, None, None).code == 0
    wait_gone(node, dropped.container_id, host_interface(dropped.result))
    left = {e["containerId"]: e["state"] for e in node.api("GET", "/v1/endpoints")}
    assert left == {kept.container_id: "ready", other.container_id: "ready"}


def test_status_follows_the_agent(node):
    assert cnirun.plugin_run(PLUGIN, "STATUS", node.conf, None, None).code == 0
    node.stop()
    assert cnirun.plugin_run(PLUGIN, "STATUS", node.conf, None, None).code == 50


def test_status_says_when_the_node_is_full():
    with tendril.Node("--max-endpoints", "2") as node:
        pod = node.pod("only")
        answer = cnirun.plugin_run(PLUGIN, "STATUS", node.conf, None, None)
        assert answer.code == 50 and "max-endpoints" in answer.json["msg"]
        pod.cni("DEL")
        tendril.wait_for(lambda: cnirun.plugin_run(PLUGIN, "STATUS", node.conf, None, None).code
                         == 0, "room")


# ---- chains and delegated IPAM ----

def chain_of(node):
    folder = node.dir / "bin"
    folder.mkdir()
    (folder / "tendril").symlink_to(PLUGIN)
    return cnirun.Chain(
        {"cniVersion": "1.0.0", "name": "chained", "plugins": [
            {"type": "tendril", "socket": str(node.socket)},
            {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
            {"type": "portmap", "capabilities": {"portMappings": True}}]},
        [folder, "/usr/lib/cni"], enter=node.netns.enter())


def test_chain_with_tuning_and_portmap(node):
    pod, client = node.pod("served", wire=False), node.pod("client")
    chain = chain_of(node)
    runtime = {"portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]}
    added = chain.run("ADD", pod.container_id, pod.path, runtime)
    assert added.code == 0, added.json
    assert pod.run("cat", "/proc/sys/net/core/somaxconn").stdout.strip() == "500"
    assert len(added.json["ips"]) == 2
    # Without mappings: portmap 1.1.1 looks for a mapping's IPv4 rules in the IPv6 table too, and
    # so fails CHECK behind any plugin.
    checked = chain.run("CHECK", pod.container_id, pod.path)
    assert checked.code == 0, checked.json
    pod.serve(tcp=[80])
    gateway = next(ip["gateway"] for ip in added.json["ips"] if ":" not in ip["address"])
    reached = client.connect(gateway, 18080)
    assert reached.get("name") == "served", reached
    assert chain.run("DEL", pod.container_id, pod.path, runtime).code == 0
    assert chain.run("DEL", pod.container_id, None, runtime).code == 0
    wait_gone(node, pod.container_id)
    assert "18080" not in node.netns.run("iptables-save").stdout


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_chain_in_older_versions(node, version):
    pod, chain = node.pod("old", wire=False), chain_of(node)
    chain.conflist["cniVersion"] = version
    for command in ("ADD", "CHECK", "DEL") if version >= "0.4.0" else ("ADD", "DEL"):
        answer = chain.run(command, pod.container_id, pod.path)
        assert answer.code == 0, answer.json


def test_host_local_addresses_are_wired(node):
    ipam = {"type": "host-local", "dataDir": str(node.dir / "ipam"),
            "ranges": [[{"subnet": "10.88.7.0/24"}], [{"subnet": "fd00:88::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
    first = node.pod("first", conf={"ipam": ipam})
    second = node.pod("second", conf={"ipam": ipam})
    own = node.pod("own")
    assert (first.v4, second.v4) == ("10.88.7.2", "10.88.7.3")
    second.serve(tcp=[80])
    own.serve(tcp=[80])
    for address in second.addresses + own.addresses:
        assert first.connect(address, 80).get("name") in ("second", "own")
    assert own.connect(first.v4, 81)["result"] == "refused"
    assert run(first, "CHECK", {"ipam": ipam, "prevResult": first.result}).code == 0
    node.kill()
    assert run(first, "DEL", {"ipam": ipam}, netns=None).code == 0
    reserved = {p.name for p in (node.dir / "ipam" / "tendril").iterdir()}
    assert "10.88.7.2" not in reserved and "10.88.7.3" in reserved
    node.start()
    wait_gone(node, first.container_id, host_interface(first.result))
    assert len(endpoints(node, second.container_id)) == 1


def test_failed_add_gives_the_delegated_address_back(node):
    pod = node.pod("failing", wire=False)
    pod.ip("link", "add", "eth0", "type", "bridge")
    ipam = {"type": "host-local", "dataDir": str(node.dir / "ipam"), "subnet": "10.88.7.0/24"}
    assert run(pod, "ADD", {"ipam": ipam}).code != 0
    assert not [p for p in os.listdir(node.dir / "ipam" / "tendril") if p[0].isdigit()]
