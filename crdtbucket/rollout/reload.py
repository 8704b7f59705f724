"""A new configuration for a limiter that works: all of it, or nothing and every reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crdtbucket.errors import ConfigError, CrdtbucketError
from crdtbucket.rollout.in_force import InForce
from crdtbucket.rollout.limiter_file import LimiterFile
from crdtbucket.rollout.live_rollout import LiveRollout
from crdtbucket.rollout.unfit import fixed, unfit
from crdtbucket.rollout.watching import FileWatch

if TYPE_CHECKING:
    from crdtbucket.config import Config


class Reload:
    """How another configuration comes into force, at once or by stages. From any thread."""

    def __init__(
        self,
        in_force: InForce,
        rolling: LiveRollout,
        started: Mapping[str, Any],
        file: LimiterFile | None = None,
    ) -> None:
        """`started`: the fixed settings of the limiter, for one without a file."""
        self.counters = {"reloads": 0, "refused": 0}
        self._in_force = in_force
        self._rolling = rolling
        self._started = started
        self._file = file
        self._watch: FileWatch | None = None
        if file is None:
            return
        if file.watch:
            self._watch = FileWatch(file.path, self.change_to_file, taken=file.content)
        in_force.begin(file.first)
        rolling.counted()
        if file.position is not None:
            rolling.begin(file.first, file.config, file.position)
        rolling.advertise()

    def change(self, config: Config) -> None:
        """Brings `config` into force, or begins to, where it has stages. Raises `ConfigError` with
        all that forbids it, and has then changed nothing."""
        in_force, rolling = self._in_force, self._rolling
        with in_force.lock:
            problems = [
                *fixed(config, in_force.config, self._started),
                *unfit(config, in_force),
                *rolling.refused(config),
            ]
            if problems:
                self.counters["refused"] += 1
                raise ConfigError(problems)
            self.counters["reloads"] += 1
            if not rolling.takes(config):
                rolling.end()
                before = in_force.config
                if config.rollout is None or before is None or before.hash == config.hash:
                    in_force.force(config)
                    rolling.counted()
                else:
                    rolling.begin(before, config)
        rolling.advertise()

    def change_to_file(self) -> None:
        """`change` to what the limiter's own file says now."""
        from crdtbucket.config import load_config

        config = self._in_force.config
        if config is None:
            raise CrdtbucketError("this limiter came from no file: pass a configuration to reload")
        try:
            changed = load_config(config.path if self._file is None else self._file.path)
        except ConfigError:
            self.counters["refused"] += 1
            raise
        self.change(changed)

    def beat(self) -> None:
        """Does what is due by time; to be called every second or so."""
        self._in_force.relax()
        self._rolling.beat()

    def start_watch(self) -> None:
        """Watches the file from now on, where that was asked for."""
        if self._watch is not None:
            self._watch.start()

    def stop_watch(self) -> None:
        """Ends the watch; a second call does nothing."""
        if self._watch is not None:
            self._watch.stop()

    def stats(self) -> dict[str, Any]:
        """Which configuration is in force, or on its way and at which stage, and how many were
        taken and refused."""
        version, content, stage = self._rolling.running or (0, None, 0)
        return {
            "version": version,
            "hash": "" if content is None else f"{content:016x}",
            "stage": str(stage or ""),
            **self.counters,
        }


__all__ = ["Reload"]
