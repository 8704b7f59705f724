"""Planted bugs in the real code: each must be found by the part of the suite named beside it.

    python -m tests.mutations [NAME ...]

A mutation is a textual patch to a copy of the package, whose core is compiled anew. The text that
is replaced must stand in its folder exactly once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTENSION = "_core" + str(sysconfig.get_config_var("EXT_SUFFIX"))
CFLAGS = ["-O1", "-w", "-fno-strict-aliasing", "-fwrapv", "-std=gnu11", "-shared", "-fPIC"]
SECONDS = 100


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


HISTORIES = (*PYTEST, "tests/strong/test_script_histories.py", "-k", "redis-server")


def strong(module: str, words: str) -> tuple[str, ...]:
    return (
        *PYTEST,
        f"tests/strong/test_{module}.py",
        "-k",
        words,
    )


def seeds(count: int, start: int = 0) -> tuple[str, ...]:
    return ("tests.soak", "--seeds", str(count), "--start", str(start), "--jobs", "1")


MUTATIONS = (
    Mutation(
        "maximum_for_sum",
        "core",
        "i128 brings = g->brings_held + g->brings_lacking, q = d->q;",
        "i128 q = d->q, brings = g->brings_held;\n"
        "    if (g->brings_lacking > brings)\n        brings = g->brings_lacking;",
        contract("two_takes_heard_at_once"),
    ),
    Mutation(
        "no_advance",
        "core",
        "        if (debt < -far)\n            bound = -far;\n        else if",
        "        if",
        contract("advance_first"),
    ),
    Mutation(
        "adoption_aged_by_travel_time",
        "core",
        "adopt = stated + q * g->lacks, out;",
        "adopt = stated - (i128)50000000 * d->p + q * g->lacks, out;",
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
        "while (column_next(t, e, &c) && count < MAX_COLUMNS) {",
        "while (0 && column_next(t, e, &c)) {",
        contract("not_counted_twice"),
    ),
    Mutation(
        "prediction_in_the_statement",
        "core",
        "    debt = units_to_ns(d, debt < 0 ?",
        "    debt += entry_far(t, e, d, now);\n    debt = units_to_ns(d, debt < 0 ?",
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
        "\n           && is_full(t, e, now);",
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
        "base_for(d, stated_units(d, w, wd), 0, now);",
        "base_for(d, 0, 0, now);",
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
        "columns_raised_by_anybody",
        "core",
        "joined->taken = x->taken > taken ? x->taken : taken;",
        "joined->taken = x->taken + (x->taken > taken);",
        seeds(16),
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
        "if not late and self._meter.count",
        "if self._meter.count",
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
)


def frozen(directory: Path) -> Path:
    """The project as it stands now, its binding translated once: the headers come in later."""
    copy = directory / "frozen"
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    for folder in ("crdtbucket", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", copy)
    source, target = copy / "crdtbucket/_core.pyx", copy / "_core.c"
    command = [sys.executable, "-m", "cython", "-3", str(source), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return copy


def compiled(source: Path, package: Path) -> None:
    include = sysconfig.get_path("include")
    paths = ["-I", str(package), "-I", include, str(source), "-o", str(package / EXTENSION)]
    subprocess.run(["gcc", *CFLAGS, *paths, "-lm", "-lpthread"], check=True)


def planted(mutation: Mutation | None, original: Path, directory: Path) -> Path:
    """A copy of the project with the bug in it."""
    copy = directory / (mutation.name if mutation else "unmutated")
    shutil.copytree(original, copy)
    core_is_new = mutation is None or mutation.folder == "core"
    if mutation:
        files = [
            p
            for p in (copy / "crdtbucket" / mutation.folder).iterdir()
            if p.suffix in (".h", ".py", ".lua")
        ]
        texts = {p: text for p in files if mutation.old in (text := p.read_text())}
        where = [(p, text) for p, text in texts.items() if text.count(mutation.old) == 1]
        assert len(where) == len(texts) == 1, f"{mutation.name}: not there once: {mutation.old!r}"
        ((path, text),) = where
        path.write_text(text.replace(mutation.old, mutation.new))
    if core_is_new:
        compiled(copy / "_core.c", copy / "crdtbucket")
    else:
        shutil.copy(directory / "unmutated/crdtbucket" / EXTENSION, copy / "crdtbucket")
    where = [sys.executable, "-c", "from crdtbucket import _core; print(_core.__file__)"]
    env = {**os.environ, "PYTHONPATH": str(copy)}
    found = subprocess.run(where, cwd=copy, env=env, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(copy), found.stdout
    return copy


def passes(copy: Path, check: tuple[str, ...]) -> tuple[bool, str]:
    """Whether a part of the suite passes against a copy, and what it said."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    env["HYPOTHESIS_PROFILE"] = "ci"  # what is found does not depend on who asks
    command = [sys.executable, "-m", *check]
    done = subprocess.run(
        command, cwd=copy, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode in (0, 1), output  # 1: tests ran and failed
    return done.returncode == 0, output


def survivors(mutations: tuple[Mutation, ...] = MUTATIONS, jobs: int | None = None) -> list[str]:
    """Names of mutations that nothing noticed; "unmutated" when the suite fails without any."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        original = frozen(directory)
        whole = planted(None, original, directory)

        def sound(check: tuple[str, ...]) -> str | None:
            return None if passes(whole, check)[0] else "unmutated"

        def survives(mutation: Mutation) -> str | None:
            copy = planted(mutation, original, directory)
            return mutation.name if passes(copy, mutation.check)[0] else None

        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            checks = {mutation.check for mutation in mutations}
            found = [*pool.map(survives, mutations), *pool.map(sound, sorted(checks))]
    return [name for name in found if name is not None]


if __name__ == "__main__":
    wanted = sys.argv[1:]
    alive = survivors(tuple(m for m in MUTATIONS if not wanted or m.name in wanted))
    print(f"survived: {', '.join(alive)}" if alive else "all were found")
    sys.exit(1 if alive else 0)
