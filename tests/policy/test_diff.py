# SPDX-License-Identifier: Apache-2.0
"""`tendril policy diff`: what a change would newly allow and newly deny."""

import json

import pytest

from cli import pod, policy, tendril

WEB, CART = ({"matchLabels": {"app": app}} for app in ("web", "cart"))


def pods(**more):
    listing = [pod("web", "shop", "10.0.0.1 fd00::1", {"app": "web"}),
               pod("cart-1", "shop", "10.0.0.2 fd00::2", {"app": "cart"}),
               pod("cart-2", "shop", "10.0.0.3 fd00::3", {"app": "cart"}),
               pod("teller", "bank", "10.0.1.1 fd00::101", {"app": "web"})]
    return {"apiVersion": "v1", "kind": "List", "items": listing, **more}


def cart_from(port, **peer):
    return policy("cart", "shop", podSelector=CART,
                  ingress=[{"from": [peer or {"podSelector": WEB}], "ports": [{"port": port}]}])


@pytest.fixture
def diff(tmp_path):
    (tmp_path / "pods.json").write_text(json.dumps(pods()))

    def run(old, new, *words, common=("-f", "pods.json")):
        for name, objects in (("old.json", old), ("new.json", new)):
            (tmp_path / name).write_text("\n".join(map(json.dumps, objects)))
        return tendril("policy", "diff", "old.json", "new.json", *common, *words, cwd=tmp_path)
    return run


def test_the_same_exits_0(diff):
    done = diff([cart_from(80)], [cart_from(80)])
    assert (done.returncode, done.stdout) == (0, "no connection changes\n")
    assert json.loads(diff([], [], "-o", "json").stdout) == {
        "same": True, "pairsNewlyAllowed": 0, "pairsNewlyDenied": 0, "changes": []}


def test_another_port(diff):
    done = diff([cart_from(80)], [cart_from(443)])
    assert done.returncode == 1
    rule, nothing = ("allow: a rule allows it: NetworkPolicy shop/cart, ingress rule 0",
                     "deny: isolated, and no rule allows it: NetworkPolicy shop/cart")
    assert done.stdout == ("- deny   shop/web -> shop/app=cart (2 pods): 80/TCP\n"
                           f"    before:  ingress {rule} (old.json:1)\n"
                           f"    after:   ingress {nothing} (new.json:1)\n"
                           "+ allow  shop/web -> shop/app=cart (2 pods): 443/TCP\n"
                           f"    before:  ingress {nothing} (old.json:1)\n"
                           f"    after:   ingress {rule} (new.json:1)\n"
                           "pairs that lose ports: 2; pairs that gain ports: 2\n")


def test_json_names_every_pod_and_every_port(diff):
    done = diff([cart_from(80)], [cart_from(80, ipBlock={"cidr": "10.0.1.0/24"})], "-o", "json")
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and not answer["same"]
    for change in answer["changes"]:
        assert change.pop("why")
    carts = [{"pods": ["shop/cart-1", "shop/cart-2"]}]
    tcp80 = [{"protocol": "TCP", "port": 80}]
    assert {"from": [{"pods": ["shop/web"]}], "to": carts, "allowed": [], "denied": tcp80,
            "family": None} in answer["changes"]
    assert {"from": [{"pods": ["bank/teller"]}], "to": carts, "allowed": tcp80, "denied": [],
            "family": "IPv4"} in answer["changes"]
    assert {"from": [{"cidr": "10.0.1.0/24"}], "to": carts, "allowed": tcp80, "denied": [],
            "family": None} in answer["changes"]
    assert (answer["pairsNewlyAllowed"], answer["pairsNewlyDenied"]) == (4, 2)


def test_json_names_the_deciding_rule_before_and_after(diff):
    both = [policy("cart", "shop", podSelector=CART, ingress=[
        {"from": [{"podSelector": WEB}], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/7"}}], "ports": [{"port": 81}]}])]
    egress = policy("web", "shop", podSelector=WEB, policyTypes=["Egress"])
    answer = json.loads(diff(both, [*both, egress], "-o", "json").stdout)
    change, = (c for c in answer["changes"] if c["family"] == "IPv4"
               and c["to"] == [{"pods": ["shop/cart-1", "shop/cart-2"]}])
    why, other = change["why"]
    assert (why["before"]["from"]["name"], why["before"]["to"]["name"], why["before"]["port"],
            why["before"]["protocol"]) == ("web", "cart-1", 80, "TCP")
    assert why["before"]["ingress"]["policy"]["name"] == "cart"
    assert why["before"]["ingress"]["rule"] == 0 and other["before"]["ingress"]["rule"] == 1
    assert why["before"]["egress"]["reason"] == "no policy selects this pod in this direction"
    assert (why["after"]["egress"]["verdict"], why["after"]["egress"]["policy"]["name"],
            why["after"]["egress"]["rule"]) == ("deny", "web", None)
    assert why["after"]["ingress"] == {**why["before"]["ingress"],
                                       "source": why["after"]["ingress"]["source"],
                                       "policy": why["after"]["ingress"]["policy"]}


def test_an_address_outside_stands_for_its_own_cidr_only(diff):
    """10.0.0.0/8 without the longer CIDRs in it; nobody is left in 172.16.0.0/15."""
    blocks = ["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/17", "172.16.0.0/15", "172.16.0.0/16",
              "172.17.0.0/16"]
    old = [policy("cart", "shop", podSelector=CART, ingress=[
        {"from": [{"ipBlock": {"cidr": block}}], "ports": [{"port": 80 + 10 * i}]}])
        for i, block in enumerate(blocks)]
    for i, one in enumerate(old):
        one["metadata"]["name"] += str(i)
    changes = json.loads(diff(old, [cart_from(99)], "-o", "json").stdout)["changes"]
    shown = {}
    for change in changes:
        for peer in change["from"] if len(change["from"]) == 1 else []:
            shown[peer.get("cidr")] = {
                (why["before"]["from"]["address"], why["before"]["ingress"]["policy"]["name"])
                for why in change["why"]}
    assert shown["10.0.0.0/16"] == {("10.0.0.0", "cart0"), ("10.0.0.0", "cart1")}
    assert shown["10.0.0.0/8"] == {("10.1.128.0", "cart0")}
    assert shown["172.16.0.0/16"] == {("172.16.0.0", "cart3"), ("172.16.0.0", "cart4")}
    assert not shown.get("172.16.0.0/15")


def test_isolation_closes_all_ports(diff):
    answer = json.loads(diff([], [policy("deny", "bank", podSelector={})], "-o", "json").stdout)
    assert [change["denied"] for change in answer["changes"]] == [[
        *({"protocol": name, "port": 1, "endPort": 65535} for name in ("TCP", "UDP", "SCTP")),
        {"protocol": "other"}]]
    done = diff([], [policy("deny", "bank", podSelector={}, ingress=[{"ports": [{"port": 22}]}])])
    assert "- deny   every pod of shop, 0.0.0.0/0, ::/0 -> bank/teller: all ports but 22/TCP\n" in done.stdout


def test_pods_of_one_version_are_in_both(diff):
    """Policies alone are compared, also if only one version brings its pods."""
    done = diff([cart_from(80)], [pods(), cart_from(80)], common=())
    assert (done.returncode, done.stdout) == (0, "no connection changes\n")
    new_pod = pod("cart-9", "shop", "10.0.0.9", {"app": "cart"})
    assert diff([], [new_pod]).returncode == 0
    done = diff([cart_from(80)], [new_pod, cart_from(81)])
    assert "shop/cart-9" in done.stdout


def test_a_label_makes_a_difference(diff):
    relabelled = pod("web", "shop", "10.0.0.1 fd00::1", {"app": "other"})
    listing = [item for item in pods()["items"] if item["metadata"]["name"] != "web"]
    old = [*listing, pod("web", "shop", "10.0.0.1 fd00::1", {"app": "web"}), cart_from(80)]
    done = diff(old, [*listing, relabelled, cart_from(80)], common=())
    assert done.stdout.startswith("- deny   shop/web -> shop/app=cart (2 pods): 80/TCP\n")


def test_a_pod_whose_address_is_taken_is_left_out(diff):
    done = diff([], [pod("thief", "bank", "10.0.0.77", {})], common=("-f", "pods.json"))
    assert done.returncode == 0
    one, two = pod("one", "shop", "10.0.0.1"), pod("two", "shop", "10.0.0.1")
    deny = policy("deny", "shop", podSelector={})
    done = diff([one], [two, deny], common=())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("old, new, text", [
    ([policy("p", "shop", podSelector=[])], [], "old.json:1"),
    ([], [policy("p", "shop", podSelector={}, ingres=[])], "unknown field"),
])
def test_what_cannot_be_read_exits_2(diff, old, new, text):
    done = diff(old, new)
    assert done.returncode == 2 and done.stdout == ""
    assert text in done.stderr and done.stderr.startswith("policy diff: ")


def test_without_pods_there_is_nothing_to_compare(diff, tmp_path):
    done = diff([cart_from(80)], [cart_from(81)], common=())
    assert done.returncode == 2 and "no pods to compare" in done.stderr
    done = tendril("policy", "diff", tmp_path / "none", tmp_path / "none")
    assert done.returncode == 2 and "No such file" in done.stderr


def test_long_lists_are_cut_for_people_only(diff):
    many = [pod(f"p{i}", f"n{i % 4}", f"10.2.{i}.1", {"app": f"a{i}"}) for i in range(80)]
    listing = [policy(f"n{i}", "n0", podSelector={"matchLabels": {"app": f"a{i}"}})
               for i in range(0, 80, 2)]
    many.append(pod("free", "n0", "10.9.0.1"))
    done = diff(many, [*many, *listing], common=())
    assert "n0/p0, " in done.stdout and "and 12 more: all ports" in done.stdout
    assert len(done.stdout.splitlines()) < 10
    answer = json.loads(diff(many, [*many, *listing], "-o", "json", common=()).stdout)
    named = {name for change in answer["changes"] for group in change["to"]
             for name in group.get("pods", [])}
    assert named == {f"n0/p{i}" for i in range(0, 80, 4)}
