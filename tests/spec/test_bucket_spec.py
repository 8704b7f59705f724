"""Definitions of buckets: which are accepted, which are refused, and their integers."""

from __future__ import annotations

import dataclasses
import math
import pickle
import subprocess
import sys
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.base.duration import duration_ns, span
from crdtbucket.errors import InvalidSpec
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.field_checks import MAX_TOKENS, canonical_name
from crdtbucket.spec.mode import Mode

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        ("250ms", 250_000_000),
        ("1s", SECOND),
        ("5m", 300 * SECOND),
        ("2h", 7_200 * SECOND),
        ("1d", DAY),
        ("2 weeks", 14 * DAY),
        (" 1.5 S ", 1_500_000_000),
        ("7us", 7_000),
        ("7\u00b5s", 7_000),
        ("7\u03bcs", 7_000),  # the other mu
        ("3", 3 * SECOND),
        (3, 3 * SECOND),
        (0.1, 100_000_000),
        (0, 0),
        (timedelta(days=1, microseconds=1), DAY + 1_000),
    ],
)
def test_a_duration_is_read_in_nanoseconds(value: Any, nanoseconds: int) -> None:
    assert duration_ns(value) == nanoseconds


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        *[(0, "0s"), (1, "1ns"), (100_000, "100us"), (20_000_000, "20ms"), (SECOND, "1s")],
        *[(60 * SECOND, "60s"), (90 * SECOND, "90s"), (120 * SECOND, "2m"), (3600 * SECOND, "1h")],
        *[(DAY, "24h"), (31 * DAY, "31d"), (366 * DAY + 1, "31622400000000001ns")],
    ],
)
def test_spans_are_written_as_they_are_read(ns: int, text: str) -> None:
    assert span(ns) == text
    assert duration_ns(text) == ns


@pytest.mark.parametrize(
    "value",
    [
        *["", "s", "1x", "-1s", "1s 2s", "1,5s", "0.1ns", "\u0661s", b"1s"],
        *[-1, -0.5, math.nan, math.inf, 1e300, 10**400, True, None, [1], timedelta(seconds=-1)],
    ],
)
def test_wrong_durations_name_the_field(value: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        duration_ns(value, "refill_interval")
    assert caught.value.field == "refill_interval"
    assert str(caught.value).startswith("refill_interval is ")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("rate", "capacity", "tokens", "interval_ns"),
    [
        ("100/minute", 100, 100, 60 * SECOND),
        ("10/s burst 20", 20, 10, SECOND),
        ("5 per second", 5, 5, SECOND),
        ("1000/day", 1_000, 1_000, DAY),
        ("200 per 2 hours", 200, 200, 7_200 * SECOND),
        ("100/15m", 100, 100, 900 * SECOND),
        ("10/second;burst=5", 5, 10, SECOND),
        ("10 / s, burst: 3", 3, 10, SECOND),
        ("  7 PER Minute  ", 7, 7, 60 * SECOND),
        ("1_000_000/h", 1_000_000, 1_000_000, 3_600 * SECOND),
        ("1/2s", 1, 1, 2 * SECOND),
        ("3/0.5s", 3, 3, SECOND // 2),
        ("10/500µs", 10, 10, 500_000),
    ],
)
def test_a_rate_string_gives_capacity_tokens_and_interval(
    rate: str, capacity: int, tokens: int, interval_ns: int
) -> None:
    spec = BucketSpec.parse("name", rate)
    assert (spec.capacity, spec.refill_rate, spec.interval_ns) == (capacity, tokens, interval_ns)


@pytest.mark.parametrize(
    ("rate", "hint"),
    [
        ("fast", '"10/s burst 20"'),
        ("", '"100/minute"'),
        ("10", "<tokens>/<interval>"),
        ("10/", "<tokens>/<interval>"),
        ("-1/s", "<tokens>/<interval>"),
        ("1/s burst", "<tokens>/<interval>"),
        ("0.5/s", '"1/2s"'),
        ("1/s; 100/h", "a bucket for each"),
        ("10/month", "30d"),
        ("10/year", "30d"),
        ("10/parsec", "'parsec'"),
        ("0/s", "from 1 to 2^53"),
        ("1/s burst 0", "from 1 to 2^53"),
        ("1/0s", "above 0"),
        ("1" * 40 + "/s", "<tokens>/<interval>"),
        (10, "<tokens>/<interval>"),
        (None, "<tokens>/<interval>"),
    ],
)
def test_wrong_rate_strings_teach_the_grammar(rate: Any, hint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        BucketSpec.parse("name", rate)
    assert hint in caught.value.fix


GOOD: dict[str, Any] = {"name": "chat", "capacity": 10, "refill_rate": 5, "refill_interval": "1s"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": MAX_TOKENS + 1}, "capacity"),
        ({"capacity": 10.0}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"capacity": "10"}, "capacity"),
        ({"capacity": None}, "capacity"),
        ({"refill_rate": 0}, "refill_rate"),
        ({"refill_rate": 0.5}, "refill_rate"),
        ({"refill_rate": 1_000_000_001}, "refill_rate"),
        ({"refill_rate": 1, "refill_interval": "721h"}, "refill_rate"),
        ({"refill_interval": 0}, "refill_interval"),
        ({"refill_interval": "367d", "refill_rate": 1_000}, "refill_interval"),
        ({"refill_interval": "soon"}, "refill_interval"),
        ({"max_debt": -1}, "max_debt"),
        ({"max_debt": 1.5}, "max_debt"),
        ({"max_keys": 0}, "max_keys"),
        ({"on_table_full": "drop"}, "on_table_full"),
        ({"consistency": "fallback"}, "consistency"),
        ({"consistency": Mode.FALLBACK}, "consistency"),
        ({"consistency": True}, "consistency"),
        ({"consistency": ["strong"]}, "consistency"),
        ({"on_outage": "open"}, "on_outage"),
        ({"on_outage": 0}, "on_outage"),
        ({"shadow": 1}, "shadow"),
        ({"capacity": MAX_TOKENS, "refill_rate": 1}, "capacity"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": " x"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "a\u2028b"}, "name"),
        ({"name": "a\ud800b"}, "name"),
        ({"name": b"a"}, "name"),
    ],
)
def test_wrong_definitions_name_field_and_fix(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        BucketSpec(**(GOOD | change))
    assert caught.value.field == field
    assert field in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize(
    "edge",
    [
        {"refill_rate": 1_000_000_000},
        {"refill_rate": MAX_TOKENS, "refill_interval": "366d"},
        {"refill_rate": 1, "refill_interval": "30d"},
        {"refill_rate": 12, "refill_interval": "360d"},
        {"capacity": MAX_TOKENS, "refill_rate": 1_000_000_000},
        {"capacity": 1, "max_debt": 0, "max_keys": 1, "on_table_full": "allow"},
        {"consistency": "strong", "on_outage": "quota"},
        {"consistency": Mode.EVENTUAL, "on_outage": "allow"},
        {"name": "x" * 200},
    ],
)
def test_definitions_at_the_edge_of_the_range_pass(edge: dict[str, Any]) -> None:
    spec = BucketSpec(**(GOOD | edge))
    q, p = spec.emission
    assert q * (spec.capacity + spec.max_debt) < 2**62 * p


def test_span_limit_is_exact() -> None:
    # T = 1 day: T * (C + D) must stay below 2^62 ns.
    most = (2**62 - 1) // DAY
    fits = BucketSpec("a", 1, 1, "1d", max_debt=most - 1)
    assert fits.max_debt == most - 1
    with pytest.raises(InvalidSpec, match="146 years"):
        BucketSpec("a", 1, 1, "1d", max_debt=most)


@given(st.integers(1, MAX_TOKENS), st.integers(1, 366 * 86_400 * 1000))
def test_emission_is_the_interval_over_the_rate_in_lowest_terms(rate: int, ms: int) -> None:
    try:
        spec = BucketSpec("a", 1, rate, f"{ms}ms")
    except InvalidSpec:
        exact = Fraction(ms * 1_000_000, rate)
        assert exact < 1 or exact > 30 * DAY
        return
    q, p = spec.emission
    assert Fraction(q, p) == Fraction(ms * 1_000_000, rate)
    assert math.gcd(q, p) == 1
    assert 1 <= Fraction(q, p) <= 30 * DAY
    assert spec.rate_per_second == pytest.approx(rate * 1_000 / ms)


def test_max_debt_defaults_to_the_capacity() -> None:
    assert BucketSpec("a", 10, 1).max_debt == 10
    assert BucketSpec("a", 10, 1, max_debt=0).max_debt == 0


def test_definition_hash_names_capacity_and_rate_only() -> None:
    spec = BucketSpec("a", 100, 2, "1s")
    assert spec.definition_hash == BucketSpec("b", 100, 120, "1m", max_debt=1).definition_hash
    assert spec.definition_hash != BucketSpec("a", 101, 2, "1s").definition_hash
    assert spec.definition_hash != BucketSpec("a", 100, 3, "1s").definition_hash
    assert 0 <= spec.definition_hash < 2**64
    modes = BucketSpec("a", 100, 2, consistency="strong", on_outage="deny")
    assert spec.definition_hash == modes.definition_hash


def test_consistency_is_a_mode_however_it_was_asked_for() -> None:
    assert BucketSpec("a", 1, 1).consistency is None
    assert BucketSpec("a", 1, 1, consistency="strong").consistency is Mode.STRONG
    spec = BucketSpec.parse("a", "1/s", consistency=Mode.EVENTUAL, on_outage="allow")
    assert (spec.consistency, spec.on_outage) == (Mode.EVENTUAL, "allow")


def test_definition_hash_is_the_same_in_every_process_and_version() -> None:
    # Nodes of different releases compare it, so the number itself is part of the wire.
    code = (
        "from crdtbucket.spec.bucket_spec import BucketSpec\n"
        "print(BucketSpec('a', 10_000, 2_000).definition_hash)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(other.stdout) == BucketSpec("a", 10_000, 2_000).definition_hash == 0xAE8ACC417BD23257


def test_specs_are_values() -> None:
    spec = BucketSpec("a", 100, 2, "1s", max_keys=5)
    assert pickle.loads(pickle.dumps(spec)) == spec
    strong = dataclasses.replace(spec, consistency="strong", on_outage="deny")
    assert pickle.loads(pickle.dumps(strong)) == strong != spec
    assert hash(spec) == hash(BucketSpec("a", 100, 2, timedelta(seconds=1), max_keys=5))
    assert spec != BucketSpec("a", 100, 2, "2s", max_keys=5)
    assert dataclasses.replace(spec, refill_rate=3).interval_ns == spec.interval_ns
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.capacity = 5  # type: ignore[misc]


@pytest.mark.parametrize("hyphen", "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63\uff0d-")
def test_every_hyphen_is_one(hyphen: str) -> None:
    name = f"ai{hyphen}agent"
    spec = BucketSpec(name, 1, 1)
    assert spec.name == name
    assert spec.key == canonical_name(name) == "ai-agent"


@given(st.text(max_size=50))
def test_canonical_name_is_canonical(name: str) -> None:
    assert canonical_name(canonical_name(name)) == canonical_name(name)


def test_case_and_compatible_letters() -> None:
    assert canonical_name("Chat") != canonical_name("chat")
    assert canonical_name("ｃｈａｔ") == "chat"  # noqa: RUF001 - full-width letters are the case


# ---- several rates, and how a definition is shown ----


def test_several_rates_are_several_buckets() -> None:
    hour, second = BucketSpec.parse_all("api", "100/hour ;10/s; burst 20", shadow=True)
    assert (hour.name, hour.capacity, hour.interval_ns) == ("api:1", 100, 3_600 * 10**9)
    assert (second.name, second.capacity, second.refill_rate) == ("api:2", 20, 10)
    assert hour.shadow
    assert second.shadow


def test_a_single_rate_keeps_the_plain_name() -> None:
    assert BucketSpec.parse_all("api", "10/s") == (BucketSpec.parse("api", "10/s"),)


@pytest.mark.parametrize("rates", ["", ";", "10/s;", "10/s;;20/m", "10/s, 20/m", None, 7])
def test_wrong_rates_name_the_fix(rates: Any) -> None:
    with pytest.raises(InvalidSpec) as caught:
        BucketSpec.parse_all("api", rates)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (
            BucketSpec.parse("api", "100/minute"),
            "BucketSpec('api', capacity=100, refill_rate=100, refill_interval='1m')",
        ),
        (
            BucketSpec.parse("api", "200 per 2.5 hours burst 7"),
            "BucketSpec('api', capacity=7, refill_rate=200, refill_interval='2.5h')",
        ),
        (
            BucketSpec("api", 5, 1, 2.5, max_debt=0, on_outage="deny", shadow=True),
            (
                "BucketSpec('api', capacity=5, refill_rate=1, refill_interval=2.5, max_debt=0, "
                "on_outage='deny', shadow=True)"
            ),
        ),
    ],
)
def test_a_definition_is_shown_as_it_was_written(spec: BucketSpec, shown: str) -> None:
    assert repr(spec) == shown
    assert eval(shown) == spec
