"""docs/serve.md is right: its examples run, and its tables equal the code."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click

from crdtbucket import Limiter
from crdtbucket.cli.commands import cli
from crdtbucket.http.server import bodies, calls
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.server_metrics import SERVER
from crdtbucket.metrics.catalogue import PREFIX
from tests.http.serving import TOKEN, Asker, serving
from tests.server_process import installed
from tests.test_docs import FENCE, ROOT, rows

PAGE = "docs/serve.md"
TEXT = (ROOT / PAGE).read_text()
ANY = "..."


async def curl(client: Asker, line: str, last_id: str) -> Any:
    words = shlex.split(line)
    assert words[0] == "curl"
    told = [
        word.replace("http://127.0.0.1:7980", client.url).replace("TOKEN", TOKEN)
        for word in words[1:]
    ]
    told = [word.replace('"ID"', f'"{last_id}"') for word in told]
    program = installed("curl", "apt-get install curl")
    process = await asyncio.create_subprocess_exec(
        program, "--max-time", "20", *told, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, line
    return json.loads(out)


def same(expected: Any, answer: Any) -> bool:
    """Whether they are equal but for what the page leaves open."""
    if expected == ANY:
        return answer is not None
    if isinstance(expected, dict):
        return set(expected) == set(answer) and all(
            same(one, answer[name]) for name, one in expected.items()
        )
    if isinstance(expected, list):
        return len(expected) == len(answer) and all(map(same, expected, answer))
    return bool(expected == answer)


async def test_the_examples_answer_as_documented(tmp_path: Path) -> None:
    blocks = [(match[1], match[2].splitlines()) for match in FENCE.finditer(TEXT)]
    pairs = [
        (asked, told)
        for (kind, asked), (next_kind, told) in itertools.pairwise(blocks)
        if (kind, next_kind) == ("sh", "json")
    ]
    assert len(pairs) == sum(kind == "sh" for kind, _ in blocks) == 6
    file = tmp_path / "limits.yaml"
    file.write_text(next(text for kind, text in FENCE.findall(TEXT) if kind == "yaml"))
    async with serving(Limiter.from_file(file), admin_token=TOKEN) as client:
        last_id = ""
        for asked, told in pairs:
            assert len(asked) == len(told)
            for line, expected in zip(asked, told, strict=True):
                answer = await curl(client, line, last_id)
                assert same(json.loads(expected), answer), (line, answer)
                last_id = answer.get("id", last_id)


async def test_every_endpoint_is_documented() -> None:
    async with serving() as client:
        routes = [f"{one.method} {one.path}" for one in client.server.api.routes]
        told = [row[0].strip("`") for row in rows(PAGE, "Endpoints")]
        assert sorted(told) == sorted(routes)
        statuses = {
            status for one in client.server.api.routes for status in (*one.denials, *one.refusals)
        }
        told_statuses = {int(n) for row in rows(PAGE, "Errors") for n in row[0].split(", ")}
        assert statuses | {405, 417, 500, 503} == told_statuses


def test_every_option_is_documented_with_its_default() -> None:
    command = cli.get_command(click.Context(cli), "serve")
    assert command is not None
    told = {row[0].strip("`"): row[1].strip("`") for row in rows(PAGE, "crdtbucket serve")}
    options = [one for one in command.params if isinstance(one, click.Option)]
    assert list(told) == [one.opts[0] for one in options]
    for one in options:
        default = one.default[0] if isinstance(one.default, tuple) else one.default
        if isinstance(default, (str, int, float)) and not isinstance(default, bool):
            assert told[one.opts[0]] == str(default)


def test_metrics_are_documented() -> None:
    told = [[cell.replace("`", "") for cell in row] for row in rows(PAGE, "Metrics of the server")]
    assert told == [
        [PREFIX + one.name, one.kind, ", ".join(one.labels) or "none", one.help] for one in SERVER
    ]


def test_numbers_are_those_of_the_code() -> None:
    settings = ServeSettings()
    words = " ".join(TEXT.split())
    for told in (
        f"complete {settings.head_deadline:g} s after",
        f"answered {settings.request_deadline:g} s after",
        f"idle for {settings.idle_deadline:g} s",
        f"above {settings.max_body >> 10} KiB",
        f"up to {bodies.MAX_TAKES} keys",
        f"up to {bodies.MAX_TOP} |",
        f"({bodies.MIN_TTL_S:g} to {bodies.MAX_TTL_S:g})",
        f"once, for {calls.REFUNDABLE_S} s",
        f"commit in the {calls.LATE_S} s after",
        f"{calls.MAX_HANDLES:,} are known",
        f"sketch of {calls.COUNTED_KEYS:,} keys",
        f"halves every {calls.HALF_LIFE_S} s",
    ):
        assert told in words, told
    assert re.search(r"16 characters or more", words)
