"""A mode controller that several threads report to."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from crdtbucket.base.forks import ForkLock
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.mode_controller import Controller

Method = TypeVar("Method", bound=Callable[..., Any])


def _whole(method: Method) -> Method:
    """One of these at a time, at a time that does not go back."""

    @wraps(method)
    def alone(self: SharedController, now: int, *args: Any, **named: Any) -> Any:
        with self.lock:
            self.now = max(self.now, now)
            return method(self, self.now, *args, **named)

    return cast("Method", alone)


class SharedController(Controller):
    """As `Controller`; each call is whole before the next begins. A `now` may be a little older
    than that of a call before: the time goes on from there."""

    def __init__(self, settings: ControllerSettings, now: int, degraded: Mode) -> None:
        super().__init__(settings, now, degraded)
        self.lock = ForkLock()
        self.now = now

    # `asked` notes one time, and may be called beside any other.

    answered = _whole(Controller.answered)
    timed_out = _whole(Controller.timed_out)
    failed = _whole(Controller.failed)
    moved = _whole(Controller.moved)
    tick = _whole(Controller.tick)
    probe = _whole(Controller.probe)

    def next_tick(self, now: int) -> int | None:
        with self.lock:
            return super().next_tick(now)
