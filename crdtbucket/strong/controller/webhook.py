"""Posts changes of mode to a URL: in the background, with a bound on time, tries and memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp

from crdtbucket.strong.controller.notice import ModeNotice
from crdtbucket.strong.controller.webhook_target import WebhookTarget, masked_url

LOG = logging.getLogger("crdtbucket")
DEADLINE_S = 5.0
PAUSES_S = (1.0, 4.0)
"""Before the second and the third try."""
MAX_QUEUED = 64
TOO_MANY = 429
"""A status after which the notice is tried again, as both Slack and PagerDuty ask for."""


class Webhook:
    """Posts notices to one URL, in order. `post` never waits and never raises for the network."""

    def __init__(
        self,
        url: str,
        *,
        deadline: float = DEADLINE_S,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """deadline: seconds for one try. Raises `InvalidSpec` for what is no webhook."""
        self._url = url
        self._target = WebhookTarget.of(url)
        self._deadline = deadline
        self._pause = pause
        self._queue: asyncio.Queue[ModeNotice] = asyncio.Queue(MAX_QUEUED)
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.sent = 0
        """Notices that the other side took (2xx)."""
        self.failed = 0
        """Notices given up: refused (3xx, 4xx but 429), or after the last try."""
        self.dropped = 0
        """Notices given up before that: the oldest of a full queue, or closed first."""

    def post(self, notice: ModeNotice) -> None:
        """Queues a notice; to be called on the event loop that will send it."""
        if self._closed:
            self.dropped += 1
            return
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(notice)
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Ends at once; a notice under way and those that wait are given up."""
        self._closed = True
        before = self.dropped
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.cancel()
            await asyncio.wait([worker])
        while not self._queue.empty():
            self._queue.get_nowait()
            self.dropped += 1
        if self.dropped > before:
            count = self.dropped - before
            LOG.warning("closed before %d notices reached %s", count, masked_url(self._url))

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=self._deadline)
        # Only the status of an answer is read, and redirects are not followed.
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            while True:
                notice = await self._queue.get()
                try:
                    await self._deliver(session, notice)
                except asyncio.CancelledError:
                    self.dropped += 1
                    raise
                except Exception:
                    # Logged: one bug must not silence all later notices.
                    self.failed += 1
                    LOG.exception("a bug in posting a notice to %s", masked_url(self._url))

    async def _deliver(self, session: aiohttp.ClientSession, notice: ModeNotice) -> None:
        for pause in (*PAUSES_S, None):
            fault, final = await self._try(session, notice)
            if fault is None:
                self.sent += 1
                return
            if final or pause is None:
                break
            await self._pause(pause)
        self.failed += 1
        LOG.warning(
            "%s did not take the notice of %s -> %s at %s: %s",
            masked_url(self._url),
            notice.before,
            notice.after,
            notice.endpoint,
            fault,
        )

    async def _try(
        self, session: aiohttp.ClientSession, notice: ModeNotice
    ) -> tuple[str | None, bool]:
        """What went wrong (None: nothing), and whether another try is pointless."""
        try:
            async with session.post(
                self._target.url, json=self._target.body(notice), allow_redirects=False
            ) as answer:
                status = answer.status
        except asyncio.TimeoutError:
            return f"no answer within {self._deadline:g} s", False
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may hold the whole URL, with the secrets that are in it.
            return getattr(error, "strerror", None) or type(error).__name__, False
        if 200 <= status < 300:
            return None, True
        return f"it answered {status}", status < 500 and status != TOO_MANY
