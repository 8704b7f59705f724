"""Ranges that the annotations of settings contain."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from crdtbucket.base.setting_checks import (
    NumberRange,
    SecondsRange,
    UnitlessSeconds,
    WholeRange,
    check_kinds,
    field_problems,
    fields_of,
    ranges_of,
)
from crdtbucket.errors import ConfigError, InvalidSpec
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.strong.redis.redis_config import RedisConfig


@dataclass
class Numbers:
    """Settings that check nothing by themselves."""

    whole: Annotated[int, WholeRange(1, 1_000_000)] = 1
    span: Annotated[float, SecondsRange(0.5, 60.0, "never")] | str = 1.0
    part: Annotated[float, NumberRange(0.5, 0.75)] | None = None
    text: str = ""
    word: Literal["apple", "pear", "plum"] = "pear"
    choice: Literal["red", "green"] | None = None
    names: Sequence[str] = ()
    others: Sequence[str] = ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": 0}, "whole: is 0 (write a whole number from 1 to 1000000)"),
        ({"whole": 2.0}, "whole: is 2.0 (write a whole number from 1 to 1000000)"),
        ({"whole": True}, "whole: is True (write a whole number from 1 to 1000000)"),
        ({"whole": None}, "whole: is None (write a whole number from 1 to 1000000)"),
        ({"span": 60.5}, "span: is 60.5 (write seconds from 0.5 to 60, or never)"),
        (
            {"span": 5_000},
            "span: is 5000 (write seconds from 0.5 to 60, or never; 5000 milliseconds are 5)",
        ),
        (
            {"span": UnitlessSeconds(600)},
            'span: is 600.0 (write seconds from 0.5 to 60, or never, or "600ms" for milliseconds)',
        ),
        ({"span": UnitlessSeconds(400)}, "span: is 400.0 (write seconds from 0.5 to 60, or never)"),
        ({"span": "ever"}, "span: is 'ever' (write seconds from 0.5 to 60, or never)"),
        ({"span": ""}, "span: is '' (write seconds from 0.5 to 60, or never)"),
        ({"part": float("nan")}, "part: is nan (write a number from 0.5 to 0.75)"),
        ({"word": "fig"}, "word: is 'fig' (write apple, pear or plum)"),
        ({"choice": "blue"}, "choice: is 'blue' (write red or green)"),
        ({"word": ["pear"]}, "word: is ['pear'] (write apple, pear or plum)"),
        ({"part": ""}, "part: is '' (write a number from 0.5 to 0.75)"),
    ],
)
def test_what_is_outside_is_a_problem(given: dict[str, Any], told: str) -> None:
    (problem,) = field_problems("numbers", Numbers(**given))
    assert f"{problem.path}: {problem.message} ({problem.fix})" == f"numbers.{told}"


INSIDE = {"whole": 1_000_000, "span": "never", "part": 0.75, "word": "plum", "choice": "red"}


@pytest.mark.parametrize("given", [{}, {"span": 0.5}, INSIDE])
def test_what_is_inside_is_none(given: dict[str, Any]) -> None:
    assert not list(field_problems("numbers", Numbers(**given)))


def test_the_ranges_of_a_base_count() -> None:
    assert list(ranges_of(Numbers)) == ["whole", "span", "part"]
    assert ranges_of(MeshConfig)["max_peers"] == WholeRange(1, 1024)


def test_a_list_becomes_a_tuple() -> None:
    settings = Numbers(names=["a", "b"])
    check_kinds("numbers", settings)
    assert (settings.names, settings.others) == (("a", "b"), ())
    assert fields_of(settings, Sequence[str]) == ["names", "others"]
    assert fields_of(settings, str) == ["text"]


@dataclass
class Kinds:
    """Settings of all other types."""

    switch: bool = False
    secret: str | bytes | None = field(default=None, repr=False)
    names: Sequence[str] = ()
    place: str | PathLike[str] | None = None
    inner: Numbers = field(default_factory=Numbers)
    call: Callable[[int], None] | None = None
    word: Literal["a"] | None = None
    several: Mapping[str, str] | None = None
    share: Annotated[float, "ratio"] = 0.1


def test_every_field_of_a_wrong_type_is_refused_at_once_without_its_secret() -> None:
    wrong = Kinds(
        switch="false",  # type: ignore[arg-type]
        secret=1234,  # type: ignore[arg-type]
        names=None,  # type: ignore[arg-type]
        place=3,  # type: ignore[arg-type]
        inner="x",  # type: ignore[arg-type]
        call="y",  # type: ignore[arg-type]
        word="not a matter of type",  # type: ignore[arg-type]
        several=["z"],  # type: ignore[arg-type]
        share="10%",  # type: ignore[arg-type]
    )
    with pytest.raises(ConfigError) as refused:
        check_kinds("kinds", wrong)
    assert [str(one).removeprefix("kinds.") for one in refused.value.problems] == [
        "switch: is 'false' (write True or False)",
        "secret: is of type int (write text or bytes)",
        "names: is None (write a list)",
        "place: is 3 (write text or a path)",
        "inner: is 'x' (write a Numbers)",
        "call: is 'y' (write a function)",
        "several: is ['z'] (write a mapping)",
        "share: is '10%' (write a number)",
    ]


@pytest.mark.parametrize("name", ["peers", "servers", "operator_keys"])
def test_a_text_in_place_of_a_list_is_refused_and_not_shown(name: str) -> None:
    """Its letters are not meant as the list, and the address of a server may have a password."""
    for text in (f"ed25519:{32 * 'a'}", b"nats://user:word@host:4222"):
        with pytest.raises(ConfigError) as refused:
            MeshConfig(**{name: text})  # type: ignore[arg-type]
        fault = f"mesh.{name}: is one text and no list (write a list, also for a single one)"
        assert [str(one) for one in refused.value.problems] == [fault]


def test_a_secret_that_cannot_be_encoded_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"^kinds\.secret: is not UTF-8 "):
        check_kinds("kinds", Kinds(secret="a\udcff"))
    check_kinds("kinds", Kinds(place="/a\udcff"))  # the path of a file may be any bytes
    for secret in ("\udcff" * 16, ["\udcff" * 16]):
        with pytest.raises(ConfigError, match=r"^mesh\.secret(\[0\])?: is not UTF-8"):
            MeshConfig(secret=secret)


def test_every_field_of_the_right_type_is_accepted() -> None:
    check_kinds("kinds", Kinds())
    check_kinds("kinds", Kinds(True, b"x", {"a", "b"}, Path("/"), call=print, several={}, share=1))  # type: ignore[arg-type]


HALF = "half\ud800a pair, of a secret"
TEXTS: list[tuple[Any, str, Any]] = [
    *((partial(RedisConfig, host="h"), name, HALF) for name in ("username", "password", "tls_ca")),
    (partial(RedisConfig, host="h"), "username", "a\udcff"),
    (RedisConfig, "host", HALF),
    (partial(RedisConfig, sentinels=["a"]), "sentinel_master", HALF),
    (partial(RedisConfig, sentinels=["a"], sentinel_master="m"), "sentinel_password", HALF),
    (partial(RedisConfig, sentinel_master="m"), "sentinels", ["a", f"{HALF[:9]}:26379"]),
    (partial(RedisConfig, cluster=True), "nodes", [f"{HALF[:9]}:6379"]),
    (partial(RedisConfig, host="h", active_active=True), "regions", ["eu", HALF]),
    (partial(RedisConfig, host="h"), "hash_secret", HALF),
    (MeshConfig, "secret", HALF),
    (MeshConfig, "secret", ["s" * 16, HALF]),
    (MeshConfig, "observer_secret", HALF),
    (MeshConfig, "identity_key", HALF),
    (MeshConfig, "operator_keys", [HALF]),
    (MeshConfig, "allowed_keys", {"eu": HALF}),
    (MeshConfig, "peers", [f"{HALF[:9]}:7946"]),
    (MeshConfig, "state_dir", HALF),
    (partial(MeshConfig, transport="nats"), "servers", [f"nats://u:{HALF[:9]}@h:4222"]),
    (partial(MeshConfig, tls_cert="c"), "tls_key", HALF),
    (ServeSettings, "token", HALF),
    (ServeSettings, "admin_token", HALF),
]


@pytest.mark.parametrize(("make", "name", "value"), TEXTS)
def test_text_that_no_byte_can_stand_for_is_refused_where_it_is_given(
    make: Any, name: str, value: Any
) -> None:
    """Half a surrogate pair fails only where it is encoded: in a request to Redis, or in a hash."""
    with pytest.raises((ConfigError, InvalidSpec)) as raised:
        make(**{name: value})
    assert name in f"{raised.value}{getattr(raised.value, 'field', '')}"
    if name in ("password", "secret", "hash_secret", "token", "admin_token", "identity_key"):
        assert "half" not in str(raised.value)
        assert "ud800" not in str(raised.value)


def test_the_name_of_a_file_may_have_any_bytes() -> None:
    """Python reads a byte that is not UTF-8 as half of a pair, and writes it as it was."""
    name = os.fsdecode(b"/etc/\xff.pem")
    assert RedisConfig(host="h", tls=True, tls_ca=name).tls_ca == name
    assert MeshConfig(state_dir=name).state_dir == name
