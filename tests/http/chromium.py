"""Drives a headless Chromium of this machine, and one page in it, by its debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

WITHIN_S = 120.0
FOUND = re.compile(r"DevTools listening on ws://([\d.:]+)/")
QUIET = (
    "--headless=new",
    "--no-sandbox",  # the tests may be root's
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """The path of the program; None where there is none."""
    return shutil.which("chromium")


class Page:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.said: list[str] = []
        """The complaints of the browser: errors, and what the policy of the page refused."""
        self._socket = socket
        self._loaded = False
        self._numbers = itertools.count(1)

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        """Runs a command and returns its result; notes what is reported meanwhile."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=WITHIN_S)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif message["method"] == "Page.loadEventFired":
            self._loaded = True
        elif message["method"] == "Log.entryAdded":
            entry = params["entry"]
            # A refusal by the server is an answer, and the page shows how it handles that.
            if entry["level"] == "error" and entry["source"] != "network":
                self.said.append(f"{entry['text']} {entry.get('url', '')}")
        elif message["method"] == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.said.append(str(params["args"]))

    async def open(self, url: str) -> None:
        """Opens a URL; returns when all files of the page are loaded."""
        for part in ("Page", "Runtime", "Log"):
            await self.do(f"{part}.enable")
        self._loaded = False
        await self.do("Page.navigate", url=url)
        while not self._loaded:
            self._note(await self._socket.receive_json(timeout=WITHIN_S))

    async def value(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = await self.do(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Waits until an expression is true, and returns its value."""
        deadline = asyncio.get_running_loop().time() + WITHIN_S
        while True:
            value = await self.value(expression)
            if value:
                return value
            assert asyncio.get_running_loop().time() < deadline, f"never true: {expression}"
            await asyncio.sleep(0.1)

    async def type(self, text: str) -> None:
        """Types into the element that has the focus."""
        await self.do("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Presses one key."""
        codes = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowLeft": (37, "")}
        code, text = codes.get(key, (ord(key[0].upper()), key))
        told = {"key": key, "windowsVirtualKeyCode": code}
        await self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **told)

    async def shape(self, width: int, height: int, *, dark: bool) -> None:
        """Sets the size of the window and the colours that the system prefers."""
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.do("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self) -> bytes:
        """The whole page as PNG."""
        taken = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])


@asynccontextmanager
async def page(program: str) -> AsyncIterator[Page]:
    """A page of a new browser, which ends with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        process = await asyncio.create_subprocess_exec(
            program, *QUIET, f"--user-data-dir={place}", "about:blank",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": place, "LD_PRELOAD": ""}, start_new_session=True,
        )  # fmt: skip
        reading = None
        try:
            assert process.stderr is not None
            said = ""
            while (found := FOUND.search(said)) is None:
                line = await asyncio.wait_for(process.stderr.readline(), WITHIN_S)
                assert line, f"the browser ended: {said}"
                said = said + line.decode(errors="replace")
            reading = asyncio.ensure_future(process.stderr.read())  # so that the pipe never fills
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://{found[1]}/json/list") as answer:
                    pages = [one for one in await answer.json() if one["type"] == "page"]
                address = pages[0]["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=1 << 26) as socket:
                    one = Page(socket)
                    yield one
                    await one.do("Browser.close")
                    await asyncio.wait_for(process.wait(), WITHIN_S)
        finally:
            # Ends also the processes that it has started, as they are its process group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if reading is not None:
                await reading
