"""A replication between Redis servers that can fail in the worst ways of the engine."""

from __future__ import annotations

from crdtbucket.base.clock import now_ns
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.testing.copy_queue import KeyVersion
from crdtbucket.testing.replicated_member import STRING, Command, keys_of, replies, write
from crdtbucket.testing.replicator import Replicator, State


class TriedReplicator(Replicator):
    """A replicator with ways that drop copies, and servers that come back from an image or from
    copies."""

    def disregard(self, region: str) -> None:
        """The others accept no write of this region, while it accepts theirs, as where wall clocks
        decide who wrote last and the clock of this region was set back."""
        for other in self._others(region):
            self._ways[region, other].queue.cut(recorded=False)

    def resend(self, region: str) -> None:
        """Sends the copies on this region's member once more, since they were lost."""
        for other in self._others(region):
            self._ways[other, region].queue.resend(now_ns())
            self._ways[other, region].changed.set()

    async def bring_back(self, region: str) -> None:
        """Fields of the region's own keys that its member has lost come back from the others."""
        async with self.members[region].asking() as own:
            for other in self._others(region):
                for version in (await self.held(other, region)).values():
                    await fill_gaps(own, version)

    async def restore(self, region: str, state: State) -> None:
        """Sets the own keys of the region back to this state; its newer keys are removed."""
        async with self.members[region].asking() as own:
            for key in (await keys_of(own, region)).keys() - state.keys():
                await replies(own, ("DEL", key))
            for version in state.values():
                await write(own, version)

    # -- what has arrived

    async def differences(self) -> list[tuple[str, str, bytes]]:
        """(region, other, key) for each key of a region whose copy at `other` differs."""
        found = []
        for source, target in self._ways:
            own, copies = await self.held(source, source), await self.held(target, source)
            found += [
                (source, target, key)
                for key in own.keys() | copies.keys()
                if key not in own or key not in copies or own[key].fields != copies[key].fields
            ]
        return found


async def fill_gaps(connection: RedisConnection, version: KeyVersion) -> None:
    """Writes the fields that the key on the server lacks; the others stay."""
    if STRING in version.fields:
        commands: list[Command] = [("SET", version.key, version.fields[STRING], "NX")]
    else:
        commands = [("HSETNX", version.key, *field) for field in version.fields.items()]
    if version.expires_ms >= 0:
        commands.append(("PEXPIRE", version.key, version.expires_ms, "NX"))
    await replies(connection, *commands)
