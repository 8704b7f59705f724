"""Runs work of a test in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def running(*work: Callable[[], object]) -> Iterator[None]:
    """Runs each in a thread of its own, all starting together; raises what one of them raised."""
    start, errors = threading.Barrier(len(work)), []

    def run(one: Callable[[], object]) -> None:
        try:
            start.wait(60)
            one()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in work]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors


def in_threads(*work: Callable[[], object]) -> None:
    """Does as `running`, with nothing beside it."""
    with running(*work):
        pass
