"""The checker of histories refuses invalid ones, and a short run of real nodes is valid."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.compositions.process import Failed
from tests.endurance import MOST_MORE_FILES, Sample, slope, verdict
from tests.endurance import main as endure
from tests.histories.checker import check, smallest
from tests.histories.cluster import Cluster
from tests.histories.history import (
    ADMITTED,
    CLOSED,
    DENIED,
    INDETERMINATE,
    KILLED,
    RUNNING,
    TIGHT,
    WIDE,
    Call,
    Fault,
    History,
    Life,
    Limits,
    Pause,
    Read,
)  # fmt: skip
from tests.histories.network import ProxiedNetwork
from tests.histories.plan import CUTS, FORGETFUL, MOST_FORGETFUL, Blow, Chapter, cut, draw
from tests.histories.run import Load, run

LIMITS = Limits(wide_refill_per_second=1 / 3600, tight_capacity=10, tight_refill_per_second=1.0)
A, B, LATER = "a", "b", "b-later"
"""Epochs: of node 0, and of node 1 before and after it was killed."""


def read(node: int, at: float, **key: int) -> Read:
    """A look at the one key, with what is counted under each epoch."""
    return Read(node, at, {"k": key}, {"k": float(sum(key.values()))})


def both(at: float, **key: int) -> Pause:
    """A pause in which both nodes say the same."""
    return Pause(at, at + 1, at + 2, [read(node, at + 2, **key) for node in (0, 1)])


def history(how: str = RUNNING) -> History:
    """Two nodes, three tokens of each at first; node 1 may end at 20 s, both pause at 30 s."""
    end = None if how == RUNNING else 20.0
    lives = [Life(0, A, 0.0), Life(1, B, 0.0, end, how)]
    lives += [Life(1, LATER, 21.0)] * (how != RUNNING)
    calls = [
        Call(0, A, WIDE, "k", 3, 1.0, 1.1, ADMITTED),
        Call(1, B, WIDE, "k", 3, 1.0, 1.1, ADMITTED),
    ]
    calls += [Call(1, B, WIDE, "k", 2, 19.5, 19.6, ADMITTED)]
    first = both(5.0, a=3, b=3)
    first.resumed = 10.0
    return History(2, LIMITS, calls, lives, [], [], [first])


def rules(of: History) -> list[str]:
    return [finding.rule for finding in smallest(check(of).findings)]


@pytest.mark.parametrize("how", [RUNNING, CLOSED, KILLED])
def test_a_history_in_which_all_is_counted_is_valid(how: str) -> None:
    one = history(how)
    one.pauses.append(both(30.0, a=3, b=5))
    assert rules(one) == []


def test_a_process_that_is_killed_takes_with_it_what_nobody_had_merged() -> None:
    one = history(KILLED)
    one.pauses.append(both(30.0, a=3, b=3))
    assert rules(one) == []
    assert check(one).died == 2


@pytest.mark.parametrize("how", [RUNNING, CLOSED])
def test_a_process_that_was_not_killed_loses_nothing(how: str) -> None:
    one = history(how)
    one.pauses.append(both(30.0, a=3, b=3))
    assert rules(one) == ["tokens are lost"]
    assert "key 'k', epoch b of node 1" in check(one).findings[0].evidence
    assert "counts 3 at the pause of 32.00 s, of 5 that must be" in check(one).findings[0].evidence


def test_a_process_that_is_killed_later_has_lost_nothing_before() -> None:
    one = history(KILLED)
    one.pauses = [both(5.0, a=3, b=2), both(30.0, a=3, b=3)]
    assert rules(one) == ["tokens are lost"]


def test_what_all_had_agreed_on_is_kept_over_a_kill() -> None:
    one = history(KILLED)
    one.pauses.append(both(30.0, a=3))
    assert rules(one) == ["tokens are lost"]


def test_what_a_running_process_was_seen_to_know_stays_known() -> None:
    one = history(KILLED)
    one.reads.append(read(0, 19.9, a=3, b=5))
    one.pauses.append(both(30.0, a=3, b=3))
    assert rules(one) == ["tokens are lost"]
    one.reads[0].node = 1  # it was killed itself
    assert rules(one) == []
    one.reads[0].at = 22.0  # and what it found on disk it knows
    assert rules(one) == ["tokens are lost"]
    one.lives[-1].rebooted = True  # unless nobody knows how old that is
    assert rules(one) == []
    one.lives[-1].end, one.lives[-1].how = 23.0, KILLED
    one.lives.append(Life(1, "b-last", 24.0))  # it may find what was kept before the boot
    one.reads[0].at = 25.0
    assert rules(one) == []


def test_what_was_taken_in_a_long_calm_before_a_kill_is_known() -> None:
    one = history(KILLED)
    one.faults.append(Fault("kill 1", 20.0, 21.0))
    one.pauses.append(both(30.0, a=3, b=3))
    assert rules(one) == []  # taken just before
    one.calls[-1].begin, one.calls[-1].end = 12.0, 12.1
    assert rules(one) == ["tokens are lost"]


def test_nothing_is_counted_that_nobody_took() -> None:
    one = history()
    one.pauses.append(both(30.0, a=3, b=6))
    assert rules(one) == ["tokens are counted that nobody took"]
    one.pauses[-1] = both(30.0, a=3, b=5, c=1)
    assert rules(one) == ["tokens are counted that nobody took"]


def test_a_call_that_nobody_was_answered_may_be_counted_or_not() -> None:
    one = history(KILLED)
    one.calls.append(Call(1, B, WIDE, "k", 1, 19.9, None, INDETERMINATE))
    for counted in (5, 6):
        one.pauses[1:] = [both(30.0, a=3, b=counted)]
        assert rules(one) == []
    one.pauses[1:] = [both(30.0, a=3, b=7)]
    assert rules(one) == ["tokens are counted that nobody took"]


def test_an_epoch_belongs_to_one_process() -> None:
    one = history(KILLED)
    one.lives[-1].epoch = B
    one.pauses.append(both(30.0, a=3, b=5))
    assert rules(one) == ["an epoch is used again"]


def test_nodes_that_never_agree_are_reported_with_the_column() -> None:
    one = history()
    reads = [read(0, 90.0, a=3), read(1, 90.0, a=3, b=5)]
    one.pauses.append(Pause(30.0, 31.0, None, reads))
    assert rules(one) == ["nodes disagree"]
    assert "is counted as [0, 5] by the nodes [0, 1]" in check(one).findings[0].evidence
    reads[0].columns["k"]["b"] = 5
    assert rules(one) == ["levels disagree"]
    one.pauses[-1].served = None
    assert rules(one) == ["a node does not serve again"]


def test_a_level_is_what_was_counted() -> None:
    for debt, found in ((7.995, []), (8.0, []), (8.5, 1), (7.5, 1)):
        one = history()
        one.pauses.append(both(30.0, a=3, b=5))
        one.pauses[-1].reads[1].debts["k"] = debt
        assert rules(one) == (["a level is not what was counted"] if found else [])


def test_a_call_for_which_there_is_room_is_not_denied() -> None:
    one = history()
    one.calls.append(Call(0, A, WIDE, "k", 1, 12.0, 12.1, DENIED))
    one.pauses.append(both(30.0, a=3, b=5))
    assert rules(one) == ["a call is denied though there is room"]


def test_a_limit_holds_while_nothing_is_wrong() -> None:
    one = history()
    one.pauses.append(both(30.0, a=3, b=5))
    # Two a second are asked for, and one is refilled.
    calls = [Call(0, A, TIGHT, "k", 1, 10 + i / 2, 10 + i / 2, ADMITTED) for i in range(39)]
    one.calls += calls[:20]
    assert rules(one) == []
    one.calls += calls[20:]
    verdict = check(one)
    assert [finding.rule for finding in verdict.findings] == [
        "a limit is exceeded though nothing is wrong"
    ]
    assert verdict.over > verdict.bound > 0
    one.faults.append(Fault("halves", 15.0, 25.0))
    assert rules(one) == []


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = history(KILLED)
    one.pauses.append(both(30.0, a=3, b=5))
    one.save(tmp_path / "one.json", seed=1)
    assert History.load(tmp_path / "one.json") == one


@pytest.mark.parametrize("shape", CUTS)
def test_cuts_have_their_shapes(shape: str) -> None:
    blocked = cut(shape, 5, random.Random(1))
    passing = {n: [m for m in range(5) if m != n and (n, m) not in blocked] for n in range(5)}
    reached = sorted(len(others) for others in passing.values())
    wanted = {
        "halves": [1, 1, 2, 2, 2],
        "one alone": [0, 3, 3, 3, 3],
        "bridge": [2, 2, 2, 2, 4],
        "one way": [1, 1, 4, 4, 4],
        "ring": [2, 2, 2, 2, 2],
    }
    assert reached == wanted[shape]
    one_way = {(b, a) for a, b in blocked} - blocked
    assert bool(one_way) == (shape == "one way")


def test_a_seed_draws_the_same_plan_and_enough_nodes_outlive_each_part_of_it() -> None:
    for seed in range(20):
        chapters = draw(seed, 60, 5)
        assert chapters == draw(seed, 60, 5)
        for chapter in chapters:
            forgetful = {n for one in chapter.blows if one.strike in FORGETFUL for n in one.nodes}
            assert len(forgetful) <= MOST_FORGETFUL


def samples(grows: float, files: int = 0) -> list[Sample]:
    """A node over two hours: it grows by so many MB in each, and opens so many files in each."""
    minutes = [float(minute) for minute in range(0, 121, 10)]
    return [
        Sample(at, 0, 1, 0, round((50 + grows * at / 60) * 1e6), 20 + round(files * at / 60))
        for at in minutes
    ]


def test_endurance_follows_memory_and_files() -> None:
    assert slope(samples(0.5)) == pytest.approx(0.5)
    assert verdict(samples(0.9), 15) == []
    assert verdict(samples(1.1), 15) == ["node 0 grows by 1.10 MB an hour after minute 15"]
    assert verdict(samples(-3, files=1), 15) == []
    assert verdict([replace(s, live=s.used, used=1) for s in samples(1.1)], 15) != []
    assert verdict([replace(s, live=1) for s in samples(9)], 15) == []  # on more pages alone
    step = [replace(s, used=s.used + (s.minute > 90) * 20_000_000) for s in samples(0)]
    assert verdict(step, 15) == []
    (told,) = verdict(samples(0, files=2 * MOST_MORE_FILES), 15)
    assert told.startswith("node 0 opens more and more files: ")
    restarted = [replace(s, pid=round(s.minute)) for s in samples(99)]
    assert verdict(restarted, 15) == []


def test_endurance_names_a_file_that_it_cannot_write_before_it_runs_for_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        endure(["--out", str(tmp_path)])
    assert f"--out {tmp_path} is a folder: name the file" in capsys.readouterr().err


async def test_who_is_killed_between_two_questions_is_asked_no_more(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ProxiedNetwork(1), nodes=1, seed=0, calls_per_second=1.0)
    (node,) = cluster.nodes
    assert await cluster.ask(node, "know") is None


async def test_calls_do_not_go_on_without_a_client_that_failed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, ProxiedNetwork(1), nodes=1, seed=0, calls_per_second=1.0)
    client = asyncio.get_running_loop().create_future()
    cluster.clients.append(client)
    cluster.resume()
    client.set_exception(Failed("the process ended"))
    with pytest.raises(Failed, match="the process ended"):
        cluster.resume()


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.timeout(600)
def test_a_short_run_of_real_nodes_is_valid(tmp_path: Path) -> None:
    """Every node with an odd number forgets what it knew when it is killed; 0, 2 and 4 do not."""
    rng = random.Random(2)
    blows = (
        Blow("one way", cut("one way", 5, rng), "clock", (4,), 1.0, 0.0),
        Blow("", frozenset(), "stop and kill", (2,), 0.4, 0.1),
        Blow("ring", cut("ring", 5, rng), "kill", (1,), 1.5, 0.1),
        Blow("", frozenset(), "restart", (3,), 0.1, 0.1),
    )
    played, told, failed = run([Chapter(0.5, blows)], "proxies", 1, Load(), tmp_path)
    assert failed is None
    assert told.startswith("proxies on loopback")
    verdict = check(played)
    assert not smallest(verdict.findings)
    assert [life.how for life in played.lives].count(KILLED) == 2
    assert verdict.admitted > 0
