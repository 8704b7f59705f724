"""The other worker processes of a server, which a worker asks over private Unix sockets.

Handles of takes and reservations, heavy keys and the counts of answers belong to one worker. A
client may reach any worker, so a worker forwards requests that another one must answer, and adds up
the counts of all.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from crdtbucket.http.server.json_answer import JSON
from crdtbucket.http.server.refusal import Refusal

LOG = logging.getLogger("crdtbucket.http")
_HANDLE = re.compile(r"w(\d+)_")
TIMEOUT_S = 5.0
CANNOT = 421
"""The status with which a worker answers another one that has asked the wrong worker."""


class Siblings:
    """All workers of a server, seen by one of them."""

    def __init__(self, folder: Path | None = None, index: int = 0, count: int = 1) -> None:
        """`folder`: of the private sockets; None where one process serves alone. `index`: this
        worker's number, from 0."""
        self.prefix = "" if folder is None else f"w{index}_"
        """The prefix of the handles that this worker gives out."""
        self.address = "" if folder is None else f"unix:{_socket(folder, index)}"
        """Where the others reach this worker; empty where there are none."""
        self._others: dict[int, Path] = {}
        if folder is not None:
            self._others = {i: _socket(folder, i) for i in range(count) if i != index}
        self._sessions: dict[int, aiohttp.ClientSession] = {}

    def asked_by_one(self, request: web.BaseRequest) -> bool:
        """Whether the request comes from another worker, which gets only the answer of this
        worker."""
        if not self.address:
            return False
        transport = request.transport
        name = None if transport is None else transport.get_extra_info("sockname")
        return f"unix:{name}" == self.address

    def owner(self, handle: str) -> int | None:
        """Which other worker gave a handle out; None if none did."""
        found = _HANDLE.match(handle)
        index = None if found is None else int(found[1])
        return index if index in self._others else None

    async def answer_of_owner(self, handle: str, request: web.BaseRequest) -> web.Response | None:
        """The answer of the worker that gave out a handle; None for handles of this worker, and
        when that worker is gone."""
        owner = self.owner(handle)
        return None if owner is None else await self.forward(owner, request)

    async def forward(self, owner: int, request: web.BaseRequest) -> web.Response | None:
        """The answer of another worker to a request of a client; None if it cannot be reached:
        then its handles are gone as well."""
        try:
            session, body = self._session(owner), await request.read()
            kind = {"Content-Type": JSON}
            if "Authorization" in request.headers:
                kind["Authorization"] = request.headers["Authorization"]
            async with session.post(request.path, data=body, headers=kind) as answer:
                headers = {"Content-Type": answer.headers["Content-Type"]}
                return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        except asyncio.TimeoutError as error:  # it may have done it, and asking again is safe
            said = "the worker that has this id does not answer"
            raise Refusal(503, said, headers={"Retry-After": "1"}) from error
        except (aiohttp.ClientError, OSError) as error:
            LOG.warning("worker %d does not answer: %r", owner, error)
            return None

    async def forward_to_any(self, request: web.BaseRequest) -> web.Response | None:
        """The answer of the first other worker that does not answer `CANNOT`; None where all do,
        or cannot be reached."""
        for index in self._others:
            try:
                answer = await self.forward(index, request)
            except Refusal:  # it does not answer in time
                continue
            if answer is not None and answer.status != CANNOT:
                return answer
        return None

    async def ask(self, owner: int, path: str, document: dict[str, Any] | None = None) -> Any:
        """The JSON that the worker answers, to a POST where there is a document; None when it does
        not answer, or has no such thing."""
        method = "GET" if document is None else "POST"
        try:
            async with self._session(owner).request(method, path, json=document) as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            LOG.warning("worker %d does not answer: %r", owner, error)
            return None

    async def gather(self, path: str) -> list[Any]:
        """The answers of all others that can be reached."""
        answers = await asyncio.gather(*(self.ask(index, path) for index in self._others))
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        """Closes the connections to the others."""
        for session in self._sessions.values():
            await session.close()

    def _session(self, index: int) -> aiohttp.ClientSession:
        session = self._sessions.get(index)
        if session is None:
            session = self._sessions[index] = aiohttp.ClientSession(
                "http://localhost",
                connector=aiohttp.UnixConnector(str(self._others[index])),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            )
        return session


def _socket(folder: Path, index: int) -> Path:
    return folder / f"{index}.sock"
