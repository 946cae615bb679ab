# SPDX-License-Identifier: Apache-2.0
"""The page of `tendril observe --html`: what is in it, and what a person sees of it in a browser.

Chromium takes 300 MB of disk, so it is not among the packages that tests install: these cases run
where it is.
"""

import json
import re
import socket
import threading

import pytest

import browser
from cli import tendril

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">&'`\x1b[2J"


def end(namespace, workload):
    return {"namespace": namespace, "pod_name": f"{workload}-5f-x", "workloads": [{"name": workload}],
            "labels": []}


WORLD, HOST = {"labels": ["reserved:world"]}, {"labels": ["reserved:host"]}


def flow(second, source, destination, port, direction="EGRESS", proto="TCP", to="10.0.0.9", names=(),
         service=None, reason=None, **more):
    one = {"time": f"2026-11-28T10:00:{second:02}.000000Z", "source": source, "destination": destination,
           "IP": {"source": "10.0.0.1", "destination": to}, "l4": {proto: {"destination_port": port}},
           "traffic_direction": direction, "verdict": "DROPPED" if reason else "FORWARDED",
           "tendril": {"reason": reason, "count": 3} if reason else {
               "source_bytes": 1000, "destination_bytes": 5000, "srtt_us": 250, "retransmits": 0, **more}}
    if names:
        one["destination_names"] = list(names)
    if service:
        one["destination_service"] = dict(zip(("namespace", "name"), service.split("/", 1)))
    return one


FLOWS = [
    *[flow(i, end("shop", "web"), end("shop", "cart"), 8080, service="shop/cart", handshake_us=300)
      for i in range(20)],
    # The same as the other end saw them: they count once.
    *[flow(i, end("shop", "web"), end("shop", "cart"), 8080, "INGRESS") for i in range(20)],
    *[flow(i, end("shop", "cart"), end("data", "store"), 5432, service="data/store", handshake_us=9000)
      for i in range(5)],
    flow(1, end("shop", "web"), WORLD, 443, to="203.0.113.7", names=["api.example.org"]),
    flow(2, end("shop", "cart"), end("kube-system", "coredns"), 53, proto="UDP"),
    flow(3, WORLD, end("shop", "web"), 8443, "INGRESS"),
    flow(4, HOST, end("shop", "cart"), 8080, "INGRESS"),
    flow(40, end("shop", "web"), end("data", "store"), 5432, "INGRESS", reason="INGRESS_DENIED"),
    {**flow(5, end("shop", "web"), WORLD, 9, to="203.0.113.9", source_bytes=0, destination_bytes=0, srtt_us=0),
     "verdict": "TRACED"},
    flow(30, end("shop", HOSTILE), end("shop", "cart"), 8080, service=f"shop/{HOSTILE}", handshake_us=1),
]


def answer(listener, flows):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            lines = [json.dumps(one).encode() + b"\n" for one in flows]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n" +
                               b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines) +
                               b"0\r\n\r\n")


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    listeners = []

    def start(name, flows):
        path = folder / name
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=answer, args=(listener, flows), daemon=True).start()
        listeners.append(listener)
        return path
    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def write(path, folder, *words):
    done = tendril("--socket", str(path), "observe", "--html", "o.html", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return (folder / "o.html").read_text()


@pytest.fixture(scope="module")
def page(agent, chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write(agent("full", FLOWS), folder)
    chromium.load(folder / "o.html")
    return chromium


def rows(page, place):
    return page.run(f"[...document.querySelectorAll('#{place} tr')].slice(1).map("
                    "row => [...row.cells].map(cell => cell.textContent))")


def test_what_passed_is_summed_up_once(page):
    edges = {tuple(row[:3]): row[3:] for row in rows(page, "edges")}
    assert edges["shop/web", "shop/cart", "8080/TCP"][:2] == ["20", "0.5/s"]
    assert edges["shop/web", "shop/cart", "8080/TCP"][3] == "117 KiB"
    assert ("shop/web", "api.example.org (203.0.113.7)", "443/TCP") in edges
    assert ("shop/cart", "kube-system/coredns", "53/UDP") in edges
    assert ("clients outside", "shop/web", "8443/TCP") in edges
    assert ("this node", "shop/cart", "8080/TCP") in edges
    assert ("shop/web", "data/store", "5432/TCP") not in edges


def test_what_was_denied_is_red_and_named(page):
    assert rows(page, "drops") == [["shop/web", "data/store", "5432/TCP", "3", "INGRESS_DENIED",
                                    "2026-11-28T10:00:40.000000Z"]]
    assert page.run("[...document.querySelectorAll('path.denied')].map("
                    "path => [getComputedStyle(path).stroke, edgeText(data.edges[path.dataset.edge])])") == [
        ["rgb(179, 38, 30)", "shop/web \u2192 data/store, 5432/TCP"]]


def test_what_nobody_answered_has_not_passed(page):
    assert ["shop/web", "203.0.113.9", "9/TCP", "1", "1.5/min", "1", "0 B", ""] in rows(page, "edges")
    assert page.run("[...document.querySelectorAll('path.unanswered')].map("
                    "path => [getComputedStyle(path).stroke, edgeText(data.edges[path.dataset.edge])])") == [
        ["rgb(176, 122, 30)", "shop/web \u2192 203.0.113.9, 9/TCP"]]


def test_the_slowest_service_comes_first(page):
    assert [row[:2] for row in rows(page, "services")][:2] == [["data/store", "9.0 ms"],
                                                               ["shop/cart", "300 us"]]


def test_who_opens_is_left_of_who_is_asked(page):
    left = page.run("Object.fromEntries([...document.querySelectorAll('[data-node]')].map("
                    "group => [data.nodes[group.dataset.node].name, Number(group.querySelector('rect').getAttribute('x'))]))")
    assert left["clients outside"] < left["shop/web"] < left["shop/cart"] < left["data/store"]
    boxes = page.run("[...document.querySelectorAll('svg rect')].map(rect => ['x', 'y'].map("
                     "name => Number(rect.getAttribute(name))))")
    for i, (x, y) in enumerate(boxes):
        assert all(abs(x - a) >= 190 or abs(y - b) >= 38 for a, b in boxes[:i]), "boxes lie upon another"
    # Lines lead through no box but their own two.
    assert page.run("""[...document.querySelectorAll('path.edge')].flatMap(path => {
        const edge = data.edges[path.dataset.edge], length = path.getTotalLength();
        return [...document.querySelectorAll('[data-node]')].filter(group => {
            const i = Number(group.dataset.node), box = group.querySelector('rect').getBBox();
            if (i === edge.from || i === edge.to)
                return false;
            for (let at = 0; at < length; at += 4) {
                const point = path.getPointAtLength(at);
                if (point.x > box.x && point.x < box.x + box.width && point.y > box.y &&
                    point.y < box.y + box.height)
                    return true;
            }
            return false;
        }).map(group => [edgeText(edge), nameOf(group.dataset.node)]);
    })""") == []
    assert page.run("graph.scrollWidth <= graph.clientWidth")
    labels = page.run("[...document.querySelectorAll('text.rate')].map(text => (box => [box.x, box.y, "
                      "box.width, box.height])(text.getBBox()))")
    for i, (x, y, width, height) in enumerate(labels):
        assert not [other for other in labels[:i] if x < other[0] + other[2] and other[0] < x + width and
                    y + 2 < other[1] + other[3] and other[1] + 2 < y + height], "labels lie upon another"


def test_a_click_shows_what_a_box_is_part_of(page):
    at = page.run("(box => [box.left + box.width / 2, box.top + box.height / 2])(document.querySelector("
                  "`[data-node='${data.nodes.findIndex(node => node.name === 'data/store')}']`)"
                  ".querySelector('rect').getBoundingClientRect())")
    page.click(*at)
    assert {row[0] for row in rows(page, "edges")} == {"shop/cart"}
    assert page.run("document.querySelectorAll('path.edge:not(.faint)').length") == 2
    page.press("Escape")
    assert page.run("document.querySelectorAll('.faint').length") == 0
    page.press("/", *"coredns")
    assert {row[1] for row in rows(page, "edges")} == {"kube-system/coredns"}
    page.run("byId('find').value = '', byId('find').oninput()")


def test_hostile_names_are_text(agent, page, tmp_path):
    page.run("new Promise(requestAnimationFrame)")
    assert page.run("document.title") == "Who talked to whom"
    assert page.run("document.querySelectorAll('img, script').length") == 1
    names = page.run("data.nodes.map(node => node.name)")
    assert f"shop/{HOSTILE}" in names
    text = write(agent("hostile", FLOWS), tmp_path)
    assert text.count("</script>") == 1 and "onerror" in text and "<img" not in text
    assert not re.search(r"""(src|href)\s*=|@import|url\((?!#)|https?://(?!www\.w3\.org/2000/svg)""",
                         re.sub(r"null \|\| .*|/\*DATA\*/.*", "", text).replace("img src", ""))


def test_nothing_is_a_page_too(agent, chromium, tmp_path):
    write(agent("empty", []), tmp_path)
    chromium.load(tmp_path / "o.html")
    assert chromium.run("graph.textContent") == "No flows."
    assert "Nothing was dropped." in chromium.run("document.body.innerText")


def test_many_ends_become_one(agent, chromium, tmp_path):
    write(agent("many", [flow(i % 60, end("n", f"w{i}"), end("n", "hub"), 80) for i in range(400)]), tmp_path)
    chromium.load(tmp_path / "o.html")
    assert chromium.run("data.nodes.length") == 151 and chromium.run("data.leftOut") == 0
    assert chromium.run("data.edges.reduce((all, edge) => all + edge.connections, 0)") == 400
