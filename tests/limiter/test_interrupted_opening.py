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
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, LimiterNotOpen, RedisConfig
from crdtbucket.limiter import background, local_node, runtime, saved_state, tables, upkeep
from crdtbucket.limiter.background import Background
from crdtbucket.mesh import state_dir
from crdtbucket.rollout import watching
from tests.lives import SECRET
from tests.strong.fake_server import fake
from tests.waits import eventually

MODULES = (background, local_node, runtime, saved_state, state_dir, tables, upkeep, watching)
FILES = {module.__file__ for module in MODULES}
MOST = 1_000


class Interrupted(BaseException):
    """Stands for `KeyboardInterrupt`, which an event loop treats in its own way."""


class InterruptedAt:
    """Raises `Interrupted` before the main thread runs a line of `FILES`, the first being 1."""

    def __init__(self, line: int) -> None:
        self._left = line

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in FILES:
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


@pytest.fixture(params=[False, True], ids=["without a state_dir", "with a state_dir"])
def limiters(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Limiter]:
    """The limiter to open. The same one each time, which is tried again; with a `state_dir` a new
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
    return make if request.param else lambda: one


def closed_again(limiter: Limiter) -> bool:
    with pytest.raises(LimiterNotOpen):
        limiter.bucket("api").take("k")
    return True


def test_it_leaves_nothing_open_in_a_thread(limiters: Callable[[], Limiter]) -> None:
    before = held()
    for line in range(1, MOST):
        limiter = limiters()
        try:
            with InterruptedAt(line):
                limiter.__enter__()
        except Interrupted:
            assert held() == before, line
            assert closed_again(limiter)
        else:
            break
    assert 80 < line < MOST
    assert limiter.bucket("api").take("k")
    limiter.close()
    assert held() == before


@pytest.mark.parametrize("limiters", [False], indirect=True)
def test_it_leaves_nothing_open_on_an_event_loop(limiters: Callable[[], Limiter]) -> None:
    async def main() -> None:
        before = held()
        for line in range(1, MOST):
            limiter = limiters()
            try:
                with InterruptedAt(line):
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
