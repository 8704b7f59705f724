"""Bugs in the bounds of what one bad member of a mesh can do."""

from __future__ import annotations

from tests.planted.mutation import Mutation, suite

MUTATIONS = (
    Mutation(
        "a_process_that_begins_takes_its_peers_for_liars",
        "mesh",
        "0 if begins else merged.lowered",
        "merged.lowered",
        suite("mesh/protocol/test_entry_merger", "before_this_process_began"),
    ),
    Mutation(
        "observers_have_no_part_of_the_epochs",
        "mesh",
        "            admits = self._members.introductions.by(OBSERVERS)\n",
        "            admits = lambda name, epoch: True\n",
        suite("mesh/test_bad_members", "observer_fills"),
    ),
    Mutation(
        "places_of_members_have_no_bound",
        "mesh",
        "            fits = used < MEMBER_PLACES\n",
        "            fits = True\n",
        suite("mesh/protocol/test_introductions", "that_somebody_sees"),
    ),
    Mutation(
        "nobody_makes_room_for_a_peer_without_its_part",
        "mesh",
        "        if self._wanted:\n            self._drop_newest(running)\n",
        "",
        suite("mesh/protocol/test_introductions", "whoever_has_most"),
    ),
    Mutation(
        "a_full_table_has_no_place_for_a_linked_peer",
        "mesh",
        "            self._remove_gone()\n            self._drop_newest((), at_once=True)\n",
        "            pass\n",
        suite("mesh/protocol/test_introductions", "full_table_makes_room"),
    ),
    Mutation(
        "the_own_epoch_is_given_up_again_and_again",
        "mesh",
        "if agreed and now - self._believed >= GAP_NS:",
        "if agreed:",
        suite("mesh/protocol/test_own_epoch", "again_and_again"),
    ),
    Mutation(
        "about_the_own_epoch_peers_agree_whenever_they_said_it",
        "mesh",
        "            if name in connected and now - at <= AGREE_NS\n",
        "            if name in connected\n",
        suite("mesh/protocol/test_own_epoch", "say_so_within"),
    ),
    Mutation(
        "about_the_own_epoch_a_peer_that_is_gone_agrees",
        "mesh",
        "            if name in connected and now - at <= AGREE_NS\n",
        "            if now - at <= AGREE_NS\n",
        suite("mesh/protocol/test_own_epoch", "not_connected_any_more"),
    ),
    Mutation(
        "corrections_of_the_clock_do_not_add_up",
        "mesh",
        "        self._unexplained += max(0, beyond)\n",
        "",
        suite("mesh/protocol/test_clock_watch", "nothing_explained"),
    ),
    Mutation(
        "peers_correct_the_clock_by_minutes",
        "mesh",
        "STEP_NS = 2_000_000_000",
        "STEP_NS = 200_000_000_000",
        suite("mesh/protocol/test_clock_watch", "runs_off_steadily"),
    ),
    Mutation(
        "members_have_no_bound",
        "mesh",
        "        if len(self.known) < wire.MAX_MEMBERS - 1:\n            return True\n",
        "        if True:\n            return True\n",
        suite("mesh/test_bad_members", "members_that_a_peer_invents"),
    ),
    Mutation(
        "the_same_invented_addresses_are_dialled_for_ever",
        "mesh",
        "            first = now // TURN_NS * DIALS % len(one)\n",
        "            first = 0\n",
        suite("mesh/test_bad_members", "addresses_that_a_peer_invents"),
    ),
    Mutation(
        "dials_that_fail_are_repeated_at_once",
        "mesh",
        "        self._pause = min(2 * pause, self._last)\n",
        "",
        suite("mesh/links/test_dialer", "backoff"),
    ),
    Mutation(
        "a_dead_member_that_one_peer_sees_is_kept_for_ever",
        "mesh",
        "if unseen - self._clock.gaps(now - unseen) > self._forget_after_ns:",
        "if False:",
        suite("mesh/test_bad_members", "in_the_end"),
    ),
    Mutation(
        "what_is_beyond_a_bound_is_not_counted",
        "mesh",
        "        self._counts.setdefault(peer if known else OTHERS, Counter())[bound] += times\n",
        "",
        suite("mesh/protocol/test_peer_warnings", "peer_and_bound"),
    ),
    Mutation(
        "tokens_of_debts_that_fell_are_not_counted",
        "mesh",
        "            self._adopted[peer if known else OTHERS] += tokens\n",
        "            pass\n",
        suite("mesh/protocol/test_peer_warnings", "by_which_debts_fell"),
    ),
    Mutation(
        "what_is_beyond_a_bound_is_logged_each_time",
        "base",
        "        if at is not None and now - at < self._every_ns:\n",
        "        if False:\n",
        suite("mesh/protocol/test_peer_warnings", "summed_up"),
    ),
)
