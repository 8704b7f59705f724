"""The bugs that are planted in copies of the package, and the test that must find each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    name: str
    folder: str
    old: str
    new: str
    check: tuple[str, ...]
    """Arguments of `python -m`: what must fail."""


PYTEST = ("pytest", "-q", "-x", "-p", "no:cacheprovider")


def contract(words: str) -> tuple[str, ...]:
    return (
        *PYTEST,
        "tests/test_core_contract.py",
        "-k",
        words,
    )


def trace(words: str) -> tuple[str, ...]:
    return (
        *PYTEST,
        "tests/simulated/test_traces.py",
        "-k",
        words,
    )


def deaths(words: str) -> tuple[str, ...]:
    return (*PYTEST, "tests/simulated/test_deaths.py", "-k", words)


HISTORIES = (*PYTEST, "tests/strong/test_script_histories.py", "-k", "redis-server")


def strong(module: str, words: str) -> tuple[str, ...]:
    return (
        *PYTEST,
        f"tests/strong/test_{module}.py",
        "-k",
        words,
    )


def candidate(words: str) -> tuple[str, ...]:
    return (*PYTEST, "tests/core/test_candidate.py", "-k", words)


def demand(module: str, words: str) -> tuple[str, ...]:
    return (*PYTEST, f"tests/{module}.py", "-k", words)


def relayed(words: str) -> tuple[str, ...]:
    return (*PYTEST, "tests/core/test_relayed.py", "-k", words)


def relays(words: str) -> tuple[str, ...]:
    return (*PYTEST, "tests/mesh/test_relays.py", "-k", words)


def rollout(module: str, words: str) -> tuple[str, ...]:
    return (*PYTEST, f"tests/test_{module}.py", "-k", words)


def seeds(count: int, start: int = 0) -> tuple[str, ...]:
    counts = ("--seeds", str(count), "--start", str(start), "--jobs", "1")
    return ("tests.soak", *counts, "--whole")


def lives(words: str) -> tuple[str, ...]:
    return (*PYTEST, "tests/test_sharing.py", "-k", words)


MUTATIONS = (
    Mutation(
        "names_are_forgotten_between_lives",
        "core",
        "    int alone = t->h->named <= 1;\n",
        "    t->h->named = 0;\n    int alone = 0;\n",
        lives("stay_with_the_epochs"),
    ),
    Mutation(
        "epochs_without_an_owner_stay",
        "core",
        "(alone || !node_has_name(t, t->origins[i].node))",
        "alone",
        lives("owner_is_not_known"),
    ),
    Mutation(
        "no_room_is_made_for_a_new_life",
        "core",
        "pass < 3; pass++",
        "pass < 0; pass++",
        lives("finds_room"),
    ),
    Mutation(
        "any_file_is_begun_anew",
        "",
        "        if first and not is_ours(first):\n",
        "        if False:\n",
        lives("left_as_it_is"),
    ),
    Mutation(
        "hard_links_are_followed",
        "",
        "        if is_now.st_nlink > 1:",
        "        if False:",
        lives("has_another_name"),
    ),
    Mutation(
        "a_table_is_marked_when_it_is_whole",
        "core",
        "    if (pwrite(fd, &ours, sizeof ours, 0) != (ssize_t)sizeof ours)\n"
        "        return errno ? errno : ENOSPC;\n",
        "",
        lives("says_whose_it_is"),
    ),
    Mutation(
        "any_host_is_answered",
        "http",
        "            self._hosts.check(request)\n",
        "",
        (*PYTEST, "tests/http/test_hosts.py"),
    ),
    Mutation(
        "any_page_is_answered",
        "http",
        '            self._check_origin(origin, hosts[0] if host else "")\n',
        "            pass\n",
        (*PYTEST, "tests/http/test_hosts.py"),
    ),
    Mutation(
        "a_node_that_was_not_opened_decides",
        "",
        "            tables.refuse(LimiterNotOpen(UNOPENED))\n",
        "            pass\n",
        (*PYTEST, "tests/test_lifecycle.py"),
    ),
    Mutation(
        "a_forked_child_decides",
        "",
        "        self._tables.refuse(LimiterNotOpen(FORKED))\n",
        "",
        (*PYTEST, "tests/test_lifecycle.py", "-k", "child"),
    ),
    Mutation(
        "a_forked_child_ends_what_is_the_parents",
        "",
        "            self._leave_to_the_parent()\n            return\n",
        "            pass\n",
        (*PYTEST, "tests/test_lifecycle.py", "-k", "nothing_of_the_parents"),
    ),
    Mutation(
        "the_leader_shows_nothing",
        "",
        "            self._show()\n",
        "",
        (*PYTEST, "tests/test_leaderview.py", "-k", "every_process"),
    ),
    Mutation(
        "a_view_is_written_where_it_is_read",
        "core",
        "    uint32_t place = !(t->h->view_version & 1);\n",
        "    uint32_t place = t->h->view_version & 1;\n",
        (*PYTEST, "tests/test_leaderview.py", "-k", "other or another"),
    ),
    Mutation(
        "marks_are_forgotten_between_lives",
        "mesh",
        "= {epoch: now for _, _, epoch, marked in table.origins() if marked}",
        "= {}",
        (*PYTEST, "tests/mesh/test_pruning.py"),
    ),
    Mutation(
        "damaged_notes_are_believed",
        "mesh",
        '        if int.from_bytes(data[:4], "big") != zlib.crc32(packed):\n',
        "        if False:\n",
        (*PYTEST, "tests/mesh/test_takeover.py", "-k", "notes_that_cannot_be_read"),
    ),
    Mutation(
        "maximum_for_sum",
        "core",
        "int64_t brings = g->brings_held + g->brings_lacking;",
        "int64_t brings = g->brings_held;\n"
        "    if (g->brings_lacking > brings)\n        brings = g->brings_lacking;",
        contract("two_takes_heard_at_once"),
    ),
    Mutation(
        "no_advance",
        "core",
        "        if (debt < least)\n            bound = least;\n        else if",
        "        if",
        contract("advance_first"),
    ),
    Mutation(
        "adoption_aged_by_travel_time",
        "core",
        "adopt = stated + token_units(d, g->lacks), out;",
        "adopt = stated - (i128)50000000 * d->p + token_units(d, g->lacks), out;",
        contract("error_at_most_in_flight or stated_debt"),
    ),
    Mutation(
        "no_adoption",
        "core",
        "out = count < adopt ? count : adopt;",
        "out = count;",
        contract("not_counted_twice"),
    ),
    Mutation(
        "birth_ignored",
        "core",
        "if (!held || yb != xb)",
        "if (!held)",
        contract("new_birth_counts_whole"),
    ),
    Mutation(
        "own_columns_stripped",
        "core",
        "i < INLINE_COLUMNS; i++) {\n        uint32_t origin = ",
        "i < 0; i++) {\n        uint32_t origin = ",
        contract("not_counted_twice"),
    ),
    Mutation(
        "prediction_in_the_statement",
        "core",
        "    uint32_t count = stated_columns(",
        "    const definition_t *d = &t->definitions[hot->bucket];\n"
        "    debt += (int64_t)(entry_far(t, e, d, to->now) / d->p);\n"
        "    uint32_t count = stated_columns(",
        contract("stated_debt"),
    ),
    Mutation(
        "refund_after_full",
        "core",
        "LOAD(t->hot[e].full_count) != full_count ||",
        "",
        contract("refund_after_full or v_refund_after_full"),
    ),
    Mutation(
        "less_for_less_or_equal",
        "core",
        "LIKELY(room >= 0)",
        "LIKELY(room > 0)",
        contract("all_that_is_left"),
    ),
    Mutation(
        "early_eviction",
        "core",
        "\n           && is_full(t, e, word, now);",
        ";",
        (*PYTEST, "tests/simulated/test_invariants.py", "-k", "idle_key"),
    ),
    Mutation(
        "full_gives_no_answer",
        "core",
        "out->answers[r->answer_count++] = e;",
        ";",
        contract("answers_at_any_rate"),
    ),
    Mutation(
        "rate_change_keeps_time",
        "core",
        "i128 units = whole * new->q +",
        "i128 units = whole * old->q +",
        contract("definition_change"),
    ),
    Mutation(
        "snapshot_without_debt",
        "core",
        "base_for(d, stated_units(d, &aged, wd), 0, now));",
        "base_for(d, 0, 0, now));",
        trace("test_g"),
    ),
    Mutation(
        "epoch_reused",
        ".",
        "epoch = mesh.random.getrandbits(64) | 1\n",
        "epoch = 1 + sum(self.name.encode())\n",
        trace("f_takes or b_c_restart"),
    ),
    Mutation(
        "acks_kept_over_a_restart",
        "mesh",
        "        self.__dict__.update(fresh.__dict__)",
        "        self.info = fresh.info",
        trace("f_takes or g_restored"),
    ),
    Mutation(
        "every_acknowledgement_believed",
        "mesh",
        "elif below == 0 or frame.ack_bits >> (below - 1) & 1:",
        "else:",
        (*PYTEST, "tests/mesh/test_link.py"),
    ),
    Mutation(
        "late_messages_believed",
        "mesh",
        "stale = trip > STALE_NS",
        "stale = False",
        (*PYTEST, "tests/mesh/test_link.py"),
    ),
    Mutation(
        "silence_taken_for_an_end",
        "mesh",
        "Ending(now) if ended else None",
        "Ending(now)",
        (*PYTEST, "tests/mesh/test_membership.py", "-k", "gave_up_waiting"),
    ),
    Mutation(
        "a_call_without_an_answer_taken_for_a_refusal",
        "mesh",
        "        if refused:\n            self.refused = now\n",
        "        if True:\n            self.refused = now\n",
        deaths("stands_still"),
    ),
    Mutation(
        "dead_although_a_third_hears_it",
        "mesh",
        "        return any(hears(link.told, link.unheard, name) for link in self._alive(now))\n",
        "        return False\n",
        deaths("heard_by_a_third"),
    ),
    Mutation(
        "dead_by_a_minority",
        "mesh",
        "return heard > missing or missing == 1",
        "return True",
        deaths("smaller_part"),
    ),
    Mutation(
        "places_of_the_dead_are_gone",
        "mesh",
        "            self._places.left_empty(now)\n        self._table.unheard",
        "            pass\n        self._table.unheard",
        deaths("one_by_one"),
    ),
    Mutation(
        "the_dead_are_waited_for",
        "mesh",
        "elif self._is_dead(link, now):",
        "elif False:",
        deaths("new_names"),
    ),
    Mutation(
        "gone_peers_are_never_dropped",
        "mesh",
        "        for link in gone[: max(0, len(gone) - GONE)]:\n",
        "        for link in gone[:0]:\n",
        (*PYTEST, "tests/mesh/test_membership.py", "-k", "die_for_ever"),
    ),
    Mutation(
        "the_silent_keep_their_place_whatever_comes",
        "mesh",
        "if not self._pruner.crowded:",
        "if True:",
        (*PYTEST, "tests/mesh/test_membership.py", "-k", "die_for_ever"),
    ),
    Mutation(
        "newcomers_hold_up_pruning",
        "mesh",
        "if epoch in dead.passes else link.synced",
        "if epoch in dead.passes else link.passes >= PASSES",
        (*PYTEST, "tests/mesh/test_pruning.py"),
    ),
    Mutation(
        "columns_that_owe_are_pruned",
        "core",
        "            if (longest[column_origin(&c)] < d->cap_ns)\n",
        "            if (0)\n",
        (*PYTEST, "tests/mesh/test_pruning.py"),
    ),
    Mutation(
        "drift_is_not_followed",
        "mesh",
        "            self.base += max(-drift, min(drift, moved))\n",
        "            pass\n",
        (*PYTEST, "tests/mesh/test_clockwatch.py"),
    ),
    Mutation(
        "drift_in_a_silence_taken_for_a_jump",
        "mesh",
        "if abs(moved) - drift <= JUMP_NS:",
        "if abs(moved) <= JUMP_NS:",
        (*PYTEST, "tests/mesh/test_protocol.py", "-k", "drift_through"),
    ),
    Mutation(
        "all_that_moved_is_followed",
        "mesh",
        "            self.base += max(-drift, min(drift, moved))\n",
        "            self.base += moved\n",
        (*PYTEST, "tests/mesh/test_clockwatch.py"),
    ),
    Mutation(
        "extreme_times_believed",
        "mesh",
        "        if abs(ahead) > MOST_NS:\n            return\n",
        "",
        (*PYTEST, "tests/mesh/test_protocol.py", "-k", "extreme"),
    ),
    Mutation(
        "shifts_beyond_the_ceiling",
        "core",
        "        if (debt_units(d, base, net, now) > cap_units(d))\n            base_move",
        "        if (0)\n            base_move",
        (*PYTEST, "tests/core/test_identity.py"),
    ),
    Mutation(
        "told_of_once_is_running_for_long",
        "mesh",
        "            if any(hears(link.told, link.unheard, name) for link in told)\n",
        "",
        (*PYTEST, "tests/mesh/test_membership.py", "-k", "died_before_a_joiner"),
    ),
    Mutation(
        "columns_raised_by_anybody",
        "core",
        "joined->taken = x->taken > taken ? x->taken : taken;",
        "joined->taken = x->taken + (x->taken > taken);",
        seeds(16),
    ),
    Mutation(
        "a_mark_outlives_who_returned",
        "mesh",
        "                    self._pruner.returned(epoch)\n",
        "                    pass\n",
        (*PYTEST, "tests/simulated/test_returned.py"),
    ),
    Mutation(
        "unsteady_frames_are_a_jump_of_the_clock",
        "mesh",
        "JUMP_NS = 1_000_000_000",
        "JUMP_NS = 10_000_000",
        seeds(50),
    ),
    Mutation(
        "script_denies_the_last_token",
        "strong",
        "rest + cost_rest - full_rest) / p) > 0 then",
        "rest + cost_rest - full_rest) / p) >= 0 then",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_raises_no_record",
        "strong",
        "    one[TAKEN] = max(one[TAKEN], column[TAKEN])\n",
        "",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_charges_history",
        "strong",
        "  lower(most_s, most_ns, most_rest)\n",
        "",
        strong("script", "the_script and flush"),
    ),
    Mutation(
        "script_charges_what_was_refilled",
        "strong",
        "if brought > 0 then",
        "if false then",
        strong("script", "the_script and long"),
    ),
    Mutation(
        "script_drops_remainders",
        "strong",
        "return (time - ns) / NS, ns, rest",
        "return (time - ns) / NS, ns, 0",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_ignores_the_fence",
        "strong",
        "if own and own[FENCE] > column[FENCE] then",
        "if false then",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_adopts_the_higher_level",
        "strong",
        "if less < 0 or (less == 0 and rest < other_rest) then",
        "if less > 0 or (less == 0 and rest > other_rest) then",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_forgets_what_it_adopted",
        "strong",
        "changed = not lower(here_s, here_ns, here_rest) or changed",
        "lower(here_s, here_ns, here_rest)",
        strong("script", "the_script"),
    ),
    Mutation(
        "script_adopts_another_definition",
        "strong",
        "  if comparable then\n",
        "  if true then\n",
        HISTORIES,
    ),
    Mutation(
        "script_takes_a_clock_at_its_word",
        "strong",
        "if gone_s < 0 or (gone_s == 0 and gone_us < 0) then",
        "if false then",
        strong("script", "the_script or hour"),
    ),
    Mutation(
        "script_lets_keys_die_in_debt",
        "strong",
        "s * 1000 + floor(ns / 1000000) + 1 + argv[5]",
        "1 + argv[5]",
        strong("script", "lives_until"),
    ),
    Mutation(
        "script_writes_into_foreign_hashes",
        "strong",
        "if size > 0 and not held[1] then",
        "if false then",
        strong("script", "not_ours"),
    ),
    Mutation(
        "script_keeps_every_record",
        "strong",
        "if size > MANY and one[SEEN] < oldest then",
        "if false then",
        strong("script", "the_script and records"),
    ),
    Mutation(
        "return_without_room_to_leave",
        "strong",
        "or now < self._budget.two_at",
        "or now < self._budget.one_at",
        strong("controller", "second_failover_soon_after"),
    ),
    Mutation(
        "switches_without_a_bound",
        "strong",
        "= max(now, self._after_at), self.one_at + self._gap_ns",
        "= now, self.one_at + self._gap_ns",
        strong("switch_budget", "three_at_once"),
    ),
    Mutation(
        "late_answers_counted_twice",
        "strong",
        "return None if late else self._counted(",
        "return self._counted(",
        strong("controller", "late_counts_once"),
    ),
    Mutation(
        "lost_probes_forgiven",
        "strong",
        "        self._recovery.slowed()\n        return self._gone(now)",
        "        return self._gone(now)",
        strong("controller", "probe_without_an_answer"),
    ),
    Mutation(
        "slow_answers_given_up_for_a_quota",
        "strong",
        "self._counted(now, slow=slow, lost=False)",
        "self._counted(now, slow=slow, lost=slow)",
        strong("controller", "alone_an_answer_within"),
    ),
    Mutation(
        "slow_answers_alone_keep_from_strong",
        "strong",
        "late if self._alone else slow",
        "slow",
        strong("controller", "slow_after_an_outage"),
    ),
    Mutation(
        "own_lateness_called_latency",
        "strong",
        "now - self._unread_ns(batch, now)",
        "now",
        strong("lateness", "lay_unread"),
    ),
    Mutation(
        "lateness_hides_a_slow_server",
        "strong",
        "late if age is None else min(late, age)",
        "late",
        strong("lateness", "behind_a_late_loop"),
    ),
    Mutation(
        "given_up_without_a_look",
        "strong",
        "self._timer = loop.call_later(LOOK_S, self._expire, now_ns())",
        "self._expire(now_ns())",
        strong("turn", "is_read_before"),
    ),
    Mutation(
        "deadline_runs_before_the_writing",
        "strong",
        "elif 0 < turn.written_ns <= looked_ns",
        "elif turn.written_ns <= looked_ns",
        strong("turn", "not_written"),
    ),
    Mutation(
        "any_number_in_flight",
        "strong",
        "len(self._calls) < calls and",
        "len(self._calls) < 10**6 and",
        strong("load", "may_give_up"),
    ),
    Mutation(
        "window_blind_to_own_calls",
        "strong",
        "self.size = max(LEAST, self.size * 3 // 4)",
        "self.size = max(LEAST, self.size)",
        strong("window", "busy_with_our_calls"),
    ),
    Mutation(
        "unbooked_calls_taken_for_ghosts",
        "strong",
        "unbooked = min(max(0, ahead), self.flights.unbooked(ask))",
        "unbooked = 0",
        strong("flights", "looks_like_a_ghost"),
    ),
    Mutation(
        "settled_beside_other_connections",
        "strong",
        "            and self.flights.alone(ask)\n",
        "",
        strong("flights", "beside_others"),
    ),
    Mutation(
        "drifting_calls_ended_by_older_ones",
        "strong",
        "self._adrift.get(item, (0, fence))[1] < fence",
        "self._adrift.get(item, (0, fence))",
        strong("owed", "older"),
    ),
    Mutation(
        "threads_calls_without_a_new_fence",
        "strong",
        "            endpoint.fence = endpoint.keeper.next_fence()\n        self._tell",
        "        self._tell",
        strong("threads", "new_fence"),
    ),
    Mutation(
        "closed_under_the_calls_of_threads",
        "strong",
        "            await self._idle.wait()",
        "            pass",
        strong("threads", "closing_waits"),
    ),
    Mutation(
        "forked_children_wait_for_a_copied_lock",
        "strong",
        "            raise self._table.refusal  # before any lock, which a fork",
        "            pass  # before any lock, which a fork",
        strong("threads", "forked_child"),
    ),
    Mutation(
        "decisions_without_a_pause",
        "strong",
        "if self._unyielded >= UNYIELDED:",
        "if self._unyielded >= 10**9:",
        strong("load", "without_redis_let"),
    ),
    Mutation(
        "spikes_believed",
        "strong",
        "and self._still()",
        "and True",
        strong("controller", "spike"),
    ),
    Mutation(
        "streak_over_an_empty_window",
        "strong",
        "            self._follow(self._slot * self._slot_ns)",
        "            pass",
        strong("latency", "leaves_the_window"),
    ),
    Mutation(
        "outage_counts_from_the_failure",
        "strong",
        "self._failing_since = now if self.silent_since is None else self.silent_since",
        "self._failing_since = now",
        strong("outage", "nobody_answered"),
    ),
    Mutation(
        "refused_together_counted_apart",
        "strong",
        "now - self._last_refusal >= REFUSAL_SPACING_NS",
        "now >= self._last_refusal",
        strong("outage", "refusals_of_one_moment"),
    ),
    Mutation(
        "two_probes_at_a_time",
        "strong",
        "if now < self.due_at():",
        "if now < self._last + self._interval_ns:",
        strong("recovery", "one_caller"),
    ),
    Mutation(
        "probes_never_rarer",
        "strong",
        "self._interval_ns = min(2 * self._interval_ns, self._longest_ns)",
        "self._interval_ns = self._least_ns",
        strong("recovery", "grow_rare"),
    ),
    Mutation(
        "share_blind_to_the_fleet",
        "strong",
        "max(1 / self._ratio, Fraction(nodes))",
        "1 / self._ratio",
        strong("quota", "share_of_capacity"),
    ),
    Mutation(
        "a_token_for_each_of_too_many",
        "strong",
        " or cost * nodes > self._capacity",
        "",
        strong("quota", "one_for_each"),
    ),
    Mutation(
        "quota_with_a_debt",
        "strong",
        "                max_debt=0,\n                max_keys=spec.max_keys,",
        "                max_keys=spec.max_keys,",
        strong("quota", "leaves_no_debt"),
    ),
    Mutation(
        "hash_of_redis_by_the_secret_of_the_mesh",
        "",
        "    if redis is not None:\n        return PUBLIC_KEY\n",
        "    if redis is not None and mesh is None:\n        return PUBLIC_KEY\n",
        rollout("hashing", "in_any_mesh"),
    ),
    Mutation(
        "a_hash_with_collisions_where_there_is_no_secret",
        "core",
        "key[1] == PUBLIC_HASH",
        "key[1] == 0",
        rollout("hashing", "blake2s"),
    ),
    Mutation(
        "refused_and_served_all_the_same",
        "strong",
        "        return strong and not self._barred()\n",
        "        return strong\n",
        strong("one_redis", "refused_with_a_reason"),
    ),
    Mutation(
        "who_is_refused_refuses_others",
        "strong",
        "if other ~= print and state == '1' then",
        "if other ~= print then",
        strong("registry", "is_refused"),
    ),
    Mutation(
        "processes_counted_by_name",
        "strong",
        "        return script.owner_name(self._table.epoch, self._node)\n\n    async def _show",
        "        return script.owner_name(1, self._node)\n\n    async def _show",
        strong("registry", "twelve_processes"),
    ),
    Mutation(
        "a_share_that_others_still_grant",
        "strong",
        "share = math.max(0, math.min(share, WHOLE - taken))",
        "share = math.max(0, share)",
        strong("registry", "never_more_than_the_whole"),
    ),
    Mutation(
        "a_share_given_up_before_that_is_heard",
        "strong",
        "math.max(using, share), print",
        "share, print",
        strong("registry", "given_up_when_that_is_heard"),
    ),
    Mutation(
        "blind_to_the_expected_nodes",
        "strong",
        "nodes = max(known, self.processes, wish.least)",
        "nodes = max(known, self.processes)",
        strong("one_redis", "share_of_the_expected"),
    ),
    Mutation(
        "debts_of_the_last_life_forgotten",
        "strong",
        "            desk.owed.resume(self._last_life.rows)\n",
        "",
        strong("owed", "told_the_difference"),
    ),
    Mutation(
        "decisions_before_the_debts_of_the_last_life",
        "strong",
        "                await endpoint.keeper.settler.settle(LAST_WORDS_S)\n",
        "                pass\n",
        strong("owed", "next_life_settles"),
    ),
    Mutation(
        "another_server_taken_for_that_of_the_last_life",
        "strong",
        "            endpoint.keeper.run_id = self.met.get(str(address))\n",
        "            pass\n",
        strong("owed", "lost_what_the_last_life_had_told"),
    ),
    Mutation(
        "only_seeds_asked_for_a_cluster",
        "strong",
        "known = dict.fromkeys((who, *target.addresses, *layout.nodes[:MOST_KNOWN]))",
        "known = dict.fromkeys((who, *target.addresses))",
        strong("locator", "nodes_that_a_cluster_had"),
    ),
    Mutation(
        "a_sentinel_that_says_nothing_waited_for",
        "strong",
        "patience = PATIENCE_S if more else None",
        "patience = None",
        strong("locator", "not_waited_for"),
    ),
    Mutation(
        "evictions_unseen",
        "strong",
        "        if same and (found.evicted or 0) > (before.evicted or 0):\n",
        "        if same and (found.evicted or 0) < (before.evicted or 0):\n",
        strong("facts", "told_again_by_all"),
    ),
    Mutation(
        "a_policy_for_keys_that_expire_taken_for_harmless",
        "strong",
        'self.policy not in ("", "noeviction")',
        'self.policy.startswith("allkeys")',
        strong("facts", "all_policies_but_one"),
    ),
    Mutation(
        "a_replica_asked_for_ever",
        "strong",
        '            if error.code == "READONLY":\n                self.keeper.turn_away()\n',
        "",
        strong("keeper", "became_a_replica"),
    ),
    Mutation(
        "what_wrote_nothing_taken_for_health",
        "strong",
        "            self._outage.heard()\n",
        "            self._outage.clear()\n",
        strong("rights", "denials_do_not_hide"),
    ),
    Mutation(
        "an_outage_without_its_cause",
        "strong",
        'return f": {self._why}" if self._why else ""',
        'return ""',
        strong("rights", "first_critical_line"),
    ),
    Mutation(
        "debt_of_a_candidate_never_adopted",
        "core",
        "    its->same = wd->candidate_same;\n",
        "",
        candidate("levels_meet"),
    ),
    Mutation(
        "merged_under_the_definition_of_the_others",
        "core",
        "    if (LIKELY((hash_hi >> 1) >= wd->candidate_below))\n        return wd;\n",
        "    return wd;\n",
        candidate("levels_are_adopted"),
    ),
    Mutation(
        "upkeep_takes_keys_from_their_candidate",
        "core",
        "bucket = definition_for(t, definition_newest(t, t->hot[e].bucket), t->hot[e].hash_hi);\n",
        "bucket = definition_newest(t, t->hot[e].bucket);\n"
        "    for (uint32_t i = 0; i < t->h->definitions; i++)\n"
        "        if (t->definitions[i].candidate == bucket && t->definitions[i].candidate_below)\n"
        "            bucket = i;\n",
        candidate("upkeep_leaves"),
    ),
    Mutation(
        "a_stage_counts_from_the_next_touch",
        "core",
        "d->candidate == bucket ? d->staged_ns : now;",
        "now;",
        candidate("as_of_the_stage"),
    ),
    Mutation(
        "denials_of_a_candidate_lost",
        "core",
        "if (t->definitions[i].name_hash == t->definitions[slot].name_hash) {",
        "if (i == slot) {",
        candidate("none_is_lost_when_joined"),
    ),
    Mutation(
        "rises_judged_by_the_limit_of_now",
        "core",
        "i < d->earliers && d->earlier[i].until > since; i++) {",
        "i < 0; i++) {",
        (*PYTEST, "tests/core/test_earlier.py", "-k", "lowered or slots"),
    ),
    Mutation(
        "limits_that_were_gone_excuse_for_ever",
        "core",
        "i < d->earliers && d->earlier[i].until > since; i++) {",
        "i < d->earliers; i++) {",
        (*PYTEST, "tests/core/test_earlier.py", "-k", "explains_nothing"),
    ),
    Mutation(
        "owner_beyond_its_limit_refused",
        "core",
        "if (t->origins[x->origin].node == m->source) {\n        g->capped++;",
        "if (0) {\n        g->capped++;",
        (*PYTEST, "tests/core/test_merge.py", "-k", "more_than_its_limit"),
    ),
    Mutation(
        "relays_believed_without_a_bound",
        "core",
        "    x->taken -= rise - (int64_t)most;\n",
        "",
        (*PYTEST, "tests/core/test_merge.py", "-k", "relay_raises"),
    ),
    Mutation(
        "old_takes_charged_at_the_new_rate",
        "core",
        "    if (UNLIKELY(g->earlier))\n",
        "    if (0)\n",
        (*PYTEST, "tests/core/test_earlier.py", "-k", "empties_the_smaller"),
    ),
    Mutation(
        "credit_at_the_rate_of_now",
        "core",
        "i < d->earliers && d->earlier[i].until > from; i++) {",
        "i < 0; i++) {",
        (*PYTEST, "tests/simulated/test_changes.py", "-k", "credit"),
    ),
    Mutation(
        "late_history_counts",
        "core",
        " || (m->late && !same_birth))",
        ")",
        (*PYTEST, "tests/core/test_merge.py", "-k", "late_count_of_another"),
    ),
    Mutation(
        "late_counts_lost",
        "mesh",
        "            self._merge_late(link, frame, now)\n",
        "",
        (*PYTEST, "tests/mesh/test_protocol.py", "-k", "too_long_under_way"),
    ),
    Mutation(
        "warned_each_time",
        "mesh",
        "if known is not None and now - known.at < REPEAT_NS:",
        "if False:",
        (*PYTEST, "tests/mesh/test_warnings.py"),
    ),
    Mutation(
        "whatever_is_merged_is_sent_on",
        "core",
        "    if (news)\n        log_append(t, e);\n",
        "    if (news || m->relays)\n        log_append(t, e);\n",
        (*PYTEST, "tests/simulated/test_graphs.py", "-k", "quiet and chain and 4"),
    ),
    Mutation(
        "news_is_not_sent_on",
        "core",
        "        news |= m->relays && m->relays[node];\n",
        "",
        (*PYTEST, "tests/simulated/test_graphs.py", "-k", "quiet and chain and 4"),
    ),
    Mutation(
        "only_who_is_told_unheard_is_relayed",
        "mesh",
        "    told = link.told is None or name in link.told\n",
        "    told = True\n",
        (*PYTEST, "tests/mesh/test_membership.py", "-k", "never_heard_of"),
    ),
    Mutation(
        "who_hears_nothing_is_waited_for",
        "mesh",
        "if link.held and max(silent, unreached) > HOLD_NS:",
        "if link.held and silent > HOLD_NS:",
        (*PYTEST, "tests/simulated/test_graphs.py", "-k", "quiet and one and not chain"),
    ),
    Mutation(
        "told_and_taken_for_dead",
        "mesh",
        "        return epochs | told | {self._table.epoch}\n",
        "        return epochs | {self._table.epoch}\n",
        (*PYTEST, "tests/simulated/test_graphs.py", "-k", "not_taken_for_dead"),
    ),
    Mutation(
        "snapshots_never_age",
        "core",
        "    aged.debt_ns -= age > 0 ? age : 0;\n",
        "",
        (*PYTEST, "tests/mesh/test_snapshot.py", "-k", "within_a_boot"),
    ),
    Mutation(
        "suspects_are_told",
        "core",
        "& (ENTRY_USED | ENTRY_SUSPECT)) != ENTRY_USED)",
        "& ENTRY_USED) != ENTRY_USED)",
        (*PYTEST, "tests/mesh/test_snapshot.py", "-k", "told_to_nobody"),
    ),
    Mutation(
        "suspects_believed_at_once",
        "core",
        "    if (age < 0)\n        OR(t->hot[e].flags, ENTRY_SUSPECT);\n",
        "",
        (*PYTEST, "tests/simulated/test_snapshots.py", "-k", "refilled_since"),
    ),
    Mutation(
        "anybody_cancels_what_is_suspect",
        "mesh",
        "return self._suspect_since - link.born >= CAUTION_NS + SETTLED_NS",
        "return True",
        (*PYTEST, "tests/simulated/test_snapshots.py", "-k", "mint_nothing or nobody_with_memory"),
    ),
    Mutation(
        "snapshot_replaced_while_suspect",
        "mesh",
        "return self._restored or snapshot.dump(",
        "return snapshot.dump(",
        (*PYTEST, "tests/simulated/test_snapshots.py", "-k", "before_it_is_settled"),
    ),
    Mutation(
        "relayed_tokens_not_counted",
        "core",
        "            note_relayed(t, e, node, &c, net, brought);\n",
        "            ;\n",
        relayed("counts_over"),
    ),
    Mutation(
        "relayed_tokens_in_few_bits",
        "core",
        "    return relayed < 0 || heard_later(n, c->c->heard[c->i]) ? 0 : relayed;",
        "    return relayed < 0 || heard_later(n, c->c->heard[c->i])\n"
        "               ? 0 : (int64_t)unpack_rate(pack_rate((double)relayed) & ~15);",
        relayed("however_small"),
    ),
    Mutation(
        "relayed_before_the_newest_entry",
        "core",
        "        own.c->known[own.i] = (uint64_t)column_net(&own);\n",
        "",
        relayed("newest_news"),
    ),
    Mutation(
        "relayed_before_the_newest_round",
        "core",
        "        rated.c->known[i] = (uint64_t)before;\n",
        "",
        relayed("round_without"),
    ),
    Mutation(
        "relayed_counts_one_life",
        "core",
        "    rated.c->known[i] += (uint64_t)(column_net(&rated) - before - brought);",
        "    ;",
        relayed("counts_over"),
    ),
    Mutation(
        "anybody_spends_the_credit",
        "core",
        "    return node && now - t->nodes[node].heard > t->h->near_ns;",
        "    return node != 0;",
        contract("credit_is_spent"),
    ),
    Mutation(
        "one_spends_the_credit_of_all",
        "core",
        "    i128 rest = far > 0 && g->brings_silent > 0 ? far_of_others(t, e, d, g, now) : 0;\n",
        "    i128 rest = 0;\n",
        contract("credit_is_spent"),
    ),
    Mutation(
        "burst_hidden_by_the_credit",
        "core",
        "        if (out < least - rest)\n            out = least - rest;\n",
        "",
        contract("credit_hides_no_burst"),
    ),
    Mutation(
        "ages_believed_of_whoever_is_heard",
        "mesh",
        "            if not directly and at > other.relayed_at:\n",
        "            if at > other.relayed_at:\n",
        relays("speaks_for_itself"),
    ),
    Mutation(
        "ages_stated_of_whoever_is_silent",
        "mesh",
        "            if 0 <= age < self._table.near_ns:\n",
        "            if 0 <= age < 2**60:\n",
        relays("does_not_hear_either"),
    ),
    Mutation(
        "ages_before_their_news",
        "mesh",
        "                if now - at <= CAUGHT_UP_NS:\n"
        "                    self._table.touch(touched)\n",
        "",
        relays("before_it_was_relayed"),
    ),
    Mutation(
        "relayed_rates_older_than_the_own",
        "core",
        "        if (column_rated(&c) && (int32_t)(stamp_of(at) - c.c->heard[c.i]) <= 0)\n"
        "            continue;\n",
        "",
        relayed("older_ones"),
    ),
    Mutation(
        "relayed_rates_with_a_silence",
        "core",
        "\n           && now - at <= t->h->near_ns;",
        ";",
        relayed("nothing_was_kept"),
    ),
    Mutation(
        "relayed_rates_of_whoever_is_heard",
        "core",
        "n->known && !n->connected && ",
        "n->known && ",
        relayed("heard_here"),
    ),
    Mutation(
        "one_horizon_for_all_meshes",
        "mesh",
        "        least = max(NEAR_NS, ROUNDS * self._interval_ns + longest)\n",
        "        least = max(NEAR_NS, longest)\n",
        (*PYTEST, "tests/mesh/test_horizon.py", "-k", "gossips_seldom"),
    ),
    Mutation(
        "halted_goes_on_by_time",
        "",
        "        if self.position.status is not Status.RUNNING:\n            return False\n",
        "        if not self.active:\n            return False\n",
        rollout("rollout", "halted_one_never"),
    ),
    Mutation(
        "going_on_beats_halting",
        "",
        "    DONE = 1\n    HALTED = 2\n    ROLLED_BACK = 3\n",
        "    DONE = 3\n    HALTED = 1\n    ROLLED_BACK = 2\n",
        rollout("rollout", "more_cautious_one_holds or then_changes"),
    ),
    Mutation(
        "denials_before_the_stage_count",
        "",
        "            new = _since(new_now, new_then or (0, 0))\n",
        "            new = new_now\n",
        rollout("rollout", "decided_at_this_stage"),
    ),
    Mutation(
        "rolled_back_to_the_new_version",
        "",
        "        elif status is Status.ROLLED_BACK:\n            self._reload.force(before)\n",
        "        elif status is Status.ROLLED_BACK:\n            self._reload.force(target)\n",
        rollout("rolling", "rolling_back_puts"),
    ),
    Mutation(
        "keys_that_go_back_are_forgiven",
        "",
        "        bucket.define(bucket.spec, min_debt=ceiling - bucket.spec.capacity)\n",
        "",
        rollout("rolling", "not_given_out_again"),
    ),
    Mutation(
        "last_moment_of_a_silent_peer_goes_on",
        "core",
        "    return age > t->h->near_ns ? slow_rate(n, c) : fast;\n",
        "    return fast;\n",
        demand("core/test_predict", "single_call"),
    ),
    Mutation(
        "first_call_is_a_rate",
        "core",
        "    if (UNLIKELY(first)) {",
        "    if (UNLIKELY(first && slow > weight)) {",
        demand("core/test_predict", "makes_an_entry"),
    ),
    Mutation(
        "storms_buy_shares",
        "core",
        "{ return smaller(rate, CLAIM_MOST * d->per_second); }",
        "{ return d->per_second > 0 ? rate : 0.0; }",
        demand("simulated/test_demand", "storm_of_retries and not 1000"),
    ),
    Mutation(
        "nothing_left_to_the_reserves_of_others",
        "core",
        "    p->kept = p->overload * ",
        "    p->kept = 0 * p->overload * ",
        demand("simulated/test_demand", "does_not_wait_long"),
    ),
    Mutation(
        "reserves_for_those_who_take_most",
        "core",
        "    return smaller(most, larger(share, least));\n",
        "    return larger(share, least);\n",
        demand("simulated/test_demand", "does_not_wait_long"),
    ),
    Mutation(
        "sides_refill_to_the_whole_capacity",
        "core",
        "    return far_units(d, p->held) - far_units(d, p->far);\n",
        "    return -far_units(d, p->far);\n",
        demand("simulated/test_shared_bursts", "trough_through"),
    ),
    Mutation(
        "nothing_is_left_to_a_quiet_side",
        "core",
        "larger(0.0, capacity - own)",
        "capacity",
        demand("simulated/test_shared_bursts", "by_heads"),
    ),
    Mutation(
        "bursts_are_forgotten",
        "core",
        "    if (tokens > p->near) {\n",
        "    if (tokens > p->near && t->h->predict > 1) {\n",
        demand("simulated/test_demand", "bursts_in_step"),
    ),
    Mutation(
        "bursts_are_expected_under_a_light_load",
        "core",
        "    if (p->overload <= 0) {\n        p->overload = 0;\n        return;\n    }\n",
        "    if (p->overload <= 0)\n        p->overload = 1;\n",
        demand("simulated/test_demand", "under_a_light_load"),
    ),
)


__all__ = ["MUTATIONS", "Mutation"]
