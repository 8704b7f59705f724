"""An opening that is interrupted, as by Ctrl-C, leaves nothing open, and may be tried again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from crdtbucket import BucketSpec, Limiter, LimiterNotOpen, RedisConfig
from crdtbucket.limiter import background, local_node, runtime, saved_state, tables, upkeep
from crdtbucket.limiter.background import Background
from crdtbucket.mesh import state_dir
from crdtbucket.rollout import watching
from tests.lives import SECRET
from tests.strong.fake_server import fake
from tests.waits import eventually

OF_ANY = {one.__file__ for one in (background, local_node, runtime, tables, upkeep, watching)}
OF_STATE = {one.__file__ for one in (saved_state, state_dir)}
MOST = 1_000


class Interrupted(BaseException):
    """Stands for `KeyboardInterrupt`, which an event loop treats in its own way."""


class InterruptedAt:
    """Raises `Interrupted` before the main thread runs a line of these files, the first being
    1."""

    def __init__(self, line: int, files: set[str]) -> None:
        self._left, self._files = line, files

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self._left -= 1
            if not self._left:
                raise Interrupted
        return self._trace


def held() -> tuple[set[str], list[str]]:
    """What this process has open: threads that are not the loop's own, files and sockets."""
    names = {one.name for one in threading.enumerate() if not one.name.startswith("asyncio_")}
    places = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return names, sorted(os.readlink(place) for place in places if os.path.exists(place))


class Opened(NamedTuple):
    """What a test opens, and the files of which each line may be the last that runs."""

    limiter: Callable[[], Limiter]
    files: set[str]


@pytest.fixture(params=[False, True], ids=["without a state_dir", "with a state_dir"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """What is opened. The same limiter each time, which is tried again; with a `state_dir` a new
    one, as an epoch that was recorded there is not begun twice."""
    path = tmp_path / "limits.yaml"
    state = f", state_dir: {tmp_path}" if request.param else ""
    path.write_text(f"""
node: a
mesh: {{listen: "127.0.0.1:0", secret: {SECRET}{state}}}
services: {{api: {{limit: 100/hour}}}}
""")
    make = partial(Limiter.from_file, path, watch=True)
    one = make()
    return Opened(make, OF_STATE) if request.param else Opened(lambda: one, OF_ANY)


def closed_again(limiter: Limiter) -> bool:
    with pytest.raises(LimiterNotOpen):
        limiter.bucket("api").take("k")
    return True


def test_it_leaves_nothing_open_in_a_thread(opened: Opened) -> None:
    before = held()
    for line in range(1, MOST):
        limiter = opened.limiter()
        try:
            with InterruptedAt(line, opened.files):
                limiter.__enter__()
        except Interrupted:
            assert held() == before, line
            assert closed_again(limiter)
        else:
            break
    assert 40 < line < MOST
    assert limiter.bucket("api").take("k")
    limiter.close()
    assert held() == before


@pytest.mark.parametrize("opened", [False], indirect=True)
def test_it_leaves_nothing_open_on_an_event_loop(opened: Opened) -> None:
    async def main() -> None:
        before = held()
        for line in range(1, MOST):
            limiter = opened.limiter()
            try:
                with InterruptedAt(line, opened.files):
                    await limiter.__aenter__()
            except Interrupted:
                await asyncio.sleep(0)
                assert held() == before, line
                assert len(asyncio.all_tasks()) == 1, line
                assert closed_again(limiter)
            else:
                break
        assert 40 < line < MOST
        assert limiter.bucket("api").take("k")
        await limiter.aclose()
        assert held() == before

    asyncio.run(main())


class Starting:
    """A service that sends Ctrl-C to the program while it starts, which takes for ever."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        self.calls.append("stop")


def test_services_that_are_starting_in_a_thread_are_stopped() -> None:
    before, service = held(), Starting()
    thread = Background("services", [service])
    with pytest.raises(KeyboardInterrupt):
        thread.start()
    thread.end()
    assert service.calls == ["start", "stop"]
    assert held() == before
    thread.stop()


def test_an_opening_that_is_cancelled_ends_its_connections_with_redis() -> None:
    async def main() -> None:
        async with fake(lambda _: b"") as silent:
            before = held()
            limiter = Limiter(
                [BucketSpec("api", 100, 1)],
                node="a",
                consistency="strong",
                redis=RedisConfig(host="127.0.0.1", port=silent.address.port),
            )
            opening = asyncio.create_task(limiter.__aenter__())
            await eventually(lambda: silent.commands)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await eventually(lambda: held() == before)
            await limiter.aclose()

    asyncio.run(main())
