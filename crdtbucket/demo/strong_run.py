"""The course of the demo with a Redis: strong, slow, gone, back, settled, judged."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.demo import words
from crdtbucket.demo.demo_network import Network
from crdtbucket.demo.demo_redis import DemoStore
from crdtbucket.demo.demo_run import DELAY_S, Demo, Options, until
from crdtbucket.demo.modes import ACTS, PATIENCE
from crdtbucket.demo.strong_verdict import StrongVerdict, judge_strong
from crdtbucket.demo.traffic import Phase, redis_phases
from crdtbucket.demo.view import View
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.degradation import Degradation


class StrongDemo(Demo):
    """One run with a Redis, which is asked, made slow, taken away and given back."""

    def __init__(self, options: Options, view: View) -> None:
        """Raises `DemoError` when there is no Redis to use."""
        super().__init__(options, view)
        assert options.redis is not None
        self.store = DemoStore(options.redis)
        self._acts_ns: dict[str, int] = {}
        self._records: dict[str, int] = {}

    def _parts(self, seconds: float) -> list[Phase]:
        return redis_phases(seconds)

    async def _prepare(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._remove)
        await self.store.start()

    async def _remove(self) -> None:
        latest = [account.latest for account in self.ledger.accounts]
        told = [report["redis"] for report in latest if report is not None]
        keys = {key for redis in told for key in (redis["key"], *redis["others"])}
        await self.store.stop(sorted(keys))

    def _strong(self) -> dict[str, dict[str, Any]]:
        return {"redis": self.store.config(), "modes": PATIENCE}

    def _setting(self) -> str:
        server = self.store.server
        program = None if server is None else Path(server.program).name
        return words.redis_setting(program, DELAY_S * 1000)

    async def _happenings(self, _: Network) -> None:
        for act in ACTS:
            await until(self.start_ns + self.traffic.named(act.name).start_ns)
            if act.name == "back":
                await self.store.back()
            self._acts_ns[act.name] = now_ns()
            if act.name == "slow":
                self.store.slow()
            elif act.name == "gone":
                await self.store.gone()

    async def _all_told(self) -> bool:
        """And whether Redis has it, too, and decides again."""
        latest = [account.latest for account in self.ledger.accounts]
        reports = [report for report in latest if report is not None]
        if any(one["mode"] != Mode.STRONG or one["redis"]["unsettled"] for one in reports):
            return False
        if not await super()._all_told():
            return False
        self._records = await self.store.records(reports[0]["redis"]["key"])
        return self._records == {epoch: n for epoch, n in reports[0]["known"].items() if n}

    def _switches(self) -> tuple[str, ...]:
        return tuple(words.switch_line(one, self.start_ns) for one in self.ledger.switches)

    def _judge(self, gossip_ns: int) -> StrongVerdict:
        return judge_strong(
            self.ledger,
            self.spec,
            Degradation().fallback_ratio,
            gossip_ns,
            self._acts_ns,
            len(self.traffic.calls),
            self._records,
        )


__all__ = ["StrongDemo"]
