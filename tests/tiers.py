"""Which tests belong to which tier, told by where they are and by what their modules use.

`slow`: only `make check` runs them. `processes`: real processes, sockets, servers or threads decide
when something happens, so a test depends on the machine's scheduling as well as on the code.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADAPTER = (
    "tests/simulator/test_mesh_rule.py::test_a_mesh_behind_the_adapter_shows_what_it_shows_without"
)
CHANGES = "tests/simulated/test_changes.py::"
DEATHS = "tests/simulated/test_deaths.py::"
DEMAND = "tests/simulated/test_demand.py::"
LINKS = "tests/simulated/test_links.py::"
RECONCILED = "tests/reconcile/test_reconciliation.py::"
SCENARIOS = "tests/simulator/test_scenario_run.py::"
SLOW = (
    "tests/base/test_address.py::test_what_is_shown_is_what_is_read",
    "tests/benchmarks/test_accuracy.py::test_regions_that_all_want_it",
    "tests/benchmarks/test_document.py::test_pictures_are_drawn_and_kept",
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports",
    "tests/cli/test_top.py::test_the_live_view_goes_on_when_a_node_is_unreachable",
    "tests/config/test_config.py::test_a_small_file_cannot_describe_a_huge_tree",
    "tests/config/test_config.py::test_files_that_cannot_be_read[data5-too",
    "tests/config/test_config.py::test_wrong_configurations_say_where_what_and_how[too_many_plans",
    "tests/config/test_schema.py::test_whatever_value_can_be_loaded_fits_it",
    "tests/core/test_table.py::test_two_hundred_thousand_inserts_and_removals",
    "tests/demo/test_demo.py",
    "tests/demo/test_engine_demo.py::test_one_limit",
    "tests/demo/test_regions_demo.py",
    "tests/demo/test_strong_demo.py",
    "tests/deploy/test_containers.py::test_the_regions",
    "tests/deploy/test_deploy.py::test_a_rule_that_is_wrong_fails_its_test",
    "tests/deploy/test_deploy.py::test_alerts_fire_and_do_not_fire[configuration",
    "tests/deploy/test_deploy.py::test_alerts_fire_and_do_not_fire[demand",
    "tests/deploy/test_deploy.py::test_alerts_fire_and_do_not_fire[modes",
    "tests/http/middleware/test_wsgi.py::test_the_end_of_the_process_leaves_the_mesh",
    "tests/http/server/test_heavy_keys.py::test_no_count_is_too_low",
    "tests/http/server/test_openapi.py::test_generated_calls_get_the_answers_that_are_described",
    "tests/http/server/test_workers.py::test_a_unix_socket_is_served_by_all",
    "tests/http/server/test_workers.py::test_a_worker_that_cannot_be_replaced",
    "tests/http/server/test_workers.py::test_a_worker_that_cannot_start",
    "tests/http/server/test_workers.py::test_a_worker_that_dies_is_replaced_and_nothing_is_given_out_twice[15",
    "tests/http/server/test_workers.py::test_workers_end_with_the_first_process",
    "tests/cli/test_early_signals.py",
    "tests/http/middleware/test_examples.py::test_aiohttp",
    "tests/http/middleware/test_examples.py::test_django",
    "tests/http/middleware/test_examples.py::test_fastapi",
    "tests/http/middleware/test_examples.py::test_litestar",
    "tests/cli/test_serve.py::test_the_token_comes_from_a_file",
    "tests/cli/test_serve.py::test_what_is_under_way_is_answered",
    "tests/cli/test_serve.py::test_who_does_not_finish_is_left_behind",
    "tests/http/server/test_signed_workers.py",
    "tests/http/server/test_worker_limits.py",
    "tests/limiter/test_calendar_bucket.py::test_callers_wait_for_the_next_period",
    "tests/mesh/engines/test_engine_chaos.py",
    "tests/mesh/engines/test_nats_engine.py::test_a_process_that_is_killed_is_noticed",
    "tests/mesh/protocol/test_member_turnover.py::test_processes_under_new_names_may_die_for_ever",
    "tests/mesh/protocol/test_mesh_node.py::test_a_round_of_many_keys_takes_several_ticks",
    "tests/mesh/protocol/test_observers.py::test_observation_changes_no_decision",
    "tests/mesh/protocol/test_own_name.py::test_who_has_no_memory_refuses_for_as_long_as_peers_say_so",
    "tests/mesh/protocol/test_wire.py::test_any_header_is_a_frame_or_refused",
    "tests/mesh/test_bad_members.py::test_two_peers_that_agree_are_believed",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[1-and",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[2-",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[4-",
    "tests/mesh/test_fleet.py::test_a_version_by_stages_admits_no_more_than_the_larger_limit",
    "tests/mesh/test_fleet.py::test_as_many_buckets_as_there_may_be",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on",
    "tests/mesh/transport/test_bad_frames.py::test_a_peer_that_was_cut_off",
    "tests/model/test_model.py::test_planted_bug_is_found",
    "tests/native/",
    "tests/cli/test_reconcile_command.py::test_a_dry_run_as_json",
    "tests/cli/test_reconcile_command.py::test_a_run_prints_who_was_behind",
    "tests/cli/test_reconcile_command.py::test_a_wrong_file_is_status_2",
    "tests/cli/test_reconcile_command.py::test_interrupted_it_reports",
    "tests/cli/test_reconcile_command.py::test_who_cannot_be_reached",
    "tests/reconcile/test_reconciliation.py::test_a_cluster_is_read_and_written",
    "tests/reconcile/test_reconciliation.py::test_a_node_that_does_not_answer",
    "tests/reconcile/test_reconciliation.py::test_a_node_that_goes_away_under_way_is_reported",
    "tests/reconcile/test_reconciliation.py::test_a_redis_that_goes_away_is_reported",
    RECONCILED + "test_a_run_that_is_stopped_leaves_the_rest_for_the_next",
    "tests/reconcile/test_reconciliation.py::test_under_traffic_no_decision_is_lost",
    "tests/rollout/test_live_rollout.py::test_a_good_version_goes_everywhere_in_step",
    "tests/rollout/test_live_rollout.py::test_no_count_is_lost_while_keys_change_sides",
    "tests/rollout/test_reload.py::test_decisions_go_on_in_other_threads",
    "tests/rollout/test_reload.py::test_more_than_a_table_holds_is_refused",
    "tests/rollout/test_rollout_store.py",
    "tests/shared/test_leader_view.py::test_no_view_is_ever_read_in_parts",
    "tests/shared/test_restarts.py",
    "tests/shared/test_shared_limiter.py::test_a_killed_leader_is_followed",
    "tests/shared/test_shared_limiter.py::test_a_leader_that_closes_makes_way",
    "tests/shared/test_shared_strong.py::test_forked_workers_of_a_region",
    "tests/shared/test_shared_strong.py::test_what_an_outage_granted_is_settled_once",
    "tests/shared/test_table_file.py::test_no_more_processes_than_fit",
    "tests/shared/test_table_file.py::test_two_who_make_it_at_once_share_it",
    "tests/simulated/test_changes.py::test_a_limit_lowered_in_a_partition_holds_after_the_heal",
    "tests/simulated/test_changes.py::test_different_definitions_are_logged_again",
    "tests/simulated/test_deaths.py",
    "tests/simulated/test_demand.py::test_a_storm_of_retries_buys_no_share[1000",
    "tests/simulated/test_demand.py::test_calls_of_the_whole_bucket_pass_in_overload[0.1",
    "tests/simulated/test_demand.py::test_nobody_waits_long_while_a_storm_begins",
    "tests/simulated/test_demand.py::test_small_buckets_deny_no_light_load",
    DEMAND + "test_who_asks_once_a_second_beside_a_storm_does_not_wait_long[5-",
    "tests/simulated/test_faults.py::test_a_trace_does_not_depend_on_the_hash_seed",
    "tests/simulated/test_faults.py::test_histories_are_not_idle",
    "tests/simulated/test_faults.py::test_same_seed_same_trace",
    "tests/simulated/test_faults.py::test_seeds",
    "tests/simulated/test_graphs.py::test_updates_get_through",
    "tests/simulated/test_graphs.py::test_the_ends_of_a_chain_count_each_other_for_ever[7",
    "tests/simulated/test_graphs.py::test_what_does_not_get_through_is_tried_once_a_second[a pair",
    "tests/simulated/test_invariants.py::test_light_load_never_denied",
    "tests/simulated/test_invariants.py::test_no_silence_deadlock",
    "tests/simulated/test_invariants.py::test_no_starvation",
    "tests/simulated/test_links.py::test_a_cut_pair_in_overload_starves_nobody[a chain",
    LINKS + "test_a_cut_pair_in_overload_starves_nobody[both ways of a pair beside",
    LINKS + "test_a_cut_pair_in_overload_starves_nobody[both ways of one pair",
    "tests/simulated/test_links.py::test_a_cut_pair_in_overload_starves_nobody[one way of one pair",
    "tests/simulated/test_links.py::test_a_cut_pair_under_a_light_load_denies_nothing[a chain",
    LINKS + "test_a_cut_pair_under_a_light_load_denies_nothing[both ways of one pair",
    LINKS + "test_a_cut_pair_under_a_light_load_denies_nothing[one way of one pair",
    "tests/simulated/test_links.py::test_a_relay_passes_rates_on_so_that_shares_stay_fair",
    "tests/simulated/test_links.py::test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing",
    "tests/simulated/test_over_admission.py::test_calls_within_the_limit_are_never_beyond_it",
    "tests/simulated/test_over_admission.py::test_lag_explains_all_that_is_beyond_the_capacity",
    "tests/simulated/test_plan.py::test_every_dimension_is_drawn",
    "tests/simulated/test_plan.py::test_every_length_is_about_as_costly",
    "tests/simulated/test_returned.py::test_a_later_epoch_behind_a_cut_way_is_counted[linked1",
    "tests/simulated/test_returned.py::test_a_node_that_relays_see_is_counted_however_long_a_way_is_cut",
    "tests/simulated/test_silent_peers.py::test_a_bucket_that_holds_less_than_silent_peers",
    "tests/simulated/test_silent_peers.py::test_a_joiner_beside_a_dead_peer",
    "tests/simulated/test_silent_peers.py::test_a_late_sender_beside_a_node_that_is_cut_off",
    "tests/simulated/test_slots.py::test_no_history_leaks_a_slot",
    "tests/simulated/test_snapshots.py::test_a_reload_between_keeps_the_tokens",
    "tests/simulated/test_snapshots.py::test_what_has_refilled_since_costs_nothing",
    "tests/simulated/test_snapshots.py::test_what_others_have_seen_refill",
    "tests/simulated/test_traces.py::test_m_a_pause_of_two_seconds",
    "tests/simulated/test_traces.py::test_n_clocks_apart",
    "tests/simulated/test_traces.py::test_o_light_sides_of_a_partition",
    "tests/simulated/test_traces.py::test_a_node_that_was_forgotten_and_has_a_tombstone_counts_when_it_comes_back",
    "tests/simulated/test_traces.py::test_y_jitter",
    "tests/simulated/test_oracle.py::test_a_relay_that_comes_brings_back_whom_others_had_given_up[silent",
    "tests/simulator/test_bound.py::test_bound_of_a_partition_is_what_the_other_side_took",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound",
    "tests/simulator/test_bound.py::test_node_without_memory_adds_its_share",
    "tests/simulator/test_bound.py::test_second_partition_adds",
    "tests/cli/test_simulate.py::test_plot",
    "tests/cli/test_simulate.py::test_processes_print_what_one_process_prints",
    "tests/simulator/test_library_mesh.py::test_frames_that_come_late_cost_little",
    "tests/simulator/test_library_mesh.py::test_no_run_of_the_library_exceeds_its_bound",
    "tests/simulator/test_library_mesh.py::test_prediction_takes_most_of_a_cold_burst_away",
    "tests/simulator/test_library_mesh.py::test_same_seed_same_outcome",
    ADAPTER + "[cut-way",
    ADAPTER + "[suspend",
    "tests/simulator/test_outcome_report.py::test_picture",
    "tests/simulator/test_replay.py::test_a_trace_of_real_calls",
    "tests/simulator/test_replay.py::test_same_seed_same_outcome_within_the_bound",
    "tests/simulator/test_scenario_run.py::test_every_rule_is_asked_the_same[suspend-60s]",
    "tests/simulator/test_scenario_run.py::test_light_load_counts_denials",
    "tests/simulator/test_scenario_run.py::test_max_of_totals_admits",
    "tests/simulator/test_scenario_run.py::test_naive_mesh_keeps_a_balanced_limit",
    "tests/simulator/test_scenario_run.py::test_no_baseline_exceeds_its_own_bound[",
    "tests/simulator/test_scenario_run.py::test_same_seed_same_outcome[",
    "tests/simulator/test_scenario_run.py::test_static_split_never_exceeds_but_starves",
    "tests/simulator/test_store_rule.py::test_a_light_load_is_never_denied[apart-60s-pair",
    "tests/simulator/test_store_rule.py::test_no_copy_passes_and_the_limit_is_kept",
    "tests/strong/controller/test_mode_controller.py::test_a_redis_that_flaps_for_an_hour",
    "tests/strong/controller/test_mode_controller.py::test_answers_that_come_a_second_late",
    "tests/strong/controller/test_mode_controller.py::test_three_in_a_minute",
    "tests/strong/controller/test_mode_controller.py::test_whatever_flaps",
    "tests/strong/redis/test_locator.py::test_a_cluster_is_followed_though_its_only_seed_died",
    "tests/strong/redis/test_redis_connection.py::test_ten_thousand_cancelled_asks",
    "tests/strong/redis/test_resp.py::test_a_megabyte_of_the_smallest_items_stays_within_64[b'*0",
    "tests/strong/redis/test_resp.py::test_a_megabyte_of_the_smallest_items_stays_within_64[b'*1",
    "tests/strong/redis/test_resp.py::test_a_megabyte_of_the_smallest_items_stays_within_64[b'-",
    "tests/strong/redis/test_rights.py::test_a_right_that_is_missing_is_an_outage_and_named[h",
    "tests/strong/redis/test_rights.py::test_a_right_that_is_missing_is_an_outage_and_named[p",
    "tests/strong/replicated/test_prediction.py::test_each_rule_of_prediction_is_needed[broken_pair",
    "tests/strong/replicated/test_properties.py::test_history_costs_nothing",
    "tests/strong/replicated/test_traces.py::test_records_are_forgotten_everywhere_when_there_are_many",
    "tests/strong/test_chaos.py",
    "tests/strong/test_load.py::test_a_burst_in_one_call_is_answered_by_redis",
    "tests/strong/test_load.py::test_a_burst_of_callers_is_answered_by_redis",
    "tests/strong/test_store_faults.py::test_a_long_table_of_full_keys",
    "tests/strong/test_threads.py::test_connections_that_are_cut",
    "tests/strong/test_world.py::test_five_strong_nodes",
    "tests/strong/test_world.py::test_two_of_five_without_redis",
    "tests/test_budget.py::test_beyond_the_budget[-12",
    "tests/test_budget.py::test_beyond_the_budget[@",
    "tests/test_compositions.py::test_a_load_goes_on",
    "tests/test_compositions.py::test_cell",
    "tests/test_compositions.py::test_what_is_forgotten_is_seen",
    "tests/test_docs.py::test_the_quick_command_prints",
    "tests/test_docs.py::test_the_site_is_built",
    "tests/test_examples.py::test_a_gateway_admits_a_burst_within_its_budget",
    "tests/test_examples.py::test_nodes_that_follow_a_service",
    "tests/test_packaging.py::test_what_is_built",
    "tests/test_real_processes.py",
    "tests/test_scaling.py::test_a_node_among_scripted_peers_sends_what",
    "tests/test_second_chance.py::test_what_",
    "tests/test_walk.py::test_the_walk",
)
"""Beginnings of the names of tests."""
STILL_FAST = (
    "tests/benchmarks/test_document.py::test_pictures_are_drawn_and_kept[take]",
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports[convergence]",
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports[take_many]",
    "tests/config/test_schema.py::test_whatever_value_can_be_loaded_fits_it[services.",
    "tests/http/server/test_worker_limits.py::test_a_limit_is_one_limit_however_many_workers_serve[gunicorn-2]",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on[3]",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on[4]",
    "tests/model/test_model.py::test_planted_bug_is_found[LessForLessOrEqual",
    "tests/model/test_model.py::test_planted_bug_is_found[NoCeiling",
    CHANGES + "test_a_limit_lowered_in_a_partition_holds_after_the_heal[light-defined]",
    DEATHS + "test_a_death_is_noticed_where_relays_see_the_others[ring of 4]",
    "tests/simulated/test_deaths.py::test_a_process_that_stands_still",
    DEATHS + "test_connections_that_are_reset_one_by_one_leave_no_false_majority[2",
    "tests/simulated/test_deaths.py::test_relays_are_no_majority_once",
    DEATHS + "test_the_smaller_part_behind_a_device_that_resets_forgets_nobody[A-",
    "tests/simulated/test_deaths.py::test_a_node_that_a_third_one_sees",
    "tests/simulated/test_deaths.py::test_a_node_that_a_relay_saw_lately",
    "tests/simulated/test_faults.py::test_same_seed_same_trace[1]",
    LINKS + "test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing[3]",
    LINKS + "test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing[4]",
    "tests/simulated/test_over_admission.py::test_lag_explains_all_that_is_beyond_the_capacity[1]",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound[partition-30s]",
    SCENARIOS + "test_no_baseline_exceeds_its_own_bound[StaticSplit-partition",
    "tests/simulator/test_scenario_run.py::test_same_seed_same_outcome[restart-skewed",
    "tests/strong/test_chaos.py::test_what_other_processes_took",
    "tests/test_compositions.py::test_cell[mesh-clean_restart]",
    "tests/test_compositions.py::test_cell[strong_shared-killed_and_restarted]",
)
"""Samples of the slow ones, so that `make test` touches every surface."""
SLOW_TIMEOUT_S = 900
OF_THE_MACHINE = {
    "NatsServer",
    "Server",
    "ThreadPoolExecutor",
    "fake",
    "fake_node",
    "free_port",
    "multiprocessing",
    "running",
    "serving",
    "socket",
    "subprocess",
    "threading",
    "in_threads",
}
"""A test module that has one of these names depends on scheduling."""


@functools.cache
def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tiers(path: Path, test: str, names: set[str]) -> list[str]:
    """The markers of a test."""
    where = f"{_place(path)}::{test}"
    slow = where.startswith(SLOW) and not where.startswith(STILL_FAST)
    slow |= "valkey-server" in test  # one real server is enough for the quick ones
    return ["slow"] * slow + ["processes"] * bool(names & OF_THE_MACHINE)


@pytest.hookimpl(tryfirst=True)  # before those of other tiers are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    used: dict[object, set[str]] = {}
    for item in items:
        module = getattr(item, "module", item)
        if module not in used:
            used[module] = OF_THE_MACHINE & vars(module).keys()
        for marker in tiers(item.path, item.name, used[module]):
            item.add_marker(marker)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))  # a decorator's stays the closest
