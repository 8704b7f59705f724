"""Which tests belong to which tier, told by where they are and by what their modules use.

`slow`: only `make check` runs them. `processes`: real processes, sockets, servers or threads decide
when something happens, so a test depends on the machine's scheduling as well as on the code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAOS = "tests/strong/test_chaos.py::"
DEMAND = "tests/simulated/test_demand.py::"
SILENT = "tests/simulated/test_silent_peers.py::"
SLOW = (
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports",
    "tests/demo/test_demo.py",
    "tests/demo/test_engine_demo.py::test_one_limit",
    "tests/demo/test_regions_demo.py",
    "tests/demo/test_strong_demo.py",
    "tests/deploy/test_containers.py::test_the_regions",
    "tests/deploy/test_deploy.py::test_a_rule_that_is_wrong_fails_its_test",
    "tests/http/test_workers.py",
    "tests/mesh/engines/test_engine_chaos.py",
    "tests/mesh/protocol/test_membership.py::test_processes_under_new_names_may_die_for_ever[False",
    "tests/mesh/test_fleet.py::test_a_roll_out_admits_no_more_than_the_larger_limit[4-",
    "tests/model/test_model.py::test_planted_bug_is_found",
    "tests/native/",
    "tests/reconcile/test_command.py::test_interrupted_it_reports",
    "tests/rollout/test_rollout_store.py",
    "tests/shared/test_restarts.py",
    "tests/simulated/test_deaths.py",
    "tests/simulated/test_demand.py::test_nobody_waits_long_while_a_storm_begins",
    "tests/simulated/test_demand.py::test_small_buckets_deny_no_light_load",
    DEMAND + "test_who_asks_once_a_second_beside_a_storm_does_not_wait_long[5-",
    "tests/simulated/test_faults.py::test_a_trace_does_not_depend_on_the_hash_seed",
    "tests/simulated/test_faults.py::test_histories_are_not_idle",
    "tests/simulated/test_faults.py::test_seeds",
    "tests/simulated/test_graphs.py::test_news_gets_through",
    "tests/simulated/test_invariants.py::test_no_starvation",
    "tests/simulated/test_links.py::test_a_cut_pair_in_overload_starves_nobody[one way of one pair",
    SILENT + "test_a_bucket_that_holds_less_than_silent_peers_ask_for_in_three_rounds[20",
    "tests/simulated/test_silent_peers.py::test_a_late_sender_beside_a_node_that_is_cut_off",
    "tests/simulated/test_snapshots.py::test_what_has_refilled_since_costs_nothing",
    "tests/simulated/test_snapshots.py::test_what_others_have_seen_refill",
    "tests/simulated/test_traces.py::test_n_clocks_apart",
    "tests/simulated/test_traces.py::test_y_jitter",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound",
    "tests/simulator/test_library_mesh.py::test_frames_that_come_late_cost_little",
    "tests/simulator/test_library_mesh.py::test_no_run_of_the_library_exceeds_its_bound",
    "tests/simulator/test_library_mesh.py::test_prediction_takes_most_of_a_cold_burst_away",
    "tests/simulator/test_replay.py::test_a_trace_of_real_calls",
    "tests/simulator/test_scenario_run.py::test_every_rule_is_asked_the_same[suspend-60s]",
    "tests/simulator/test_scenario_run.py::test_max_of_totals_admits",
    "tests/strong/controller/test_mode_controller.py::test_a_redis_that_flaps_for_an_hour",
    "tests/strong/controller/test_mode_controller.py::test_whatever_flaps",
    "tests/strong/test_chaos.py",
    "tests/strong/test_world.py::test_five_strong_nodes",
    "tests/strong/test_world.py::test_two_of_five_without_redis",
    "tests/test_compositions.py::test_cell",
    "tests/test_compositions.py::test_what_is_forgotten_is_seen",
    "tests/test_docs.py::test_the_site_is_built",
    "tests/test_packaging.py::test_a_wheel_has",
    "tests/test_packaging.py::test_an_sdist_has",
    "tests/test_real_processes.py",
    "tests/test_walk.py::test_the_walk",
)
"""Beginnings of the names of tests."""
STILL_FAST = (
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports[convergence]",
    "tests/benchmarks/test_runner.py::test_every_benchmark_runs_and_reports[take_many]",
    "tests/http/test_workers.py::test_a_limit_is_one_limit_however_many_workers_serve[gunicorn-2]",
    "tests/model/test_model.py::test_planted_bug_is_found[LessForLessOrEqual",
    "tests/model/test_model.py::test_planted_bug_is_found[NoCeiling",
    SILENT + "test_a_late_sender_beside_a_node_that_is_cut_off_denies_nothing[0.1-0.0]",
    "tests/simulator/test_bound.py::test_no_run_exceeds_its_bound[partition-30s]",
    "tests/simulator/test_library_mesh.py::test_no_run_of_the_library_exceeds_its_bound[cut-way-cr",
    CHAOS + "test_after_a_fault_of_the_replication_every_member_holds_what_was_consumed[torn]",
    "tests/strong/test_chaos.py::test_cancelled_callers",
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
}
"""A test module that has one of these names depends on scheduling."""


def tiers(path: Path, test: str, names: set[str]) -> list[str]:
    """The markers of a test."""
    where = f"{path.relative_to(ROOT).as_posix()}::{test}"
    slow = where.startswith(SLOW) and not where.startswith(STILL_FAST)
    return ["slow"] * slow + ["processes"] * bool(names & OF_THE_MACHINE)


@pytest.hookimpl(tryfirst=True)  # before those of other tiers are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = set(vars(getattr(item, "module", item)))
        for marker in tiers(item.path, item.name, names):
            item.add_marker(marker)
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))  # a decorator's stays the closest
