"""The demo with a Redis as people run it: Redis is slow, killed and back, all is settled to the
token, and nothing stays."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from crdtbucket.base.address import Address
from crdtbucket.demo.words import BANNERS
from crdtbucket.strong.redis.access import Access
from tests.demo.programs import (
    ROOT,
    answer_of,
    anybody_listens,
    children,
    gone,
    listening,
    run,
    start,
    verdict,
)
from tests.strong.redis_server import PROGRAMS, Server, free_port
from tests.waits import until

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")
CHECKS = [
    "modes", "admitted", "limit, strong", "limit, eventual", "limit, fallback", "every token",
    "no starvation",
]  # fmt: skip


def test_one_limit_through_a_redis_that_is_slow_killed_and_back(tmp_path: Path) -> None:
    out = run("--redis", "auto", "--seconds", "20", tmp=tmp_path)
    verdict(out, CHECKS, "every token")
    for region in ("eu", "us", "ap"):
        modes = re.findall(rf"^ +[\d.]+s {region}: (\w+) -> (\w+): .", out, re.MULTILINE)
        path = ["strong", *(after for _, after in modes)]
        assert modes == list(pairwise(path)), out
        # That these are the modes at the ends of the acts is the verdict. A machine that is late
        # itself may add a switch: to eventual in place of strong, or back.
        assert path[-1] == "strong"
        assert {"eventual", "fallback"} <= set(path[:-1]), out
    lines = [line for line in out.splitlines() if re.match(r" *\d+\.\ds (?!\w+:)", line)]
    assert len(lines) >= 20
    assert lines[3].count(" strong") == lines[-1].count(" strong") == 3
    assert any(line.count(" fallback") == 3 for line in lines)
    assert list(tmp_path.iterdir()) == []
    printed = {shape(line) for line in out.splitlines()}
    for line in documented():
        head, dots, _ = shape(line).partition("...")
        assert any(one.startswith(head) if dots else one == head for one in printed), line


def documented() -> list[str]:
    """The lines of a run with a Redis that its page shows."""
    page = (ROOT / "docs" / "demo.md").read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (block,) = [text for kind, text in found if not kind]
    return [line for line in block.splitlines() if line != "..."]


def shape(line: str) -> str:
    """A line without its figures."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d,.]*", "#", line)).strip()


def test_a_redis_of_ones_own_is_cut_off_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    with Server("requirepass s3:cret") as server:
        asyncio.run(asked(server, "SET", "mine", "1"))
        url = f"redis://:s3%3Acret@{server.host}:{server.port}/3"
        found = json.loads(run("--redis", url, "--seconds", "16", "--json", tmp=tmp_path))
        assert found["holds"] is True
        assert list(found["checks"]) == CHECKS
        assert found["taken"] == found["recorded"]
        assert sum(found["recorded"].values()) == found["admitted"] > 0
        assert server.process is not None
        assert server.process.poll() is None
        assert asyncio.run(asked(server, "KEYS", "*")) == [b"mine"]


async def asked(server: Server, *words: str) -> object:
    access = Access(password="s3:cret", db=3)
    return await answer_of(Address(server.host, server.port), access, *words)


@contextmanager
def running(tmp: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, with all its processes gone in the end."""
    program = start("--redis", "auto", "--seconds", "16", "--plain", tmp=tmp)
    try:
        yield program
    finally:
        regions = [] if program.poll() is not None else children(program.pid)
        program.kill()
        program.communicate()
        until(lambda: all(gone(pid) for pid in regions))


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """While Redis holds answers back, while there is none, and when another has taken its place."""
    phases = ["slow", "gone", "back"]
    with ExitStack() as stack:
        programs = []
        for phase in phases:
            (tmp_path / phase).mkdir()
            programs.append(stack.enter_context(running(tmp_path / phase)))
        with ThreadPoolExecutor() as pool:  # each at its phase, however long another takes to end
            list(pool.map(interrupt, programs, phases))
        assert [list((tmp_path / phase).iterdir()) for phase in phases] == [[]] * 3


def interrupt(program: subprocess.Popen[str], phase: str) -> None:
    """Ctrl-C after the first second of a phase."""
    assert program.stdout is not None
    while BANNERS[phase] not in (line := program.stdout.readline()):
        assert line, program.communicate()
    program.stdout.readline()
    started = children(program.pid)
    sockets = set().union(*map(listening, [program.pid, *started]))
    assert len(started) in (3, 4)  # with or without the Redis: the next phase may have begun
    program.send_signal(signal.SIGINT)
    program.send_signal(signal.SIGINT)  # an impatient second one breaks nothing off
    out, err = program.communicate(timeout=120)
    assert program.returncode == 128 + signal.SIGINT
    assert err == "crdtbucket: stopped by SIGINT\n"
    assert "Verdict" not in out
    assert all(gone(pid) for pid in started)
    assert not anybody_listens(sockets)


def test_a_redis_that_does_not_answer_is_reported_at_once(tmp_path: Path) -> None:
    port = free_port()
    program = start("--redis", f"redis://user:s3cret@127.0.0.1:{port}", tmp=tmp_path)
    out, err = program.communicate(timeout=120)
    assert program.returncode == 1
    assert f"127.0.0.1:{port} cannot be reached" in err
    assert "s3cret" not in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("somewhere", "neither auto nor a URL"),
        ("redis+cluster://a:1,b:2", "one server"),
        ("rediss://a", "without TLS"),
    ],
)
def test_a_redis_that_cannot_be_used_is_reported(url: str, message: str, tmp_path: Path) -> None:
    program = start("--redis", url, tmp=tmp_path)
    _, err = program.communicate(timeout=120)
    assert program.returncode == 2  # 1 says that the limit was not kept
    assert message in err


def test_a_run_that_is_too_short_for_its_switches_is_refused(tmp_path: Path) -> None:
    program = start("--redis", "auto", "--seconds", "9", tmp=tmp_path)
    _, err = program.communicate(timeout=120)
    assert program.returncode == 2
    assert "16 seconds or more" in err
