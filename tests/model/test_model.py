"""The rules on the exact model: properties of any history, edge traces, and planted bugs."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from . import broken
from .contract import EdgeTraces, RulesContract
from .histories import PROPERTIES, hold
from .node import ModelNode
from .world import World


class TestModel(RulesContract):
    factory = ModelNode


class TestModelTraces(EdgeTraces):
    factory = ModelNode


def test_pruning_before_the_debt_has_refilled_mints() -> None:
    """Why a dead epoch gets its tombstone only after the time in which any debt refills."""
    world = World(ModelNode, 3).run([("take", 0, 60), ("sync",), ("restart", 0)])
    (dead,) = world.dead
    for node in world.nodes.values():
        node.forget(dead)
    world.run([("sync",)])
    assert world.levels() == [100, 100, 100]  # and 60 were taken an instant ago


PLANTED: list[tuple[type[ModelNode], str]] = [
    (broken.ScalarMaximum, "error_at_most_in_flight"),
    (broken.NoAdoption, "levels_converge_when_quiescent"),
    (broken.NoAdoption, "history_costs_nothing"),
    (broken.BurstHidden, "credit_hides_no_burst"),
    (broken.AnybodySpendsTheCredit, "credit_is_spent_by_those_it_was_kept_for"),
    (broken.OneSpendsTheCreditOfAll, "credit_is_spent_by_those_it_was_kept_for"),
    (broken.NoAdvance, "advance_first"),
    (broken.StatementAged, "error_at_most_in_flight"),
    (broken.StatementAged, "stated_debt_is_decided_by_and_never_aged"),
    (broken.CreditStated, "credit_is_worth_nothing_to_others"),
    (broken.PredictionStated, "full_keys_are_silent"),
    (broken.NoCeiling, "settle_saturates"),
    (broken.EpochReused, "all_seen_never_above_reference"),
    (broken.GenerationNotCounted, "replacement_and_removal_do_not_move_the_level"),
    (broken.GenerationsMixed, "replacement_and_removal_do_not_move_the_level"),
    (broken.NewGenerationCountsTheDifference, "replacement_and_removal_do_not_move_the_level"),
    (broken.LastWriterWins, "join_is_semilattice"),
    (broken.LastWriterWins, "same_messages_same_columns"),
    (broken.EarlyEviction, "all_seen_never_above_reference"),
    (broken.RefundAfterFull, "refund_after_full_is_worth_nothing"),
    (broken.RefundOfTheForgiven, "refund_after_full_is_worth_nothing"),
    (broken.RefundNotBooked, "refund_never_creates"),
    (broken.LessForLessOrEqual, "admitted_exactly_when_the_level_allows"),
    (broken.CreditSpentTwice, "admitted_exactly_when_the_level_allows"),
    (broken.PeekStores, "peek_changes_no_decision"),
    (broken.FullNotSilent, "full_keys_are_silent"),
    (broken.FullGivesNoAnswer, "levels_converge_when_quiescent"),
    (broken.OnlyOwnColumnSent, "history_costs_nothing"),
    (broken.AdoptsAcrossDefinitions, "mixed_definitions_never_adopt"),
    (broken.RateChangeKeepsTime, "definition_change_keeps_tokens"),
    (broken.SnapshotAdoptsOutright, "history_costs_nothing"),
    (broken.SnapshotWithoutDebt, "all_seen_never_above_reference"),
    (broken.PruneMovesTheLevel, "replacement_and_removal_do_not_move_the_level"),
]
HUNT = settings(
    max_examples=20_000,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(("bug", "name"), PLANTED, ids=lambda v: getattr(v, "__name__", v))
def test_planted_bug_is_found(bug: type[ModelNode], name: str) -> None:
    with pytest.raises(AssertionError):
        hold(name, bug, 3, HUNT)


def test_every_property_has_a_planted_bug() -> None:
    assert {name for _, name in PLANTED} == set(PROPERTIES)
