"""Services: the settings that they inherit, overrides for their keys, and the article's file in
every nesting."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket import ConfigError, Limiter
from crdtbucket.config import Config, load_config
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from tests.config.article import FILES, FRAGMENTS, NAME, SERVICES, below

ARTICLE = BucketSpec(NAME, 10_000, 2_000, "1s")


def load(folder: Path, text: str, **env: str) -> Config:
    file = folder / "crdtbucket.yaml"
    file.write_text(text)
    return load_config(file, env)


# -- the article


@pytest.mark.parametrize("case", FRAGMENTS)
def test_every_fragment_of_the_article_loads_where_it_may_stand(tmp_path: Path, case: str) -> None:
    config = load(tmp_path, FRAGMENTS[case])
    assert config.enabled
    assert config.redis is None
    assert config.consistency is (Mode.STRONG if "consistency" in case else Mode.EVENTUAL)
    assert config.buckets == ((ARTICLE,) if "services" in case else ())


@pytest.mark.parametrize("case", FILES)
def test_the_articles_file_loads_in_every_nesting(tmp_path: Path, case: str) -> None:
    config = load(tmp_path, FILES[case])
    assert (config.enabled, config.consistency) == (True, Mode.STRONG)
    assert config.buckets == (ARTICLE,)
    assert config.hash == load(tmp_path, FILES["rating at top, services at top"]).hash


# -- what is inherited


def buckets(folder: Path, text: str, **env: str) -> tuple[BucketSpec, ...]:
    return load(folder, text, **env).buckets


DEFAULTS = """
defaults:
  bucket: {capacity: 100, refill_rate: 10, refill_interval: 1m, max_debt: 50, max_keys: 9}
  consistency: eventual
  on_outage: deny
  shadow: true
services:
"""


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("a:", {}),
        ("a: {bucket: {capacity: 7}}", {"capacity": 7}),
        ("a: {bucket: {refill_interval: 1s}}", {"refill_interval": "1s"}),
        ("a: {bucket: {max_debt: 0, max_keys: 1, on_table_full: allow}}",
         {"max_debt": 0, "max_keys": 1, "on_table_full": "allow"}),
        ("a: {limit: 5/s burst 8}",
         {"capacity": 8, "refill_rate": 5, "refill_interval": "1s"}),
        ("a: {limit: 5/s, bucket: {max_debt: 3}}",
         {"capacity": 5, "refill_rate": 5, "refill_interval": "1s", "max_debt": 3}),
        ("a: {consistency: strong, on_outage: allow, shadow: false}",
         {"consistency": "strong", "on_outage": "allow", "shadow": False}),
        ("a: {bucket: , limit: , on_outage: , shadow: '${env:OFF}'}", {"shadow": False}),
    ],
)  # fmt: skip
def test_a_service_inherits_what_it_does_not_say(
    tmp_path: Path, service: str, expected: dict[str, object]
) -> None:
    inherited = {
        "capacity": 100, "refill_rate": 10, "refill_interval": "1m", "max_debt": 50, "max_keys": 9,
        "consistency": "eventual", "on_outage": "deny", "shadow": True,
    }  # fmt: skip
    spec = BucketSpec("a", **{**inherited, **expected})
    assert buckets(tmp_path, f"{DEFAULTS}  {service}\n", OFF="false") == (spec,)


@pytest.mark.parametrize("place", ["openclaw", "rating", "openclaw.rating"])
def test_defaults_may_stand_where_services_may(tmp_path: Path, place: str) -> None:
    text = DEFAULTS + "  a:\n"
    nested = text
    for step in reversed(place.split(".")):
        nested = below(step, nested)
    assert buckets(tmp_path, nested) == buckets(tmp_path, text)
    apart = below("openclaw", "defaults: {limit: 3/s}\n") + "services: {a: }\n"
    assert buckets(tmp_path, apart) == (BucketSpec("a", 3, 3),)


def test_a_rate_in_the_defaults_is_that_of_every_service(tmp_path: Path) -> None:
    text = "defaults: {limit: 10/s burst 20}\nservices: {a: , b: {bucket: {refill_rate: 30}}}\n"
    assert buckets(tmp_path, text) == (BucketSpec("a", 20, 10), BucketSpec("b", 20, 30))


def test_what_is_in_no_place_has_the_defaults_of_a_bucket(tmp_path: Path) -> None:
    text = "defaults:\nservices: {a: {bucket: {capacity: 5, refill_rate: 2}}}\n"
    assert buckets(tmp_path, text) == (BucketSpec("a", 5, 2),)


# -- overrides


def test_keys_have_overrides_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """
defaults: {on_outage: deny}
services:
  api:
    bucket: {capacity: 100, refill_rate: 10, max_debt: 40, max_keys: 7}
    consistency: eventual
    keys:
      premium-*: 1000/s burst 2000
      tenant-7: {bucket: {capacity: 300}, on_outage: allow}
      tenant-8: {limit: '${env:RATE}', bucket: {max_debt: 1}}
      internal-*: {shadow: true}
"""
    (spec,) = buckets(tmp_path, text, RATE="7/m")
    assert spec == BucketSpec(
        "api", 100, 10, max_debt=40, max_keys=7, consistency="eventual", on_outage="deny",
        overrides=[
            ("premium-*", BucketSpec("p", 2000, 1000, max_debt=40, max_keys=7)),
            ("tenant-7", BucketSpec("p", 300, 10, max_debt=40, max_keys=7, on_outage="allow")),
            ("tenant-8", BucketSpec("p", 7, 7, "1m", max_debt=1, max_keys=7)),
            ("internal-*", BucketSpec("p", 100, 10, max_debt=40, max_keys=7, shadow=True)),
        ],
    )  # fmt: skip
    assert spec.overrides[0][1].name == "api[premium-*]"
    assert [plan.on_outage for _, plan in spec.overrides] == ["deny", "allow", "deny", "deny"]


def test_a_limiter_of_the_file_keeps_the_overrides_and_shadows(tmp_path: Path) -> None:
    file = tmp_path / "crdtbucket.yaml"
    file.write_text(
        "rating: {consistency: strong}\n"  # without a Redis: eventual, plans included
        "defaults: {limit: 2/s}\n"
        "services:\n  a: {keys: {'p-*': 5/s, 's-*': {shadow: true}}}\n  b: {shadow: true}\n"
    )
    limiter = Limiter.from_file(file)
    granted = {}
    for name, key in (("a", "x"), ("a", "p-1"), ("a", "s-1"), ("b", "x")):
        bucket = limiter.bucket(name)
        granted[name, key] = sum(bucket.take(key).allowed for _ in range(9))
    assert list(granted.values()) == [2, 5, 9, 9]


def test_an_override_may_be_called_like_a_key_of_the_file(tmp_path: Path) -> None:
    text = "services: {a: {limit: 1/s, keys: {bucket: 2/s, limit: 3/s, keys: 4/s}}}\n"
    (spec,) = buckets(tmp_path, text)
    assert [(glob, plan.capacity) for glob, plan in spec.overrides] == [
        ("bucket", 2), ("limit", 3), ("keys", 4)
    ]  # fmt: skip


def test_overrides_under_their_name_in_python_are_shown_to_be_keys(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"a\.overrides: unknown key .*\(write it as keys: \.\.\.\)"
    ):
        load(tmp_path, "services: {a: {limit: 1/s, overrides: {b: 2/s}}}")


def test_services_of_the_article_can_have_overrides(tmp_path: Path) -> None:
    (spec,) = buckets(tmp_path, SERVICES + "    keys: {'tenant-*': 100/s}\n")
    assert spec.overrides[0][1].name == f"{NAME}[tenant-*]"


def test_a_calendar_is_inherited_and_takes_the_place_of_a_rate(tmp_path: Path) -> None:
    text = """
defaults: {calendar: {limit: 10, per: month, time_zone: Europe/Berlin}}
services:
  a: {keys: {big: {calendar: {limit: 50}}}}
  b: {limit: 5/s}
  c: {calendar: {per: day, time_zone: UTC}}
"""
    a, b, c = buckets(tmp_path, text)
    assert a == BucketSpec.calendar(
        "a",
        10,
        per="month",
        time_zone="Europe/Berlin",
        overrides=[
            ("big", BucketSpec.calendar("x", 50, per="month", time_zone="Europe/Berlin")),
        ],
    )
    assert (b, c) == (BucketSpec.parse("b", "5/s"), BucketSpec.calendar("c", 10))
