"""Configuration files: every accepted shape, and every refusal with its place and its fix."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdtbucket.base.address import is_loopback, split_address
from crdtbucket.config import Config, load_config, model, redis_section, source
from crdtbucket.config.source import MAX_FILE_BYTES
from crdtbucket.errors import ConfigError, MeshError
from crdtbucket.mesh.mesh_config import MeshConfig
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.spec.mode import Mode
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.redis_config import RedisConfig
from tests.config.wrong_configs import ENV, WRONG
from tests.test_docs import rows

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "ai\u2011agent\u2011inference"

Load = Callable[..., Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def from_text(text: str, env: dict[str, str] | None = None) -> Config:
        file = tmp_path / "limits.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file, ENV if env is None else env)

    return from_text


# -- shapes that load


@pytest.mark.parametrize(
    ("file", "consistency"), [("openclaw.yaml", "strong"), ("openclaw-flat.yaml", "eventual")]
)
def test_the_examples_load_alike(file: str, consistency: str) -> None:
    config = load_config(EXAMPLES / file, {})
    assert config.buckets == (BucketSpec(NAME, 10_000, 2_000, "1s"),)
    assert config.buckets[0].name == NAME
    assert config.buckets[0].key == "ai-agent-inference"
    assert config.consistency is Mode(consistency)
    assert config.redis == RedisConfig(host="127.0.0.1", port=6379)
    assert (config.enabled, config.mesh, config.node, config.region) == (True, None, None, None)


RATING = "rating:\n  enabled: false\n  consistency: strong\n"
SERVICES = "services:\n  chat:\n    limit: 10/s\n"


def _under(parent: str, text: str) -> str:
    return f"{parent}:\n" + "".join(f"  {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        RATING + SERVICES,
        _under("openclaw", RATING + SERVICES),
        _under("openclaw", RATING) + SERVICES,
        _under("openclaw", SERVICES) + RATING,
        RATING + _under("", SERVICES)[2:],
        _under("openclaw", RATING + _under("", SERVICES)[2:]),
        _under("openclaw", "rating:\n  enabled: false\n")
        + "rating:\n  consistency: strong\n"
        + SERVICES,
    ],
    ids=["top", "nested", "rating in", "services in", "in rating", "in nested rating", "in parts"],
)
def test_sections_may_stand_at_either_level(load: Load, text: str) -> None:
    config = load(text)
    assert config.buckets == (BucketSpec("chat", 10, 10),)
    assert (config.enabled, config.consistency) == (False, Mode.STRONG)


def test_services_at_both_levels_come_together(load: Load) -> None:
    config = load(
        _under("openclaw", "services:\n  a: {limit: 1/s}\n") + "services:\n  b: {limit: 2/s}\n"
    )
    assert {spec.name for spec in config.buckets} == {"a", "b"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "openclaw:\n", "rating:\n", "services:\n"])
def test_fragments_that_say_nothing_load(load: Load, text: str) -> None:
    config = load(text)
    assert (config.buckets, config.redis, config.consistency) == ((), None, Mode.EVENTUAL)


@pytest.mark.parametrize("consistency", ["strong", "eventual"])
def test_a_blank_host_is_no_redis_yet(load: Load, consistency: str) -> None:
    connection = "    connection:\n      host:\n      port: 6379\n      password:\n"
    backend = f"  bucket_backend:\n    type: redis\n{connection}"
    config = load(f"rating:\n  consistency: {consistency}\n{backend}")
    assert (config.redis, config.consistency) == (None, Mode(consistency))


@pytest.mark.parametrize("blank", ["{}", "", "{connection: {url: '${env:URL:-}'}}"])
def test_strong_without_an_address_loads_all_the_same(load: Load, blank: str) -> None:
    config = load(f"rating: {{consistency: strong, bucket_backend: {blank}}}\n")
    assert (config.redis, config.consistency) == (None, Mode.STRONG)


def test_every_key_of_redis(load: Load) -> None:
    config = load(
        "rating:\n  bucket_backend:\n    type: redis\n    connection:\n"
        "      host: redis.internal\n      port: '${env:PORT}'\n      username: limiter\n"
        "      password: ${env:SECRET}\n      db: 3\n"
        "      tls: {enabled: true, ca: ca.pem, cert: c.pem, key: k.pem}\n"
        "    prefix: 'limits:'\n    deadline: 30ms\n    connect_timeout: 2\n"
        "    retention: 2h\n    active_active: true\n"
        "    regions: [eu, us]\nregion: eu\n",
        {"PORT": "6380", "SECRET": "hunter2"},
    )
    assert config.redis == RedisConfig(
        host="redis.internal",
        port=6380,
        username="limiter",
        password="hunter2",
        db=3,
        tls=True,
        tls_ca="ca.pem",
        tls_cert="c.pem",
        tls_key="k.pem",
        prefix="limits:",
        deadline=0.03,
        connect_timeout=2.0,
        retention=7200.0,
        active_active=True,
        regions=("eu", "us"),
    )


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ("{url: 'rediss://:hunter2@h:6380/1'}", {"url": "rediss://:hunter2@h:6380/1"}),
        (
            "{url: 'rediss://h', tls: {ca: ca.pem}}",
            {"url": "rediss://h", "tls": True, "tls_ca": "ca.pem"},
        ),
        ("{host: h, tls: true}", {"host": "h", "tls": True}),
        ("{host: h, tls: '${env:ON}'}", {"host": "h", "tls": True}),
        ("{host: h, tls: false}", {"host": "h"}),
        ("{host: h, tls: {}}", {"host": "h", "tls": True}),
        ("{host: h, tls: }", {"host": "h"}),
        ("{host: h, sentinel: }", {"host": "h"}),
        ("{cluster: true, nodes: [a:1, b:2]}", {"cluster": True, "nodes": ("a:1", "b:2")}),
        ("{cluster: true, nodes: '${env:NODES}'}", {"cluster": True, "nodes": ("a:1", "b:2")}),
        ("{cluster: true, host: a}", {"cluster": True, "host": "a"}),
        (
            "{password: a, sentinel: {master: m, nodes: [s:1], password: hunter2}}",
            {
                "password": "a",
                "sentinel_master": "m",
                "sentinels": ("s:1",),
                "sentinel_password": "hunter2",
            },
        ),
    ],
)
def test_ways_to_reach_redis(load: Load, connection: str, expected: dict[str, Any]) -> None:
    env = {"ON": "true", "NODES": "a:1, b:2"}
    config = load(f"rating: {{bucket_backend: {{connection: {connection}}}}}\n", env)
    assert config.redis == RedisConfig(**expected)


STRONG_IN_A_MESH = (
    "rating:\n  consistency: strong\n  bucket_backend:\n    connection: {host: redis}\n"
    "    hash_secret: '${env:SECRET}'\nmesh: {hash_secret: %s}\nservices:\n  a: {limit: 1/s}\n"
)


def test_one_secret_for_the_hash_of_keys_in_the_mesh_and_in_redis(load: Load) -> None:
    config = load(STRONG_IN_A_MESH % "hunter2")
    assert config.redis is not None
    assert config.redis.hash_secret == "hunter2"
    with pytest.raises(ConfigError) as caught:
        load(STRONG_IN_A_MESH % "another")
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("mesh.hash_secret", 6)
    assert "is another one than rating.bucket_backend.hash_secret" in problem.message
    assert "hunter2" not in str(caught.value)
    assert "another'" not in str(caught.value)


def test_regions_may_be_text_with_commas(load: Load) -> None:
    backend = "{active_active: true, regions: '${env:ALL}', connection: {host: redis}}"
    config = load(f"rating: {{bucket_backend: {backend}}}\n", {"ALL": "eu, us"})
    assert config.redis is not None
    assert config.redis.regions == ("eu", "us")


def test_how_many_nodes_are_expected(load: Load) -> None:
    assert load("rating: {expected_nodes: 20}\n").degradation.expected_nodes == 20
    assert load("rating: {}\n").degradation.expected_nodes is None
    for wrong in ("0", "many", "1.5", "1000001"):
        with pytest.raises(ConfigError, match=r"rating\.expected_nodes"):
            load(f"rating: {{expected_nodes: {wrong}}}\n")


def test_every_rule_of_strong_mode(load: Load) -> None:
    config = load(
        "rating:\n  consistency: strong\n  on_outage: deny\n  fallback_ratio: 25%\n"
        "  fallback_scope: fleet\n  webhook: 'https://u:${env:SECRET}@hooks.example.com/x'\n"
        "  modes:\n    latency_limit: 15ms\n    latency_quantile: 95%\n    latency_window: 2s\n"
        "    least_samples: 20\n    outage_after: 400ms\n    stable_after: 10s\n"
        "    stable_after_failover: 2s\n    least_return_gap: 2m\n    probe_interval: 50ms\n"
        "    longest_probe_interval: 3s\n"
        "services:\n  a: {limit: 1/s, consistency: eventual}\n"
        "  b:\n    bucket: {capacity: 1, refill_rate: 1}\n    on_outage: allow\n"
    )
    assert (config.consistency, config.degradation.on_outage) == (Mode.STRONG, "deny")
    assert (config.degradation.fallback_ratio, config.degradation.fallback_scope) == (0.25, "fleet")
    assert config.degradation.webhook == "https://u:hunter2@hooks.example.com/x"
    assert config.degradation.modes == ControllerSettings(
        latency_limit=0.015,
        latency_quantile=0.95,
        latency_window=2.0,
        least_samples=20,
        outage_after=0.4,
        stable_after=10.0,
        stable_after_failover=2.0,
        least_return_gap=120.0,
        probe_interval=0.05,
        longest_probe_interval=3.0,
    )
    assert [(b.consistency, b.on_outage) for b in config.buckets] == [
        (Mode.EVENTUAL, None),
        (None, "allow"),
    ]
    assert "hunter2" not in repr(config)


def test_rules_that_are_left_out_have_the_defaults(load: Load) -> None:
    config = load("rating:\n  modes:\n  webhook:\n  on_outage:\n" + SERVICES)
    assert config.degradation == Degradation()
    assert (config.buckets[0].consistency, config.buckets[0].on_outage) == (None, None)


def test_the_keys_are_the_fields_of_the_settings() -> None:
    fields = {field.name for field in dataclasses.fields(ControllerSettings)}
    assert set(model.ModesSection.model_fields) == fields
    below = {"tls": "enabled", "tls_ca": "ca", "tls_cert": "cert", "tls_key": "key"}
    below |= {"sentinel_master": "master", "sentinels": "nodes", "sentinel_password": "password"}
    keys = {
        *redis_section.BackendSection.model_fields,
        *redis_section.ConnectionSection.model_fields,
    } - {"type", "connection"}
    plain = {field.name for field in dataclasses.fields(RedisConfig)} - set(below)
    assert keys - {"tls", "sentinel"} == plain
    assert {
        *redis_section.TlsSection.model_fields,
        *redis_section.SentinelSection.model_fields,
    } == set(below.values())


def test_the_documented_defaults_are_those_of_the_code(load: Load) -> None:
    lines = {"rating.bucket_backend.connection.host": "h"}
    for key, default, *_ in rows("docs/configuration.md", "Configuration files"):
        has_default = not default.startswith("|")  # that is what an empty cell leaves
        if key.startswith("`rating.") and has_default and "tls" not in key:
            lines[key.strip("`")] = default.strip("`")
    tree: dict[str, Any] = {}
    for key, value in lines.items():
        *sections, name = key.split(".")
        section = tree
        for step in sections:
            section = section.setdefault(step, {})
        section[name] = value
    config, blank = load(json.dumps(tree)), load("")
    assert len(lines) > 24
    assert config.redis == RedisConfig(host="h")
    assert config.degradation.modes == ControllerSettings()
    assert dataclasses.replace(config, redis=None, path=blank.path) == blank


def test_the_documented_urls_can_be_used() -> None:
    told = [row[0].strip("`") for row in rows("docs/configuration.md", "Where Redis is")]
    for url in told:
        assert RedisConfig(url=url.replace("...", "host")).url
    assert {url.partition("://")[0] for url in told} >= {"redis", "rediss", "unix"}


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("1", 1.0),
        ("0.001", 0.001),
        ("10%", 0.1),
        ("'0.5 %'", 0.005),
        ("'${env:R}'", 0.2),
        ("100%", 1.0),
    ],
)
def test_a_ratio_is_a_number_or_a_percentage(load: Load, text: str, ratio: float) -> None:
    config = load(f"rating: {{fallback_ratio: {text}}}\n", {"R": "20%"})
    assert config.degradation.fallback_ratio == ratio


def test_every_key_of_a_bucket(load: Load) -> None:
    keys = "capacity: 7, refill_rate: 3, refill_interval: 2m, max_debt: 0, max_keys: 9"
    config = load(f"services:\n  a:\n    bucket: {{{keys}, on_table_full: allow}}\n")
    expected = BucketSpec("a", 7, 3, "2m", max_debt=0, max_keys=9, on_table_full="allow")
    assert config.buckets == (expected,)


def test_every_key_of_the_mesh(load: Load) -> None:
    config = load(
        "node: eu-1\nregion: no\n"
        "mesh:\n  listen: 0.0.0.0:7946\n  advertise: '[2001:db8::1]:7946'\n"
        "  peers: [10.0.0.2:7946, 'dns+mesh.internal:7946']\n"
        "  secret: [the new and longer one, '${env:LONG}']\n  hash_secret: fixed\n"
        "  tls: {cert: c.pem, key: k.pem, ca: ca.pem, verify_peer: false}\n"
        "  gossip_interval: 250ms\n  partition_trust: 1m\n  forget_after: 0.5h\n"
        "  partition_burst: share\n"
        "  ended_is_dead: 20s\n"
        "  state_dir: /var/lib/crdtbucket\n  max_peers: 5\n"
    )
    assert (config.node, config.region) == ("eu-1", "no")
    assert config.mesh == MeshConfig(
        listen="0.0.0.0:7946",
        advertise="[2001:db8::1]:7946",
        peers=("10.0.0.2:7946", "dns+mesh.internal:7946"),
        secret=("the new and longer one", "hunter2" * 20),
        hash_secret="fixed",
        tls_cert="c.pem",
        tls_key="k.pem",
        tls_ca="ca.pem",
        tls_verify_peer=False,
        gossip_interval=0.25,
        partition_trust=60.0,
        partition_burst="share",
        forget_after=1800.0,
        ended_is_dead=20.0,
        state_dir="/var/lib/crdtbucket",
        max_peers=5,
    )
    assert config.mesh.secrets == (b"the new and longer one", b"hunter2" * 20)
    assert (config.mesh.gossip_interval_ns, config.mesh.partition_trust_ns) == (
        250_000_000,
        60 * 10**9,
    )


@pytest.mark.parametrize(
    ("written", "period", "nanoseconds"),
    [("never", "never", None), (" Never ", "never", None), ("1500ms", 1.5, 1_500_000_000)],
)
def test_death_may_be_never_believed(
    load: Load, written: str, period: object, nanoseconds: int | None
) -> None:
    mesh = load(f"mesh: {{ended_is_dead: '{written}'}}\n").mesh
    assert mesh is not None
    assert mesh.ended_is_dead == period
    assert mesh.ended_is_dead_ns == nanoseconds


def test_an_error_about_a_word_that_is_no_time_mentions_never(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"ended_is_dead: is .soon. .write a number .*, or never"):
        load("mesh: {ended_is_dead: soon}\n")


def test_a_blank_mesh_has_the_defaults(load: Load) -> None:
    assert load("mesh:\n").mesh == MeshConfig()


# -- references


def test_references_are_expanded(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file-of-a-secret\n")
    config = load(
        "node: ${env:NAME}-${env:NUMBER:-1}\nregion: $${literal}\n"
        "services:\n  a:\n    bucket: {capacity: '${env:CAP}', refill_rate: 1}\n"
        "mesh:\n  peers: ${env:PEERS}\n  secret: ${file:secret}\n"
        f"  hash_secret: ${{file:{tmp_path}/secret}}\n  tls: {{verify_peer: '${{env:VERIFY}}'}}\n"
        "rating:\n  bucket_backend:\n    connection: {host: h, password: '${env:PASSWORD:-}'}\n",
        {"NAME": "eu", "CAP": "25", "PEERS": "a:1, b:2", "VERIFY": "false"},
    )
    assert (config.node, config.region) == ("eu-1", "${literal}")
    assert config.buckets[0].capacity == 25
    assert config.mesh is not None
    assert config.mesh.peers == ("a:1", "b:2")
    assert config.mesh.secrets == (b"from-file-of-a-secret",)
    assert config.mesh.hash_secret == "from-file-of-a-secret"
    assert config.mesh.tls_verify_peer is False
    assert config.redis == RedisConfig(host="h")


def test_expanded_text_cannot_change_the_structure(load: Load) -> None:
    text = "rating:\n  bucket_backend:\n    connection:\n      host: h\n      password: ${env:P}\n"
    for value in ("a: b", "[1, 2]", "# no", "'", "x\nport: 1", "${env:P}", "null", "0123"):
        redis = load(text, {"P": value}).redis
        assert redis is not None
        assert redis.password == value


def test_the_process_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRDTBUCKET_TEST_NODE", "eu-7")
    file = tmp_path / "limits.yaml"
    file.write_text("node: ${env:CRDTBUCKET_TEST_NODE}\n")
    assert load_config(str(file)).node == "eu-7"


def test_repr_shows_no_secret(load: Load) -> None:
    config = load(
        "mesh: {secret: hunter2-long-enough, hash_secret: hunter2}\n"
        "rating: {bucket_backend: {connection: {host: h, password: hunter2}}}\n"
    )
    assert config.mesh is not None
    assert config.mesh.secrets == (b"hunter2-long-enough",)
    assert "hunter2" not in repr(config)
    url = load("rating: {bucket_backend: {connection: {url: 'redis://u:hunter2@h'}}}\n")
    assert url.redis is not None
    assert url.redis.url == "redis://u:hunter2@h"
    assert "hunter2" not in repr(url)


# -- refusals


@pytest.mark.parametrize("case", WRONG)
def test_wrong_configurations_say_where_what_and_how(load: Load, case: str, tmp_path: Path) -> None:
    text, expected = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load(text)
    prefix = f"{tmp_path / 'limits.yaml'}:"
    assert [str(problem) for problem in caught.value.problems] == [prefix + e for e in expected]
    assert "hunter2" not in str(caught.value)
    for problem in caught.value.problems:
        assert problem.fix
        assert 1 <= problem.line <= text.count("\n") + 1
        assert problem.column >= 1


def test_all_faults_of_a_file_are_reported_together(load: Load) -> None:
    wrong = "nod: a\n{RATING}{SERVICES}mesh:\n  listen: here\n  max_peers: 0\n"
    wrong = wrong.format(
        RATING="rating:\n  consistency: weak\n",
        SERVICES="services:\n  a: {limit: fast}\n  b:\n    bucket: {capacity: 0, refill_rate: 0}\n",
    )
    with pytest.raises(ConfigError) as caught:
        load(wrong)
    assert [(p.line, p.path) for p in caught.value.problems] == [
        (1, "nod"),
        (3, "rating.consistency"),
        (5, "services.a.limit"),
        (7, "services.b.bucket.capacity"),
        (7, "services.b.bucket.refill_rate"),
        (10, "mesh.max_peers"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"node: \xff\n", ":1:7: is not UTF-8 (save it as UTF-8)"),
        (b"a: b\nnode: a\x00b\n", "holds a control character"),
        (b"#" * (MAX_FILE_BYTES + 1), "over 1 MiB"),
        (b"a: &a\n  b: *a\n", "too large or too deep"),
        (b"a: " + b"[" * 60 + b"]" * 60, "too large or too deep"),
        (b"a: " + b"[" * 2_000, "too large or too deep"),
        (b"a: [" + b"1, " * 2_000, "too large or too deep (nest less, and write at most 1,000 val"),
        (b"a: " + b"!" * 2_000, ":1:4: not valid YAML: while scanning a tag over 100 characters"),
        (b"node: !" + b"x" * 90 + b" b", "is not used here (remove the tag)"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, data: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_VALUES", 1_000)
    file = tmp_path / "limits.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {})
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)


def test_no_more_is_read_of_a_file_than_it_may_have() -> None:
    with pytest.raises(ConfigError, match="over 1 MiB"):
        load_config("/dev/zero")  # which never ends


def test_a_small_file_cannot_describe_a_huge_tree(load: Load) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="too large"):
        load("\n".join(lines))


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml", {})


_VALUES = st.recursive(
    st.sampled_from(["", "x", "1", "-1", "1.5", "true", "1s", "1/s", "${env:SECRET}", "${", "'"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"),
    max_leaves=4,
)
_LINES = st.tuples(
    st.sampled_from(["", "  ", "    ", "      "]),
    st.sampled_from(
        [
            *["openclaw", "rating", "services", "mesh", "node", "bucket", "secret", "peers"],
            *["bucket_backend", "connection", "sentinel", "nodes", "tls", "cluster", "url"],
            *["host", "prefix", "password", "master", "modes", "deadline", "fallback_ratio"],
            *["defaults", "keys", "shadow", "limit", "a", "capacity", "refill_rate", "version"],
        ]
    ),
    _VALUES,
).map(lambda parts: f"{parts[0]}{parts[1]}: {parts[2]}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(_LINES, max_size=8).map("\n".join))
def test_any_text_is_a_config_or_one_config_error(load: Load, text: str) -> None:
    outcome: Config | ConfigError
    try:
        outcome = load(text)
    except ConfigError as error:
        outcome = error
    # Any other exception fails the test; a refusal says why, without the secret.
    shown = str(outcome) if isinstance(outcome, ConfigError) else repr(outcome)
    assert "hunter2" not in shown
    assert isinstance(outcome, Config) or outcome.problems


# -- MeshConfig made in code


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"listen": "7946"}, "mesh.listen"),
        ({"listen": ":7946"}, "mesh.listen"),
        ({"listen": "::1:7946"}, "mesh.listen"),
        ({"listen": "a:65536"}, "mesh.listen"),
        ({"listen": 7946}, "mesh.listen"),
        ({"advertise": "a:0"}, "mesh.advertise"),
        ({"peers": "a:1"}, "mesh.peers"),
        ({"peers": ["a:1", "http://b:2"]}, "mesh.peers[1]"),
        ({"peers": ["dns+a"]}, "mesh.peers[0]"),
        ({"peers": [None]}, "mesh.peers[0]"),
        ({"secret": ""}, "mesh.secret"),
        ({"secret": []}, "mesh.secret"),
        ({"secret": ["a" * 16, b" "]}, "mesh.secret[1]"),
        ({"secret": "fifteen bytes.."}, "mesh.secret"),
        ({"secret": [b"x" * 16, "x" * 15]}, "mesh.secret[1]"),
        ({"hash_secret": 5}, "mesh.hash_secret"),
        ({"tls_key": "k"}, "mesh.tls_cert"),
        ({"tls_ca": "ca"}, "mesh.tls_cert"),
        ({"gossip_interval": 0}, "mesh.gossip_interval"),
        ({"gossip_interval": float("nan")}, "mesh.gossip_interval"),
        ({"gossip_interval": "100ms"}, "mesh.gossip_interval"),
        ({"partition_trust": -1}, "mesh.partition_trust"),
        ({"partition_burst": "half"}, "mesh.partition_burst"),
        ({"forget_after": 0.5}, "mesh.forget_after"),
        ({"forget_after": 30.0, "gossip_interval": 3.0}, "mesh.forget_after"),
        ({"ended_is_dead": 0.5}, "mesh.ended_is_dead"),
        ({"ended_is_dead": None}, "mesh.ended_is_dead"),
        ({"ended_is_dead": "10s"}, "mesh.ended_is_dead"),
        ({"max_peers": True}, "mesh.max_peers"),
    ],
)
def test_wrong_mesh_settings_name_the_field(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MeshConfig(**fields)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert caught.value.problems[0].fix


TLS = {"tls_cert": "c", "tls_key": "k"}


@pytest.mark.parametrize("fields", [{}, TLS, {**TLS, "tls_ca": "ca", "tls_verify_peer": False}])
@pytest.mark.parametrize("listen", ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "mesh.internal:1"])
def test_only_loopback_without_authentication(listen: str, fields: dict[str, Any]) -> None:
    with pytest.raises(MeshError, match=r"set mesh\.secret"):
        MeshConfig(listen=listen, **fields)
    assert MeshConfig(listen=listen, secret="s" * 16, **fields).secrets == (b"s" * 16,)
    assert MeshConfig(listen=listen, **TLS, tls_ca="ca").mutual_tls


@pytest.mark.parametrize("fields", [{}, TLS, {**TLS, "tls_ca": "ca", "tls_verify_peer": False}])
@pytest.mark.parametrize(
    "peer", ["10.0.0.1:1", "[::2]:1", "mesh.internal:1", "dns+mesh.internal:1"]
)
def test_only_loopback_is_called_without_authentication(peer: str, fields: dict[str, Any]) -> None:
    peers = ["127.0.0.1:1", peer]
    with pytest.raises(
        MeshError, match=r"mesh\.peers\[1\] is .* on another machine.*set mesh\.secret"
    ):
        MeshConfig(peers=peers, **fields)
    assert MeshConfig(peers=peers, secret="\u00e9" * 8, **fields)
    assert MeshConfig(peers=peers, **TLS, tls_ca="ca").mutual_tls
    assert MeshConfig(peers=["127.0.0.1:1", "[::1]:1", "localhost:1", "dns+localhost:1"], **fields)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:1", "[::1]:1", "127.8.8.8:1"])
def test_loopback_needs_no_secret(listen: str) -> None:
    assert is_loopback(split_address(MeshConfig(listen=listen).listen)[0])
