"""Bugs in links, transports and engines of a mesh."""

from __future__ import annotations

from tests.planted.mutation import Mutation, suite

MUTATIONS = (
    Mutation(
        "an_older_order_about_a_limit_holds_again",
        "mesh",
        'return self.counter, self.limit is None, self.limit or ""',
        'return 0, self.limit is None, self.limit or ""',
        suite("mesh/links/test_override_book", "higher_counter or come_to_the_same"),
    ),
    Mutation(
        "a_shard_of_limits_that_was_lost_in_part_is_not_asked_for_again",
        "mesh",
        "if asked.frames == count and asked.digest != ours:",
        "if asked.digest != ours:",
        suite("mesh/links/test_override_spread", "a_part_of_an_answer"),
    ),
    Mutation(
        "two_addresses_keep_a_third_out",
        "mesh",
        "            if len(most) < held + 2:\n",
        "            if True:\n",
        suite("mesh/sockets/test_admission", "keep_a_third_out"),
    ),
    Mutation(
        "connections_that_have_not_authenticated_have_no_limit",
        "mesh",
        "        if sum(map(len, self._unproven.values())) >= MAX_UNPROVEN:\n",
        "        if False:\n",
        suite("mesh/sockets/test_admission", "as_few"),
    ),
    Mutation(
        "one_address_has_all_places",
        "mesh",
        "        if held >= MAX_UNPROVEN_PER_ADDRESS:\n",
        "        if False:\n",
        suite("mesh/sockets/test_admission", "so_many_places"),
    ),
    Mutation(
        "connections_have_no_limit_in_all",
        "mesh",
        "        if len(self.connections) >= self._max_open:\n",
        "        if False:\n",
        suite("mesh/sockets/test_admission", "count_among_all"),
    ),
    Mutation(
        "an_outsider_sends_as_much_as_it_likes",
        "mesh",
        "if self._bytes > MAX_UNPROVEN_BYTES:",
        "if False:",
        suite("mesh/transport/test_strangers", "much_before"),
    ),
    Mutation(
        "an_outsider_has_all_the_time",
        "mesh",
        "loop.call_later(HANDSHAKE_S, self._expire)",
        "loop.call_later(3600, self._expire)",
        suite("mesh/transport/test_strangers", "drip"),
    ),
    Mutation(
        "peers_have_no_limit",
        "mesh",
        "if old is None and len(self.links) >= self.max_peers:",
        "if False:",
        suite("mesh/transport/test_mesh_network", "up_to_max_peers"),
    ),
    Mutation(
        "bad_frames_end_no_link",
        "mesh",
        "        if link.bad_frames >= BAD_FRAMES:\n",
        "        if False:\n",
        suite("mesh/transport/test_contract", "no_frame"),
    ),
    Mutation(
        "what_waits_for_a_slow_peer_has_no_limit",
        "mesh",
        "            len(self._queue) > MAX_QUEUED_FRAMES\n            or ",
        "            ",
        suite("mesh/links/test_link", "slow_peer"),
    ),
    Mutation(
        "a_peer_that_stops_reading_keeps_its_link",
        "mesh",
        "stuck_s=STUCK_S)",
        "stuck_s=3600)",
        suite("mesh/transport/test_bad_frames", "stops_reading"),
    ),
    Mutation(
        "an_observer_writes",
        "mesh",
        "lambda link: not self._keys.is_observers(link.identity.used),",
        "lambda link: True,",
        suite("mesh/test_roles", "neither_writes"),
    ),
    Mutation(
        "keys_are_pinned_without_end",
        "mesh",
        "if known is None and len(self._pins) >= MAX_PINS:",
        "if False:",
        suite("mesh/links/test_peer_keys", "full_table"),
    ),
    Mutation(
        "ejections_are_kept_without_end",
        "mesh",
        "        if len(self) < MAX_ORDERS:\n",
        "        if True:\n",
        suite("mesh/links/test_ejections", "so_many_orders"),
    ),
    Mutation(
        "commands_are_remembered_without_end",
        "mesh",
        "        if len(self) < MAX_COMMANDS:\n",
        "        if True:\n",
        suite("mesh/links/test_command_orders", "beyond_what"),
    ),
    Mutation(
        "a_signature_is_good_in_another_mesh",
        "mesh",
        '(b"dialer " if dialer else b"listener ") + cluster',
        'b"dialer " if dialer else b"listener "',
        suite("mesh/links/test_signed_handshake", "two_meshes"),
    ),
    Mutation(
        "members_of_one_address_leave_no_place_to_others",
        "mesh",
        "            old = self.links.crowding(channel.remote)\n",
        "",
        suite("mesh/transport/test_mesh_network", "leave_a_place"),
    ),
    Mutation(
        "a_full_node_dials_nobody_whoever_crowds_it",
        "mesh",
        " and not self._host.links.crowded:",
        ":",
        suite("mesh/transport/test_mesh_network", "leave_a_place"),
    ),
    Mutation(
        "an_observer_at_an_engine_answers_for_others_of_its_name",
        "mesh/engines",
        "if message is not None and not message.from_dialer:\n"
        "            self._delivered(sender, message)",
        "super().arrived(sender, data)",
        suite("mesh/engines/test_engine_caller", "one_name"),
    ),
    Mutation(
        "a_frame_of_an_engine_opens_twice",
        "mesh/links",
        "number = max(number, _COUNTER.unpack_from(data)[0])",
        "number = _COUNTER.unpack_from(data)[0]",
        suite("mesh/links/test_session", "lose_frames"),
    ),
    Mutation(
        "a_process_may_have_begun_before_every_clock",
        "mesh/links",
        "if age_ns > MAX_AGE_NS:",
        "if False:",
        suite("mesh/links/test_session", "before_every_clock"),
    ),
    Mutation(
        "a_link_stays_when_its_secret_was_replaced",
        "mesh/transport",
        "if not (known and self.peer_keys.holds(link.identity)):",
        "if not self.peer_keys.holds(link.identity):",
        suite("mesh/transport/test_contract", "change_while and memory"),
    ),
    Mutation(
        "what_waits_for_a_slow_peer_gets_old",
        "mesh/links",
        "            or now - self._queue[0][2] > STALE_S\n",
        "",
        suite("mesh/links/test_link", "waited"),
    ),
    Mutation(
        "a_dead_link_keeps_its_queue",
        "mesh/links",
        "        self._queue.clear()\n        self._queued_bytes = 0\n",
        "        self._queued_bytes = 0\n",
        suite("mesh/links/test_link", "given_up"),
    ),
    Mutation(
        "an_order_that_is_played_again_holds",
        "mesh/links",
        "if held is not None and order.rank <= held.rank:\n"
        "                if order.rank == held.rank:",
        "if held is not None and order.rank == held.rank:\n"
        "                if order.rank == held.rank:",
        suite("mesh/links/test_ejections", "played_again"),
    ),
    Mutation(
        "an_order_beside_a_forged_one_is_held_and_not_obeyed",
        "mesh/links",
        "wanted = [one for one in self._read(rows) if self._is_wanted(one, refused)]",
        "wanted = (one for one in self._read(rows) if self._is_wanted(one, refused))",
        suite("mesh/links/test_command_orders", "nobody_elses"),
    ),
    Mutation(
        "an_ejection_hides_the_key_that_a_name_was_given",
        "mesh/links",
        "said = {one.subject: one.said for one in self.every() if isinstance(one.said, str)}",
        "said = {one.subject: one.said for one in self.every()}",
        suite("mesh/links/test_ejections", "says_whom"),
    ),
    Mutation(
        "a_process_that_begins_obeys_resets_that_are_past",
        "mesh/links",
        "return max(0.0, since + LEARNS_S - asyncio.get_running_loop().time())",
        "return 0.0",
        suite("mesh/links/test_command_orders", "which_resets_are_past"),
    ),
    Mutation(
        "orders_are_not_passed_on",
        "mesh/links",
        "            link.offer(data, self.KIND)",
        "            pass",
        suite("mesh/transport/test_contract", "ejected and memory"),
    ),
    Mutation(
        "a_signature_holds_on_every_link",
        "mesh/links",
        'return SIGNED + keyed_digest(self._root, side, b"cb-mesh-signed", 64)',
        "return SIGNED + side",
        suite("mesh/links/test_signed_handshake", "again or another_link"),
    ),
    Mutation(
        "who_passes_hellos_on_can_seal",
        "mesh/links",
        "dialer_hello + listener_hello + shared",
        "dialer_hello + listener_hello",
        suite("mesh/links/test_signed_handshake", "passes_a_handshake_on"),
    ),
    Mutation(
        "a_pin_is_replaced_by_a_later_key",
        "mesh/links",
        "(known == shown or order is None or order.said != shown)",
        "known == shown",
        suite("mesh/links/test_peer_keys", "first_key"),
    ),
    Mutation(
        "a_conflict_need_not_be_signed",
        "mesh/links",
        "    if reason is Reason.CONFLICT:\n        shake.check_proof(body[1:], peer)\n",
        "",
        suite("mesh/links/test_signed_handshake", "own_name_is_used"),
    ),
    Mutation(
        "any_name_may_stand_in_a_subject",
        "mesh/links",
        'if channel.peer_name not in ("", peer.name):',
        "if not channel.lossy:",
        suite("mesh/engines/test_engine_transport", "not_the_one_of_the_subject"),
    ),
    Mutation(
        "nobody_behind_a_broken_gateway_has_ended",
        "mesh/engines",
        "            elif here and now - channel.last_seen <= self._recent_s:",
        "            else:",
        suite("mesh/engines/test_engine_transport", "no_end"),
    ),
    Mutation(
        "nats_keeps_what_is_sent_while_its_server_is_gone",
        "mesh/engines",
        "        if client is None or not await _has_room(client):\n",
        "        if client is None or not client.is_connected:\n\n"
        "            async def later() -> None:\n"
        "                while self._client is None:\n"
        "                    await asyncio.sleep(WAIT_S)\n"
        "                for _ in range(200):  # the other node is there again a little later\n"
        "                    await self._send(subject, data, reply)\n"
        "                    await asyncio.sleep(WAIT_S)\n\n"
        "            self._tasks.spawn(later())\n"
        "            return False\n"
        "        if not await _has_room(client):\n",
        suite("mesh/engines/test_nats_engine", "never_arrives"),
    ),
    Mutation(
        "a_lost_server_of_nats_is_logged_twice",
        "mesh/engines",
        "if client.is_connected and isinstance(error, ENDS):",
        "if False:",
        suite("mesh/engines/test_nats_engine", "outlive_a_server"),
    ),
    Mutation(
        "whoever_has_the_number_of_a_channel_of_an_engine_reaches_it",
        "mesh/engines",
        "channel = self._channels.get((sender, message.number, not message.from_dialer))",
        "end = message.number, not message.from_dialer\n"
        "        all_ = self._channels.items()\n"
        "        channel = next((one for (_, *key), one in all_ if (*key,) == end), None)",
        suite("mesh/engines/test_engine_transport", "another_name"),
    ),
    Mutation(
        "the_secret_of_observers_makes_members",
        "mesh/transport",
        "        if self._keys.is_observers(identity.used):\n",
        '        if self._keys.is_observers(b""):\n',
        suite("mesh/test_roles", "an_observer_reads"),
    ),
    Mutation(
        "a_name_keeps_its_key_whatever_is_ordered",
        "mesh/links",
        "            return (str(order.said),)\n",
        "            return (str(order.said), *self._pins.values())\n",
        suite("mesh/links/test_peer_keys", "another_key_and_that_is_pinned"),
    ),
    Mutation(
        "a_seal_covers_the_frames_before",
        "mesh/links",
        "state = keyed.copy()",
        "state = keyed",
        suite("mesh/links/test_session", "page_of_the_wire"),
    ),
    Mutation(
        "a_silent_link_cannot_be_ended_with_uvloop",
        "mesh/sockets",
        "                same.shutdown(socket.SHUT_RDWR)",
        "                sock.shutdown(socket.SHUT_RDWR)",
        suite("mesh/sockets/test_web_socket", "abort"),
    ),
    Mutation(
        "an_error_of_a_dial_holds_its_frames",
        "mesh",
        "        one.__traceback__ = None",
        "        pass",
        suite("mesh/sockets/test_web_socket", "leaves_no_error_behind"),
    ),
    Mutation(
        "commands_that_are_not_kept_are_taken_for_remembered",
        "mesh/links",
        "            kept.remove()\n",
        "            pass\n",
        suite("mesh/links/test_command_orders", "not_be_kept"),
    ),
)
