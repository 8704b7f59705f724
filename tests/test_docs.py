"""The docs are right: snippets run, commands and links exist, tables equal the code."""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import importlib.util
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import crdtbucket
from benchmarks.runner import QUESTIONS
from benchmarks.runner import main as benchmarks
from crdtbucket import (
    AllDecision,
    AllReservation,
    Bucket,
    BucketSpec,
    Decision,
    Decisions,
    Limiter,
    MeshConfig,
    Mode,
    ModeNotice,
    RedisConfig,
    errors,
)
from crdtbucket._core import Table
from crdtbucket.cli.commands import cli
from crdtbucket.cli.config_command import config
from crdtbucket.config import load_config
from crdtbucket.http.server import envoy_service, quota_messages, quota_server
from crdtbucket.limiter import upkeep, waiting
from crdtbucket.mesh.links import counters, handshake, session
from crdtbucket.mesh.links.link import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES
from crdtbucket.mesh.protocol import (
    anti_entropy,
    entry_merger,
    gossip,
    horizon,
    member_directory,
    member_updates,
    membership,
    node_memory,
    observers,
    own_name,
    peer_state,
    pruning,
    unlinked,
    wire,
    withdrawals,
)
from crdtbucket.mesh.sockets import admission, discovery
from crdtbucket.mesh.transport import mesh_network, observing_links
from crdtbucket.reconcile import findings
from crdtbucket.simulator.outcome_report import COLUMNS
from crdtbucket.simulator.rule_catalogue import RULES
from crdtbucket.simulator.scenario_catalogue import SCENARIOS
from crdtbucket.simulator.store_scenarios import ALL_SCENARIOS, STORE_SCENARIOS
from crdtbucket.strong import resync, supervisor
from crdtbucket.strong.controller import mode_controller, outage, webhook
from crdtbucket.strong.quota import Quota
from crdtbucket.strong.redis import registry
from crdtbucket.strong.redis.shares import Division
from crdtbucket.strong.strong_bucket import StrongBucket
from tests.certificates import Authority
from tests.chaos.__main__ import PARTS
from tests.http.server.test_worker_limits import SERVERS
from tests.strong.redis_server import Server, free_port

ROOT = Path(__file__).parents[1]
OUTSIDE = ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY", "CODE_OF_CONDUCT")
PAGES = [ROOT / f"{name}.md" for name in OUTSIDE]
PAGES += sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = re.compile(
    r"https://(?:github\.com/crdtbucket/crdtbucket/blob/main"
    r"|raw\.githubusercontent\.com/crdtbucket/crdtbucket/main)/"
)
"""How pages that are also read elsewhere name a file of the project."""
GENERATED = {"accuracy.md", "benchmarks.md", "scaling.md"}
REDIS = "127.0.0.1:6379"
"""Where snippets find a Redis; there is one while a page that names it runs."""


def blocks(path: Path, kind: str) -> list[tuple[int, str]]:
    """(line, text) of the fenced blocks of a kind."""
    text = path.read_text()
    return [
        (text.count("\n", 0, match.start(2)) + 1, match[2])
        for match in FENCE.finditer(text)
        if match[1] == kind
    ]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table below a heading, without its two head lines."""
    lines = (ROOT / page).read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.lstrip("#").strip() == heading)
    table: list[str] = []
    for line in lines[start + 1 :]:
        if line.startswith("|"):
            table.append(line)
        elif table or line.startswith("#"):
            break
    assert len(table) > 2, f"no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table[2:]]


def names(page: str, heading: str) -> list[str]:
    """The texts in backticks in the first column of a table."""
    return [name for row in rows(page, heading) for name in re.findall(r"`([^`]+)`", row[0])]


# ---- snippets ----


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the examples in it, which also gets what would be left in /tmp."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return tmp_path


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=named)
def test_each_snippet_runs_as_it_is_pasted(path: Path, place: Path) -> None:
    """Alone, as a file of its own: with its own imports, and no `await` outside a function."""
    source = blocks(path, "python")
    ports: dict[str, str] = {}

    def moved(match: re.Match[str]) -> str:
        return ports.setdefault(match[0], f"127.0.0.1:{free_port()}")

    source = [(line, re.sub(r"127\.0\.0\.1:79\d\d", moved, text)) for line, text in source]
    with contextlib.ExitStack() as stack:
        if any(REDIS in text for _, text in source):
            server = stack.enter_context(Server())
            here = f"{server.host}:{server.port}"
            source = [(line, text.replace(REDIS, here)) for line, text in source]
        for line, text in source:
            code = compile("\n" * (line - 1) + text, str(path), "exec")
            exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_snippet_that_is_not_run_has_its_own_imports(path: Path) -> None:
    """Packages that are too large for the tools: tests/integrations/test_page.py runs these where
    they are installed."""
    for line, text in blocks(path, "py"):
        tree = ast.parse(text)
        nodes = list(ast.walk(tree))
        known = {*dir(builtins), *(node.arg for node in nodes if isinstance(node, ast.arg))}
        for node in nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                known |= {one.asname or one.name for one in node.names}
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                known.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert used <= known, f"{path.name}:{line}"


BODY = r"((?:(?!```).*\n)*)```"
SHOWN = re.compile(rf"^```python\n{BODY}\n```text\n{BODY}$", re.MULTILINE)
"""A snippet, and what it prints."""


@pytest.mark.parametrize("name", ["README.md", "docs/getting-started.md"])
def test_a_snippet_with_its_output_prints_that(name: str, place: Path) -> None:
    shown = SHOWN.findall((ROOT / name).read_text())
    assert shown
    for source, output in shown:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(source, name, "exec"), {"__name__": "__main__"})
        assert printed.getvalue() == output


def test_there_are_snippets_to_run() -> None:
    assert sum(len(blocks(path, "python")) for path in PAGES) > 15


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_yaml_loads(path: Path, place: Path) -> None:
    for number, (_, text) in enumerate(blocks(path, "yaml")):
        file = place / f"{number}.yaml"
        file.write_text(text)
        assert Limiter.from_file(file).buckets


# ---- commands ----


def console_lines() -> Iterator[tuple[Path, str]]:
    for path in PAGES:
        for _, text in blocks(path, "console"):
            for line in text.splitlines():
                if line.startswith("$ "):
                    yield path, line[2:].partition("  #")[0].strip()


def check_command(words: list[str]) -> None:
    """The subcommand exists, and its arguments are ones that it takes."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, f"no subcommand {words[0]!r}"
    if isinstance(command, click.Group):
        words = words[1:]
        command = command.get_command(click.Context(command), words[0])
        assert command is not None, f"no subcommand {words[0]!r}"
    with command.make_context(words[0], words[1:]) as context:
        for pattern in context.params.get("scenarios", ()):
            assert any(re.fullmatch(pattern.replace("*", ".*"), name) for name in ALL_SCENARIOS)
        if command.name == "reconcile":
            assert load_config(context.params["config"]).mesh is not None, "it refuses this file"


def test_commands_exist(place: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    (place / "trace.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    (place / "limits.yaml").write_text(blocks(ROOT / "docs/configuration.md", "yaml")[0][1])
    seen = 0
    for path, line in console_lines():
        words = shlex.split(line)
        assert words[0] in ("make", "crdtbucket", "pip", "python", *SERVERS), f"{path}: {line}"
        if words[0] == "pip":
            extras = re.findall(r"\[(.*)\]", line.partition("#")[0])
            project = (ROOT / "pyproject.toml").read_text()
            assert words[1] == "install", f"{path}: {line}"
            assert all(f"\n{extra} = [" in project for one in extras for extra in one.split(","))
        elif words[0] == "python":
            assert words[1:3] == ["-m", "benchmarks"], f"{path}: {line}"
            benchmarks.make_context("benchmarks", words[3:])
        elif words[0] in SERVERS:
            assert words[-1] == SERVERS[words[0]][-1], f"{path}: {line}"  # that is what is run
        elif words[0] == "make":
            goals = {word for word in words[1:] if "=" not in word}
            assert goals <= targets, f"{path}: {line}"
        else:
            check_command(words[1:])
        seen += 1
    assert seen > 5


def test_the_quick_command_prints_the_table_that_is_explained() -> None:
    lines = [line for path, line in console_lines() if path.name == "simulator.md"]
    quick = next(line for line in lines if "--duration-scale 0.05" in line)
    done = CliRunner().invoke(cli, shlex.split(quick)[1:], catch_exceptions=False)
    assert done.exit_code == 0
    heads = " ".join(done.stdout.splitlines()[:2]).split()
    assert sorted(heads) == sorted(" ".join(("scenario", "rule", *dict(COLUMNS))).split())
    explained = names("docs/simulator.md", "The table")
    assert explained == ["scenario", "rule", *(title for title, _ in COLUMNS)]


# ---- links ----


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


def targets(path: Path) -> Iterator[str]:
    """Where the links of a page lead, those to a file of the project from the page's folder."""
    root = f"{os.path.relpath(ROOT, path.parent)}/"
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text())):
        yield HERE.sub(root, target)


def test_links_of_the_readme_work_where_it_is_shown_alone() -> None:
    told = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text())
    assert [target for target in told if not target.startswith("https://")] == []


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in targets(path):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{path.name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        seen.add(page)
        for target in targets(page):
            found = (page.parent / target.partition("#")[0]).resolve()
            if found.suffix == ".md" and found not in seen and found.exists():
                new.add(found)
    assert set(PAGES) <= seen


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_tests_that_are_named_exist(path: Path) -> None:
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", path.read_text()):
        source = (ROOT / file).read_text()
        assert re.search(rf"(def|class) {name}\b", source), f"{path.name}: {file}::{name}"
    for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)/?`", path.read_text()):
        assert (ROOT / name).exists(), f"{path.name}: {name}"


def plays(file: str, words: str | None) -> bool:
    """Whether a file has a test with these words in its name."""
    source = (ROOT / file).read_text()
    return re.search(rf"def test_\w*{words or ''}", source) is not None


@pytest.mark.parametrize(
    "command", [row[-1] for row in rows("docs/security.md", "Attacks that were tried")]
)
def test_what_plays_an_attack_is_a_test(command: str) -> None:
    match = re.fullmatch(r"`([\w/]+\.py)(?: -k (\w+))?`", command)
    assert match is not None
    assert plays(f"tests/{match[1]}", match[2])


FAULTS = [
    row
    for heading in (
        "Links, deaths and demand in a mesh",
        "Redis, healthy or slow",
        "Processes and their lives",
    )
    for row in rows("docs/faults.md", heading)
]


@pytest.mark.parametrize(("now", "command"), [(row[-2], row[-1].strip("`")) for row in FAULTS])
def test_what_shows_a_fault_is_a_command(now: str, command: str) -> None:
    """A test, a benchmark, or scenarios; and what these show is what docs/accuracy.md says."""
    if match := re.fullmatch(r"pytest (tests/[\w/]+\.py) -k (\w+)", command):
        assert plays(match[1], match[2])
    elif match := re.fullmatch(r"python -m benchmarks (\w+)", command):
        assert match[1] in QUESTIONS
    elif match := re.fullmatch(r"python -m tests.chaos --only (\w+)", command):
        assert match[1] in PARTS
    else:
        program, *words = shlex.split(command)
        assert program == "crdtbucket"
        _, _, rest = cli.resolve_command(click.Context(cli), words)
        simulate = cli.get_command(click.Context(cli), "simulate")
        assert simulate is not None
        asked = simulate.make_context("simulate", rest).params
        assert set(asked["scenarios"]) <= set(SCENARIOS)
        if asked["capacity"] is not None:
            return
        figures = " ".join(
            " ".join(row[1:])
            for heading in ("All scenarios", "With `partition_burst: share`")
            for row in rows("docs/accuracy.md", heading)
            if row[0].strip("`") in asked["scenarios"]
        )
        for figure in re.findall(r"\+[\d.]+(?= %)", now.partition("without prediction")[0]):
            assert figure in figures.split()


# ---- the site ----


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=named)
def test_a_page_opens_with_its_reader_and_what_they_will_know(path: Path) -> None:
    title, opening = path.read_text().split("\n\n", 2)[:2]
    assert re.fullmatch(r"# [^\n]+", title)
    assert re.match(r"For (somebody|everybody|whoever|a \w+ programmer) ?", opening), opening
    assert re.search(r"[Aa]fterwards|In about", opening), opening


def test_the_index_lists_each_page_once_with_who_needs_it() -> None:
    page = ROOT / "docs/index.md"
    listed = re.findall(r"^- \[[^\]]+\]\(([\w-]+)\.md\): \w+", page.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted({one.stem for one in page.parent.glob("*.md")} - {"index"})


@pytest.mark.timeout(1_200)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.stem for path in tmp_path.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= built
    assert "CostExceedsCapacity" in (tmp_path / "reference.html").read_text()


# ---- the house ----


def test_the_page_on_modes_has_a_row_for_each_mode() -> None:
    heading = (ROOT / "docs/modes.md").read_text().splitlines()[0].lstrip("# ")
    assert names("docs/modes.md", heading) == [str(mode) for mode in Mode]


def test_the_house_is_drawn_from_the_imports() -> None:
    tool = tool_of_docs("architecture")
    page = tool.PAGE.read_text()
    assert tool.BEGIN in page
    assert page == tool.written(page), "run make docs-architecture"


def test_the_walks_go_through_functions_that_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    files = {path.name: path for path in (ROOT / "crdtbucket").rglob("*.*")}
    files |= {path.name: path for path in (ROOT / "docs").glob("*.py")}
    named = re.findall(r"`(\w+)`\s+in\s+`(\w+\.(?:py|h|pxi))`", text)
    assert len(named) > 15
    for name, file in named:
        assert re.search(rf"\b{name}\(", files[file].read_text()), f"{name} in {file}"
    for file in re.findall(r"`(\w+\.(?:py|h|pxi))`", text):
        assert file in files, file


def test_the_drawing_of_the_memory_has_all_regions() -> None:
    regions = (ROOT / "crdtbucket/core/memory/regions.h").read_text()
    placed = set(re.findall(r"t->(\w+) = (?:t->\w+ = )?place\(", regions)) - {"h"}
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"```text\nregion  .*\n((?:.+\n)+?)```", text)
    assert drawn is not None
    rows = [re.split(r" {2,}", row)[0].split(", ") for row in drawn[1].splitlines()]
    assert {region for row in rows for region in row} == placed | {"header"}


# ---- the API ----


def test_every_public_name_is_documented_and_no_other() -> None:
    assert sorted(names("docs/api.md", "The API")) == sorted(crdtbucket.__all__)


TOLD_KINDS = [Limiter, Bucket, StrongBucket, Decision, Decisions, AllDecision, AllReservation]
TOLD_KINDS += [ModeNotice]
# A bucket's half of the talk with Redis; its caller is the ledger alone.
TALK = ["open_call", "close_call", "take_as", "own", "void", "advertised", "adopt", "shortage"]
TALK += [
    "returned",
    "charged",
    "name_hash",
    "attach",
    "switch",
    "store",
    "redirect",
    "choose_by",
    "take_apart",
    "take_here",
    "beat",
    "parts",
]


@pytest.mark.parametrize("kind", TOLD_KINDS, ids=lambda k: k.__name__)
def test_every_public_attribute_is_documented(kind: type) -> None:
    inside = {"in_force", "table", "waiters", "reservations", "count", "index", *TALK}
    told = (ROOT / "docs" / "api.md").read_text()
    for name in dir(kind):
        if not name.startswith("_") and name not in inside:
            assert re.search(rf"[`.]{name}\b", told), f"{kind.__name__}.{name}"


def test_arguments_of_a_definition() -> None:
    parameters = list(inspect.signature(BucketSpec).parameters)
    assert names_of_first_column("docs/api.md", "Definitions") == parameters


def names_of_first_column(page: str, heading: str) -> list[str]:
    return [re.sub(r"[`]", "", row[0]) for row in rows(page, heading)]


def test_the_tree_of_errors() -> None:
    text = next(text for _, text in blocks(ROOT / "docs/api.md", "text") if "└──" in text)
    told = {}
    parents: list[str] = []
    for line in text.splitlines():
        match = re.match(r"([│├└─ ]*)(\w+)(?: \((\w+)\))?", line)
        assert match is not None
        depth = len(match[1]) // 4
        parents[depth:] = [match[2]]
        told[match[2]] = {parents[depth - 1] if depth else "Exception", *filter(None, [match[3]])}
    for name, bases in told.items():
        assert {base.__name__ for base in getattr(errors, name).__bases__} == bases, name
    assert set(told) == {
        name
        for name, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, errors.CrdtbucketError)
    }


def stat_keys(stats: dict[str, Any]) -> set[str]:
    found = {f"table.{key}" for key in stats["table"]} | {f"mesh.{key}" for key in stats["mesh"]}
    for bucket in stats["buckets"].values():
        found |= {f"buckets.*.{key}" for key in bucket}
    found |= {f"strong.{key}" for key in stats["strong"]}
    found |= {f"config.{key}" for key in stats["config"]}
    found |= {f"overrides.{key}" for key in stats["overrides"]}
    found |= {f"shared.{key}" for key in stats["shared"]}
    for part in ("redis", "certificates"):
        found |= {f"{part}.*.{key}" for one in stats[part].values() for key in one}
    return found


async def test_stats_have_the_documented_keys(tmp_path: Path) -> None:
    mesh = MeshConfig(listen="127.0.0.1:0")
    nobody = f"redis://127.0.0.1:{free_port()}"
    spec = BucketSpec("api", 1, 1, consistency="strong")
    async with Limiter([spec], node="eu-1", mesh=mesh, redis=nobody) as limiter:
        limiter.certificates.watch("serve", Authority(tmp_path, "ca").issue("n")["tls_cert"])
        limiter.certificates.beat()
        stats = limiter.stats()
    with tempfile.TemporaryDirectory() as place:
        alone = Limiter([BucketSpec("api", 1, 1)], shared=f"{place}/table")
        stats["shared"] = alone.stats()["shared"]
        stats["shared"] |= {"view_age": 0.0, "omitted": 0}  # of one that does not lead
        alone.close()
    assert set(names("docs/api.md", "Stats")) == stat_keys(stats)
    parts = {"node", "region", "warming_up", "config", "table", "buckets", "peers", "mesh"}
    parts |= {"overrides", "certificates"}
    parts |= {"lag", "longest_lag", "keys", "identity", "strong", "redis", "shared"}
    assert set(stats) == parts


def test_what_troubleshooting_quotes_of_the_log_is_logged() -> None:
    source = "".join(path.read_text() for path in (ROOT / "crdtbucket" / "mesh").rglob("*.py"))
    told = names("docs/troubleshooting.md", "Nodes do not find each other")
    quoted = [words for words in told if " " in words]
    assert len(quoted) == 10
    assert [words for words in quoted if words not in source] == []


# ---- strong mode ----


def test_the_diagram_of_modes_is_that_of_the_controller() -> None:
    drawn = [text for _, text in blocks(ROOT / "docs/modes.md", "text") if "| strong |" in text]
    assert len(drawn) == 1
    assert drawn[0] in f"{inspect.getdoc(mode_controller)}\n"


@pytest.mark.parametrize("row", rows("docs/modes.md", "The quota"), ids=lambda row: row[0])
async def test_the_arithmetic_of_the_quota(row: list[str]) -> None:
    nodes = int(row[0].partition(",")[0])
    spec, ratio = BucketSpec("api", 10_000, 2_000), Fraction(1, 10)
    each, rate = (int(re.sub(r"\D", "", part)) for part in row[2].split(", "))
    share = Fraction(row[1])
    assert share == (ratio / nodes if "fleet" in row[0] else min(ratio, Fraction(1, nodes)))
    assert (each, rate) == (spec.capacity * share, spec.refill_rate * share)
    assert row[3] == f"{each * nodes:,}, {rate * nodes:,}/s"
    table = Table(max_keys=16, virtual=True)
    quota = Quota(table, spec, ratio, fleet="fleet" in row[0])
    for expected in (each, rate):
        given = 0
        while (
            decision := quota.take("a", 10, Division(nodes, nodes))
        ) is not None and decision.allowed:
            given += 10
        assert given == expected
        table.set_time(table.now() + 1_000_000_000)


async def test_the_documented_rights_are_all_that_a_redis_user_needs() -> None:
    text = (ROOT / "docs" / "modes.md").read_text()
    told = re.search(r"An ACL user needs(.*?); in\s+a\s+cluster", text, re.DOTALL)
    assert told is not None
    pattern, *commands = re.findall(r"`([^`]+)`", told[1])
    with Server() as server:
        rights = [f"+{command.lower().replace(' ', '|')}" for command in commands]
        server.call("ACL", "SETUSER", "limiter", "on", ">secret", f"~{pattern}", *rights)
        redis = RedisConfig(host=server.host, port=server.port, username="limiter",
                            password="secret", deadline=10.0)  # fmt: skip
        spec = BucketSpec("api", 10, 10, consistency="strong")
        async with Limiter([spec], node="eu-1", redis=redis) as limiter:
            bucket = limiter.bucket("api")
            for _ in range(2):
                assert (await bucket.acquire("a")).mode is Mode.STRONG
            server.call("SCRIPT", "FLUSH")
            assert (await bucket.acquire("a")).mode is Mode.STRONG
            failed = [one["failed"] for one in limiter.stats()["redis"].values()]
        denied = int(re.search(r"acl_access_denied_cmd:(\d+)", server.call("INFO").decode())[1])
        assert failed == [{}]
        # CLIENT SETNAME alone, which serves people only.
        assert denied == 1


def test_the_api_page_names_all_loggers() -> None:
    used = {
        name
        for path in (ROOT / "crdtbucket").rglob("*.py")
        for name in re.findall(r'getLogger\("([\w.]+)"\)', path.read_text())
    }
    assert set(names("docs/api.md", "Logging")) == used


@pytest.mark.parametrize(
    ("name", "tables"), [("configuration.md", 1), ("api.md", 3), ("modes.md", 1)]
)
def test_the_tables_of_settings_are_those_of_the_code(name: str, tables: int) -> None:
    tool = tool_of_docs("reference")
    page = (ROOT / "docs" / name).read_text()
    assert page.count(", written by docs/reference.py -->") == tables
    assert page == tool.written(page), "run docs/reference.py"


def test_the_reference_of_configuration_files_has_each_key_once() -> None:
    told = [row[0].strip("`") for row in rows("docs/configuration.md", "Configuration files")]
    assert len(told) == len(set(told)) > 60


def test_commands_for_configuration_files() -> None:
    told = {name.partition(" ")[0]: name for name in names("docs/configuration.md", "The command")}
    assert set(told) == set(config.commands)
    text = (ROOT / "docs" / "configuration.md").read_text()
    for command in config.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                assert f"`{option.opts[0]}" in text, f"{command.name} {option.opts[0]}"


# ---- reconciliation ----


def test_options_and_figures_of_reconciliation() -> None:
    command = cli.get_command(click.Context(cli), "reconcile")
    assert command is not None
    options = [one.opts[0] for one in command.params if isinstance(one, click.Option)]
    assert names_of_first_column("docs/reconcile.md", "Options") == options
    told = names_of_first_column("docs/reconcile.md", "The figures")
    assert told == list(findings.Report().as_dict())
    told = names_of_first_column("docs/reconcile.md", "Holders")
    assert told == [field.name for field in dataclasses.fields(findings.Holder)]


# ---- the wire ----


def numbered(page: str, heading: str) -> dict[str, int]:
    return {row[1].strip("`"): int(row[0]) for row in rows(page, heading)}


def test_the_page_on_the_wire_has_the_field_numbers_of_the_code() -> None:
    assert numbered("docs/wire.md", "Header fields") == wire._NUMBERS


def test_kinds_of_payload_flags_sealed_frames_and_reasons() -> None:
    payloads = {"entries": wire.ENTRIES, "items": wire.ITEMS, "want": wire.WANT}
    payloads["range"] = wire.RANGE
    assert numbered("docs/wire.md", "Payload kinds") == payloads
    flags = {"joining": wire.JOINING, "leaving": wire.LEAVING}
    flags |= {"store_unreachable": wire.STORE_UNREACHABLE, "keeps_credit": wire.KEEPS_CREDIT}
    assert numbered("docs/wire.md", "Flags") == flags
    kinds = {kind.name: kind.value for kind in session.Kind}
    assert numbered("docs/wire.md", "Sealed frames") == kinds
    reasons = {reason.name: reason.value for reason in session.Reason}
    assert numbered("docs/wire.md", "Reasons") == reasons


def test_the_page_on_the_wire_has_the_limits_of_the_code() -> None:
    told = {
        row[0].strip("`"): int(row[1].replace(",", "")) for row in rows("docs/wire.md", "Limits")
    }
    assert told
    for name, value in told.items():
        assert getattr(wire, name) == value, name


# ---- the simulator ----


def test_scenarios_and_rules() -> None:
    assert set(names("docs/simulator.md", "Scenarios")) == set(SCENARIOS)
    assert set(names("docs/simulator.md", "Rules")) == set(RULES)
    assert set(names("docs/simulator.md", "A replicated store")) == set(STORE_SCENARIOS)


def tool_of_docs(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_accuracy_is_what_the_rows_say_and_nobody_edited_it() -> None:
    tool = tool_of_docs("figures")
    rows = json.loads(tool.ROWS.read_text())
    assert tool.TABLE.read_text() == tool.render(rows)
    assert tuple(rows["store"]["others"]) == tool.STORE_OTHERS
    assert tool.PICTURE.read_bytes()[:4] == b"\x89PNG"


def test_accuracy_names_where_a_light_load_was_denied_and_what_an_option_changes() -> None:
    tool = tool_of_docs("figures")
    data = json.loads(tool.ROWS.read_text())
    assert "No call was denied" in tool.render(data)
    for row in data["rows"]:
        if (row["scenario"], row["rule"]) == ("partition-30s", tool.SHARED):
            row["denied_light"], row["starved_seconds"] = 1_200, 7.25
    changed = tool.render(data)
    assert "asked for: 1,200 in `partition-30s`." in changed
    assert "7.25" in changed.partition("## With")[2].partition("## A replicated")[0]


def test_options_are_documented() -> None:
    told = (ROOT / "docs" / "simulator.md").read_text()
    for name in ("simulate", "replay"):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}`" in told, f"{name} {parameter.opts[0]}"
    known = {
        option
        for command in cli.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    used = set(re.findall(r"`(--[a-z-]+)`", told))
    assert used <= known


def test_no_figure_without_a_command() -> None:
    """Percentages and nanoseconds stand on the page that a command writes, and nowhere else."""
    allowed = {"0.01 %", "5 %", "30 %", "50 %"}  # names and settings of scenarios
    for path in PAGES:
        if path.name in GENERATED or path.name in ("CHANGELOG.md", "cells.md", "faults.md"):
            # cells.md is a design that is not built, and says where its figures come from; each row
            # of faults.md has its command, or is of what was.
            continue
        text = path.read_text()
        found = set(re.findall(r"\d[\d.,]* %", text)) - allowed
        assert not found, f"{path.name}: {found}"


# ---- constants ----


def in_core(header: str, name: str) -> float:
    """A number that a header of the core defines, `2.5e6` or `15 * SECOND`."""
    text = (ROOT / "crdtbucket" / "core" / header).read_text()
    match = re.search(rf"\b{name}\b(?: +| = )\(?([\d.e]+)(?: ([*/]) (SECOND|\d+))?", text)
    match = match or re.search(rf"\b{name}\b(?: +| = )\(?(SECOND) (/) (\d+)", text)
    assert match is not None, f"{header}: {name}"
    left, right = (1e9 if part == "SECOND" else float(part or 1) for part in match.group(1, 3))
    return left / right if match[2] == "/" else left * right


SECOND = 1e9
TOLD_S = pruning.SETTLED_NS / SECOND / withdrawals.TOLD_PART
DOUBTED_S = pruning.SETTLED_NS / SECOND / withdrawals.DOUBTED_PART
TOLD = [
    ("model.md", f"a *fast* rate ({in_core('level/peer_rates.h', 'FAST_NS') / 1e6:g} ms)"),
    ("model.md", f"a *slow* rate ({in_core('level/peer_rates.h', 'SLOW_NS') / SECOND:g} s"),
    ("model.md", f"time constant of {in_core('level/peer_rates.h', 'PEAK_NS') / SECOND:g} s"),
    ("model.md", f"for at most `{in_core('level/peer_rates.h', 'CLAIM_MOST'):g}r`"),
    ("model.md", f"at least {horizon.NEAR_NS / SECOND:g} s; `far`"),
    ("model.md", f"idle for {in_core('memory/mapping.h', 'grace_ns') / SECOND:g} s"),
    ("security.md", f"evicted after {in_core('memory/mapping.h', 'grace_ns') / SECOND:g} s"),
    ("model.md", f"among some {in_core('level/crowding.h', 'VICTIM_SAMPLE'):g}"),
    (
        "security.md",
        f"up to {in_core('level/crowding.h', 'CROWDED_A_FRAME'):g} of its own entries, and",
    ),
    ("model.md", f"At most {int(in_core('merge/merge.h', 'ROOM_A_FRAME')):,} go for"),
    (
        "security.md",
        f"{entry_merger.PART:,} are merged in one go, and {entry_merger.PART_ROOM} that look",
    ),
    ("security.md", f"or fewer with {8 * entry_merger.PART:,} columns;"),
    ("security.md", f"at most {anti_entropy.MOST_ITEMS:,} items or hashes"),
    ("security.md", f"an observer has at most {wire.MAX_OBSERVER_PAYLOAD >> 10} KiB"),
    ("security.md", f"for up to {own_name.MET_NS / SECOND:g} s afterwards"),
    ("security.md", f"at least a {2 * (unlinked.COUNTED + 2)}th of"),
    ("model.md", f"at least {gossip.FLUSH_GAP_NS / 1e6:g} ms apart"),
    ("model.md", f"or after {node_memory.WARM_UP_NS / SECOND:g} s"),
    ("model.md", f"than {peer_state.LATE_NS / SECOND:g} s when it comes"),
    ("model.md", f"and {pruning.SETTLED_NS / SECOND:g} s have passed,"),
    ("model.md", f"to add it: {TOLD_S:g} s, or {pruning.ROUNDS // withdrawals.TOLD_PART} rounds"),
    ("model.md", f"break for {DOUBTED_S:g} s, or {pruning.ROUNDS // withdrawals.DOUBTED_PART}"),
    ("wire.md", f"seen within {member_directory.ALIVE_NS / SECOND:g} s"),
    ("wire.md", f"within {membership.DEAD_NS / SECOND:g} s), `dead`"),
    ("wire.md", f"silent for over {membership.HOLD_NS / SECOND:g} s"),
    ("wire.md", f"all hashes in {anti_entropy.PERIOD_NS / SECOND:g} s"),
    ("wire.md", f"slices of about {anti_entropy.SLICE:,} keys"),
    ("wire.md", f"{in_core('merge/digest.h', 'QUIET_NS') / SECOND:g} s). A peer whose own digest"),
    ("wire.md", f"again every\n{member_updates.REPEAT_NS / SECOND:g} s"),
    ("wire.md", f"remembered for {pruning.KEPT_NS / SECOND / 60:g} minutes"),
    ("wire.md", f"number of columns, at most {in_core('memory/layout.h', 'MAX_COLUMNS'):g}"),
    ("wire.md", f"one frame holds and about {observers.SLICE:,};"),
    ("wire.md", f"At most {observing_links.MAX_OBSERVERS} observers"),
    ("wire.md", f"silent for {observing_links.OBSERVER_SILENT_S:g} s is hung up on"),
    ("security.md", f"{handshake.HANDSHAKE_S:g} s, {admission.MAX_UNPROVEN_BYTES // 1024} KiB"),
    (
        "security.md",
        f"{admission.MAX_UNPROVEN}, and {admission.MAX_UNPROVEN_PER_ADDRESS} from one IPv4",
    ),
    ("security.md", f"`max_peers` + {admission.MAX_UNPROVEN}"),
    ("security.md", f"{wire.MAX_FRAME // 1024} KiB and its seal"),
    (
        "security.md",
        f"at most {MAX_QUEUED_FRAMES} or {MAX_QUEUED_BYTES >> 20} MiB",
    ),
    ("security.md", f"after {mesh_network.STUCK_S:g} s without progress"),
    ("security.md", f"{mesh_network.SILENT_S:g} s, then the link ends"),
    ("security.md", f"of repeats every {counters.REPEAT_S:g} s"),
    ("security.md", f"a snapshot every {upkeep.SAVE_NS / SECOND:g} s"),
    ("api.md", f"At most {waiting.MAX_WAITERS:,} callers wait for a key"),
    ("modes.md", f"in chunks of {resync.CHUNK}, with a"),
    ("modes.md", f"Closing a limiter takes {supervisor.LAST_SETTLING_S:g} s for it at most"),
    ("modes.md", f"line in the log every {resync.PROGRESS_NS / SECOND:g} s"),
    ("modes.md", f"refused connections at least {outage.REFUSAL_SPACING_NS / 1e6:g} ms apart"),
    ("modes.md", f"Redis saw within the last {registry.GONE_S} s"),
    ("modes.md", f"has `deadline` ({RedisConfig(host='a').deadline * 1e3:g} ms)"),
    ("modes.md", f"records (an hour) {'' if RedisConfig(host='a').retention == 3600 else 'not'}"),
    ("proxies.md", f"message of more than {envoy_service.MAX_MESSAGE >> 20} MiB ends"),
    ("proxies.md", f"(or {quota_server.MAX_ID_BYTES >> 20} MiB of names and values)"),
    ("proxies.md", f"more than {quota_messages.MOST_BYTES >> 10} KiB about one"),
    ("configuration.md", f"Each attempt ends after {webhook.DEADLINE_S:g} s;"),
    ("configuration.md", f"resolved again about every {discovery.REFRESH_S:g} s"),
]


@pytest.mark.parametrize(("page", "text"), TOLD)
def test_constants_are_those_of_the_code(page: str, text: str) -> None:
    words = (ROOT / "docs" / page).read_text().split()
    assert " ".join(text.split()) in " ".join(words)
