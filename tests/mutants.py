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

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "mutants"
NOTICED_OF_100 = 90

TESTS = {
    "mesh/protocol/bounded_peers": "mesh/protocol/test_bounded_peers",
    "mesh/protocol/failure_detector": "mesh/protocol/test_failure_detector",
    "mesh/protocol/horizon": "mesh/protocol/test_horizon",
    "mesh/protocol/mismatches": "mesh/protocol/test_mismatches",
    "mesh/protocol/own_epoch": "mesh/protocol/test_own_epoch",
    "mesh/protocol/own_name": "mesh/protocol/test_own_name",
    "mesh/protocol/peer_warnings": "mesh/protocol/test_peer_warnings",
    "mesh/protocol/pruning": "mesh/protocol/test_pruning",
    "mesh/protocol/travel_times": "mesh/protocol/test_travel_times",
    "mesh/protocol/wall_clocks": "mesh/protocol/test_wall_clocks",
    "rollout/staged": "rollout/test_staged",
    "strong/controller/degradation": "strong/controller/test_degradation",
    "strong/controller/latency": "strong/controller/test_latency",
    "strong/controller/mode_controller": "strong/controller/test_mode_rules",
    "strong/controller/outage": "strong/controller/test_outage",
    "strong/controller/recovery": "strong/controller/test_recovery",
    "strong/controller/switch_budget": "strong/controller/test_switch_budget",
    "strong/in_flight": "strong/test_in_flight_rules",
    "strong/quota": "strong/test_quota",
    "strong/unsettled": "strong/test_unsettled_rules",
    "strong/window": "strong/test_window",
}
"""Modules without input and output, below `crdtbucket`, and their own tests, below `tests`."""

FALSE = "None is as false as False."
UNREAD = "It is set before it is read."
UNASKED = "What is left does not depend on the cost."
COMPARED = "It is only asked whether two such counts are the same."
EQUIVALENT = {
    "mesh/protocol/mismatches": {
        'return f"{p * 1_000_000_000 / q:.6g} tokens a second" => '
        'return f"{p * 1000000001 / q:.6g} tokens a second"': "Six digits show nothing of it.",
    },
    "mesh/protocol/own_name": {
        "self._met = 0 => self._met = None": FALSE,
        "self._table.refused = False => self._table.refused = None": FALSE,
    },
    "mesh/protocol/peer_warnings": {
        "self._keep((peer, about), _Logged(0, said=what)) => "
        f"self._keep((peer, about), _Logged({time}, said=what))": "This time is never read."
        for time in (None, 1)
    }
    | {'LOG.warning("%s", text) => LOG.warning(text)': "It is a format only with arguments."},
    "mesh/protocol/pruning": {
        "def (self, table: Table, now: int, interval_ns: int = 0) -> None: => "
        "def (self, table: Table, now: int, interval_ns: int = 1) -> None:": "It is rounded away.",
        "self._place = -1 => self._place = -2": "Any place below 0 says that no look goes on.",
        "self._begun = 0 => self._begun = None": UNREAD,
        "self._begun = 0 => self._begun = 1": UNREAD,
        "self._owing: dict[int, int] = {} => self._owing: dict[int, int] = None": UNREAD,
        "self._crowded = False => self._crowded = None": FALSE,
        "self._running = 0 => self._running = 1": "One is no crowd.",
    }
    | dict.fromkeys(
        (
            "if self._place < 0: => if self._place <= 0:",
            "if self._place < 0: => if self._place < 1:",
            "if self._place >= 0: => if self._place > 0:",
            "if self._place >= 0: => if self._place >= 1:",
        ),
        "No look is interrupted at the first place.",
    )
    | {
        "self._owing[epoch] = max(longest, self._owing.get(epoch, 0)) => "
        "self._owing[epoch] = max(longest, self._owing.get(epoch, 1))": "None is so short.",
    },
    "mesh/protocol/travel_times": {
        "self._since = 0 => self._since = None": UNREAD,
        "self._since = 0 => self._since = 1": UNREAD,
    },
    "strong/controller/mode_controller": {
        "self._probes.ended(good=False) => self._probes.ended(good=None)": FALSE,
        "return None if late else self._counted(now, slow=slow, lost=False, answers=answers) => "
        "return None if late else self._counted(now, slow=slow, lost=None, answers=answers)": FALSE,
    },
    "strong/controller/outage": {
        "self._last_failure: Failure | None = None => "
        'self._last_failure: Failure | None = ""': "It is as false as None.",
        'self._why = "" => self._why = None': UNREAD,
        'self._why = "" => self._why = "XXXX"': UNREAD,
        "silence = 0 if self.silent_since is None else now - self.silent_since => "
        "silence = 1 if self.silent_since is None else now - self.silent_since": "A nanosecond is "
        "shorter than any `outage_after`.",
    },
    "strong/in_flight": {
        "self._counted = False => self._counted = None": FALSE,
        "request.is_in_flight = False => request.is_in_flight = None": FALSE,
        "key.begun += 1 => key.begun -= 1": COMPARED,
        "key.begun += 1 => key.begun += 2": COMPARED,
        "key.begun_by_threads += 1 => key.begun_by_threads += 2": COMPARED,
        "request.mark = key.begun if key.requests == 1 else -1 => "
        "request.mark = key.begun if key.requests == 1 else +1": "By then more than one has begun.",
        "request.mark = key.begun if key.requests == 1 else -1 => "
        "request.mark = key.begun if key.requests == 1 else -2": "No count is below 0.",
        "request.mark = key.begun_by_threads if not key.by_threads else -1 => "
        "request.mark = key.begun_by_threads if not key.by_threads else -2": "No count is below 0.",
    },
    "strong/quota": {
        "self._nodes = 0 => self._nodes = None": "No number of nodes is 0 or None.",
        "self._parts_a_token = Fraction(0) => self._parts_a_token = None": UNREAD,
        "self._parts_a_token = Fraction(0) => self._parts_a_token = Fraction(1)": UNREAD,
        "left = self._core.peek(key, 1).remaining // self._token_price(nodes) => "
        "left = self._core.peek(key, ).remaining // self._token_price(nodes)": UNASKED,
        "left = self._core.peek(key, 1).remaining // self._token_price(nodes) => "
        "left = self._core.peek(key, 2).remaining // self._token_price(nodes)": UNASKED,
    },
}
"""Of each module the changes of a line that nobody can see, and why."""


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
    tests = f"tests/{TESTS[module]}.py"
    plugins = ["-p", "tests.mutant_runs", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, tests],
        cwd=PLACE, env={**os.environ, "PYTHONPATH": str(PLACE), "HYPOTHESIS_PROFILE": "quick"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not results.exists():
        raise SystemExit(f"{tests} does not pass without a change:\n{done.stdout}{done.stderr}")
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
    """Prints the score of each module and who survived."""
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
