"""An authenticated channel of an observer to one node: a frame out, its answer back."""

from __future__ import annotations

import asyncio
from typing import Any

from crdtbucket.base.clock import now_ns
from crdtbucket.base.deadline import within
from crdtbucket.errors import MeshError, WireError
from crdtbucket.mesh.links.channel import Channel, ChannelLost
from crdtbucket.mesh.links.link import describe_bye
from crdtbucket.mesh.links.session import Handshake, Kind
from crdtbucket.mesh.protocol import wire

OBSERVER = 1
"""The epoch in an observer's frames, which nobody reads: it counts nothing."""


class ObservationFailed(MeshError):
    """A node did not answer, or not as it should; it is not asked again in this run."""


class ObserverLink:
    """Sends a frame and receives the one that answers it, one after the other."""

    def __init__(self, channel: Channel, shake: Handshake, epoch: int) -> None:
        self._channel, self._shake = channel, shake
        self.epoch = epoch
        """The node's running epoch, as it said last."""
        self._seq = 0

    async def ask(self, timeout: float, **values: Any) -> wire.Frame:
        """The answer to a frame, within `timeout` s. Raises `ObservationFailed`."""
        try:
            return await within(timeout, self._ask(values))
        except asyncio.TimeoutError as error:
            raise ObservationFailed(f"no answer within {timeout:g} s") from error
        except (ChannelLost, WireError) as error:
            raise ObservationFailed(str(error)) from error

    async def _ask(self, values: dict[str, Any]) -> wire.Frame:
        self._seq += 1
        asked = wire.Frame(
            epoch=OBSERVER, to_epoch=self.epoch, seq=self._seq, sent=now_ns(), **values
        )
        await self._channel.send(self._shake.session.seal(Kind.FRAME, wire.encode(asked)))
        while True:
            kind, body = self._shake.session.open(await self._channel.receive())
            if kind == Kind.BYE:
                raise ChannelLost(f"it says {describe_bye(body)}")
            frame = wire.decode(body)
            if frame.ack == self._seq:
                self.epoch = frame.epoch
                return frame

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()
