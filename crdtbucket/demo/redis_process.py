"""A Redis server for one run: on a free port, empty, nothing on disk, gone with its parent."""

from __future__ import annotations

import secrets
import shutil
import tempfile

from crdtbucket.base.address import Address
from crdtbucket.demo.processes import DemoError, free_port
from crdtbucket.demo.server_process import ServerProcess
from crdtbucket.errors import RedisUnavailable
from crdtbucket.strong.redis.access import Access
from crdtbucket.strong.redis.redis_connection import RedisConnection
from crdtbucket.strong.redis.replicated import HeldEntry
from crdtbucket.strong.redis.script import read_owner
from crdtbucket.testing.fault_proxy import HOST

PROGRAMS = ("redis-server", "valkey-server")


class RedisProcess(ServerProcess):
    """The same address and password over all its starts; each is empty."""

    def __init__(self) -> None:
        """Raises `DemoError` where no program is installed."""
        super().__init__()
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if found is None:
            raise DemoError(
                f"neither {' nor '.join(PROGRAMS)} is installed: install one, or give a server's "
                "URL, --redis redis://host:port"
            )
        self.program = found
        self.address = Address(HOST, free_port())
        self.access = Access(password=secrets.token_hex(16))

    async def start(self) -> None:
        """Returns when it answers. Raises `DemoError` with what it printed."""
        lines = [f"bind {HOST}", f"port {self.address.port}", f"requirepass {self.access.password}"]
        lines += [f"dir {tempfile.gettempdir()}", 'save ""', "appendonly no", "loglevel warning"]
        await self._begin(["-"], lines)

    async def _answers(self) -> bool:
        try:
            connection = await RedisConnection.open(self.address, self.access, 1.0)
        except RedisUnavailable:
            return False
        connection.abort()
        return True


def taken_by_epoch(entry: HeldEntry | None) -> dict[str, int]:
    """Tokens taken less refunded of each process, by its epoch, as a key in Redis has them."""
    return {
        f"{read_owner(owner)[0]:x}": one.taken - one.refunded
        for owner, one in ({} if entry is None else entry.records).items()
    }
