"""Settings of a Redis: every form means the same, every fault is reported, no secret is shown."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import ConfigError, RedisConfig
from crdtbucket.base.address import Address, read_address
from crdtbucket.strong.redis.access import sentinel_access, server_access, tls_context
from crdtbucket.strong.redis.url import RedisTarget, parse_url

HERE = (Address("10.0.0.5", 6379),)
URLS = [
    ("redis://10.0.0.5", RedisTarget(HERE)),
    ("redis://10.0.0.5:6379/0", RedisTarget(HERE)),
    ("REDIS://10.0.0.5/3", RedisTarget(HERE, db=3)),
    ("redis://10.0.0.5?db=3", RedisTarget(HERE, db=3)),
    ("redis://:pw@10.0.0.5", RedisTarget(HERE, password="pw")),
    ("redis://me:p%40w%2F@10.0.0.5/2", RedisTarget(HERE, "me", "p@w/", 2)),
    ("rediss://redis.example:6380", RedisTarget((Address("redis.example", 6380),), tls=True)),
    ("redis://[fd00::5]:7000", RedisTarget((Address("fd00::5", 7000),))),
    ("redis://[fd00::5]", RedisTarget((Address("fd00::5"),))),
    ("unix:///run/redis.sock", RedisTarget((Address(path="/run/redis.sock"),))),
    ("unix://me:pw@/run/a%20b?db=4", RedisTarget((Address(path="/run/a b"),), "me", "pw", 4)),
    (
        "redis+sentinel://me:pw@s1:1,s2,[fd00::5]:3/main/2",
        RedisTarget(
            (Address("s1", 1), Address("s2", 26379), Address("fd00::5", 3)),
            "me", "pw", 2, master="main",
        ),
    ),
    (
        "rediss+sentinel://s1/main",
        RedisTarget((Address("s1", 26379),), tls=True, master="main"),
    ),
    (
        "redis+cluster://n1:7000,n2",
        RedisTarget((Address("n1", 7000), Address("n2")), cluster=True),
    ),
    (
        "rediss+cluster://:pw@n1",
        RedisTarget((Address("n1"),), password="pw", tls=True, cluster=True),
    ),
]  # fmt: skip
BAD_URLS = [
    ("", "no scheme"),
    ("10.0.0.5:6379", "no scheme"),
    ("http://10.0.0.5", "no scheme"),
    ("redis://", "no host"),
    ("redis:///0", "no host"),
    ("redis://a b", "no host name"),
    ("redis://host:0", "no port from 1"),
    ("redis://host:65536", "no port from 1"),
    ("redis://host:" + "9" * 5000, "no port from 1"),
    ("redis://host:port", "no port from 1"),
    ("redis://fd00::5:6379", "without brackets"),
    ("redis://[fd00::5:6379", "brackets"),
    ("redis://h1,h2", "several hosts"),
    ("redis://host/zero", "no database number"),
    ("redis://host/-1", "no database number"),
    ("redis://host/" + "9" * 5000, "no database number"),
    ("redis://host/0?db=1", "options"),
    ("redis://host?socket_timeout=1", "options"),
    ("redis://me@host", "no password"),
    ("redis://:hunter/2@host", "%2F"),
    ("redis://:hunter?2@host", "%2F"),
    ("redis://:hunter#2@host", "%2F"),
    ("redis://:hunter@2@host", "%2F"),
    ("unix://relative/socket", "no socket"),
    ("unix://", "no socket"),
    ("redis+sentinel://s1:1", "no master"),
    ("redis+sentinel://s1:1/", "no master"),
    ("redis+sentinel:///main", "no host"),
    ("redis+cluster://n1:1/3", "a cluster has but 0"),
    ("redis+cluster://" + ",".join(["n"] * 65), "more than 64"),
]
SENTINELS = {"sentinels": ["s1:1", "s2"], "sentinel_master": "main"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "redis.host: is missing"),
    ({"host": ""}, "redis.host: is empty"),
    ({"host": 5}, "redis.host: is 5 (write text)"),
    ({"host": "a:b"}, "redis.host: has"),
    ({"host": "localhost:6379"}, "redis.host: has a port (give it as port)"),
    ({"host": "a/b"}, "redis.host: has"),
    ({"host": "h", "port": 0}, "redis.port: is 0"),
    ({"host": "h", "port": True}, "redis.port: is True"),
    ({"host": "h", "port": "6379"}, "redis.port: is '6379'"),
    ({"host": "h", "db": -1}, "redis.db: is -1"),
    ({"host": "h", "username": " "}, "redis.username: is empty"),
    ({"host": "h", "password": b"x"}, "redis.password: is of type bytes"),
    ({"host": "h", "tls": "yes"}, "redis.tls: is 'yes'"),
    ({"host": "h", "tls_ca": "ca.pem"}, "redis.tls: is off"),
    ({"host": "h", "tls": True, "tls_cert": "c"}, "redis.tls_key: is missing"),
    ({"host": "h", "tls": True, "tls_key": "k"}, "redis.tls_cert: is missing"),
    ({"url": "redis://h", "tls_ca": "ca.pem"}, "redis.tls: is off"),
    ({"url": "unix:///s", "tls": True}, "redis.tls: is asked for on a unix socket"),
    ({"host": "h", **SENTINELS}, "redis.host: is given beside sentinels"),
    ({"cluster": True, **SENTINELS}, "redis.cluster: is given beside sentinels"),
    ({"sentinels": ["s:1"]}, "redis.sentinel_master: is missing"),
    ({"sentinel_master": "m"}, "redis.sentinels: are missing"),
    ({"sentinels": "s:1", "sentinel_master": "m"}, "redis.sentinels: is one text and no list"),
    ({"sentinels": ["s:x"], "sentinel_master": "m"}, "redis.sentinels[0]: has no port"),
    ({"sentinels": [5], "sentinel_master": "m"}, "redis.sentinels[0]: is 5"),
    ({"nodes": ["n:1"]}, "redis.nodes: are given, and cluster is False"),
    ({"nodes": ["n:1", ""], "cluster": True}, "redis.nodes[1]: has no host"),
    ({"nodes": ["u:hidden@n:1"], "cluster": True}, "redis.nodes[0]: has an IPv6 host without"),
    ({"nodes": ["n"] * 65, "cluster": True}, "redis.nodes: are 65"),
    ({"host": "h", "cluster": True, "db": 1}, "redis.db: is 1"),
    ({"cluster": True}, "redis.host: is missing"),
    ({"url": "redis://h", "host": "h"}, "redis.host: is given beside url"),
    ({"url": "redis://h", "port": 1}, "redis.port: is given beside url"),
    ({"url": "redis://h", "cluster": True}, "redis.cluster: is given beside url"),
    ({"url": "redis://h", **SENTINELS}, "redis.sentinels: is given beside url"),
    ({"url": "redis://u:a@h", "password": "b"}, "redis.password: stands in the url too"),
    ({"url": "redis://u:a@h", "username": "b"}, "redis.username: stands in the url too"),
    ({"url": 5}, "redis.url: is of type int"),
    ({"host": "h", "prefix": "a{b"}, "redis.prefix: is 'a{b'"),
    ({"host": "h", "prefix": "é" * 33}, "redis.prefix: is"),
    ({"host": "h", "prefix": "a\n"}, "redis.prefix: is"),
    ({"host": "h", "prefix": None}, "redis.prefix: is None"),
    ({"host": "h", "deadline": 0}, "redis.deadline: is 0"),
    ({"host": "h", "deadline": float("nan")}, "redis.deadline: is nan"),
    ({"host": "h", "connect_timeout": 61}, "redis.connect_timeout: is 61"),
    ({"host": "h", "retention": 1}, "redis.retention: is 1"),
    ({"host": "h", "active_active": 1}, "redis.active_active: is 1"),
    ({"host": "h", "active_active": True}, "redis.regions: are missing beside active_active"),
    ({"host": "h", "regions": ["eu"]}, "redis.regions: are given without active_active"),
    (
        {"host": "h", "active_active": True, "regions": "eu"},
        "redis.regions: is one text and no list",
    ),
    ({"host": "h", "active_active": True, "regions": ["eu", "eu"]}, "redis.regions[1]: is 'eu' on"),
    ({"host": "h", "active_active": True, "regions": ["eu", "u s"]}, "redis.regions[1]: is 'u s'"),
    ({"host": "h", "active_active": True, "regions": ["e@u"]}, "redis.regions[0]: is 'e@u'"),
    ({"host": "h", "active_active": True, "regions": ["{eu"]}, "redis.regions[0]: is '{eu'"),
    ({"host": "h", "active_active": True, "regions": ["r" * 33]}, "redis.regions[0]: is"),
    ({"host": "h", "active_active": True, "regions": [""]}, "redis.regions[0]: is ''"),
    ({"host": "h", "active_active": True, "regions": [5]}, "redis.regions[0]: is 5"),
    (
        {"host": "h", "active_active": True, "regions": [f"r{n}" for n in range(17)]},
        "redis.regions: are 17",
    ),
]


@pytest.mark.parametrize(("url", "target"), URLS)
def test_a_url_says_where_and_as_whom(url: str, target: RedisTarget) -> None:
    assert parse_url(url) == target
    assert RedisConfig(url=url).target == target


@pytest.mark.parametrize(("url", "fault"), BAD_URLS)
def test_a_wrong_url_is_reported_without_its_secrets(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as caught:
        parse_url(url)
    assert "hunter" not in str(caught.value)
    with pytest.raises(ConfigError) as told:
        RedisConfig(url=url or " ")
    assert told.value.problems[0].path == "redis.url"
    assert "hunter" not in f"{told.value!r} {told.value}"


@given(st.text(), st.sampled_from(["", "redis://", "redis+sentinel://", "unix://", "rediss://a@"]))
def test_no_text_breaks_the_reading_of_urls(text: str, scheme: str) -> None:
    try:
        target = parse_url(scheme + text)
    except ValueError:
        return
    assert target.addresses


@given(st.text(), st.text(min_size=1))
def test_credentials_survive_their_encoding(username: str, password: str) -> None:
    target = parse_url(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@h")
    assert (target.username, target.password) == (username or None, password)


@pytest.mark.parametrize(("fields", "fault"), WRONG)
def test_a_wrong_field_is_reported_with_its_fix(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisConfig(**fields)
    assert fault in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert all(problem.fix for problem in caught.value.problems)


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        RedisConfig(port=0, deadline=0.0, db=-1)
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"redis.host", "redis.port", "redis.deadline", "redis.db"}


def test_fields_say_the_same_as_a_url() -> None:
    who = {"username": "me", "password": "pw"}
    pairs = [
        (RedisConfig(host="h", port=7, db=2, tls=True, **who), "rediss://me:pw@h:7/2"),
        (RedisConfig(**SENTINELS, db=2, **who), "redis+sentinel://me:pw@s1:1,s2/main/2"),
        (RedisConfig(cluster=True, nodes=["n1:7", "n2"]), "redis+cluster://n1:7,n2"),
        (RedisConfig(cluster=True, host="n1", port=7), "redis+cluster://n1:7"),
        (RedisConfig(url="redis://h:7/2", tls=True, **who), "rediss://me:pw@h:7/2"),
    ]
    for config, url in pairs:
        assert config.target == parse_url(url)


def test_no_repr_shows_a_secret() -> None:
    config = RedisConfig(**SENTINELS, password="hunter1", sentinel_password="hunter2")
    url = RedisConfig(url="redis://me:hunter3@h")
    things = [config, url, config.target, url.target, server_access(url, None)]
    things.append(sentinel_access(config, None))
    assert "hunter" not in repr(things)
    assert sentinel_access(config, None).password == "hunter2"
    assert server_access(url, None).password == "hunter3"


def test_a_config_is_a_value() -> None:
    config = RedisConfig(url="redis://me:pw@h", nodes=[])
    again = dataclasses.replace(config, deadline=0.02)
    assert again.target == config.target
    assert (again.deadline_ns, config.deadline_ns) == (20_000_000, 50_000_000)
    assert config.retention_ms == 3_600_000
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(RedisConfig(cluster=True, nodes=["n"]))


def test_client_names_are_ones_that_redis_takes() -> None:
    config = RedisConfig(host="h")
    assert server_access(config, None, "crdtbucket eu-1 ü").client_name == "crdtbucket-eu-1--"


def test_addresses_read_as_they_are_written() -> None:
    for text in ("h:1", "[fd00::5]:7000", "10.0.0.5:6379"):
        assert str(read_address(text)) == text
    assert str(Address(path="/run/s")) == "/run/s"


def test_a_missing_certificate_is_reported_by_field(tmp_path: Any) -> None:
    assert tls_context(RedisConfig(host="h")) is None
    missing = str(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"redis\.tls_ca: '.*none\.pem' cannot be loaded"):
        tls_context(RedisConfig(host="h", tls=True, tls_ca=missing))
    with pytest.raises(ConfigError, match=r"redis\.tls_cert: .* with tls_key '.*' cannot be"):
        tls_context(RedisConfig(url="rediss://h", tls_cert=missing, tls_key=missing))
