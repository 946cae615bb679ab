#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints doc/settings.md, made from the table in agent/config.c; "make golden" writes it anew."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """# Settings

Made from the table in `agent/config.c` by `make golden`. Members of `/etc/tendril/agent.json` and
options of `tendrild` are the same settings; the command line wins. `tendrild --check-config` prints
what is in force, and says where a file is wrong. After a change of `logLevel` or `audit`, `systemctl
reload tendrild` is enough. All others take effect when `tendrild` is restarted, which interrupts no pod.
`bigTcp` and `mtu` change only pods that are added later. Some limits are fixed when the maps are made: the
agent refuses another value, and says so, until the pods are ended and `tendrild --cleanup` has run.

| agent.json | option | value | default | what |
|---|---|---|---|---|
"""
TAIL = """
## Only on the command line

| option | what |
|---|---|
"""
KINDS = {"PATH": "folder", "NUMBER": "number", "BOOL": "`true`, `false`"}


def rows():
    """(option, key or None, value, help) of each row of settings[]."""
    text = (ROOT / "agent/config.c").read_text()
    levels = text[text.index("static const struct setting settings[]"):]
    levels = levels[:levels.index("\n};")]
    # Adjacent literals are one.
    levels = re.sub(r'"\s*\n\s*"', "", levels).replace(
        "CONFIG_FILE_DEFAULT", '"/etc/tendril/agent.json"')
    levels = re.sub(r'" "', "", levels)
    row = re.compile(r'(?:(?P<kind>\w+)_SETTING\(|\{ )"(?P<option>[\w-]+)", (?P<rest>.*?)'
                     r'"(?P<help>(?:[^"\\]|\\.)*)"\s*(?:\)| \})', re.DOTALL)
    for found in row.finditer(levels):
        rest = re.sub(r"\s+", " ", found["rest"])
        key = re.match(r'"(\w+)"', rest)
        value = KINDS.get(found["kind"])
        limits = re.search(r"(\d+), (1 << 24|\d+),\s*$", rest)
        if found["kind"] == "NUMBER" and limits:
            upper = 1 << 24 if "<<" in limits[2] else int(limits[2])
            value = f"{limits[1]} to {upper}"
        argument = re.search(r'"([A-Z]+)",\s*$', rest)
        words = re.search(r'"([a-z0-9]+(?:\|[a-z0-9]+)+)",\s*$', rest)
        if words:
            value = ", ".join(f"`{word}`" for word in words[1].split("|"))
        if not value and argument:
            value = {"CIDR": "list of CIDRs", "NAME": "list of names", "LEVEL": "level", "FILE": "file"}.get(argument[1])
        yield found["option"], key and key[1], value, found["help"].replace('\\"', '"')


def split_default(text):
    found = re.match(r"(.*) \(([^()]*)\)$", text)
    return (found[1], found[2]) if found else (text, "")


def page():
    members, options = "", ""
    for option, key, value, text in rows():
        what, default = split_default(text)
        if key:
            members += f"| `{key}` | `--{option}` | {value} | {default} | {what} |\n"
        else:
            options += f"| `--{option}` | {text} |\n"
    return HEAD + members + TAIL + options


if __name__ == "__main__":
    print(page(), end="")
