"""The rules on the compiled core: the same properties and edge traces that the model passes.

Where the core is stricter or coarser than the model, on purpose, the property is stated here anew:
- it counts in whole tokens, so a settlement may end less than one token above the floor;
- what a settlement was forgiven it has not charged, so takes before it can still be refunded,
  where the model counts the forgiven part against them; the ideal bucket agrees with the core.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core_node import CoreNode, LoneCoreNode, StagedCoreNode
from tests.model.contract import SIZES, EdgeTraces, RulesContract
from tests.model.histories import DEFINITIONS, DRIFTS, histories
from tests.model.histories import hold as hold_property
from tests.model.world import MILLISECOND, PLAIN, SECOND, UNEVEN, World


class TestCore(RulesContract):
    factory = CoreNode

    @SIZES
    def test_all_seen_never_above_reference(self, size: int) -> None:
        """Without settlements: what a node forgives by its own level is counted nowhere."""

        @given(
            history=histories("far", "refund", "evict", "restart", "snapshot", "restore", "prune"),
            definition=DEFINITIONS,
            drift=DRIFTS,
        )
        def holds(history: list[Any], definition: Any, drift: list[int]) -> None:
            world = World(CoreNode, size, definition, drift).run(history).settle_down()
            above = world.amount(world.lost) + world.most_refunds_unseen + world.largest_credit
            for name in world.names:
                assert world.level(name) <= world.highest(name) + above

        holds()

    @SIZES
    def test_settle_saturates(self, size: int) -> None:
        @given(
            history=histories("settle"),
            tokens=st.sampled_from([250, 2**53, 2**62]),
            wait=st.integers(0, 3000),
        )
        def holds(history: list[Any], tokens: int, wait: int) -> None:
            world = World(CoreNode, size).run(history)
            node = world.nodes["A"]
            before = node.columns().get(("A", 1), (0, 0, 0))[1]
            node.settle(tokens, world.clock("A"))
            charged = node.columns().get(("A", 1), (0, 0, 0))[1] - before
            debt = node.debt_ns(world.clock("A"))
            assert PLAIN.ceiling - PLAIN.emission < debt <= PLAIN.ceiling
            message = node.message(world.clock("A"))
            for name in world.names[1:]:
                world.nodes[name].merge(message, world.clock(name))
                seen = world.nodes[name].debt_ns(world.clock(name))
                assert PLAIN.emission * charged <= seen <= PLAIN.ceiling
            debts = {n: node.debt_ns(world.clock(n)) for n, node in world.nodes.items()}
            world.do_advance(wait * MILLISECOND)
            for name, node in world.nodes.items():
                expected = max(0, debts[name] - wait * MILLISECOND)
                assert node.debt_ns(world.clock(name)) == expected

        holds()

    @pytest.mark.parametrize("tokens", [1, 60, 100])
    @pytest.mark.parametrize("idle", [0, 1, 590, 600, 601, 999, 1000, 1001, 5000])
    @pytest.mark.parametrize("more", [0, 20, 60, 250])
    def test_refund_after_full_is_worth_nothing(self, tokens: int, idle: int, more: int) -> None:
        world = World(CoreNode, 1).run([("take", 0, tokens), ("advance", idle * MILLISECOND)])
        world.run([("settle", 0, more)] if more else [])
        before, ran_over = world.level("A"), idle > 10 * tokens
        world.step(("refund", 0))
        returned = 0 if ran_over else tokens
        assert world.level("A") == min(100, before + returned)

    def test_refund_never_creates(self) -> None:
        @given(history=histories("settle", "refund", "far"), definition=DEFINITIONS)
        def holds(history: list[Any], definition: Any) -> None:
            """C + refill = tokens + credit + admitted - refunded + wasted - forgiven.

            What is forgiven of a settlement is not admitted either.
            """
            world = World(CoreNode, 1, definition)
            node, started = world.nodes["A"], None
            assert isinstance(node, CoreNode)
            for step in history:
                fresh = not node.held
                world.step(step)
                now = world.clock("A")
                if fresh and node.held:
                    started = now
                if started is None:
                    continue
                node.take(1, now)  # makes the waste of the time since the last step visible
                node.refund(1, now, node.mark()) if node.last and node.last.allowed else None
                ((_, taken, refunded),) = node.columns().values()
                assert 0 <= refunded <= taken
                used = definition.emission * (taken - refunded)
                refill = now - started - node.ledger().wasted
                signed = node.debt_ns(now) - node.credit_ns(now)
                assert node.ns(signed) == used - refill
                assert world.level("A") <= world.highest("A") + world.largest_credit + 1

        holds()


class CoreTraces(EdgeTraces):
    def test_v_refund_at_the_floor(self) -> None:
        world = self.world(("take", 0, 80), ("settle", 0, 200), ("refund", 0))
        assert world.level("A") == world.highest("A") == -20


class TestCoreTraces(CoreTraces):
    factory = CoreNode


class TestLoneCoreTraces(CoreTraces):
    factory = LoneCoreNode


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ["advance_first", "definition_change_keeps_tokens"])
def test_the_short_way_of_a_take_holds_too(name: str, size: int) -> None:
    hold_property(name, LoneCoreNode, size)


@pytest.mark.parametrize("factory", [CoreNode, LoneCoreNode])
def test_a_cost_of_all_that_is_left_passes(factory: Any) -> None:
    world = World(factory, 1).run([("take", 0, 40), ("take", 0, 60), ("take", 0, 1)])
    assert world.verdicts == [True, True, False]


@pytest.mark.parametrize("factory", [CoreNode, LoneCoreNode])
def test_a_new_generation_counts_whole(factory: Any) -> None:
    """A took 70, was full, forgot the key, took 5: who holds the 70 loses 5."""
    world = World(factory, 2).run([("take", 0, 70), ("sync",), ("advance", SECOND), ("evict", 0)])
    world.run([("take", 0, 5), ("push", 0, 1)])
    assert world.nodes["B"].columns()["A", 1] == (2, 5, 0)
    assert world.level("B") == 95


def test_two_takes_merged_at_once_are_added() -> None:
    world = World(CoreNode, 3).run([("take", 0, 20), ("take", 2, 10), ("push", 0, 1)])
    world.run([("take", 0, 15), ("push", 2, 0), ("push", 0, 1)])
    assert world.level("B") == 100 - 20 - 15 - 10


def test_what_the_sender_has_merged_of_me_is_not_counted_twice() -> None:
    """B took 60 of which A never saw, and was full again: A adopts what B states."""
    world = World(CoreNode, 2).run([("take", 1, 60), ("advance", 5 * SECOND), ("take", 0, 40)])
    world.run([("push", 0, 1), ("push", 1, 0)])
    assert world.levels() == [60, 60]


def test_a_key_held_full_answers_at_any_rate() -> None:
    """At 7 a second a clamp leaves a part of a ns of debt: that is full as well."""
    world = World(CoreNode, 3, UNEVEN)
    world.run([("take", 0, 1), ("send", 0), ("take", 1, 1), ("sync",), ("advance", SECOND // 2)])
    world.run([("evict", 2), ("deliver", 0, 2, False)])
    assert world.level("C") == 59
    message = world.nodes["C"].message(world.clock("C"))
    assert world.nodes["A"].merge(message, world.clock("A"))


@pytest.mark.parametrize(
    "name",
    [
        "join_is_semilattice",
        "same_messages_same_columns",
        "error_at_most_in_flight",
        "levels_converge_when_quiescent",
        "history_costs_nothing",
        "definition_change_keeps_tokens",
        "mixed_definitions_never_adopt",
        "admitted_exactly_when_the_level_allows",
    ],
)
def test_a_candidate_keeps_the_rules(name: str) -> None:
    hold_property(name, StagedCoreNode, 3)
