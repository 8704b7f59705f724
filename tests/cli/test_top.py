"""`crdtbucket top` against a node: lines, JSON, and the live view at a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from crdtbucket.cli.node_load import Load
from crdtbucket.cli.top import LoadView
from tests.cli.fake_node import FakeNode, fake_node, problem, run
from tests.waits import eventually

NAME = "ai\u2011agent\u2011inference"


def busy() -> dict[str, Any]:
    """A node whose every answer has 10 allowed and 30 denied calls more."""
    looks = 0

    def buckets() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        more = {"keys": 4, "granted": 0, "refunded": 0}
        return {"buckets": [
            {"name": "quiet", "mode": "strong", "capacity": 10, "refill_per_second": 1.0,
             "allowed": 5, "denied": 0, **more},
            {"name": NAME, "mode": "fallback", "capacity": 10_000, "refill_per_second": 2000.0,
             "allowed": 10 * looks, "denied": 30 * looks, **more},
        ]}  # fmt: skip

    heavy = {"key": "tenant-42", "tokens": 1_234, "error": 0, "denied": 1_000, "remaining": 2_500}
    return {
        "GET_v1_buckets": buckets,
        f"GET_v1_buckets_{NAME}_keys": {"bucket": NAME, "counted": "tokens", "keys": [heavy]},
        "GET_v1_buckets_quiet_keys": {"bucket": "quiet", "counted": "tokens", "keys": []},
    }


async def test_one_picture_shows_rates_levels_and_heavy_keys() -> None:
    async with fake_node(**busy()) as node:
        done = await run("top", "--once", "--interval", "0.1", "--url", node.url)
        assert done.exit_code == 0, done.exception
        lines = [line.split() for line in done.output.splitlines()]
        assert lines[0] == ["bucket", "mode", "allowed/s", "denied/s", "denied", "keys", "fill"]
        assert lines[1][:2] == [NAME, "fallback"]
        assert 50 <= float(lines[1][2]) <= 100  # at least the interval lay in between
        assert 150 <= float(lines[1][3]) <= 300
        assert lines[1][4:6] == ["60", "4"]
        assert lines[1][-1] == "25%"
        assert lines[2] == ["quiet", "strong", "0.0", "0.0", "0", "4", "-"]
        assert lines[4] == ["key", "bucket", "tokens", "denied", "left", "fill"]
        assert lines[5][:5] == ["tenant-42", NAME, "1,234", "1,000", "2,500"]
        assert {call.partition("?")[2] for call, _ in node.calls} == {"", "top=10"}


@pytest.mark.parametrize("buckets", [7, "many", [7], {"api": 7}])
async def test_an_answer_of_another_shape_shows_nothing(buckets: Any) -> None:
    keys = {"GET_v1_buckets_api_keys": {"keys": 7}}
    async with fake_node(GET_v1_buckets={"buckets": buckets}, **keys) as node:
        done = await run("top", "--once", "--json", "--interval", "0.1", "--url", node.url)
        assert (done.exit_code, done.exception) == (0, None)
        assert json.loads(done.output) == {"url": node.url, "buckets": [], "keys": []}


async def test_once_as_json_and_in_another_order() -> None:
    async with fake_node(**busy()) as node:
        words = ("top", "--once", "--json", "--interval", "0.1", "--sort", "allowed")
        done = await run(*words, "--url", node.url)
        told = json.loads(done.output)
        assert [one["name"] for one in told["buckets"]] == [NAME, "quiet"]
        done = await run(*words, "--sort", "keys", "--keys", "0", "--url", node.url)
        told = json.loads(done.output)
        assert [one["name"] for one in told["buckets"]] == [NAME, "quiet"]
        assert told["keys"] == []
        assert told["url"] == node.url


async def test_in_few_columns_a_level_is_a_number_on_one_line() -> None:
    async with fake_node(**busy()) as node:
        words = ("top", "--once", "--interval", "0.1", "--url", node.url)
        lines = (await run(*words, COLUMNS="60")).output.splitlines()
    assert len(lines) == 6  # two heads, two buckets, a key, and what is between
    assert max(map(len, lines)) <= 60
    assert [line.split()[-1] for line in lines if line] == ["fill", "25%", "-", "fill", "25%"]


async def test_it_is_readable_at_80_columns() -> None:
    async with fake_node(**busy()) as node:
        words = ("top", "--once", "--interval", "0.1", "--url", node.url)
        done = await run(*words, COLUMNS="80")
        assert max(map(len, done.output.splitlines())) <= 80
        assert NAME in done.output


async def test_who_cannot_be_asked_at_all() -> None:
    async with fake_node(GET_v1_buckets=problem(503, "it is closing")) as node:
        done = await run("top", "--url", node.url)
        assert str(done.exception) == f"{node.url}: it is closing"


async def test_once_is_an_error_when_the_second_look_fails() -> None:
    first = {"buckets": [{"name": NAME}]}
    answers = iter([lambda: first, lambda: problem(503, "it is closing")])
    keys = {f"GET_v1_buckets_{NAME}_keys": {"keys": []}}
    async with fake_node(GET_v1_buckets=lambda: next(answers)(), **keys) as node:
        done = await run("top", "--once", "--interval", "0.1", "--url", node.url)
        assert str(done.exception) == f"{node.url}: it is closing"


async def test_without_a_terminal_an_outage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    view, picture = LoadView(0, "name", json_=True), Load((), ())
    for what in ("gone", "gone", "late", None, "late"):
        view.show("url", picture) if what is None else view.fault(what)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [f"crdtbucket: {one}" for one in ("gone", "late", "late")]
    assert len(printed.out.splitlines()) == 1


class Terminal:
    """The command at a terminal of 24 lines and 80 columns; `shown` is all that it wrote."""

    def __init__(self) -> None:
        self.shown = ""
        self.pid = 0
        self._own, self.other = pty.openpty()

    def read(self) -> None:
        self.shown += os.read(self._own, 1 << 16).decode(errors="replace")

    def type(self, letters: str) -> None:
        os.write(self._own, letters.encode())

    async def run(self, *words: str, then: Callable[[Terminal], Any]) -> int:
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "crdtbucket", *words,
            stdin=self.other, stdout=self.other, stderr=self.other, env=env,
        )  # fmt: skip
        self.pid = process.pid
        loop = asyncio.get_running_loop()
        loop.add_reader(self._own, self.read)
        try:
            await then(self)
            return await asyncio.wait_for(process.wait(), 60)
        finally:
            loop.remove_reader(self._own)
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(self._own)
            os.close(self.other)


@pytest.mark.parametrize("letters", ["fq", "f\x04q"])
async def test_the_live_view_takes_letters(letters: str) -> None:
    async def then(terminal: Terminal) -> None:
        await eventually(lambda: "tenant-42" in terminal.shown)
        assert "by denied" in terminal.shown
        terminal.type(letters[:1])
        await eventually(lambda: "by fill" in terminal.shown)
        terminal.type(letters[1:])

    async with fake_node(**busy()) as node:
        words = ("top", "--interval", "0.1", "--url", node.url)
        assert await Terminal().run(*words, then=then) == 0


async def test_a_live_view_that_is_ended_by_a_signal_leaves_the_terminal_as_it_was() -> None:
    async def then(terminal: Terminal) -> None:
        await eventually(lambda: "tenant-42" in terminal.shown, 30)
        os.kill(terminal.pid, signal.SIGTERM)
        await eventually(lambda: terminal.shown.endswith("\x1b[?25h\x1b[?1049l"), 30)

    async with fake_node(**busy()) as node:
        words = ("top", "--interval", "0.1", "--url", node.url)
        assert await Terminal().run(*words, then=then) == 0


async def test_a_view_that_is_ended_waits_for_no_answer() -> None:
    ended = asyncio.Event()

    async def then(terminal: Terminal) -> None:
        await eventually(lambda: len(node.calls) > 2)
        terminal.type("q")

    async def buckets() -> dict[str, Any]:
        if len(node.calls) > 2:
            await ended.wait()
        return {"buckets": []}

    node: FakeNode
    async with fake_node(GET_v1_buckets=buckets) as node:
        words = ("top", "--interval", "0.1", "--timeout", "3600", "--url", node.url)
        try:
            assert await Terminal().run(*words, then=then) == 0
        finally:
            ended.set()


async def test_the_live_view_goes_on_when_a_node_is_unreachable() -> None:
    async def then(terminal: Terminal) -> None:
        await eventually(lambda: "tenant-42" in terminal.shown)
        node.answers["GET /v1/buckets"] = lambda: problem(503, "it is closing")
        await eventually(lambda: "it is closing" in terminal.shown)
        terminal.type("q")

    node: FakeNode
    async with fake_node(**busy()) as node:
        words = ("top", "--interval", "0.1", "--url", node.url)
        assert await Terminal().run(*words, then=then) == 0
