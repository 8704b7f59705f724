"""The demo with a Redis in each region: one is cut off, and every token is counted everywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from crdtbucket.demo.words import BANNERS
from tests.demo.programs import anybody_listens, children, gone, listening, run, start, verdict
from tests.strong.redis_server import PROGRAMS

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no redis-server here: make redis")
CHECKS = ["admitted", "limit, links up", "limit in the cut", "every token", "no starvation"]


def test_three_regions_with_a_redis_each_keep_one_limit_through_a_cut(tmp_path: Path) -> None:
    out = run("--redis", "regions", "--seconds", "12", tmp=tmp_path)
    assert "and the Redis of all 3" in verdict(out, CHECKS, "every token")
    assert BANNERS["cut"] in out
    assert list(tmp_path.iterdir()) == []


def test_the_verdict_for_programs_has_the_records_of_each_region(tmp_path: Path) -> None:
    found = json.loads(run("--redis", "regions", "--seconds", "8", "--json", tmp=tmp_path))
    assert list(found["checks"]) == CHECKS
    assert found["recorded"] == dict.fromkeys(("eu", "us", "ap"), found["taken"])
    assert sum(found["taken"].values()) == found["admitted"] > 0


def test_ctrl_c_in_the_cut_leaves_nothing_behind(tmp_path: Path) -> None:
    program = start("--redis", "regions", "--seconds", "8", "--plain", tmp=tmp_path)
    try:
        assert program.stdout is not None
        while BANNERS["cut"] not in (line := program.stdout.readline()):
            assert line, program.communicate()
        started = children(program.pid)
        assert len(started) == 6  # three regions, and their servers
        sockets = set().union(*map(listening, [program.pid, *started]))
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=120)
    finally:
        program.kill()
        program.communicate()
    assert program.returncode == 128 + signal.SIGINT
    assert err == "crdtbucket: stopped by SIGINT\n"
    assert all(gone(pid) for pid in started)
    assert not anybody_listens(sockets)
    assert list(tmp_path.iterdir()) == []
