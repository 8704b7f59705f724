"""Strong mode on a replicated Redis as a rule: the real scripts, one member a region."""

from __future__ import annotations

import re
from random import Random

from crdtbucket.simulator.lua_members import LuaMembers
from crdtbucket.simulator.node_network import Nodes
from crdtbucket.simulator.run_settings import Settings
from crdtbucket.simulator.scenario import Scenario
from crdtbucket.strong.redis.beats import EVERY_MS, BeatArguments
from crdtbucket.strong.redis.regions import Regions
from crdtbucket.strong.redis.replicated import ReplicatedArguments
from crdtbucket.strong.redis.script import ScriptCall, ScriptStatus, owner_name

KEY = b"crdtbucket:{simulated}"
_START_US = 1_700_000_000_000_000
_EVERY_NS = EVERY_MS * 1_000_000
_SLOT = re.compile(r"^(local NEAR, SLACK, SLOT, TAU = \d+, \d+, )\d+", re.MULTILINE)
_ADOPTS = re.compile(r"(?<=local adopts = )consistent .*(?=\n)")
Version = tuple[int, object]
"""A number that rises with time, and the copy of a key."""


class _Process:
    """The one process of a region: its column of the key, and the newest beats that it has read."""

    def __init__(self, region: str, epoch: int) -> None:
        self.owner = owner_name(epoch, region)
        self.taken = 0
        self.debt_ns = self.debt_at = 0
        self.beats = b""


class ReplicatedStore(Nodes):
    """Every region asks its own member; there is no mesh. A member keeps the newest copy of a
    key."""

    def __init__(
        self, name: str, *, credit: bool = True, adoption: bool = True, slot_us: int = 0
    ) -> None:
        """Without `credit` calls bring no beats, so that no region is ever taken for silent.
        Without `adoption` copies only add what they count: no level is lowered to theirs.
        `slot_us`: in each span of so many us only one call looks at the other regions; 0 keeps the
        script's span."""
        self.name, self._credit = name, credit
        self._source = ReplicatedArguments.script.source
        if slot_us:
            self._change(_SLOT, rf"\g<1>{slot_us}")
        if not adoption:
            self._change(_ADOPTS, "false")

    def start(self, scenario: Scenario, settings: Settings) -> None:
        """Begin at time 0 with empty members. Each region sends its beats at a random phase."""
        names = settings.node_names()
        self._members = LuaMembers(names)
        spec, limit = settings.bucket(), settings.debt_limit
        self._regions = [Regions(name, names) for name in names]
        self._arguments = [ReplicatedArguments(spec, limit, each) for each in self._regions]
        self._beats = [BeatArguments(each) for each in self._regions]
        self._processes: list[_Process] = []
        self._epochs = 0
        self._rng = Random(f"{settings.seed}/{scenario.name}/replication")
        self._order = 0
        self._newest: list[dict[bytes, Version]] = [{} for _ in names]
        self._arrived: dict[tuple[int, int, bytes], int] = {}
        super().start(scenario, settings)
        for node in range(settings.regions):
            # Beats come at instants at which calls may come, too, so that no time of a member goes
            # back.
            steps = self._rng.randrange(_EVERY_NS // scenario.step_ns)
            self.network.schedule(steps * scenario.step_ns, self._beat, node)

    def reset(self, node: int) -> None:
        """A new process of the region; what the members hold stays."""
        self._epochs += 1
        process = _Process(self.names[node], self._epochs)
        self._processes[node : node + 1] = [process]

    def advance(self, to_ns: int) -> None:
        """Sends what the calls have changed, and delivers what arrives up to that time."""
        if to_ns > self.now:
            for node in range(len(self.names)):
                self._send(node)
        super().advance(to_ns)

    def heal(self) -> None:
        """Copies pass again. Of every key the newest copy is sent once more."""
        lost = [
            (source, target)
            for source in range(len(self.names))
            for target in range(len(self.names))
            if source != target and not self.passes(source, target)
        ]
        super().heal()
        for source, target in lost:
            for key, version in self._newest[source].items():
                late = self.scenario.keys_late_ns if key.startswith(KEY) else 0
                self._copy(source, target, key, version, late)

    def offer(self, node: int, calls: int, cost: int) -> int:
        """How many of the calls the region's member admits. They are spread over the time to the
        next step."""
        step_us, passed = self.scenario.step_ns // 1000, 0
        start = self._time_us(node)
        apart = max(1, step_us // calls)
        for number in range(calls):
            # Not at round numbers of us, since the script counts the denied calls at multiples of
            # 8.
            place = min(step_us - 1, number * apart + self._rng.randrange(min(apart, 64)))
            passed += self._call(node, start + place, cost)
        return passed

    def fields(self, node: int, key: bytes) -> dict[bytes, bytes]:
        """What the region's member holds of its own key now; empty for nothing."""
        name = self.names[node]
        return self._members.fields(name, self._regions[node].key(key), self._time_us(node))

    # -- inside

    def _change(self, pattern: re.Pattern[str], to: str) -> None:
        self._source, found = pattern.subn(to, self._source)
        assert found == 1, f"the script has {found} places that match {pattern.pattern}"

    def _call(self, node: int, now_us: int, cost: int) -> bool:
        process, arguments = self._processes[node], self._arguments[node]
        for others in (None, ()):
            debt_ns = max(0, process.debt_ns - (now_us - process.debt_at) * 1000)
            call = ScriptCall(
                KEY, cost, process.owner, 1, 1, process.taken, 0, debt_ns, others, process.beats
            )
            command = arguments.command(call)
            reply = self._members.run(self.names[node], command, self._source, now_us)
            answer = arguments.parse(reply)
            if answer.status is not ScriptStatus.UNKNOWN:
                break
        process.taken, process.debt_ns = answer.taken, answer.debt_ns
        process.debt_at = now_us
        return answer.status is ScriptStatus.ALLOWED

    def _beat(self, node: int) -> None:
        self.network.schedule(self.now + _EVERY_NS, self._beat, node)
        if self._credit and self.is_up(node):
            beats, name = self._beats[node], self.names[node]
            reply = self._members.run(
                name, beats.command(1), beats.script.source, self._time_us(node)
            )
            self._processes[node].beats = beats.parse(reply).words
            self._send(node)

    def _send(self, node: int) -> None:
        for key, copy in self._members.changes(self.names[node], self._time_us(node)).items():
            self._order += 1
            version = self._newest[node][key] = self._order, copy
            for target in range(len(self.names)):
                if target != node:
                    self._copy(node, target, key, version)

    def _copy(
        self, source: int, target: int, key: bytes, version: Version, late_ns: int = 0
    ) -> None:
        """Sends a copy, which takes `late_ns` longer than others."""
        spread = self.settings.jitter * (2.0 * self._rng.random() - 1.0)
        at = self.now + late_ns + round(self.settings.lag_ns * (1.0 + spread))
        self.network.schedule(at, self._deliver, source, target, key, version)

    def _deliver(self, source: int, target: int, key: bytes, version: Version) -> None:
        order, copy = version
        if self.passes(source, target) and order > self._arrived.get((source, target, key), 0):
            self._arrived[source, target, key] = order
            self._members.deliver(self.names[target], key, copy, self._time_us(target))

    def _time_us(self, node: int) -> int:
        """The time of the region's member (us), as the command TIME returns it."""
        offset = self.scenario.clock_offsets_ns.get(node, 0)
        return _START_US + (self.clock(node) + offset) // 1000
