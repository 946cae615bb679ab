# SPDX-License-Identifier: Apache-2.0
"""What the documents say is true of the sources: names exist, tables are complete, licences stand."""

import pathlib
import re
import subprocess

import pytest

from cli import Agent, tendril

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tracked(*patterns):
    listing = subprocess.run(["git", "-c", f"safe.directory={ROOT}", "ls-files", *patterns],
                             cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / line for line in listing.splitlines()]


def sources():
    return {path: path.read_text() for path in tracked("*.c", "*.h")}


def drop_reasons():
    text = (ROOT / "datapath/abi.h").read_text()
    table = text[text.index("#define DROP_REASONS(X)"):text.index("enum drop_reason")]
    return re.findall(r'X\((\d+), (\w+), "([^"]+)"\)', table)


@pytest.mark.parametrize("document, begin, end, least", [
    ("README.md", "## One packet's walk", "## Recipes", 8),
    ("doc/architecture.md", "## The walk of a packet", "## The walk of a policy", 10),
    ("doc/architecture.md", "## The walk of a policy", "## Glossary", 12),
])
def test_the_walk_names_functions_that_exist(document, begin, end, least):
    text = (ROOT / document).read_text()
    names = re.findall(r"`(\w+)\(\)`", text[text.index(begin):text.index(end)])
    assert len(names) >= least
    code = "\n".join(sources().values())
    missing = [name for name in names if not re.search(rf"\b{name}\(", code)]
    assert not missing


def test_the_architecture_names_files_and_folders_that_exist():
    text = (ROOT / "doc/architecture.md").read_text()
    paths = set(re.findall(r"`((?:lib|datapath|policy|cli|cni|kube|agent|tests|doc|deploy)/[\w./]*)`", text))
    assert len(paths) >= 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_architecture_and_lint_name_the_same_folders():
    text = (ROOT / "doc/architecture.md").read_text()
    table = text[text.index("| folder | what"):text.index("`deploy/` has")]
    folders = set(re.findall(r"^\| `([\w/]+)/` ", table, re.MULTILINE))
    lint = set(re.findall(r'^    "([\w/]+)": ', (ROOT / "tests/lint/includes").read_text(), re.MULTILINE))
    assert folders == lint


def test_the_glossary_is_in_order():
    text = (ROOT / "doc/architecture.md").read_text()
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", text[text.index("## Glossary"):], re.MULTILINE)
    assert len(words) >= 35 and words == sorted(words, key=str.lower)


def test_the_readme_of_a_folder_names_every_file():
    """By its name, or as cmd_NAME.c, api_NOUN.c, incremental*.c."""
    left = []
    for path in tracked("*.c", "*.bpf.h", "cli/*.html"):
        if path.is_relative_to(ROOT / "tests"):
            continue
        named = re.findall(r"`([\w*.]+)`", (path.parent / "README.md").read_text())
        patterns = [re.sub(r"NAME|NOUN|\*", r"\\w*", re.escape(name).replace(r"\*", "*")) for name in named]
        if not any(re.fullmatch(pattern, path.name) for pattern in patterns):
            left.append(str(path.relative_to(ROOT)))
    assert not left


def test_files_that_documents_link_exist():
    for document in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"


def test_the_datapath_page_says_of_every_map_what_a_pod_can_take_of_it():
    page = (ROOT / "doc/datapath.md").read_text()
    maps = re.findall(r"^struct \w+ (\w+) SEC", (ROOT / "datapath/bpf/maps.bpf.c").read_text(), re.MULTILINE)
    assert len(maps) >= 26
    for begin, end in (("## Maps", "### What one pod"), ("### What one pod", "## Drop reasons")):
        table = page[page.index(begin):page.index(end)]
        assert [name for name in maps if f"`{name}`" not in table] == []


def test_every_drop_reason_is_documented_as_it_is():
    page = (ROOT / "doc/datapath.md").read_text()
    for number, name, text in drop_reasons():
        assert re.search(rf"^\| *{number} *\| *`?{name}`? *\| *{re.escape(text)}", page,
                         re.MULTILINE), f"{name} is not in doc/datapath.md as in abi.h"


# Needs the kernel to run out of memory in the middle of a packet.
CANNOT_BE_FORCED = ["REWRITE_FAILED"]


def test_every_drop_reason_has_a_test():
    text = "\n".join(path.read_text() for path in tracked("tests/*.c", "tests/*.py"))
    missing = [name for _, name, _ in drop_reasons()
               if name not in CANNOT_BE_FORCED and not re.search(rf"\b(DROP_)?{name}\b", text)]
    assert not missing


def test_every_corner_case_is_held_by_tests_that_exist():
    readme = (ROOT / "tests/README.md").read_text()
    rows = [row for row in readme[readme.index("## Corner cases"):].splitlines()
            if row.startswith("| ") and not row.startswith("| corner case ")]
    assert len(rows) >= 35
    files = {}
    for path in tracked("tests/*.c", "tests/*.py", "tests/*.yaml", "tests/policy/golden/*"):
        files.setdefault(path.name, []).append(path)
        files.setdefault(path.stem, []).append(path)
    for row in rows:
        references = re.findall(r"`([\w.-]+)::([^`]+)`", row)
        assert references, row
        for file, name in references:
            assert any(re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", path.read_text())
                       for path in files.get(file, [])), f"{file}::{name}"


@pytest.mark.parametrize("path", tracked("*.c", "*.h", "*.py", "*.mk", "Makefile", ".ci/run"),
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_every_file_states_its_licence(path):
    head = "\n".join(path.read_text().splitlines()[:3])
    dual = path.match("datapath/bpf/*.bpf.[ch]") or path in (ROOT / "datapath/abi.h", ROOT / "lib/addr.h")
    wanted = "(GPL-2.0-only OR BSD-2-Clause)" if dual else "Apache-2.0"
    assert f"SPDX-License-Identifier: {wanted}" in head


@pytest.mark.parametrize("page", ["tendril.1", "tendril-policy.1", "tendrild.8", "tendril-cni.8",
                                  "tendril-kube.8", "tendril-http.8"])
def test_every_program_has_a_man_page(page):
    assert (ROOT / "doc/man" / page).exists()


def test_every_command_answers_help():
    names = commands()
    assert len(names) >= 14
    for name in names:
        done = subprocess.run([ROOT / "build/tendril", *name.split(), "--help"],
                              capture_output=True, text=True)
        assert done.returncode == 0 and f"usage: tendril {name}" in done.stdout, name


def shell_sessions(document):
    """What a document shows as "$ COMMAND" with its output below, indented by four."""
    sessions, command = [], None
    for line in document.read_text().splitlines():
        if line.startswith("    $ "):
            command = line[6:]
            sessions.append((command, []))
        elif command and (line.startswith("    ") or not line):
            sessions[-1][1].append(line[4:])
        else:
            command = None
    return [(command, "\n".join(lines).rstrip("\n") + "\n") for command, lines in sessions]


@pytest.mark.parametrize("command, output", shell_sessions(ROOT / "doc/policy-cli.md"))
def test_what_the_policy_cli_document_shows_is_printed(command, output):
    done = subprocess.run(["sh", "-c", command], cwd=ROOT / "doc/examples", capture_output=True,
                          text=True, env={"PATH": f"{ROOT / 'build'}:/usr/bin:/bin"})
    assert (done.stdout.rstrip("\n") + "\n", done.stderr) == (output, "")


def test_the_policy_cli_document_shows_every_offline_command():
    shown = {command.split()[2] for command, _ in shell_sessions(ROOT / "doc/policy-cli.md")}
    assert shown == {"matrix", "explain", "diff", "lint", "test", "validate"}


def readme_commands():
    text = (ROOT / "README.md").read_text()
    return sorted(set(re.findall(r"^    tendril ((?:[a-z]+ )*[a-z]+)(.*?)(?:  +#.*)?$", text,
                                 re.MULTILINE)))


@pytest.mark.parametrize("words, options", readme_commands())
def test_what_the_readme_types_is_taken(words, options):
    """Each command of the README is one, and takes the options it is shown with."""
    known = " ".join(words.split()[:2])
    done = subprocess.run([ROOT / "build/tendril", *known.split(), "--help"], capture_output=True,
                          text=True)
    if done.returncode:
        known = words.split()[0]
        done = subprocess.run([ROOT / "build/tendril", known, "--help"], capture_output=True,
                              text=True)
    assert done.returncode == 0 and f"usage: tendril {known}" in done.stdout
    for option in re.findall(r"(?<= )-{1,2}[a-z]+", options):
        assert option in done.stdout, option


def commands():
    table = (ROOT / "cli/commands.c").read_text()
    return re.findall(r'^\t\{ "([a-z -]+)", "[^"]*", OPERAND_', table, re.MULTILINE)


def options_of(command):
    """What --help says the command takes: {"--file": "-f", "--socket": None}."""
    done = subprocess.run([ROOT / "build/tendril", *command.split(), "--help"], capture_output=True,
                          text=True, check=True)
    return {name: letter or None
            for letter, name in re.findall(r"^  (?:(-\w), )?(--[a-z-]+)", done.stdout, re.MULTILINE)}


def completed(*lines):
    """What bash offers for each line, whose last word is incomplete."""
    script = f"source {ROOT / 'doc/completion/tendril.bash'}\n"
    for words in lines:
        quoted = " ".join(f"'{word}'" for word in words)
        script += (f"COMP_WORDS=(tendril {quoted}); COMP_CWORD={len(words)}; _tendril\n"
                   'echo "${COMPREPLY[*]}"\n')
    done = subprocess.run(["bash", "-c", script], cwd="/", capture_output=True, text=True, check=True,
                          env={"PATH": f"{ROOT / 'build'}:/usr/bin:/bin"})
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.split("\n")[:-1]]


def test_the_completion_offers_what_each_command_takes():
    offers = completed(*[[*command.split(), "--"] for command in commands()])
    for command, offered in zip(commands(), offers):
        assert offered == set(options_of(command)), command


def test_the_completion_knows_every_command():
    firsts = sorted({command.split()[0] for command in commands()})
    offers = completed([""], *[[first, ""] for first in firsts])
    assert {word for word in offers[0] if word[0] != "-"} == set(firsts)
    for first, offered in zip(firsts, offers[1:]):
        seconds = {command.split()[1] for command in commands() if command.startswith(first + " ")}
        if seconds:
            assert offered == seconds


@pytest.mark.parametrize("words, offered", [
    (["policy", "test", "-o", ""], {"text", "json", "yaml", "tap", "junit"}),
    (["policy", "lint", "--output", ""], {"text", "json", "yaml"}),
    (["policy", "-f", "test", "lint", "--f"], {"--file"}),
    (["policy", "record", "--for", ""], set()),
    (["policy", "explain", "--port", ""], set()),
    (["policy", "matrix", "--by", "n"], {"namespace"}),
    (["get", ""], {"pods", "services", "policies", "nodes", "namespaces", "endpointslices"}),
    (["help", "policy", "l"], {"list", "lint"}),
    (["monitor", "--verdict", ""], {"allow", "deny", "audit"}),
    (["policy", "validate", "/et"], {"/etc"}),
])
def test_the_completion_knows_values(words, offered):
    assert completed(words) == [offered]


def test_the_completion_knows_names(tmp_path):
    answers = {"GET /v1/endpoints": [{"namespace": "shop", "name": "web"}],
               "GET /v1/services": [{"namespace": "shop", "name": "cart"}],
               "GET /v1/policies": [{"namespace": "shop", "name": "p"}, {"namespace": "", "name": "guard"}],
               "GET /v1/objects": [{"kind": "Namespace", "namespace": "", "name": "bank"},
                                   {"kind": "Pod", "namespace": "shop", "name": "web"},
                                   {"kind": "Pod", "namespace": "shop", "name": "db"}]}

    def offered(*words):
        return set(tendril("complete", *words, TENDRIL_SOCKET=agent.path).stdout.split())
    with Agent(tmp_path / "agent.sock", answers) as agent:
        assert offered("endpoint", "get", "") == {"shop/web"}
        assert offered("service", "get", "s") == {"shop/cart"}
        assert offered("policy", "get", "") == {"shop/p", "/guard"}
        assert offered("policy", "explain", "") == {"shop/web"}
        assert offered("policy", "explain", "shop/web", "") == {"shop/web", "shop/cart"}
        assert offered("policy", "explain", "--to", "") == {"shop/web", "shop/cart"}
        assert offered("monitor", "-n", "") == {"bank", "shop"}
        assert offered("policy", "record", "shop/web", "") == {"shop/web"}


ZSH = """
compadd() { shift; print -l -- "$@" }
_files() { print -l :files }
words=(tendril policy "$1"); CURRENT=3
[[ -z $2 ]] || { words=(tendril policy validate ""); CURRENT=4 }
source "$3"
"""


def test_the_completion_of_zsh():
    def run(last, files):
        done = subprocess.run(["zsh", "-fc", ZSH, "zsh", last, files, ROOT / "doc/completion/_tendril"],
                              capture_output=True, text=True, check=True,
                              env={"PATH": f"{ROOT / 'build'}:/usr/bin:/bin"})
        assert done.stderr == ""
        return set(done.stdout.split())
    assert run("l", "") == {"list", "lint"}
    assert run("", "files") == {":files"}


def test_the_completion_of_fish(tmp_path):
    def run(line):
        script = f"source {ROOT / 'doc/completion/tendril.fish'}; complete -C '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True,
                              check=True, cwd=tmp_path,
                              env={"PATH": f"{ROOT / 'build'}:/usr/bin:/bin", "HOME": str(tmp_path)})
        return {word.split("\t")[0] for word in done.stdout.splitlines()}
    (tmp_path / "objects.yaml").touch()
    assert run("tendril policy l") == {"list", "lint"}
    assert run("tendril policy test -o ju") == {"junit"}
    assert "objects.yaml" in run("tendril policy validate obj")


@pytest.mark.parametrize("command", commands())
def test_the_manual_knows_each_option_where_it_describes_the_command(command):
    page = (ROOT / "doc/man/tendril.1").read_text().replace("\\", "")
    own, common = page[page.index(".SH COMMANDS"):].split(".SH OPTIONS")
    entry, = [text for text in own.split("\n.TP\n")[1:]
              if re.search(rf'\b{command}\b' if " " in command else rf'^\.B\w* "?{command}\b',
                           text.splitlines()[0])]
    for names in options_of(command).items():
        written = [[name for name in names if name and re.search(rf"(?<![\w-]){name}(?![\w-])", text)]
                   for text in (entry, common)]
        assert any(written), (command, names)


def test_the_news_names_the_version_and_its_abi():
    newest = (ROOT / "NEWS.md").read_text().split("\n## ")[1]
    abi = re.search(r"#define ABI_VERSION (\d+)", (ROOT / "datapath/abi.h").read_text())[1]
    assert newest.startswith((ROOT / "VERSION").read_text().strip())
    assert f"ABI {abi}" in newest


@pytest.mark.parametrize("path", tracked("doc/examples/containers/*"), ids=lambda p: p.name)
def test_the_containers_page_shows_its_examples_as_they_are(path):
    shown = "".join(f"    {line}".rstrip() + "\n" for line in path.read_text().expandtabs(4).splitlines())
    assert shown in (ROOT / "doc/containers.md").read_text()


def test_the_page_of_settings_is_made_from_the_table():
    made = subprocess.run([ROOT / "tests/harness/settings.py"], capture_output=True, text=True,
                          check=True).stdout
    assert (ROOT / "doc/settings.md").read_text() == made, "make golden writes it anew"
    shown = subprocess.run([ROOT / "build/tendrild", "--help"], capture_output=True, text=True,
                           check=True).stdout
    options = re.findall(r"^  (--[a-z-]+)", shown, re.MULTILINE)
    assert re.findall(r"`(--[a-z-]+)` \|", made) == options


@pytest.mark.parametrize("page", [*tracked("doc/*.md"), ROOT / "README.md"], ids=lambda p: p.name)
def test_commands_in_pages_exist_with_their_options(page):
    """`tendril ...` in running text and in what is to be typed."""
    text = page.read_text()
    shown = re.findall(r"`tendril ([^`]+)`", text) + re.findall(r"^    tendril (.*?)(?:  +#.*)?$", text,
                                                              re.MULTILINE)
    for words in shown:
        command = max((c for c in commands() if f"{words} ".startswith(f"{c} ")), key=len, default=None)
        if words.split()[0].startswith("-"):
            continue
        # The name of a group stands for all of it.
        assert command or any(c.startswith(f"{words.split()[0]} ") for c in commands()), words
        for option in re.findall(r"(?<= )-{1,2}[a-z][a-z-]*", words) if command else []:
            known = options_of(command)
            assert option in known or option in known.values(), words


@pytest.mark.parametrize("page", tracked("doc/*.md"), ids=lambda p: p.name)
def test_settings_in_pages_exist(page):
    known = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "doc/settings.md").read_text(), re.MULTILINE))
    named = set(re.findall(r'`"(\w+)": ?[^`]*`|`"(\w+)"` in `agent.json`', page.read_text()))
    for name in {a or b for a, b in named} - {"max"}:
        assert name in known, name


def test_every_folder_of_sources_has_a_readme_of_one_screen():
    folders = {path.parent for path in tracked("*.c", "*.h") if "tests" not in path.parts}
    assert len(folders) >= 16
    for folder in folders:
        assert (folder / "README.md").exists(), folder
        assert len((folder / "README.md").read_text().splitlines()) <= 70, folder


def test_the_readme_of_a_folder_names_files_that_exist():
    """In the tables: `name.c` or `name*.c`."""
    for readme in {path.parent / "README.md" for path in tracked("*.c", "*.h") if "tests" not in path.parts}:
        for row in readme.read_text().splitlines():
            for name in re.findall(r"`([\w./*-]+\.[ch])`", row.split("|")[1]) if row.startswith("| `") else []:
                name = re.sub("NOUN|NAME", "*", name)
                assert list(readme.parent.glob(name)) or list(ROOT.glob(name)), f"{readme}: {name}"
