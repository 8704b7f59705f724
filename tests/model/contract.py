"""The tests that every implementation of the rules passes: a subclass names its factory."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import pytest

from . import changes, properties  # noqa: F401  importing them fills the register
from .bucket import Definition
from .histories import hold
from .world import MILLISECOND, PLAIN, SECOND, Factory, Step, World

SIZES = pytest.mark.parametrize("size", [3, 5])


class RulesContract:
    """The properties, for any `NodeUnderTest`; a subclass says how one is made."""

    factory: Factory

    def hold(self, name: str, size: int) -> None:
        hold(name, type(self).factory, size)

    @SIZES
    def test_merge_is_a_semilattice(self, size: int) -> None:
        self.hold("join_is_semilattice", size)

    @SIZES
    def test_same_messages_same_columns(self, size: int) -> None:
        self.hold("same_messages_same_columns", size)

    @SIZES
    def test_error_at_most_in_flight(self, size: int) -> None:
        self.hold("error_at_most_in_flight", size)

    @SIZES
    def test_all_seen_never_above_reference(self, size: int) -> None:
        self.hold("all_seen_never_above_reference", size)

    @SIZES
    def test_levels_converge_when_quiescent(self, size: int) -> None:
        self.hold("levels_converge_when_quiescent", size)

    def test_advance_first(self) -> None:
        self.hold("advance_first", 1)

    @SIZES
    def test_admitted_exactly_when_the_level_allows(self, size: int) -> None:
        self.hold("admitted_exactly_when_the_level_allows", size)

    def test_credit_hides_no_burst(self) -> None:
        self.hold("credit_hides_no_burst", 2)

    def test_credit_is_spent_by_those_it_was_kept_for(self) -> None:
        self.hold("credit_is_spent_by_those_it_was_kept_for", 3)

    @SIZES
    def test_peek_changes_no_decision(self, size: int) -> None:
        self.hold("peek_changes_no_decision", size)

    @SIZES
    def test_history_costs_nothing(self, size: int) -> None:
        self.hold("history_costs_nothing", size)

    @SIZES
    def test_replacement_and_removal_do_not_move_the_level(self, size: int) -> None:
        self.hold("replacement_and_removal_do_not_move_the_level", size)

    @SIZES
    def test_full_keys_are_silent(self, size: int) -> None:
        self.hold("full_keys_are_silent", size)

    @SIZES
    def test_definition_change_keeps_tokens(self, size: int) -> None:
        self.hold("definition_change_keeps_tokens", size)

    @SIZES
    def test_mixed_definitions_never_adopt(self, size: int) -> None:
        self.hold("mixed_definitions_never_adopt", size)

    @SIZES
    def test_stated_debt_is_decided_by_and_never_aged(self, size: int) -> None:
        self.hold("stated_debt_is_decided_by_and_never_aged", size)

    @SIZES
    def test_credit_is_worth_nothing_to_others(self, size: int) -> None:
        self.hold("credit_is_worth_nothing_to_others", size)

    def test_refund_never_creates(self) -> None:
        self.hold("refund_never_creates", 1)

    def test_refund_after_full_is_worth_nothing(self) -> None:
        self.hold("refund_after_full_is_worth_nothing", 1)

    @SIZES
    def test_settle_saturates(self, size: int) -> None:
        self.hold("settle_saturates", size)


class EdgeTraces:
    """Histories that once went wrong, with capacity 100, 100 a second, and at most 100 of debt."""

    factory: Factory

    def world(self, *history: Step, size: int = 3, **options: Any) -> World:
        return World(type(self).factory, size, **options).run(history)

    def full_with_history(self, tokens: int = 5000) -> World:
        """A world in which all nodes know of many takes of A and B, and all buckets are full
        again."""
        world = self.world()
        for _ in range(tokens // 100):
            world.run([("take", 0, 50), ("take", 1, 50), ("sync",), ("advance", SECOND)])
        return world.run([("advance", 10 * SECOND)])

    def test_a_refill_between_takes_is_not_lost(self) -> None:
        world = self.world(("take", 0, 1), ("advance", 100 * MILLISECOND), ("take", 0, 1))
        assert world.level("A") == 99

    @pytest.mark.parametrize("wall_clock", [0, -3600 * SECOND])
    def test_b_c_restart_costs_no_history(self, wall_clock: int) -> None:
        world = self.full_with_history().run([("restart", 0)])
        world.offsets["A"] += wall_clock
        world.run([("take", 0, 1), ("push", 1, 0), ("push", 0, 1), ("push", 2, 0), ("sync",)])
        assert world.levels() == [99, 99, 99]

    def test_d_each_of_two_lacks_an_old_column(self) -> None:
        world = self.world(("take", 0, 60), ("push", 0, 2), ("advance", 5 * SECOND))
        world.run([("take", 1, 60), ("push", 1, 2), ("advance", 5 * SECOND), ("take", 2, 10)])
        world.run([("push", 2, 0), ("push", 2, 1), ("sync",)])
        assert world.levels() == [90, 90, 90]

    def test_e_old_generation_by_relay_after_eviction(self) -> None:
        world = self.world(("take", 0, 70), ("send", 0), ("sync",), ("advance", SECOND))
        world.run([("evict", 0), ("evict", 1), ("take", 0, 5)])
        world.run([("deliver", 0, 1, True), ("push", 2, 1), ("push", 0, 1)])
        assert world.level("A") == 95
        world.run([("push", 1, 0), ("sync",)])
        assert world.levels() == [95, 95, 95]

    def test_f_takes_of_both_epochs_count(self) -> None:
        world = self.world(("take", 0, 20), ("sync",), ("restart", 0), ("take", 0, 20), ("sync",))
        assert world.levels() == [60, 60, 60]

    def test_g_restored_snapshot_takes_past_the_old_count(self) -> None:
        world = self.world(("take", 0, 20), ("snapshot", 0), ("advance", SECOND), ("take", 0, 30))
        world.run([("sync",), ("restore", 0), ("take", 0, 60)])
        assert world.level("A") == 20
        world.run([("push", 1, 0), ("sync",)])
        assert world.levels() == [10, 10, 10]

    def test_g_restored_debt_is_a_bound_like_any_other(self) -> None:
        """Neither counted short of what is stated, which would refill two takes at once, ..."""
        world = self.world(("take", 0, 1), ("take", 1, 1), ("advance", MILLISECOND))
        world.run([("snapshot", 0), ("restore", 0), ("sync",), ("sync",)])
        assert set(world.levels()) == {100 - 2 + Fraction(1, 10)}

    def test_g_restored_snapshot_costs_no_history(self) -> None:
        """... nor given up for a peer's word, which would charge what that peer has forgotten."""
        world = self.full_with_history().run([("snapshot", 0), ("evict", 1), ("take", 1, 1)])
        world.run([("restore", 0), ("push", 1, 0)])
        assert world.level("A") == 99

    def test_h_late_letter_at_first_sight(self) -> None:
        world = self.world(("take", 0, 60), ("send", 0), max_age_ns=5 * SECOND)
        world.run([("advance", 60 * SECOND), ("deliver", 0, 1, True)])
        assert world.level("B") == 100

    def test_i_pruned_columns_met_again(self) -> None:
        world = self.full_with_history().run([("take", 1, 30), ("sync",), ("restart", 0)])
        world.run([("advance", 3 * SECOND), ("take", 1, 30), ("sync",)])
        (dead,) = [c for c in world.nodes["B"].columns() if c[0] == "A"]
        for _ in range(10):
            world.run([("prune", 1, 0), ("push", 1, 0), ("send", 2), ("deliver", 0, 1, False)])
            world.run([("sync",)])
            assert world.levels() == [70, 70, 70]
        assert not any(dead in node.columns() for node in world.nodes.values())

    def test_j_rate_halved_then_doubled_over_a_long_history(self) -> None:
        world = self.world(("settle", 0, 10**9), ("sync",), ("advance", 5 * SECOND))
        world.run([("take", 0, 40), ("sync",)])
        half = Definition(100, 20 * MILLISECOND, 100)
        for definition, node in itertools.product([half, PLAIN], range(3)):
            world.run([("define", node, definition)])
            assert world.levels() == [60, 60, 60]
            world.nodes["A"].merge(world.nodes["B"].message(world.clock("B")), world.clock("A"))
            assert world.level("A") == 60

    def test_v_refund_after_eviction(self) -> None:
        world = self.world(("take", 0, 20), ("sync",), ("advance", SECOND), ("evict", 0))
        world.run([("take", 0, 50), ("refund", 0)])
        assert world.level("A") == 50

    def test_v_refund_after_restart(self) -> None:
        world = self.world(("take", 0, 20), ("sync",), ("restart", 0), ("take", 0, 50))
        world.run([("refund", 0), ("sync",)])
        assert world.levels() == [30, 30, 30]

    def test_v_refund_after_full(self) -> None:
        world = self.world(("take", 0, 20), ("advance", SECOND), ("take", 0, 50), ("refund", 0))
        assert world.level("A") == 50

    def test_v_refund_at_the_floor(self) -> None:
        world = self.world(("take", 0, 80), ("settle", 0, 200), ("refund", 0))
        assert world.nodes["A"].debt_ns(world.clock("A")) == PLAIN.ceiling
        assert world.level("A") == -100

    def test_w_endless_settle(self) -> None:
        world = self.world(("settle", 0, 2**62), ("sync",))
        assert world.levels() == [-100, -100, -100]
        world.run([("advance", 2 * SECOND)])
        assert world.levels() == [100, 100, 100]

    def test_larger_counts_of_the_own_epoch_open_a_new_one(self) -> None:
        """A process and its reverted image: the one that receives counts of the other opens a new
        epoch."""
        reverted = type(self).factory("A", PLAIN, iter([7, 8]))
        image = type(self).factory("A", PLAIN, iter([7, 9]))
        peer = type(self).factory("B", PLAIN, iter([1]))
        assert reverted.take(20, 0)
        assert image.take(60, 0)
        peer.merge(image.message(0), 0)
        reverted.merge(peer.message(0), 0)
        assert reverted.take(5, 0)
        assert reverted.columns() == {("A", 7): (1, 60, 0), ("A", 8): (1, 5, 0)}
        peer.merge(reverted.message(0), 0)
        assert peer.peek(0) == reverted.peek(0) == 35

    def test_cost_above_capacity_is_an_error(self) -> None:
        with pytest.raises(ValueError):
            self.world(("take", 0, 101))

    def test_lower_capacity_forgives_what_its_ceiling_does_not_hold(self) -> None:
        """There and back is not free: the lower ceiling of 20 forgave 80, as the ledger says."""
        world = self.world(("take", 0, 100))
        small = Definition(10, PLAIN.emission, 10)
        world.run([("define", 0, small), ("define", 0, PLAIN)])
        assert world.level("A") == 80
        assert world.nodes["A"].ledger().forgiven == 80 * PLAIN.emission
