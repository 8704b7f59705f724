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
CHAOS = "tests/strong/test_chaos.py::"
DEATHS = "tests/simulated/test_deaths.py::"
DEMAND = "tests/simulated/test_demand.py::"
FLEET = "tests/mesh/test_fleet.py::"
LINKS = "tests/simulated/test_links.py::"
OPENAPI = "tests/http/server/test_openapi.py::"
RECONCILED = "tests/reconcile/test_reconciliation.py::"
RETURNED = "tests/simulated/test_returned.py::"
SCENARIOS = "tests/simulator/test_scenario_run.py::"
SILENT = "tests/simulated/test_silent_peers.py::"
TRACES = "tests/simulated/test_traces.py::"
SLOW = (
    "tests/benchmarks/test_document.py::test_pictures_are_drawn_and_kept",
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports",
    "tests/config/test_config.py::test_files_that_cannot_be_read[data5-too",
    "tests/config/test_schema.py::test_whatever_value_can_be_loaded_fits_it",
    "tests/core/test_table.py::test_two_hundred_thousand_inserts_and_removals",
    "tests/demo/test_demo.py",
    "tests/demo/test_engine_demo.py::test_one_limit",
    "tests/demo/test_regions_demo.py",
    "tests/demo/test_strong_demo.py",
    "tests/deploy/test_containers.py::test_the_regions",
    "tests/deploy/test_deploy.py::test_a_rule_that_is_wrong_fails_its_test",
    OPENAPI + "test_generated_calls_get_the_answers_that_are_described[negative",
    "tests/http/test_workers.py",
    "tests/mesh/engines/test_engine_chaos.py",
    "tests/mesh/protocol/test_membership.py::test_processes_under_new_names_may_die_for_ever",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[2-",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[4-",
    FLEET + "test_a_version_by_stages_admits_no_more_than_the_larger_limit[rolled",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on",
    "tests/model/test_model.py::test_planted_bug_is_found",
    "tests/native/",
    "tests/reconcile/test_command.py::test_a_dry_run_as_json",
    "tests/reconcile/test_command.py::test_interrupted_it_reports",
    "tests/reconcile/test_reconciliation.py::test_a_node_that_goes_away_under_way_is_reported",
    "tests/reconcile/test_reconciliation.py::test_a_redis_that_goes_away_is_reported",
    RECONCILED + "test_a_run_that_is_stopped_leaves_the_rest_for_the_next",
    "tests/rollout/test_live_rollout.py::test_a_good_version_goes_everywhere_in_step",
    "tests/rollout/test_rollout_store.py",
    "tests/shared/test_restarts.py",
    "tests/shared/test_shared_limiter.py::test_a_leader_that_closes_makes_way",
    "tests/simulated/test_changes.py::test_a_limit_lowered_in_a_partition_holds_after_the_heal",
    "tests/simulated/test_deaths.py",
    "tests/simulated/test_demand.py::test_calls_of_the_whole_bucket_pass_in_overload[0.1",
    "tests/simulated/test_demand.py::test_nobody_waits_long_while_a_storm_begins",
    "tests/simulated/test_demand.py::test_small_buckets_deny_no_light_load",
    DEMAND + "test_who_asks_once_a_second_beside_a_storm_does_not_wait_long[5-",
    "tests/simulated/test_faults.py::test_a_trace_does_not_depend_on_the_hash_seed",
    "tests/simulated/test_faults.py::test_histories_are_not_idle",
    "tests/simulated/test_faults.py::test_same_seed_same_trace",
    "tests/simulated/test_faults.py::test_seeds",
    "tests/simulated/test_graphs.py::test_news_gets_through",
    "tests/simulated/test_graphs.py::test_the_ends_of_a_chain_count_each_other_for_ever[7",
    "tests/simulated/test_invariants.py::test_no_starvation",
    LINKS + "test_a_cut_pair_in_overload_starves_nobody[both ways of one pair",
    "tests/simulated/test_links.py::test_a_cut_pair_in_overload_starves_nobody[one way of one pair",
    "tests/simulated/test_links.py::test_a_cut_pair_under_a_light_load_denies_nothing[a chain",
    LINKS + "test_a_cut_pair_under_a_light_load_denies_nothing[both ways of one pair",
    LINKS + "test_a_cut_pair_under_a_light_load_denies_nothing[one way of one pair",
    "tests/simulated/test_links.py::test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing",
    "tests/simulated/test_over_admission.py::test_lag_explains_all_that_is_beyond_the_capacity",
    "tests/simulated/test_returned.py::test_a_later_life_behind_a_cut_way_is_counted[linked1",
    RETURNED + "test_whom_relays_hear_is_counted_however_long_a_way_is_cut[linked1",
    "tests/simulated/test_silent_peers.py::test_a_bucket_that_holds_less_than_silent_peers",
    "tests/simulated/test_silent_peers.py::test_a_late_sender_beside_a_node_that_is_cut_off",
    "tests/simulated/test_snapshots.py::test_a_reload_between_keeps_the_tokens",
    "tests/simulated/test_snapshots.py::test_what_has_refilled_since_costs_nothing",
    "tests/simulated/test_snapshots.py::test_what_others_have_seen_refill",
    "tests/simulated/test_stalls.py::test_late_news_under_a_light_load_denies_nothing[6.0-",
    "tests/simulated/test_traces.py::test_n_clocks_apart",
    TRACES + "test_who_was_forgotten_and_marked_counts_when_it_comes_back[the links are",
    "tests/simulated/test_traces.py::test_y_jitter",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound",
    "tests/simulator/test_library_mesh.py::test_frames_that_come_late_cost_little",
    "tests/simulator/test_library_mesh.py::test_no_run_of_the_library_exceeds_its_bound",
    "tests/simulator/test_library_mesh.py::test_prediction_takes_most_of_a_cold_burst_away",
    "tests/simulator/test_outcome_report.py::test_picture",
    ADAPTER + "[cut-way",
    ADAPTER + "[suspend",
    "tests/simulator/test_replay.py::test_a_trace_of_real_calls",
    SCENARIOS + "test_no_baseline_exceeds_its_own_bound[",
    SCENARIOS + "test_same_seed_same_outcome[",
    "tests/simulator/test_scenario_run.py::test_every_rule_is_asked_the_same[suspend-60s]",
    "tests/simulator/test_scenario_run.py::test_max_of_totals_admits",
    "tests/simulator/test_scenario_run.py::test_static_split_never_exceeds_but_starves",
    "tests/simulator/test_store_rule.py::test_a_light_load_is_never_denied[apart-60s-pair",
    "tests/simulator/test_store_rule.py::test_no_copy_passes_and_the_limit_is_kept",
    "tests/strong/controller/test_mode_controller.py::test_a_redis_that_flaps_for_an_hour",
    "tests/strong/controller/test_mode_controller.py::test_whatever_flaps",
    "tests/strong/redis/test_resp.py::test_a_megabyte_of_the_smallest_items_stays_within_64[b'*0",
    "tests/strong/redis/test_resp.py::test_a_megabyte_of_the_smallest_items_stays_within_64[b'-",
    "tests/strong/redis/test_rights.py::test_a_right_that_is_missing_is_an_outage_and_named[h",
    "tests/strong/redis/test_rights.py::test_a_right_that_is_missing_is_an_outage_and_named[p",
    "tests/strong/test_chaos.py",
    "tests/strong/test_load.py::test_a_burst_in_one_call_is_answered_by_redis",
    "tests/strong/test_world.py::test_five_strong_nodes",
    "tests/strong/test_world.py::test_two_of_five_without_redis",
    "tests/test_budget.py::test_beyond_the_budget[@",
    "tests/test_compositions.py::test_cell",
    "tests/test_compositions.py::test_what_is_forgotten_is_seen",
    "tests/test_docs.py::test_the_site_is_built",
    "tests/test_packaging.py::test_a_wheel_has",
    "tests/test_packaging.py::test_an_sdist_has",
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
    "tests/http/test_workers.py::test_a_limit_is_one_limit_however_many_workers_serve[gunicorn-2]",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on[3]",
    "tests/mesh/test_takeover.py::test_whenever_the_leader_dies_the_next_one_can_go_on[4]",
    "tests/model/test_model.py::test_planted_bug_is_found[LessForLessOrEqual",
    "tests/model/test_model.py::test_planted_bug_is_found[NoCeiling",
    CHANGES + "test_a_limit_lowered_in_a_partition_holds_after_the_heal[light-defined]",
    DEATHS + "test_a_death_is_noticed_where_relays_hear_the_others[ring of 4]",
    "tests/simulated/test_deaths.py::test_a_process_that_stands_still",
    DEATHS + "test_connections_that_are_reset_one_by_one_leave_no_false_majority[2",
    "tests/simulated/test_deaths.py::test_relays_are_no_majority_once",
    DEATHS + "test_the_smaller_part_behind_a_device_that_resets_forgets_nobody[A-",
    "tests/simulated/test_deaths.py::test_who_is_heard_by_a_third",
    "tests/simulated/test_deaths.py::test_whom_a_relay_heard_lately",
    "tests/simulated/test_faults.py::test_same_seed_same_trace[1]",
    LINKS + "test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing[3]",
    LINKS + "test_any_cut_ways_that_leave_the_mesh_connected_deny_nothing[4]",
    "tests/simulated/test_over_admission.py::test_lag_explains_all_that_is_beyond_the_capacity[1]",
    "tests/simulated/test_over_admission.py::test_lag_explains_all_that_is_beyond_the_capacity[2]",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound[partition-30s]",
    "tests/simulator/test_library_mesh.py::test_no_run_of_the_library_exceeds_its_bound[cut-way-cr",
    SCENARIOS + "test_no_baseline_exceeds_its_own_bound[StaticSplit-partition",
    SCENARIOS + "test_same_seed_same_outcome[restart-skewed",
    CHAOS + "test_after_a_fault_of_the_replication_every_member_holds_what_was_consumed[torn]",
    "tests/strong/test_chaos.py::test_cancelled_callers",
    "tests/strong/test_chaos.py::test_what_other_processes_took",
    "tests/test_compositions.py::test_cell[mesh-clean_restart]",
    "tests/test_compositions.py::test_cell[strong_shared-killed_and_restarted]",
)
"""Samples of the slow ones, so that `make test` touches every surface."""
LONG = (
    "tests/simulated/test_faults.py::test_seeds",
    "tests/test_walk.py::test_the_walk",
    "tests/simulator/test_replay.py::test_a_trace_of_real_calls",
    "tests/demo/",
)
"""They run first, so that no process is left with one when all the others have ended."""
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
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
