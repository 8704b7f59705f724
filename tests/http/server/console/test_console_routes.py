"""The console over HTTP: who may see which part, and that a page of another site can do nothing."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crdtbucket import Limiter
from crdtbucket.http.server.console import page_files
from crdtbucket.http.server.console.console_feed import ConsoleFeed
from crdtbucket.http.server.console.console_routes import PROOF
from crdtbucket.http.server.console.console_view import look_at
from crdtbucket.http.server.listening import Listening
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import SidecarServer
from crdtbucket.http.server.siblings import Siblings
from tests.http.server.console.asking import event, following, signed_in
from tests.http.serving import API, TOKEN, Asker, serving

KEY = "tenant-with-a-name"
WHY = {"bucket": "small", "key": KEY, "cost": 8}
PRIVATE = {
    "sign-out": ("POST", {}),
    "why": ("POST", WHY),
    "rollout": ("POST", {"action": "halt"}),
    "keys/small": ("GET", None),
}
"""Paths that need a session: method and body."""


STATIC = Path(page_files.__file__).parent / "static"
SUMS = (STATIC / "vendor" / "SHA256SUMS").read_text().splitlines()[1:]
VENDORED = {name: digest for digest, name in map(str.split, SUMS)}
"""The digest that each file from another project must have."""


async def test_the_page_may_run_its_own_files_and_nothing_else() -> None:
    names = [one.relative_to(STATIC) for one in STATIC.rglob("*.*")]
    async with serving() as client:
        for path in ("/console", *sorted(f"/console/{name}" for name in names)):
            async with client.session.get(client.url + path) as answer:
                assert answer.status == 200, path
                policy = answer.headers["Content-Security-Policy"].split("; ")
                assert policy[:3] == ["default-src 'none'", "script-src 'self'", "style-src 'self'"]
                assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} < set(
                    policy
                )
                assert not {"unsafe-inline", "unsafe-eval", "http", "*"} & set(" ".join(policy))
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                text, tag = await answer.text(), answer.headers["ETag"]
            text = re.sub(r"(?m)http://www.w3.org/2000/svg|^\s*//.*|^\* https:.*", "", text)
            for foreign in ("http://", "https://", "//cdn", " style=", " onclick=", "innerHTML"):
                assert foreign not in text, (path, foreign)
            seen = {"If-None-Match": tag}
            async with client.session.get(client.url + path, headers=seen) as answer:
                assert answer.status == 304
        async with client.session.get(f"{client.url}/console/") as answer:
            assert str(answer.url) == f"{client.url}/console"
        for missing in ("app.py", "..%2Fconsole_view.py", "%2e%2e", "none.js"):
            status, _, _ = await client.ask("GET", f"/console/{missing}")
            assert status == 404, missing


async def test_files_of_others_are_served_as_they_were_published() -> None:
    assert set(VENDORED) == {"LICENSE", "uPlot.esm.js", "uPlot.min.css"}
    async with serving() as client:
        for name in VENDORED.keys() - {"LICENSE"}:
            async with client.session.get(f"{client.url}/console/vendor/{name}") as answer:
                assert hashlib.sha256(await answer.read()).hexdigest() == VENDORED[name]
        for missing in ("app.js", "LICENSE", "..%2Fapp.js"):
            status, _, _ = await client.ask("GET", f"/console/vendor/{missing}")
            assert status == 404, missing
    assert (
        hashlib.sha256((STATIC / "vendor" / "LICENSE").read_bytes()).hexdigest()
        == (VENDORED["LICENSE"])
    )


@pytest.mark.parametrize("name", PRIVATE)
async def test_what_is_about_keys_or_changes_something_needs_a_session_and_the_page(
    name: str,
) -> None:
    method, body = PRIVATE[name]

    async def status_of(headers: dict[str, str]) -> int:
        status, problem, _ = await client.ask(
            method, f"/console/{name}", headers=headers, json=body
        )
        assert status == 200 or KEY not in str(problem)
        return status

    async with serving(admin_token=TOKEN) as client:
        await client.post("/v1/take", bucket="small", key=KEY, cost=8)
        mine, other = await signed_in(client), await signed_in(client)
        assert await status_of({}) == 401
        assert await status_of({"Cookie": mine["Cookie"][:-1]}) == 401
        assert await status_of({"Authorization": f"Bearer {TOKEN}"}) == 401
        if method == "POST":  # what a page of this host, on another port, can make a browser send
            cookie = {"Cookie": mine["Cookie"]}
            assert await status_of(cookie) == 403
            assert await status_of({**cookie, PROOF: other[PROOF]}) == 403
            assert await status_of({**mine, "Sec-Fetch-Site": "same-site"}) == 403
        assert await status_of({**mine, "Origin": "http://evil.example"}) == 403
        done = await status_of({**mine, "Origin": client.url, "Sec-Fetch-Site": "same-origin"})
        assert done == (409 if name == "rollout" else 200)  # there is none to halt
        gone = name == "sign-out"
        assert (await client.get("/console/session", headers=mine))["signed_in"] is not gone
        assert (await client.get("/console/session", headers=other))["signed_in"] is True


async def test_signing_in_needs_the_token_and_gives_a_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.audit")
    async with serving(admin_token=TOKEN) as client:
        for wrong in ("", TOKEN[:-1], f"{TOKEN}x", "gr\u00fcn"):
            status, problem, fields = await client.ask(
                "POST", "/console/sign-in", json={"token": wrong}
            )
            assert (status, "Set-Cookie" in dict(fields)) == (401, False)
            assert TOKEN not in str(problem)
        form = {"data": f'{{"token": "{TOKEN}"}}', "headers": {"Content-Type": "text/plain"}}
        assert (await client.ask("POST", "/console/sign-in", **form))[0] == 415
        _, _, fields = await client.ask("POST", "/console/sign-in", json={"token": TOKEN})
        text = dict(fields)["Set-Cookie"]
        ((name, cookie),) = SimpleCookie(text).items()
        assert name == f"crdtbucket_console_{client.url.rpartition(':')[2]}"
        assert (cookie["path"], cookie["samesite"]) == ("/console", "Strict")
        assert cookie["httponly"] is True
        assert not cookie["secure"]
        assert int(cookie["max-age"]) > 0
        headers = {"Host": "console.example", "Origin": "https://console.example"}
    async with serving(admin_token=TOKEN, allowed_hosts=("console.example",)) as client:
        _, _, fields = await client.ask(
            "POST", "/console/sign-in", json={"token": TOKEN}, headers=headers
        )
        assert "Secure" in dict(fields)["Set-Cookie"]  # a proxy in front speaks TLS
        assert TOKEN not in str(vars(client.server.api.settings))
    assert [one.getMessage().partition(" from ")[0] for one in caplog.records] == [
        *["console: a wrong token"] * 4, "console: signed in", "console: signed in",
    ]  # fmt: skip
    assert TOKEN not in caplog.text


async def test_without_a_token_of_its_own_nobody_signs_in() -> None:
    async with serving() as client:
        status, problem, _ = await client.ask("POST", "/console/sign-in", json={"token": "x"})
        assert status == 403
        assert "--admin-token-file" in problem["detail"]
        told = await client.get("/console/session")
        assert told == {"admin": False, "open": True, "signed_in": False, "proof": ""}


async def test_where_calls_need_a_token_nothing_is_shown_without_a_session() -> None:
    async with serving(token="the token of those who call", admin_token=TOKEN) as client:
        status, problem, _ = await client.ask("GET", "/console/events")
        assert status == 401
        assert "admin token" in problem["detail"]
        assert (await client.get("/console/session"))["open"] is False
        calls = {"token": "the token of those who call"}
        assert (await client.ask("POST", "/console/sign-in", json=calls))[0] == 401
        async with following(client, (await signed_in(client))["Cookie"]) as private:
            assert (await event(private))[0] == "node"


@pytest.mark.timeout(60)  # a stream that goes on for one who signed out would never end
async def test_no_key_without_a_session_and_the_rest_with_it() -> None:
    async with serving(admin_token=TOKEN) as client:
        await client.post("/v1/take", bucket="small", key=KEY, cost=8)
        await client.refused("/v1/take", bucket="small", key=KEY, cost=8)
        mine = await signed_in(client)
        api = client.server.api
        look = partial(look_at, client.limiter, api.views, api.admin)
        api.console.feed = ConsoleFeed(look, 0.02)
        async with following(client) as public, following(client, mine["Cookie"]) as private:
            _, told = await event(public)
            assert KEY not in str(told)
            assert told["private"] is None
            assert (told["node"], told["not_ready"]) == ("local", "")
            small: dict[str, Any] = next(one for one in told["buckets"] if one["name"] == "small")
            assert (small["allowed"], small["denied"], small["keys"]) == (1, 1, 1)
            assert small["lowest"] == small["fill"] == pytest.approx(0.2, abs=0.001)
            assert (small["over_admission"], small["bound"]) == (0, 0)
            _, told = await event(private)
            assert KEY not in str(told)  # nor is it in the stream of those who may see it
            status = await client.get("/admin/status", headers={"Authorization": f"Bearer {TOKEN}"})
            assert told["private"].items() <= status.items()
            await client.ask("POST", "/console/sign-out", headers=mine, json={})
            while told["private"] is not None:  # what was on its way
                _, told = await event(private)
        keys = await client.get("/console/keys/small?top=1", headers=await signed_in(client))
        assert [one["key"] for one in keys["keys"]] == [KEY]


async def test_a_session_is_one_of_all_workers(tmp_path: Path) -> None:
    limiter, settings = Limiter([API]), ServeSettings(admin_token=TOKEN)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(limiter)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        workers = []
        for index in range(2):
            siblings, listening = Siblings(tmp_path, index, 2), [Listening("127.0.0.1:0")]
            server = SidecarServer(limiter, settings, siblings, listening)
            await server.start()
            stack.push_async_callback(server.stop)
            workers.append(Asker(server, limiter, session))
        one, two = workers
        mine = await signed_in(one)
        name, _, value = mine["Cookie"].partition("=")
        # The workers of a server have one port, and here two.
        there = {
            **mine,
            "Cookie": f"{name.rpartition('_')[0]}_{two.url.rpartition(':')[2]}={value}",
        }
        assert (await two.get("/console/session", headers=there))["proof"] == mine[PROOF]
        status, _, _ = await two.ask("POST", "/internal/console-session", json={"id": value})
        assert status == 404  # workers alone are told
        assert (await two.ask("POST", "/console/sign-out", headers=there, json={}))[0] == 200
        assert not (await one.get("/console/session", headers=mine))["signed_in"]


async def test_a_rollout_is_moved_as_by_its_command(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, limits = tmp_path / "limits.yaml", "services: {api: {limit: %d/hour}}\n"
    file.write_text("version: 1\n" + limits % 100)
    limiter = Limiter.from_file(file)
    async with serving(limiter, admin_token=TOKEN) as client:
        file.write_text("version: 2\nrollout: {stages: [{percent: 10}]}\n" + limits % 50)
        limiter.reload()
        mine = await signed_in(client)
        body = {"action": "halt"}
        status, told, _ = await client.ask("POST", "/console/rollout", headers=mine, json=body)
        assert (status, told["status"], told["version"]) == (200, "halted", 2)
        assert "rollout from 127.0.0.1: halt of version 2" in caplog.text
        async with following(client, mine["Cookie"]) as private:
            _, state = await event(private)
        assert state["private"]["rollout"]["status"] == "halted"
