# SPDX-License-Identifier: Apache-2.0
"""The page of `tendril policy matrix --html` as a person meets it: in a browser, with keys and clicks.

Chromium takes 300 MB of disk, so it is not among the packages that tests install: these cases run
where it is, and tests/policy/test_matrix.py reads the page's data everywhere.
"""

import json

import pytest

import browser
from cli import pod, policy, tendril

HTTP = [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]
NAMESPACES = 5


def world(pods):
    """One web and one store by turns; stores are reached by the webs of their namespace."""
    apps = ["web", "store"]
    return [pod(f"{apps[i % 2]}-{i}", f"n{i % NAMESPACES}", f"10.0.{i >> 8}.{i & 255}",
                {"app": apps[i % 2], "one": str(i)}, spec={"containers": HTTP})
            for i in range(1, pods + 1)] + [
        policy("store", f"n{i}", podSelector={"matchLabels": {"app": "store"}},
               ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}],
                         "ports": [{"port": 8080}]}]) for i in range(NAMESPACES)]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


def show(chromium, folder, pods, by):
    (folder / "all.json").write_text("\n".join(map(json.dumps, world(pods))))
    done = tendril("policy", "matrix", "-f", "all.json", "--by", by, "--html", "m.html", cwd=folder)
    assert done.returncode == 0, done.stderr
    chromium.load(folder / "m.html")
    return chromium


@pytest.fixture(params=[5, 200])
def page(request, chromium, tmp_path):
    page = show(chromium, tmp_path, request.param, "labels=one")
    assert page.run("all") == request.param
    return page


def colour(page, x, y):
    """Red, green, blue of a pixel of the picture."""
    return page.run(f"[...pen.getImageData({x} * devicePixelRatio, {y} * devicePixelRatio, 1, 1).data]")[:3]


def middle(page, source, target):
    """Where a cell is in the window."""
    return page.run("(([box, from, to]) => [box.left + label.left + (to + .5) * cell - scroller.scrollLeft,"
                    " box.top + label.top + (from + .5) * cell - scroller.scrollTop])"
                    f"([canvas.getBoundingClientRect(), {source}, {target}])")


def answer(page):
    return page.run("byId('answer').innerText")


def test_a_click_says_the_rule_that_decides(page):
    pods = page.run("data.groups.map(group => group.pods[0])")
    store = next(i for i, name in enumerate(pods) if "/store-" in name)
    namespace = pods[store].split("/")[0]
    web = next(i for i, name in enumerate(pods)
               if "/web-" in name and not name.startswith(f"{namespace}/"))
    page.click(*middle(page, web, store))
    said = answer(page)
    assert said.splitlines()[0].endswith(": denied")
    assert f"ingress deny: isolated, and no rule allows it: NetworkPolicy {namespace}/store (all.json:" in said
    page.click(*middle(page, store, web))
    assert answer(page).splitlines()[0].endswith(": allowed")
    assert "ingress allow: no policy selects this pod" in answer(page)


def test_keys_move_and_tell(page):
    last = page.run("all") - 1
    page.press("ArrowDown")
    assert page.run("[chosen.from, chosen.to]") == [0, 0]
    page.press("ArrowDown", "ArrowRight", "ArrowRight")
    assert page.run("[chosen.from, chosen.to]") == [1, 2]
    names = page.run("data.groups.map(group => group.name)")
    assert answer(page).startswith(f"{names[1]} \u2192 {names[2]}: ")
    page.press("End", "PageDown")
    assert page.run("[chosen.from, chosen.to]") == [min(11, last), last]
    page.press("Escape")
    assert page.run("chosen") is None and "Keys:" in answer(page)


def test_all_cells_are_in_the_window_and_have_their_colour(page):
    assert page.run("scroller.scrollWidth <= scroller.clientWidth + 1 &&"
                    " scroller.scrollHeight <= scroller.clientHeight + 1")
    box = page.run("(box => [box.left, box.top])(canvas.getBoundingClientRect())")
    rows = page.run("data.tables[0].rows")
    colours = {"x": [31, 122, 92], ".": [238, 217, 214]}
    last = len(rows) - 1
    for source, target in ((0, 0), (0, last), (last, 0), (last // 2, last // 3)):
        x, y = middle(page, source, target)
        assert colour(page, x - box[0], y - box[1]) == colours[rows[source][target]]


def assert_labels_are_whole(page):
    for key in ("", "+", "+", "+", "-", "-", "-", "-", "0"):
        page.press(*key)
        edge = page.run("[pen.getImageData(0, 0, 1, canvas.height), pen.getImageData(0, 0, canvas.width, 1)]"
                        ".flatMap(({ data }) => [...data].filter((_, i) => i % 4 === 3)).filter(a => a).length")
        assert edge == 0, "ink at the edge: a label is cut off"
        ink = page.run("[...pen.getImageData(0, label.top * devicePixelRatio, label.left * devicePixelRatio,"
                       " canvas.height).data].filter((_, i) => i % 4 === 3).filter(a => a).length")
        assert ink > 100, "no label is drawn"


def test_labels_are_whole_at_any_size(page):
    assert_labels_are_whole(page)


def test_labels_of_namespaces_are_whole(chromium, tmp_path):
    page = show(chromium, tmp_path, 200, "namespace")
    assert page.run("all") == NAMESPACES
    assert_labels_are_whole(page)


def test_what_is_told_moves_no_cell(chromium, tmp_path):
    page = show(chromium, tmp_path, 200, "namespace")
    before = middle(page, 1, 2)
    page.click(*before)
    page.run("new Promise(requestAnimationFrame)")
    assert "and 28 more" in answer(page)
    assert middle(page, 1, 2) == before
    assert page.run("canvas.clientHeight === scroller.clientHeight")


def test_find_marks_and_shows_what_it_finds(page):
    name = page.run("data.groups[all - 1].pods[0]")
    page.press("+", "+", "+", "+", "+", "+", "/")
    assert page.run("document.activeElement.id") == "find"
    page.press(*name)
    assert page.run("[...found]") == [page.run("all") - 1]
    shown = page.run("(all - .5) * cell - scroller.scrollTop")
    assert 0 < shown < page.run("scroller.clientHeight - label.top")


def test_larger_cells_scroll_and_labels_stay(page):
    page.press(*"+" * 30)
    assert page.run("cell") == page.run("CELL_MAX")
    page.run("scroller.scrollTo(1e6, 1e6)")
    page.run("new Promise(requestAnimationFrame)")
    box = page.run("(box => [box.left, box.top])(canvas.getBoundingClientRect())")
    assert box == page.run("(box => [box.left, box.top])(scroller.getBoundingClientRect())")
    x, y = middle(page, page.run("all") - 1, page.run("all") - 1)
    page.click(x, y)
    assert page.run("[chosen.from, chosen.to]") == [page.run("all") - 1] * 2


def test_it_says_from_what_it_was_made(page):
    assert page.run("document.title") == "Who reaches whom: all.json"
    assert "all.json, 2" in page.run("byId('source').textContent")
