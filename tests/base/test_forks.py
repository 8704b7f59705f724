"""Repairs in the child of a fork: all of them are made, in their own order."""

from __future__ import annotations

import gc
from functools import partial

import pytest

from crdtbucket.base.forks import Turn, after_fork
from tests.forks import in_child


class Owner:
    """Whatever has something to set right."""


def failed(_: Owner) -> None:
    raise ValueError("it cannot be set right")


@pytest.fixture
def said() -> list[str]:
    return []


def test_the_turns_come_in_their_order_and_not_in_that_of_the_owners(said: list[str]) -> None:
    owners = [Owner() for _ in Turn]
    for owner, turn in zip(owners, reversed(Turn), strict=True):
        after_fork(owner, turn, lambda _, turn=turn: said.append(turn.name))  # type: ignore[misc]
    assert in_child(lambda: said) == [str(["LOCKS", "TABLES", "LIMITERS"])]
    assert not said


def test_an_owner_that_is_gone_has_no_turn(said: list[str]) -> None:
    gone, left = Owner(), Owner()
    after_fork(gone, Turn.LOCKS, lambda _: said.append("gone"))
    after_fork(left, Turn.LOCKS, lambda _: said.append("left"))
    del gone
    gc.collect()
    assert in_child(lambda: said) == [str(["left"])]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_fails_keeps_no_other_from_its_turn(said: list[str]) -> None:
    owners = [Owner() for _ in Turn]
    for owner, turn in zip(owners, Turn, strict=True):
        after_fork(owner, turn, failed if turn is Turn.TABLES else partial(_note, said, turn))
    assert in_child(lambda: said) == [str(["LOCKS", "LIMITERS"])]


def _note(said: list[str], turn: Turn, _: Owner) -> None:
    said.append(turn.name)
