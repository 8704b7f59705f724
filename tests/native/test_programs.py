"""The native programs: each attacks the core's memory in another way, and judges what it finds."""

import errno
import itertools
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native import seeds
from tests.native.build import OPTIMIZED, QUICKLY, THREADS, NoSanitizer, build

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a shared table needs Linux")
TRACED = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"),
    reason="single steps are made with Linux's ptrace",
)
KILLS = "1"
"""Real ones an operation; on copies of the memory each instruction is tried."""
FLAGS = {"optimized": OPTIMIZED, "addresses": QUICKLY, "threads": THREADS}
ROUNDS = {"optimized": 100_000, "addresses": 3_000, "threads": 3_000}
RUNS = 5000


def built(program: str, folder: Path, flags: tuple[str, ...] = OPTIMIZED) -> Path:
    """One of the programs; without the library of a sanitizer the test is skipped."""
    try:
        return build(program, folder / program, flags)
    except NoSanitizer as missing:
        pytest.skip(f"the compiler has no {missing} here")


def output(*command: Path | str) -> str:
    """Runs a program, which must end well; returns what it prints."""
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, (command, run.stderr + run.stdout)
    return run.stdout


def test_a_take_that_was_stopped_changes_nothing_of_an_entry_that_became_another(
    tmp_path: Path,
) -> None:
    output(built("stale", tmp_path))


def test_a_survey_leaves_out_definitions_that_were_made_after_it_began(tmp_path: Path) -> None:
    output(built("late_survey", tmp_path, QUICKLY))


def test_a_file_that_is_cut_while_memory_is_reserved_does_not_grow_again(tmp_path: Path) -> None:
    """Zeros in place of what was lost would be keys that nobody took from."""
    whole, cut, left = map(int, output(built("shortened", tmp_path)).split())
    assert (whole, cut, left) == (0, errno.ENOSPC, 1 << 16)


@TRACED
def test_a_kill_or_a_take_at_any_instruction_leaves_a_whole_table(tmp_path: Path) -> None:
    """A process is killed after every instruction of every operation on a shared table, or another
    one takes there."""
    run = subprocess.run(
        [built("everykill", tmp_path), "--kills", KILLS],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if run.returncode == 77:
        pytest.skip(f"processes cannot be traced here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    operations = [line for line in lines if "instructions" in line]
    assert len(operations) >= 30
    assert int(lines[-1].split()[0]) > 2000, "hardly a state was judged"
    assert sum(int(line.split()[-2]) for line in operations) > 100, "hardly a take came between"


@TRACED
def test_a_kill_in_a_change_of_more_words_than_are_noted_leaves_a_whole_table(
    tmp_path: Path,
) -> None:
    program = built("everykill", tmp_path, (*OPTIMIZED, "-DUNDO_WORDS=7"))
    run = subprocess.run(
        [program, "--only", "evicts"], capture_output=True, text=True, check=False
    )  # fmt: skip
    if run.returncode == 77:
        pytest.skip(f"processes cannot be traced here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.splitlines()[-1].split()[0]) > 100, "hardly a state was judged"


@pytest.mark.parametrize("how", FLAGS)
def test_every_token_is_accounted_for(how: str, tmp_path: Path) -> None:
    """Threads and processes do everything at once, on a clock that stands still and on one that
    goes on. In one test, since it takes longer to compile the program than to run it."""
    program = built("hammer", tmp_path, FLAGS[how])
    for options in itertools.product(([], ["--processes"]), ([], ["--flow"])):
        chosen = itertools.chain(*options)
        assert "admitted" in output(program, "--rounds", str(ROUNDS[how]), *chosen)


@pytest.mark.parametrize("how", ["optimized", "addresses"])
def test_whatever_is_read_stays_within_its_memory(how: str, tmp_path: Path) -> None:
    """Random bytes where the core reads bytes: frames, and the body of a table's file."""
    printed = output(built("noise", tmp_path, FLAGS[how]), "--rounds", "3000")
    merged, used = (int(part.split()[0]) for part in printed.split(","))
    assert merged > 50, "hardly a frame was read"
    assert used > 50, "hardly a table was used"


@pytest.mark.parametrize("target", list(seeds.MADE))
def test_no_input_breaks_what_is_promised(target: str, tmp_path: Path) -> None:
    """The fuzz targets on their seeds and on inputs made of these, without libFuzzer."""
    program = built(f"fuzz_{target}", tmp_path, QUICKLY)
    files = seeds.write(target, tmp_path / "seeds")
    printed = output(program, "--runs", str(RUNS), *files)
    assert printed == f"{len(files)} files and {RUNS} inputs made of them\n"
