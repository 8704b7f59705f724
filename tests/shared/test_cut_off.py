"""The file of a shared table is cut while a process uses it."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket._core import table_size
from crdtbucket.errors import CrdtbucketError, SharedTableError
from tests.shared.test_table_file import opened

SPEC = BucketSpec("api", 100, 1, "1h")


class FirstLine(logging.Handler):
    """The first line that is logged."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()


def _decide_later(path: str, line: Connection) -> None:
    first = FirstLine()
    logging.getLogger("crdtbucket").addHandler(first)
    limiter = Limiter([SPEC], shared=path)  # nothing runs, which would touch the table meanwhile
    line.send(bool(limiter.bucket("api").take("k", 30)))
    line.recv()
    limiter._runtime._upkeep.beat()
    try:
        limiter.bucket("api").take("k", 30)
    except SharedTableError as error:
        line.send((first.text, str(error)))
    limiter.close()


@contextmanager
def running(
    body: Callable[[str, Connection], None], path: Path
) -> Iterator[tuple[SpawnProcess, Connection]]:
    """Another process with the table at `path`, and the line to it; it has ended afterwards."""
    line, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=body, args=(str(path), theirs))
    child.start()
    theirs.close()
    try:
        yield child, line
    finally:
        child.join(60)


@pytest.mark.parametrize("left", [0, 8_192])
def test_a_process_that_sees_it_first_goes_on_with_an_error_and_ends_well(
    tmp_path: Path, left: int
) -> None:
    path = tmp_path / "table"
    with running(_decide_later, path) as (child, line):
        assert line.recv() is True
        whole = path.stat().st_size
        os.truncate(path, left)
        line.send("it is shorter")
        logged, raised = line.recv()
    assert child.exitcode == 0
    assert logged == raised
    assert logged.startswith(
        f"the shared table {path} was made shorter while it is used: {left} bytes of {whole} are "
        "left: stop all processes"
    )


def _spend_and_go_on(path: str, line: Connection) -> None:
    with Limiter([SPEC], shared=path, max_keys=4_000) as limiter:
        bucket = limiter.bucket("api")
        for number in range(2_000):
            bucket.take(f"k{number}", 100)
        line.send("all keys are used up")
        line.recv()
        with suppress(SharedTableError):
            for number in itertools.cycle(range(2_000)):
                if bucket.take(f"k{number}", 1):
                    line.send(f"k{number} is full again")
                    return


@pytest.mark.parametrize("left", [0, 8_192, 1 << 20])
def test_a_process_that_goes_on_ends_and_gives_nothing_away(tmp_path: Path, left: int) -> None:
    """Zeros in place of what is gone would be keys that nobody took from."""
    path = tmp_path / "table"
    with running(_spend_and_go_on, path) as (child, line):
        assert line.recv() == "all keys are used up"
        os.truncate(path, left)
        # Its upkeep may touch the table first: then it ends with the line unread, which resets it.
        with suppress(BrokenPipeError):
            line.send("it is shorter")
        with pytest.raises((EOFError, ConnectionResetError)):
            line.recv()
    assert child.exitcode in (0, -signal.SIGBUS)
    with Limiter([SPEC], shared=str(path), max_keys=4_000) as limiter:
        assert limiter.bucket("api").take("k0", 100)


def test_a_whole_file_keeps_no_decision_from_being_made(tmp_path: Path) -> None:
    with Limiter([SPEC], shared=str(tmp_path / "table")) as limiter:
        assert not limiter._tables.cut_off()
        assert limiter.bucket("api").take("k", 30)


def test_a_file_that_was_made_shorter_does_not_grow_again_by_zeros(tmp_path: Path) -> None:
    """They would be read as keys that nobody took from, and no process would notice."""
    path = tmp_path / "table"
    _file, table = opened(str(path))
    begun = table_size(table.max_keys)[1]
    os.truncate(path, begun)
    with pytest.raises(CrdtbucketError, match="no room for a view"):
        table.sharing.write_view(b"what the leader knows")
    assert path.stat().st_size == begun
