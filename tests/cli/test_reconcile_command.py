"""`crdtbucket reconcile` as operators run it: a process, its output, its exit status, signals."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crdtbucket import Limiter
from crdtbucket.cli.commands import cli
from tests.reconcile import fleet
from tests.reconcile.fleet import counts, nodes
from tests.strong.redis_server import free_port
from tests.waits import eventually

BOUND_S = 120.0
"""A process starts within this on a busy machine, too."""


path, server = fleet.path, fleet.server
"""Fixtures."""


@asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "crdtbucket", "reconcile", "--timeout", "60s", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ran(*words: str) -> tuple[int | None, str, str]:
    async with command(*words) as process:
        out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
        return process.returncode, out.decode(), err.decode()


def peers(limiters: list[Limiter]) -> list[str]:
    return [word for one in limiters for word in ("--peer", one.address)]


async def test_a_run_prints_who_was_behind_and_a_second_one_that_nothing_was(path: Path) -> None:
    async with nodes(path, "a", "b") as limiters:
        limiters[0].bucket("api").take("k", 1000)
        limiters[1].bucket("api").take("k", 900)
        status, out, err = await ran(str(path), *peers(limiters))
        lines = out.splitlines()
        assert (status, err) == (0, "")
        assert lines[0].split("  ")[0] == "who"
        assert lines[1].split() == ["a", "1", "1", "900", "0", "900", "0", "0"]
        assert lines[2].split() == ["b", "1", "1", "1,000", "0", "1,000", "0", "0"]
        assert lines[3].split() == ["redis", *["0"] * 7]
        assert lines[4] == "Keys that owe something: 1. Differed: 1."
        assert lines[5] == ("Over-admission found: 900 tokens at most, of which 0 are forgiven.")
        status, out, _ = await ran(str(path), *peers(limiters))
        assert status == 0
        assert out.splitlines()[-1] == "Nothing to do."
        assert counts(limiters[0], "api", "k") == counts(limiters[1], "api", "k")


async def test_a_dry_run_as_json(path: Path) -> None:
    async with nodes(path, "a", "b") as limiters:
        limiters[0].bucket("api").take("k", 10)
        status, out, _ = await ran(str(path), "--dry-run", "--json", *peers(limiters))
        report = json.loads(out)
        assert status == 0
        assert report["dry_run"] is True
        assert report["complete"] is True
        assert [one["behind_tokens"] for one in report["holders"]] == [0, 10, 0]
        assert counts(limiters[1], "api", "k") == {}


async def test_who_cannot_be_reached_makes_the_status_1(path: Path) -> None:
    async with nodes(path, "a") as limiters:
        nobody = f"127.0.0.1:{free_port()}"
        status, out, err = await ran(str(path), "--peer", nobody, *peers(limiters))
        assert status == 1
        assert out.splitlines()[0].startswith("who")
        assert err == f"crdtbucket: {nobody}: Connection refused\n"


async def test_a_file_whose_nodes_nobody_answers_for_says_whom_it_asked(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    path = tmp_path / "crdtbucket.yaml"
    path.write_text(
        f"services: {{api: {{limit: 100/minute}}}}\nmesh: {{listen: '{listen}', peers: []}}\n"
    )
    status, _, err = await ran(str(path))
    assert (status, err) == (1, f"crdtbucket: {listen}: Connection refused\n")


async def test_it_goes_on_until_a_signal_and_ends_with_status_0(path: Path) -> None:
    async with nodes(path, "a", "b") as limiters:
        words = ("--every", "0.1s", "--json", *peers(limiters))
        async with command(str(path), *words) as process:
            assert process.stdout is not None
            first = json.loads(await asyncio.wait_for(process.stdout.readline(), BOUND_S))
            assert first["differing_keys"] == 0
            limiters[0].bucket("api").take("k", 10)
            await eventually(lambda: counts(limiters[1], "api", "k"))
            found = 0
            while not found:
                line = await asyncio.wait_for(process.stdout.readline(), BOUND_S)
                found = json.loads(line)["differing_keys"]
            process.send_signal(signal.SIGTERM)
            out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
            # In the pause it is 0; in the moment of a run, that run is finished or reported.
            assert process.returncode in (0, 130)
            assert err == b""
            assert all(json.loads(line) for line in out.splitlines())


async def test_interrupted_it_reports_and_what_is_left_is_done_by_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(path, "a", "b") as limiters:
        for number in range(30_000):
            for one in limiters:
                one.bucket("api").take(f"k{number}", 5)
        async with command(str(path), "--json", *peers(limiters)) as process:
            node: Any = limiters[1]._node.machine
            observe, signals = node.observe, [signal.SIGINT]

            def interrupting(*told: Any, **more: Any) -> Any:
                """The signal comes before the answer to the first part that this node takes in."""
                answer = observe(*told, **more)
                if signals and limiters[1].stats()["mesh"]["merged"]:
                    process.send_signal(signals.pop())
                return answer

            monkeypatch.setattr(node, "observe", interrupting)
            out, err = await asyncio.wait_for(process.communicate(), BOUND_S)
        assert (process.returncode, err) == (130, b"")
        report: dict[str, Any] = json.loads(out)
        assert 0 < report["done"] < 1
        assert 0 < report["differing_keys"] < 30_000
        for name in ("k0", "k29999"):  # each key is whole, here or there
            columns = [counts(one, "api", name) for one in limiters]
            assert columns[0] == columns[1] or columns[0].keys().isdisjoint(columns[1])
        status, out2, _ = await ran(str(path), "--json", *peers(limiters))
        assert status == 0
        assert json.loads(out2)["differing_keys"] == 30_000 - report["differing_keys"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--every", "soon"], "soon"),
        (["--every", "1ms"], "too short"),
        (["--timeout", "0s"], "too short"),
        (["--peer", "10.0.0.5"], "write host:port"),
    ],
)
def test_wrong_options_are_named(path: Path, words: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["reconcile", str(path), *words])
    assert done.exit_code == 2
    assert message in done.output


async def test_a_wrong_file_is_status_2(tmp_path: Path) -> None:
    path = tmp_path / "crdtbucket.yaml"
    path.write_text("services: {api: {limit: 100/minute}}")
    status, out, err = await ran(str(path))
    assert (status, out) == (2, "")
    assert "mesh: is missing" in err
