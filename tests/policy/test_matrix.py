# SPDX-License-Identifier: Apache-2.0
"""`tendril policy matrix`: the table of who reaches whom, and its pictures."""

import html.parser
import json
import re
import xml.etree.ElementTree

import pytest

from cli import pod, policy, tendril

WEB, CART = ({"matchLabels": {"app": app}} for app in ("web", "cart"))
HTTP = [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]
OBJECTS = [
    pod("web", "shop", "10.0.0.1 fd00::1", {"app": "web"}),
    pod("cart-1", "shop", "10.0.0.2 fd00::2", {"app": "cart"}, spec={"containers": HTTP}),
    pod("cart-2", "shop", "10.0.0.3 fd00::3", {"app": "cart"}, spec={"containers": HTTP}),
    pod("teller", "bank", "10.0.1.1 fd00::101", {"app": "web"}),
    policy("cart", "shop", podSelector=CART,
           ingress=[{"from": [{"podSelector": WEB}], "ports": [{"port": "http"}]}]),
    policy("web", "shop", podSelector=WEB, policyTypes=["Egress"],
           egress=[{"to": [{"podSelector": CART}]},
                   {"ports": [{"port": 53, "protocol": "UDP"}]}]),
]


@pytest.fixture
def matrix(tmp_path):
    def run(*words, objects=OBJECTS):
        (tmp_path / "all.json").write_text("\n".join(map(json.dumps, objects)))
        return tendril("policy", "matrix", "-f", "all.json", *words, cwd=tmp_path)
    return run


def tables(done):
    """{"80/TCP": rows}"""
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {f"{port.get('port', '')}/{port['protocol']}": table["rows"]
            for table in answer["tables"] for port in table["ports"]}


def test_text(matrix):
    assert matrix().stdout == """\
8080/TCP
                 from \\ to 1 2 3
 1  bank/teller            x . x
 2  shop/app=cart (2 pods) x . x
 3  shop/web               . x x

53/UDP
                 from \\ to 1 2 3
 1  bank/teller            x . x
 2  shop/app=cart (2 pods) x . x
 3  shop/web               x . x

 2  shop/app=cart (2 pods): shop/cart-1, shop/cart-2

x allowed  . denied  ~ allowed for some
"""


def test_ports_are_those_that_pods_and_policies_name_or_those_asked_for(matrix):
    assert set(tables(matrix("-o", "json"))) == {"8080/TCP", "53/UDP"}
    asked = tables(matrix("-o", "json", "--port", "8080,9/sctp,all"))
    assert asked == {"8080/TCP": ["x.x", "x.x", ".xx"], "9/SCTP": ["x.x", "x.x", "..x"],
                     "/all": ["x.x", "x.x", "~~x"]}


def test_pods_of_one_kind_may_be_closed_to_each_other(matrix):
    groups = json.loads(matrix("-o", "json").stdout)["groups"]
    assert groups[1] == {"name": "shop/app=cart (2 pods)", "pods": ["shop/cart-1", "shop/cart-2"]}


def test_by_namespace_and_labels(matrix):
    assert tables(matrix("--by", "namespace", "--port", "8080", "-o", "json")) == {
        "8080/TCP": ["x~", "~~"]}
    done = matrix("--by", "labels=app", "--port", "8080", "-o", "json")
    assert [group["name"] for group in json.loads(done.stdout)["groups"]] == ["app=web", "app=cart"]
    assert tables(done) == {"8080/TCP": ["~~", "x."]}
    done = matrix("--by", "labels=tier,app", "-o", "json")
    assert [group["name"] for group in json.loads(done.stdout)["groups"]] == [
        "tier=(none),app=web", "tier=(none),app=cart"]


def test_families_are_apart_where_they_differ(matrix):
    block = policy("v4", "bank", podSelector={},
                   ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/16"}}]}])
    done = matrix("--port", "80", "-o", "json", objects=[*OBJECTS, block])
    assert [table["families"] for table in json.loads(done.stdout)["tables"]] == [["IPv4"], ["IPv6"]]
    text = matrix("--port", "80", objects=[*OBJECTS, block]).stdout
    assert "80/TCP, only IPv4\n" in text and "80/TCP, only IPv6\n" in text


class Page(html.parser.HTMLParser):
    """Reads the page's data, and refuses anything that would be fetched."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.script, self.in_script = [], "", False
        self.feed(text)

    def data(self):
        return json.loads(re.search(r"const data = (\{.*\}) \|\| \{", self.script, re.DOTALL)[1])

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.in_script = tag == "script"
        assert not {"src", "href"} & {name for name, _ in attributes}

    def handle_data(self, data):
        if self.in_script:
            self.script += data


def test_pictures_need_nothing_beside_themselves(matrix, tmp_path):
    done = matrix("--html", "m.html", "--svg", "m.svg")
    assert (done.returncode, done.stdout) == (0, "4 pods in 3 groups\n")
    svg = xml.etree.ElementTree.parse(tmp_path / "m.svg").getroot()
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"8080/TCP", "53/UDP", "shop/web", "allowed", "denied"} <= set(texts)
    page = Page((tmp_path / "m.html").read_text())
    assert page.tags.count("canvas") == 1 and "script" in page.tags
    data = page.data()
    assert len(data["tables"]) == 2
    assert data["tables"][0]["rows"] == ["x.x", "x.x", ".xx"]
    assert data["groups"][1]["pods"] == ["shop/cart-1", "shop/cart-2"]


def test_the_page_says_when_and_from_what_it_was_made(matrix, tmp_path):
    matrix("--html", "m.html")
    data = Page((tmp_path / "m.html").read_text()).data()
    assert data["inputs"] == "all.json"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", data["date"])


def test_each_cell_of_the_page_tells_the_rule_that_decides(matrix, tmp_path):
    matrix("--html", "m.html", "--port", "8080,all")
    data = Page((tmp_path / "m.html").read_text()).data()
    one, every = data["tables"]
    names = [group["name"] for group in data["groups"]]

    def reason(source, target, table=one):
        return data["reasons"][table["why"][names.index(source)][names.index(target)]]
    assert reason("shop/web", "shop/app=cart (2 pods)") == (
        "egress allow: a rule allows it: NetworkPolicy shop/web, egress rule 0 (all.json:6)\n"
        "ingress allow: a rule allows it: NetworkPolicy shop/cart, ingress rule 0 (all.json:5)\n")
    assert reason("bank/teller", "shop/app=cart (2 pods)").endswith(
        "ingress deny: isolated, and no rule allows it: NetworkPolicy shop/cart (all.json:5)\n")
    assert "a pod always reaches itself" in reason("shop/web", "shop/web")
    assert "always reaches itself" not in reason("shop/app=cart (2 pods)", "shop/app=cart (2 pods)")
    assert {reason(a, b, every) for a in names for b in names} == {""}, "no port, no rule"
    for row, (source, whys) in zip(one["rows"], zip(names, one["why"])):
        for cell, why in zip(row, whys):
            assert ("deny" in data["reasons"][why]) == (cell == "."), source


@pytest.mark.parametrize("by", ["pod", "namespace"])
def test_no_label_of_the_picture_begins_before_its_edge(matrix, by):
    svg = xml.etree.ElementTree.fromstring(matrix("--by", by, "--svg", "-").stdout)
    ends = [element for element in svg.iter("{http://www.w3.org/2000/svg}text")
            if element.get("text-anchor") == "end" and float(element.get("x")) > 0]
    assert any("from" in element.text for element in ends)
    for element in ends:
        assert float(element.get("x")) >= 7 * len(element.text), element.text


def test_names_cannot_break_a_picture(matrix, tmp_path):
    evil = pod("x", "shop", "10.0.9.9", {"app": "web"})
    done = matrix("--by", "labels=a</script><b>&", "--html", "m.html", "--svg", "m.svg",
                  objects=[*OBJECTS, evil])
    assert done.returncode == 0
    xml.etree.ElementTree.parse(tmp_path / "m.svg")
    assert "</script><b>" not in (tmp_path / "m.html").read_text()


@pytest.mark.parametrize("words, status, text", [
    (["--by", "node"], 2, "--by node: must be pod, namespace, or labels=KEY"),
    (["--port", "80,http"], 2, "port http: must be N/PROTO"),
    (["--html", "none/x.html"], 1, "none/x.html: No such file"),
])
def test_wrong_questions(matrix, words, status, text):
    done = matrix(*words)
    assert done.returncode == status and text in done.stderr


def test_without_pods(matrix):
    assert "there are no pods" in matrix(objects=OBJECTS[4:]).stderr


def test_thousand_pods_and_five_hundred_policies(matrix, tmp_path):
    pods = [pod(f"p{i}", f"n{i % 20}", f"10.0.{i >> 8}.{i & 255} fd00::{i + 1:x}",
                {"app": f"a{i % 90}", "tier": f"t{i % 7}"}, spec={"containers": HTTP})
            for i in range(1000)]
    policies = [policy(f"q{i}", f"n{i % 20}", podSelector={"matchLabels": {"app": f"a{i % 90}"}},
                       ingress=[{"from": [{"podSelector": {"matchLabels": {"tier": f"t{i % 7}"}}},
                                          {"namespaceSelector": {}, "podSelector": {
                                              "matchLabels": {"app": f"a{i * 7 % 90}"}}}],
                                 "ports": [{"port": "http"}]}]) for i in range(500)]
    done = matrix("--html", "m.html", objects=[*pods, *policies])
    assert done.stdout.startswith("1000 pods in ")
    assert len(Page((tmp_path / "m.html").read_text()).data()["tables"]) >= 1
