"""The tokens of a server: which paths need which."""

from __future__ import annotations

import pytest

from tests.http.serving import TOKEN, serving

ADMIN = "the token of the admin side"
TAKE = {"bucket": "api", "key": "a"}
CALLS = [
    ("POST", "/v1/take"),
    ("POST", "/v1/reserve"),
    ("GET", "/v1/buckets"),
    ("GET", "/v1/buckets/api/keys"),
    ("GET", "/v1/peers"),
    ("GET", "/v1/forward-auth?bucket=api"),
    ("GET", "/v1/nothing"),
]
PUBLIC = ["/healthz", "/readyz", "/openapi.json"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("token", ["", "x" * 22, TOKEN[:-1], TOKEN + "x", "\udcff"])
async def test_calls_ask_for_the_token(token: str) -> None:
    async with serving(token=TOKEN) as client:
        for method, path in CALLS:
            headers = bearer(token.encode("utf-8", "replace").decode()) if token else {}
            status, problem, fields = await client.ask(method, path, headers=headers, json=TAKE)
            assert status == 401, path
            assert problem["detail"].startswith("send the token: ")
            assert fields["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in str(problem)
        assert client.limiter.bucket("api").peek("a").remaining == 100
        for path in PUBLIC:
            await client.get(path)


async def test_the_token_opens_calls_and_not_the_admin_side() -> None:
    async with serving(token=TOKEN, admin_token=ADMIN) as client:
        for token, calls, admin in ((TOKEN, 200, 401), (ADMIN, 200, 200), ("x" * 22, 401, 401)):
            headers = bearer(token)
            status, *_ = await client.ask("POST", "/v1/take", headers=headers, json=TAKE)
            assert status == calls
            status, *_ = await client.ask("GET", "/admin/status", headers=headers)
            assert status == admin


async def test_the_admin_token_alone_leaves_calls_open() -> None:
    async with serving(admin_token=ADMIN) as client:
        await client.post("/v1/take", **TAKE)
