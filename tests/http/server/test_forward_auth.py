"""Proxies that ask about the requests of their clients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.config import Config
from crdtbucket.http.server import forward_auth
from tests.http.serving import Asker, serving

FROM = {"X-Forwarded-For": "198.51.100.7"}
PATH = "/v1/forward-auth"


async def decided(
    client: Asker, query: str, method: str = "GET", **headers: str
) -> tuple[int, Mapping[str, str], str]:
    """Status, header fields and body."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()} or FROM
    url = f"{client.url}{PATH}?{query}"
    async with client.session.request(method, url, headers=fields) as response:
        return response.status, response.headers, await response.text()


def left(client: Asker, bucket: str, key: str) -> int:
    return client.limiter.bucket(bucket).peek(key).remaining


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_passes_until_its_tokens_are_gone(method: str) -> None:
    async with serving() as client:
        for number in range(10):
            status, headers, body = await decided(client, "bucket=small", method)
            assert (status, body) == (204, "")
            assert headers["RateLimit"].startswith(f'"small";r={9 - number};')
            assert "Content-Length" not in headers
        status, headers, body = await decided(client, "bucket=small", method)
        assert status == 429
        assert headers["Content-Type"] == "application/problem+json"
        assert int(headers["Retry-After"]) > 8_000
        assert "quota-exceeded" in body
        status, *_ = await decided(client, "bucket=small", X_Forwarded_For="198.51.100.8")
        assert status == 204


async def test_what_a_denial_is_answered_can_be_chosen() -> None:
    async with serving() as client:
        await decided(client, "bucket=small&cost=10")
        status, headers, _ = await decided(client, "bucket=small&denied=403")
        assert status == 403
        assert "Retry-After" in headers
        assert (await decided(client, "bucket=small"))[0] == 429


@pytest.mark.parametrize(("floor", "admitted"), [("batch", 5), ("0.2", 8), ("critical", 10)])
async def test_a_floor_leaves_tokens_to_more_important_requests(floor: str, admitted: int) -> None:
    async with serving() as client:
        query = f"bucket=small&floor={floor}"
        statuses = [(await decided(client, query))[0] for _ in range(11)]
        assert statuses == [204] * admitted + [429] * (11 - admitted)
        assert left(client, "small", FROM["X-Forwarded-For"]) == 10 - admitted


async def test_all_buckets_must_have_tokens_or_nothing_is_taken() -> None:
    async with serving() as client:
        query = "bucket=small&bucket=api&cost=6"
        assert (await decided(client, query))[0] == 204
        assert (await decided(client, query))[0] == 429
        address = FROM["X-Forwarded-For"]
        assert (left(client, "small", address), left(client, "api", address)) == (4, 94)


async def test_a_question_is_about_the_rates_that_are_in_force() -> None:
    """A query is read once, and a reload changes how many rates its bucket has."""
    limiter = Limiter(BucketSpec.parse_all("search", "100/hour"))
    async with serving(limiter) as client:
        for text in ("100/hour", "100/hour;50/minute", "100/hour;50/minute;1/day", "100/hour"):
            limiter.reload(Config("limits.yaml", BucketSpec.parse_all("search", text)))
            status, headers, _ = await decided(client, "bucket=search")
            assert (status, headers["RateLimit"].count('"search')) == (204, len(limiter.buckets))


async def test_the_key_is_the_first_source_that_the_request_has() -> None:
    async with serving() as client:
        query = "bucket=small&key=header:X-Api-Key,address"
        await decided(client, query, X_Api_Key="k1", X_Forwarded_For="198.51.100.7")
        await decided(client, query, X_Api_Key="198.51.100.7", X_Forwarded_For="198.51.100.7")
        await decided(client, query, X_Forwarded_For="198.51.100.7")
        keys = set(client.limiter.keys("small"))
        headers = {"header:X-Api-Key=k1", "header:X-Api-Key=198.51.100.7"}
        assert keys == {*headers, "address=198.51.100.7"}
        await decided(client, "bucket=api&key=header:x-api-key", X_Api_Key="k1")
        assert client.limiter.keys("api") == ["k1"]
        status, _, body = await decided(client, "bucket=api&key=header:x-api-key")
        assert status == 400
        assert "nothing to be limited by" in body


async def test_each_bucket_may_have_its_own_key() -> None:
    async with serving() as client:
        query = "bucket=small&key=address&bucket=api&key=header:x-tenant"
        await decided(client, query, X_Tenant="t", X_Forwarded_For="198.51.100.7")
        assert client.limiter.keys("small") == ["198.51.100.7"]
        assert client.limiter.keys("api") == ["t"]


async def test_an_address_is_believed_as_far_as_the_proxies_are() -> None:
    async with serving() as client:
        chain = "203.0.113.9, 198.51.100.7, 10.0.0.2"
        await decided(client, "bucket=small", X_Forwarded_For=chain)
        await decided(client, "bucket=small&trusted=10.0.0.0/8", X_Forwarded_For=chain)
        assert set(client.limiter.keys("small")) == {"10.0.0.2", "198.51.100.7"}


async def test_only_requests_that_match_are_limited() -> None:
    query = urlencode({"bucket": "small", "match": "POST,PUT /items/**", "cost": 10})
    async with serving() as client:
        for method, target in (("GET", "/items/1"), ("POST", "/other"), ("PUT", "/items%2F1")):
            sent = {"X_Forwarded_Method": method, "X_Forwarded_Uri": f"{target}?POST /items/"}
            status, headers, _ = await decided(client, query, **sent, **plain(FROM))
            assert (status, "RateLimit" in headers) == (204, method == "PUT")
        sent = {"X_Original_Method": "PUT", "X_Original_URI": "/items/2?x=1"}
        assert (await decided(client, query, **sent, **plain(FROM)))[0] == 429
        status, _, body = await decided(client, query)
        assert status == 400
        assert "X-Forwarded-Uri" in body


@pytest.mark.parametrize(
    ("target", "about"),
    [
        *(("/items/1", True), ("//items/1", True), ("/items//1", True), ("/items/1#x", True)),
        *(("/x/../items/1", True), ("/./items/1", True), ("/../items/1?/..", True)),
        *(("/x/%2e%2e/items/1", True), ("/x/..%2Fitems/1", True), ("/items/2/../1", True)),
        *(("/items/1/", False), ("/items/1/.", False), ("/items/1/x/..", False)),
        *(("/items/../1", False), ("/items/1%23", False), ("/", False), ("/..", False)),
    ],
)
async def test_a_path_is_matched_as_proxies_resolve_it(target: str, about: bool) -> None:
    async with serving() as client:
        sent = {"X_Forwarded_Uri": target, **plain(FROM)}
        status, headers, _ = await decided(client, "bucket=small&match=/items/1", **sent)
        assert (status, "RateLimit" in headers) == (204, about)


async def test_a_client_cannot_say_in_a_second_field_what_it_asks_for() -> None:
    fields = (("X_Forwarded_Uri", "X_Original_URI"), ("X_Forwarded_Method", "X_Original_Method"))
    texts = ("/items/1", "/free"), ("POST", "OPTIONS")
    async with serving() as client:
        for two, (asked, claimed) in zip(fields, texts, strict=True):
            for first, second in (two, two[::-1]):
                path = {"X_Forwarded_Uri": "/items/1", first: asked}
                query = urlencode({"bucket": "small", "match": "POST /items/1"})
                sent = {**path, **plain(FROM), second: claimed}
                status, _, body = await decided(client, query, **sent)
                assert status == 400
                assert f"{two[0]} and {two[1]} differ".replace("_", "-") in body
                assert (await decided(client, query, **{**sent, second: asked}))[0] == 204


async def test_a_key_that_is_not_utf_8_is_limited() -> None:
    async with serving() as client:
        reader, writer = await client.connect()
        for key in (b"\xff", b"\xfe" * 300):
            for status in (b"204", b"429"):
                writer.write(
                    b"GET /v1/forward-auth?bucket=small&cost=6&key=header:x-key HTTP/1.1\r\n"
                    b"Host: localhost\r\nX-Key: " + key + b"\r\n\r\n"
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + status)
                if length := re.search(rb"Content-Length: (\d+)", head):
                    await reader.readexactly(int(length[1]))


def plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 400, "bucket: name 1 to 8 buckets"),
        ("bucket=none", 404, "none"),
        ("&".join(["bucket=api"] * 9), 400, "1 to 8"),
        ("bucket=api&key=ip", 400, "key: is 'ip': write `address`, or `header:NAME`"),
        ("bucket=api&key=header:", 400, "header:NAME"),
        ("bucket=api&key=address&key=address", 400, "2 keys for 1 buckets"),
        ("bucket=api&cost=0", 400, "cost: is 0: give 1 or more"),
        ("bucket=api&cost=-1", 400, "one whole number"),
        ("bucket=api&cost=1&cost=2", 400, "one whole number"),
        ("bucket=api&cost=101", 400, "101"),
        ("bucket=api&floor=urgent", 400, "floor is 'urgent': write a share of the capacity"),
        ("bucket=api&floor=1", 400, "floor is 1.0: write a share of the capacity"),
        ("bucket=api&floor=0.2&floor=0.3", 400, "floor: is 0.2, 0.3: give one"),
        ("bucket=api&denied=200", 400, "denied: is 200: use one of 401, 403, 429, 503"),
        ("bucket=api&trusted=nobody", 400, "trusted"),
        ("bucket=api&match=items", 400, "match"),
        ("bucket=api&kee=address", 400, "kee: there is no such parameter"),
    ],
)
async def test_what_cannot_be_asked_is_refused(query: str, status: int, word: str) -> None:
    async with serving() as client:
        for _ in range(2):
            found, headers, body = await decided(client, query)
            assert found == status
            assert headers["Content-Type"] == "application/problem+json"
            assert word in body
        assert client.limiter.keys("api") == []


async def test_a_proxy_that_names_no_client_gets_an_error_that_says_so() -> None:
    async with serving() as client:
        status, _, body = await decided(client, "bucket=api", Accept="*/*")
        assert status == 400
        assert "X-Forwarded-For" in body


async def test_pages_ask_through_a_proxy_and_not_by_themselves() -> None:
    async with serving() as client:
        page: dict[str, Any] = {"Origin": "https://shop.example"}
        assert (await decided(client, "bucket=api", **page, **plain(FROM)))[0] == 204
        assert (await decided(client, "bucket=api&key=header:accept", **page))[0] == 403
        other = {**page, "Host": "rebound.example"}
        assert (await decided(client, "bucket=api", **other, **plain(FROM)))[0] == 403


async def test_the_heaviest_keys_show_what_proxies_asked() -> None:
    async with serving() as client:
        await decided(client, "bucket=small&cost=7")
        shown = await client.get("/v1/buckets/small/keys")
        assert shown["keys"][0]["key"] == FROM["X-Forwarded-For"]


async def test_more_queries_than_are_kept_are_answered_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward_auth, "MAX_KEPT", 2)
    async with serving(Limiter([BucketSpec("api", 100, 1, "1h")])) as client:
        for cost in (1, 2, 3, 4, 3):
            assert (await decided(client, f"bucket=api&cost={cost}"))[0] == 204
        assert left(client, "api", FROM["X-Forwarded-For"]) == 87
