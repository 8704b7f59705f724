"""The file of a shared table is made shorter while a process uses it."""

from __future__ import annotations

import logging
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.errors import SharedTableError

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


@pytest.mark.parametrize("left", [0, 8_192])
def test_a_process_that_sees_it_first_goes_on_with_an_error_and_ends_well(
    tmp_path: Path, left: int
) -> None:
    path, context = tmp_path / "table", multiprocessing.get_context("spawn")
    line, theirs = multiprocessing.Pipe()
    child = context.Process(target=_decide_later, args=(str(path), theirs))
    child.start()
    theirs.close()
    try:
        assert line.recv() is True
        whole = path.stat().st_size
        os.truncate(path, left)
        line.send("it is shorter")
        logged, raised = line.recv()
    finally:
        child.join(30)
    assert child.exitcode == 0
    assert logged == raised
    assert logged.startswith(
        f"the shared table {path} was made shorter while it is used: {left} bytes of {whole} are "
        "left: stop all processes"
    )


def test_a_whole_file_keeps_no_decision_from_being_made(tmp_path: Path) -> None:
    with Limiter([SPEC], shared=str(tmp_path / "table")) as limiter:
        assert not limiter._tables.cut_off()
        assert limiter.bucket("api").take("k", 30)
