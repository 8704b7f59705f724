"""Members of a replicated Redis in memory: they run the real scripts in Lua 5.1, at simulated
times."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import hiredis

from crdtbucket.simulator.simulation_errors import SimulationError

_SOURCE = files("crdtbucket.simulator").joinpath("lua_members.lua").read_text(encoding="utf-8")
_US = 1_000_000


class LuaMembers:
    """All members of one store, each with keys of its own. Times are us of the member's clock."""

    def __init__(self, names: Iterable[str]) -> None:
        """Raises `SimulationError` where `lupa` is not installed."""
        try:
            from lupa import lua51
        except ImportError as error:
            raise SimulationError(
                "a replicated store needs Lua for its scripts: pip install 'crdtbucket[lua]'"
            ) from error
        self._lua_error: type[Exception] = lua51.LuaError
        runtime = lua51.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._out: Any = runtime.execute(_SOURCE.encode())
        self._scripts: dict[bytes, Any] = {}
        self._words = hiredis.Reader()
        for name in names:
            self._out.member(name.encode())

    def run(self, member: str, command: bytes, source: str, now_us: int) -> object:
        """What the member answers to an EVALSHA of `source`. Raises `SimulationError`."""
        self._words.feed(command)
        _, sha, keys, *words = self._words.gets()
        script = self._scripts.get(sha)
        if script is None:
            script = self._scripts[sha] = self._out.load(source.encode())
        time = divmod(now_us, _US)
        try:
            reply = self._out.run(member.encode(), script, *time, int(keys), *words)
        except self._lua_error as error:
            raise SimulationError(f"the script failed: {error}") from error
        return list(reply) if isinstance(reply, tuple) else reply

    def changes(self, member: str, now_us: int) -> dict[bytes, object]:
        """Copies of the keys that scripts have written on this member since the last time."""
        flat = self._out.changes(member.encode(), *divmod(now_us, _US)) or ()
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def fields(self, member: str, key: bytes, now_us: int) -> dict[bytes, bytes]:
        """The fields of a hash as the member holds it, its own or a copy; empty for nothing."""
        flat = self._out.fields(member.encode(), key, *divmod(now_us, _US)) or ()
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def deliver(self, member: str, key: bytes, copy: object, now_us: int) -> None:
        """The member holds this copy from now on."""
        self._out.deliver(member.encode(), key, copy, *divmod(now_us, _US))
