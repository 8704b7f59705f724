"""Changes pure rules in every way, and counts what their own tests notice.

    python -m tests.mutants [MODULE ...]

`make mutants` runs it. mutmut makes the changes ("mutants"): of each constant, comparison and call,
one at a time. `tests.mutant_runs` runs the tests of a module on each. Without a name all of
`TESTS` are tried; a name may be the end of a path, such as `outage`. Those that nobody noticed are
listed by the lines that were changed. The exit status is 1 when of any module fewer than
`NOTICED_OF_100` in 100 were noticed.
"""

from __future__ import annotations

import difflib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.equivalent_mutants import EQUIVALENT

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "mutants"
NOTICED_OF_100 = 90

TESTS = {
    "mesh/links/ejections": "mesh/links/test_ejections",
    "mesh/links/order_book": "mesh/links/test_ejections",
    "mesh/links/override_book": "mesh/links/test_override_book",
    "mesh/protocol/clock_watch": "mesh/protocol/test_clock_watch",
    "mesh/protocol/entry_merger": "mesh/protocol/test_entry_merger",
    "mesh/protocol/failure_detector": "mesh/protocol/test_failure_detector",
    "mesh/protocol/horizon": "mesh/protocol/test_horizon",
    "mesh/protocol/introductions": "mesh/protocol/test_introductions",
    "mesh/protocol/member_directory": "mesh/protocol/test_member_directory",
    "mesh/protocol/member_updates": "mesh/protocol/test_member_updates",
    "mesh/protocol/membership": "mesh/protocol/test_membership mesh/protocol/test_member_links",
    "mesh/protocol/mismatches": "mesh/protocol/test_mismatches",
    "mesh/protocol/observers": "mesh/protocol/test_observers",
    "mesh/protocol/own_epoch": "mesh/protocol/test_own_epoch",
    "mesh/protocol/own_name": "mesh/protocol/test_own_name",
    "mesh/protocol/peer_warnings": "mesh/protocol/test_peer_warnings",
    "mesh/protocol/pruning": "mesh/protocol/test_pruning",
    "mesh/protocol/relays": "mesh/protocol/test_relay_rules",
    "mesh/protocol/roster": "mesh/protocol/test_roster",
    "mesh/protocol/travel_times": "mesh/protocol/test_travel_times",
    "mesh/protocol/unlinked": "mesh/protocol/test_unlinked",
    "mesh/protocol/visibility": "mesh/protocol/test_visibility",
    "mesh/protocol/wall_clocks": "mesh/protocol/test_wall_clocks",
    "rollout/staged": "rollout/test_staged",
    "strong/controller/degradation": "strong/controller/test_degradation",
    "strong/controller/latency": "strong/controller/test_latency",
    "strong/controller/mode_controller": "strong/controller/test_mode_rules",
    "strong/controller/outage": "strong/controller/test_outage",
    "strong/controller/recovery": "strong/controller/test_recovery",
    "strong/in_flight": "strong/test_in_flight_rules",
    "strong/kept_quotas": "strong/test_kept_quotas",
    "strong/ledger": "strong/test_ledger",
    "strong/local_decisions": "strong/test_local_decisions",
    "strong/quota": "strong/test_quota",
    "strong/slot_ledger": "strong/test_slot_ledger",
    "strong/unsettled": "strong/test_unsettled_rules",
    "strong/window": "strong/test_window",
}
"""Modules without input and output, below `crdtbucket`, and their own tests, below `tests`: files
that are separated by a blank."""


def mutated(module: str) -> dict[str, str]:
    """Writes a module with all of its mutants into the copy. Returns their names, and the lines
    that each changes."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    path = Path("crdtbucket", f"{module}.py")
    found: Any = mutate_file_contents(str(path), (ROOT / path).read_text())
    (PLACE / path).write_text(found.code)
    lines = found.code.splitlines()

    def body(name: str) -> list[str]:
        span = found.line_span_by_function_name[name]
        return [line.strip().replace(name, "") for line in lines[span.start - 1 : span.end]]

    changes = {}
    for name in found.mutant_names:
        original = body(f"{name.rpartition('__mutmut_')[0]}__mutmut_orig")
        lines_of: dict[str, list[str]] = {"-": [], "+": []}  # before and after
        for line in difflib.ndiff(original, body(name)):
            lines_of.get(line[0], []).append(line[2:])
        changes[name] = " => ".join(" / ".join(changed) for changed in lines_of.values())
    return changes


def noticed(module: str, names: list[str]) -> dict[str, bool]:
    """Which of these mutants the tests of the module notice."""
    task, results = PLACE / "task.json", PLACE / "results.json"
    dotted = f"crdtbucket.{module.replace('/', '.')}"
    task.write_text(json.dumps([f"{dotted}.{name}" for name in names]))
    results.unlink(missing_ok=True)
    tests = [f"tests/{name}.py" for name in TESTS[module].split()]
    plugins = ["-p", "tests.mutant_runs", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *tests],
        cwd=PLACE, env={**os.environ, "PYTHONPATH": str(PLACE), "HYPOTHESIS_PROFILE": "quick"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not results.exists():
        raise SystemExit(
            f"{TESTS[module]} does not pass without a change:\n{done.stdout}{done.stderr}"
        )
    told: dict[str, bool] = json.loads(results.read_text())
    return {name: told[f"{dotted}.{name}"] for name in names}


def score(module: str) -> tuple[int, int]:
    """Tries a module, prints its row and the survivors. Returns how many were noticed, and of how
    many."""
    changes = mutated(module)
    excused = EQUIVALENT.get(module, {})
    found = noticed(module, [name for name in changes if changes[name] not in excused])
    # The other modules are tried with this one as it is.
    shutil.copy(ROOT / "crdtbucket" / f"{module}.py", PLACE / "crdtbucket" / f"{module}.py")
    count, of, same = sum(found.values()), len(found), len(changes) - len(found)
    print(f"| `{module}.py` | {count} of {of} | {100 * count / of:.1f} | {same} |")
    for name in found:
        if not found[name]:
            print(f"    survived: {name}: {changes[name]}")
    stale = set(excused) - set(changes.values())
    if stale:
        raise SystemExit(f"EQUIVALENT names what is no change of {module}: {sorted(stale)}")
    return count, of


def main(wanted: list[str]) -> int:
    """Prints the score of each module, and the mutants that survived."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    modules = [m for m in TESTS if not wanted or any(m.endswith(f"/{name}") for name in wanted)]
    if not modules:
        print(f"there is none of {', '.join(wanted)}; there are {', '.join(TESTS)}")
        return 2
    shutil.rmtree(PLACE, ignore_errors=True)
    for folder in ("crdtbucket", "tests"):
        shutil.copytree(ROOT / folder, PLACE / folder)
    shutil.copy(ROOT / "pyproject.toml", PLACE)
    print("| module | noticed | of 100 | equivalent, left out |")
    scores = {module: score(module) for module in modules}
    count, of = (sum(column) for column in zip(*scores.values(), strict=True))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (used.ru_utime + used.ru_stime) / 60
    print(
        f"{count} of {of} noticed, {100 * count / of:.1f} of 100; {minutes:.1f} processor minutes"
    )
    weak = [m for m, (noted, tried) in scores.items() if 100 * noted < NOTICED_OF_100 * tried]
    if weak:
        print(f"fewer than {NOTICED_OF_100} in 100: {', '.join(weak)}")
    return int(bool(weak))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
