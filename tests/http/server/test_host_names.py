"""The names that a server answers to, and the sites whose pages may ask it."""

from __future__ import annotations

from typing import Any

import pytest

from crdtbucket.errors import InvalidSpec
from crdtbucket.http.server.host_names import Hosts
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings
from tests.http.serving import HEADERS, TOKEN, serving

PATHS = [
    ("GET", "/v1/buckets"),
    ("GET", "/v1/buckets/api/keys"),
    ("GET", "/v1/peers"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("POST", "/v1/take"),
    ("GET", "/admin/status"),
    ("POST", "/admin/reset"),
]


@pytest.mark.parametrize("field", ["Host", "Origin"])
async def test_no_path_answers_a_page_of_another_site(field: str) -> None:
    foreign = {"Host": "evil.example:7980", "Origin": "http://evil.example"}[field]
    async with serving(admin_token=TOKEN) as client:
        for method, path in PATHS:
            status, problem, _ = await client.ask(method, path, headers={**HEADERS, field: foreign})
            assert status == problem["status"] == 403, path
            assert "evil.example" in problem["detail"]
            assert "--allow-host" in problem["detail"]
        taken = client.limiter.stats()["buckets"]["api"]
        assert (taken["allowed"], taken["denied"]) == (0, 0)


class FakeRequest:
    """The parts of a request that are looked at."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self._fields = fields
        self.transport = None

    @property
    def headers(self) -> FakeRequest:
        return self

    def __contains__(self, name: str) -> bool:
        return any(field == name for field, _ in self._fields)

    def getall(self, name: str, default: Any) -> Any:
        return [value for field, value in self._fields if field == name] or default


ONE = ["127.0.0.1:7980"]
ALL = ["0.0.0.0:7980", "unix:/run/it"]
NAMED = (ONE, ["Edge.Internal.", "10.0.0.7", "::7"])
HOSTS: list[tuple[list[str], list[str], str, bool]] = [
    (ONE, [], "127.0.0.1:7980", True),
    (ONE, [], "127.0.0.1", True),
    (ONE, [], "localhost:9", True),
    (ONE, [], "LOCALHOST.", True),
    (ONE, [], "[::1]:7980", True),
    (ONE, [], "[0:0:0:0:0:0:0:1]", True),
    (ONE, [], "10.0.0.5", False),
    (ONE, [], "evil.example", False),
    (ONE, [], "localhost.evil.example", False),
    (ONE, [], "127.0.0.1.evil.example", False),
    (ONE, [], "evil.example:127.0.0.1", False),
    (ONE, [], "evil@localhost", False),
    (ONE, [], "localhost/evil", False),
    (ONE, [], "", False),
    (["10.0.0.5:7980"], [], "10.0.0.5:7980", True),
    (["10.0.0.5:7980"], [], "10.0.0.6:7980", False),
    (["edge:7980"], [], "edge", True),
    (["[fe80::1]:7980"], [], "[FE80:0::1]:7980", True),
    (ALL, [], "10.1.2.3:7980", True),
    (ALL, [], "[2001:db8::1]:7980", True),
    (ALL, [], "evil.example:7980", False),
    (ALL, [], "10.1.2.3.evil.example", False),
    (*NAMED, "edge.internal:80", True),
    (*NAMED, "10.0.0.7", True),
    (*NAMED, "[::7]", True),
    (*NAMED, "other.internal", False),
    (ONE, ["*"], "evil.example", True),
]


def allows(hosts: Hosts, *fields: tuple[str, str]) -> bool:
    try:
        hosts.check(FakeRequest(*fields))  # type: ignore[arg-type]
    except Refusal as refusal:
        return refusal.status != 403
    return True


@pytest.mark.parametrize(("listen", "allowed", "host", "answered"), HOSTS)
def test_a_server_answers_under_its_own_names_alone(
    listen: list[str], allowed: list[str], host: str, answered: bool
) -> None:
    assert allows(Hosts(listen, allowed), ("Host", host)) is answered


def test_a_request_without_a_name_is_answered_and_one_with_two_is_not() -> None:
    hosts = Hosts(ONE)
    assert allows(hosts)
    assert not allows(hosts, ("Host", "localhost"), ("Host", "evil.example"))


@pytest.mark.parametrize(
    ("origin", "answered"),
    [
        ("http://localhost:7980", True),
        ("https://LOCALHOST:7980", True),
        ("http://localhost:3000", False),
        ("http://127.0.0.1:7980", False),
        ("http://evil.example", False),
        ("http://pages.internal:8080", True),
        ("https://pages.internal", True),
        ("ftp://localhost:7980", False),
        ("http://localhost:7980/evil", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages_of_foreign_sites_are_refused(origin: str, answered: bool) -> None:
    hosts = Hosts(ONE, ["pages.internal"])
    assert allows(hosts, ("Host", "localhost:7980"), ("Origin", origin)) is answered
    assert not allows(hosts, ("Origin", "http://localhost:7980"))


@pytest.mark.parametrize("name", ["", "a b", "a:80", "http://a", "a/b", "*.a", "[::1]:80"])
def test_an_allowed_name_that_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match="is no name of a host"):
        Hosts(ONE, [name])


async def test_a_name_can_be_allowed() -> None:
    async with serving(allowed_hosts=("edge.internal",)) as client:
        for host, status in (("edge.internal", 200), ("evil.example", 403)):
            answer = await client.ask("GET", "/v1/peers", headers={"Host": host})
            assert answer[0] == status


def test_a_wrong_name_is_reported_before_anything_starts() -> None:
    with pytest.raises(InvalidSpec, match="host name or an address without a port"):
        ServeSettings(allowed_hosts=("edge:80",))
