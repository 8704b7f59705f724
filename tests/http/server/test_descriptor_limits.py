"""The tokens that descriptors take, and the answers about them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import Limiter
from crdtbucket.http.server.descriptor_limits import (
    MAX_REPORTED,
    Descriptor,
    DescriptorLimits,
    RateLimitAnswer,
    limit_of,
)
from crdtbucket.http.server.refusal import Refusal
from crdtbucket.http.server.serve_settings import ServeSettings

FILE = """
services:
  api: {limit: 100/hour burst 10}
  all: {limit: 7 per 90s}
  paid: {limit: 60/minute burst 20}
  tried: {limit: 5/day, shadow: true}
  model: {limit: 10/day}
envoy:
  descriptors:
    - {domain: edge, entries: [route=api, user], bucket: api}
    - {entries: [generic_key=all], bucket: all}
    - {entries: [tokens], bucket: paid, settle: true}
    - {entries: [tried], bucket: tried}
    - {entries: [job, tenant], bucket: model, floor: batch}
    - {entries: [late, tenant], bucket: model, floor: 20%, settle: true}
    - {entries: [user, tenant], bucket: model}
"""
ALL = (("generic_key", "all"),)


class Asker:
    """Asks in the process of the test, and keeps what was weighed."""

    def __init__(self, folder: Path, text: str = FILE) -> None:
        self.file = folder / "crdtbucket.yaml"
        self.file.write_text(text)
        self.limiter = Limiter.from_file(self.file)
        self.weighed: list[tuple[str, str, int, bool]] = []
        self.limits = DescriptorLimits(self.limiter, ServeSettings(), self._weigh)

    def _weigh(self, bucket: Any, key: str, cost: int, allowed: bool) -> None:
        self.weighed.append((bucket.spec.name, key, cost, allowed))

    async def ask(self, *descriptors: Descriptor, domain: str = "edge") -> RateLimitAnswer:
        return await self.limits.decide(domain, descriptors)

    def left(self, bucket: str, key: str) -> int:
        return self.limiter.bucket(bucket).peek(key).remaining


@pytest.fixture
def asker(tmp_path: Path) -> Asker:
    return Asker(tmp_path)


def user(name: str, cost: int = 1) -> Descriptor:
    return Descriptor((("route", "api"), ("user", name)), cost)


def tokens(cost: int) -> Descriptor:
    return Descriptor((("tokens", "u"),), cost)


def codes(answer: RateLimitAnswer) -> list[str]:
    return [one.code for one in answer.statuses]


async def test_requests_pass_until_the_tokens_of_their_key_are_gone(asker: Asker) -> None:
    for left in range(9, -1, -1):
        answer = await asker.ask(user("u"))
        assert (answer.code, codes(answer), answer.body) == ("OK", ["OK"], b"")
        assert answer.statuses[0].decision is not None
        assert answer.statuses[0].decision.remaining == left
        assert answer.fields["RateLimit"].startswith(f'"api";r={left};')
    answer = await asker.ask(user("u"))
    assert (answer.code, codes(answer)) == ("OVER_LIMIT", ["OVER_LIMIT"])
    assert int(answer.fields["Retry-After"]) == 36
    assert answer.fields["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["violated-policies"] == ["api"]
    assert codes(await asker.ask(user("other"))) == ["OK"]
    assert asker.weighed[-2:] == [("api", "u", 1, False), ("api", "other", 1, True)]
    assert asker.limits.counts == {("api", "OK"): 11, ("api", "OVER_LIMIT"): 1}


async def test_all_descriptors_have_their_tokens_or_none_takes_any(asker: Asker) -> None:
    answer = await asker.ask(user("u", 4), Descriptor(ALL, 7))
    assert codes(answer) == ["OK", "OK"]
    assert answer.fields["RateLimit"].count(";r=") == 2
    answer = await asker.ask(user("u", 4), Descriptor(ALL, 1))
    assert (answer.code, codes(answer)) == ("OVER_LIMIT", ["OK", "OVER_LIMIT"])
    assert json.loads(answer.body)["violated-policies"] == ["all"]
    assert asker.left("api", "u") == 6
    assert codes(await asker.ask(user("u", 4), user("u", 4))) == ["OVER_LIMIT"] * 2
    assert asker.left("api", "u") == 6


async def test_a_request_without_hits_only_asks_whether_any_token_is_left(asker: Asker) -> None:
    for _ in range(3):
        assert codes(await asker.ask(user("u", 0))) == ["OK"]
    assert asker.left("api", "u") == 10
    await asker.ask(user("u", 10))
    answer = await asker.ask(user("u", 0), user("other"))
    assert (answer.code, codes(answer)) == ("OVER_LIMIT", ["OVER_LIMIT", "OK"])
    assert asker.left("api", "other") == 10
    assert asker.weighed == [("api", "u", 10, True), ("api", "other", 1, False)]


async def test_what_can_never_be_had_is_over_the_limit_and_no_error(asker: Asker) -> None:
    # An error would let the request pass, since Envoy asks no other server.
    for cost in (11, 2**64 - 1):
        answer = await asker.ask(user("u", cost), user("other"))
        assert (answer.code, codes(answer)) == ("OVER_LIMIT", ["OVER_LIMIT", "OK"])
        assert "Retry-After" not in answer.fields
    assert asker.left("api", "u") == asker.left("api", "other") == 10


async def test_what_is_settled_is_charged_whatever_the_level(asker: Asker) -> None:
    assert codes(await asker.ask(tokens(0))) == ["OK"]
    answer = await asker.ask(tokens(25))
    assert codes(answer) == ["OK"]
    assert "Retry-After" not in answer.fields
    answer = await asker.ask(tokens(0))
    assert codes(answer) == ["OVER_LIMIT"]
    assert int(answer.fields["Retry-After"]) == 6  # five below empty, at one a second
    assert codes(await asker.ask(tokens(2**64 - 1), user("u"))) == ["OVER_LIMIT", "OK"]
    assert asker.left("api", "u") == 10  # what is denied takes nothing where it is not settled
    assert asker.weighed[0] == ("paid", "u", 25, True)


def of_tenant(name: str, cost: int = 1) -> Descriptor:
    """A descriptor of one tenant, by the rule about this kind of call."""
    return Descriptor(((name, "t"), ("tenant", "t")), cost)


async def test_a_floor_leaves_tokens_to_more_important_descriptors(asker: Asker) -> None:
    jobs = [codes(await asker.ask(of_tenant("job"))) for _ in range(6)]
    assert jobs == [["OK"]] * 5 + [["OVER_LIMIT"]]
    assert codes(await asker.ask(of_tenant("job", 0))) == ["OVER_LIMIT"]
    assert codes(await asker.ask(of_tenant("job", 6))) == ["OVER_LIMIT"]  # in a full one, too
    both = await asker.ask(of_tenant("job"), user("u"))
    assert (both.code, codes(both)) == ("OVER_LIMIT", ["OVER_LIMIT", "OK"])
    assert asker.left("api", "u") == 10
    assert asker.left("model", "t/t") == 5
    assert codes(await asker.ask(of_tenant("late", 3))) == ["OK"]
    assert codes(await asker.ask(of_tenant("late", 0))) == ["OVER_LIMIT"]
    assert codes(await asker.ask(of_tenant("user", 2))) == ["OK"]
    assert codes(await asker.ask(of_tenant("user"))) == ["OVER_LIMIT"]


async def test_a_shadow_denies_nothing_and_is_in_no_answer(asker: Asker) -> None:
    for cost in (3, 3, 0, 6):
        answer = await asker.ask(Descriptor((("tried", "u"),), cost))
        assert (codes(answer), answer.fields) == (["OK"], {})
        assert answer.statuses[0].decision is None
    assert asker.limiter.bucket("tried").counters()["shadowed"] == 1


async def test_a_descriptor_without_a_rule_is_not_limited_and_logged_once(
    asker: Asker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            answer = await asker.ask(Descriptor((("new", f"secret-{number}"),), 1))
            assert (answer.code, codes(answer), answer.fields) == ("OK", ["OK"], {})
        assert codes(await asker.ask(user("u"), domain="inner")) == ["OK"]
    assert asker.limits.counts == {("", "UNLIMITED"): 4}
    assert [one.getMessage()[:53] for one in caplog.records] == [
        "no rule of envoy.descriptors covers [new] of the doma",
        "no rule of envoy.descriptors covers [route, user] of ",
    ]
    assert "secret" not in caplog.text
    for number in range(MAX_REPORTED):
        await asker.ask(Descriptor(((f"n{number}", ""),), 1))
    assert len(caplog.records) == MAX_REPORTED


async def test_no_value_that_a_client_may_send_is_refused(asker: Asker) -> None:
    for value in ("", "x" * 60_000, "\\xff", "%2F/"):
        assert codes(await asker.ask(user(value, 10))) == ["OK"]
        assert codes(await asker.ask(user(value))) == ["OVER_LIMIT"]


def descriptors(*entries: Iterable[tuple[str, str]]) -> list[Descriptor]:
    return [Descriptor(tuple(one), 1) for one in entries]


@pytest.mark.parametrize(
    ("domain", "asked", "told"),
    [
        ("", descriptors(ALL), "domain: is empty"),
        ("edge", [], "descriptors: there are 0: send 1 to 64"),
        ("edge", descriptors(*[ALL] * 65), "descriptors: there are 65: send 1 to 64"),
        ("edge", descriptors(ALL, ()), "descriptors.1.entries: there are 0: send 1 to 32"),
        ("edge", descriptors(ALL * 33), "descriptors.0.entries: there are 33: send 1 to 32"),
        ("edge", descriptors([("", "x")]), "descriptors.0.entries: a key is empty"),
    ],
)
async def test_a_malformed_request_is_refused(
    asker: Asker, domain: str, asked: list[Descriptor], told: str
) -> None:
    with pytest.raises(Refusal) as caught:
        await asker.ask(*asked, domain=domain)
    assert (caught.value.status, caught.value.detail) == (400, told)
    assert caught.value.errors[0][0] == told.partition(":")[0]
    assert asker.limits.counts == {}


async def test_the_rules_are_those_in_force(asker: Asker) -> None:
    before = await asker.ask(Descriptor((("later", "x"),), 1))
    assert before.fields == {}
    asker.file.write_text(f"{FILE}    - {{entries: [later], bucket: all}}\n")
    asker.limiter.reload()
    answer = await asker.ask(Descriptor((("later", "x"),), 7))
    assert answer.statuses[0].decision is not None
    assert codes(await asker.ask(Descriptor((("later", "x"),), 1))) == ["OVER_LIMIT"]


async def test_without_a_file_nothing_is_limited() -> None:
    limits = DescriptorLimits(Limiter([]), ServeSettings(), lambda *_: None)
    assert (await limits.decide("edge", descriptors(ALL))).code == "OK"


@pytest.mark.parametrize(
    ("rate", "told"),
    [
        ("10/s burst 99", (10, "SECOND")),
        ("100/minute", (100, "MINUTE")),
        ("60/minute", (1, "SECOND")),
        ("7 per 90s", (280, "HOUR")),
        ("1 per 30d", (1, "MONTH")),
        ("7 per 200d", (12, "YEAR")),
        ("999999999 per 7s", (2**32 - 1, "YEAR")),
    ],
)
async def test_a_limit_is_stated_in_a_unit_that_envoy_knows(
    tmp_path: Path, rate: str, told: tuple[int, str]
) -> None:
    text = f"services: {{a: {{limit: {rate}}}}}\n"
    decision = Asker(tmp_path, text).limiter.bucket("a").peek("k")
    limit = limit_of(decision)
    assert ((limit.tokens, limit.unit), limit.name) == (told, "a")
