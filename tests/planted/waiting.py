"""Bugs in limits that change while callers wait, and in slots that requests hold."""

from __future__ import annotations

from tests.planted.mutation import Mutation, suite

MUTATIONS = (
    Mutation(
        "a_caller_of_a_closed_loop_takes_tokens",
        "limiter",
        "        while self._costs and not self.loop.is_closed():\n",
        "        while self._costs:\n",
        suite("limiter/test_closed_loops", "takes_nothing"),
    ),
    Mutation(
        "the_line_of_a_closed_loop_is_kept",
        "limiter",
        "(*(one for one in known if not one.loop.is_closed()), line)",
        "(*known, line)",
        suite("limiter/test_closed_loops", "takes_nothing"),
    ),
    Mutation(
        "a_loop_that_is_closed_by_now_fails_a_refund",
        "limiter",
        "contextlib.suppress(RuntimeError):  # the loop is closed",
        "contextlib.nullcontext():  # the loop is closed",
        suite("limiter/test_closed_loops", "no_error"),
    ),
    Mutation(
        "who_waits_goes_by_the_limit_that_the_key_had_at_first",
        "limiter",
        "        return await self.waiters.wait(key, cost, timeout)\n",
        "        return await self.of(key).waiters.wait(key, cost, timeout)\n",
        suite("limiter/test_limits_while_waiting", "gets"),
    ),
    Mutation(
        "who_waits_is_not_told_that_a_function_says_another_limit",
        "limiter",
        "        elif self._lines.limits_change:\n",
        "        elif False:\n",
        suite("limiter/test_limits_while_waiting", "raised"),
    ),
    Mutation(
        "who_waits_is_not_told_of_tokens_that_came_back_to_an_override",
        "limiter",
        "        if self.named is not self and self.named.waiters.lines:\n",
        "        if False:\n",
        suite("limiter/test_limits_while_waiting", "refund"),
    ),
    Mutation(
        "slots_are_waited_for_under_the_limit_that_the_key_had_at_first",
        "limiter",
        "        return Waiters(SlotsOfKeys(self), ",
        "        return Waiters(self.search, ",
        suite("limiter/test_limits_while_waiting", "slots"),
    ),
    Mutation(
        "what_is_above_an_estimate_is_charged_under_the_limit_that_the_key_had",
        "limiter",
        "            one.named = self\n",
        "            pass\n",
        suite("limiter/test_limits_while_waiting", "estimate"),
    ),
    Mutation(
        "tokens_go_back_at_a_pause_to_the_limit_that_the_key_has_now",
        "upstream",
        "            self._bucket.refund(decision)",
        "            self._bucket.of(key).refund(decision)",
        suite("upstream/test_upstream", "another_limit"),
    ),
    Mutation(
        "a_cost_of_no_slot_lets_a_request_pass",
        "http",
        " or index(cost) < 1:\n",
        ":\n",
        suite("http/middleware/test_slots", "cost_that_is_none"),
    ),
    Mutation(
        "a_request_for_more_slots_than_there_are_is_denied_for_ever",
        "http",
        "    if index(cost) > (most := spec.slots or 0):\n",
        "    if (most := spec.slots or 0) < 0:\n",
        suite("http/middleware/test_slots", "more_slots_than"),
    ),
    Mutation(
        "slots_that_are_over_are_counted_when_others_are_acquired",
        "limiter",
        "        self.book.held(self.table.now())  # counts those that have ended since\n",
        "",
        suite("limiter/test_slots", "long_hold"),
    ),
    Mutation(
        "strong_slots_are_waited_for_under_the_limit_that_the_key_had_at_first",
        "strong",
        "        self._strong = _checked(bucket.named)\n",
        "        self._strong = bucket\n",
        suite("strong/test_limits_while_waiting", "moment"),
    ),
    Mutation(
        "a_strong_slot_counts_by_the_limit_that_the_key_had_when_it_was_made",
        "strong",
        "self.follow(await self._ask()) if once",
        "await self._ask() if once",
        suite("strong/test_limits_while_waiting", "another_limit"),
    ),
)
