"""A configuration that changes while a limiter works: usage stays, and it is all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import (
    BucketSpec,
    ConfigError,
    CostExceedsCapacity,
    CrdtbucketError,
    Limiter,
    MeshConfig,
    Mode,
    RedisConfig,
    SlotDenied,
    UnknownBucket,
)
from crdtbucket.config import Config, load_config
from crdtbucket.rollout.rollout_plan import RolloutPlan, Stage
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from tests.threads import running
from tests.virtual_loop import VirtualTime, virtually

API = BucketSpec("api", 100, 100)
SLOW = BucketSpec("api", 100, 1)
OTHER = BucketSpec("other", 10, 10)


def config_of(*specs: BucketSpec, **more: Any) -> Config:
    return Config("limits.yaml", specs, **more)


def limiter_in(time: VirtualTime, *specs: BucketSpec, **more: Any) -> Limiter:
    return Limiter(specs or [API], _table=time.table, **more)


def refused(limiter: Limiter, config: Config) -> list[str]:
    """The paths of what is wrong with it; nothing has changed."""
    before = (dict(limiter.buckets), [b.spec for b in limiter.buckets.values()], limiter.stats())
    with pytest.raises(ConfigError) as caught:
        limiter.reload(config)
    after = (dict(limiter.buckets), [b.spec for b in limiter.buckets.values()], limiter.stats())
    assert after[2]["config"].pop("refused") == before[2]["config"].pop("refused") + 1
    before[2]["config"].pop("fault")
    named = f"version {config.version}: " if config.version else ""
    assert after[2]["config"].pop("fault").startswith(f"{named}{caught.value.problems[0]}")
    assert after == before
    assert all(problem.fix and problem.file == "limits.yaml" for problem in caught.value.problems)
    return [problem.path for problem in caught.value.problems]


# ---- what changes ----


def test_usage_stays_when_capacity_and_rate_change() -> None:
    time = VirtualTime()
    limiter = limiter_in(time)
    bucket = limiter.bucket("api")
    bucket.take("k", 60)
    limiter.reload(config_of(SLOW))
    assert bucket.peek("k").remaining == 40
    limiter.reload(config_of(BucketSpec("api", 200, 1)))
    assert bucket.peek("k").remaining == 140
    assert limiter.bucket("api") is bucket
    time.advance(10)
    assert bucket.peek("k").remaining == 150


def test_slots_are_more_or_fewer_at_once_and_what_is_in_flight_stays() -> None:
    time = VirtualTime()
    limiter = limiter_in(time, BucketSpec.concurrency("llm", 2))
    bucket = limiter.bucket("llm")

    def admitted() -> int:
        count = 0
        with contextlib.suppress(SlotDenied):
            while count < 9:
                bucket.slot("k").__enter__()
                count += 1
        return count

    assert admitted() == 2
    limiter.reload(config_of(BucketSpec.concurrency("llm", 4)))
    assert admitted() == 2
    limiter.reload(config_of(BucketSpec.concurrency("llm", 1)))
    assert admitted() == 0
    time.advance(60)
    assert admitted() == 1


def test_slots_with_another_ttl_end_by_time() -> None:
    time = VirtualTime()
    limiter = limiter_in(time, BucketSpec.concurrency("llm", 1, ttl="60s"))
    bucket = limiter.bucket("llm")
    slot = bucket.slot("k").__enter__()
    time.advance(30)
    limiter.reload(config_of(BucketSpec.concurrency("llm", 1, ttl="10s")))
    slot.release()
    with pytest.raises(SlotDenied):
        bucket.slot("k").__enter__()
    time.advance(5)  # half of its time was left
    with bucket.slot("k"):
        pass


def test_slots_do_not_become_tokens_and_know_no_stages() -> None:
    limiter = limiter_in(VirtualTime(), BucketSpec.concurrency("api", 2), OTHER)
    assert refused(limiter, config_of(API, BucketSpec.concurrency("other", 1))) == [
        "services.api",
        "services.other",
    ]
    staged = config_of(
        BucketSpec.concurrency("api", 3), OTHER, version=2, rollout=RolloutPlan((Stage(),))
    )
    assert refused(limiter, staged) == ["services.api"]


def test_a_calendar_keeps_what_was_used_and_its_period() -> None:
    quota = BucketSpec.calendar("api", 10)
    limiter = limiter_in(VirtualTime(), quota)
    api = limiter.bucket("api")
    api.take("k", 6)
    limiter.reload(config_of(BucketSpec.calendar("api", 20)))
    assert api.peek("k").remaining == 14
    limiter.reload(config_of(BucketSpec.calendar("api", 4)))
    assert not api.take("k")
    assert api.peek("new").remaining == 4
    limiter.reload(config_of(quota))
    assert api.peek("k").remaining == 4
    for other in (
        API,
        BucketSpec.calendar("api", 10, per="week"),
        BucketSpec.concurrency("api", 1),
    ):
        assert refused(limiter, config_of(other)) == ["services.api"]
    staged = {"version": 2, "rollout": RolloutPlan((Stage(),))}
    other = BucketSpec.calendar("api", 11)
    assert refused(limiter, config_of(other, **staged)) == ["services.api"]
    limiter.reload(config_of(quota, OTHER, **staged))
    assert api.peek("k").remaining == 4
    many = [BucketSpec.calendar(f"b{n}", 1) for n in range(251)]
    assert "services" in refused(limiter, config_of(*many))


def test_buckets_come_and_go() -> None:
    limiter = Limiter([API, OTHER])
    removed = limiter.bucket("other")
    removed.take("k", 10)
    limiter.reload(config_of(API, BucketSpec("new", 5, 5)))
    assert list(limiter.buckets) == ["api", "new"] == list(limiter.stats()["buckets"])
    assert limiter.bucket("new").take("k", 5)
    with pytest.raises(UnknownBucket, match="api, new"):
        limiter.bucket("other")
    assert not removed.take("k", 10)  # a caller that holds it keeps its last definition
    limiter.reload(config_of(API, OTHER))
    assert limiter.bucket("other") is removed


def test_the_error_of_an_unknown_name_lists_what_the_file_defines_and_no_limits_of_keys() -> None:
    chat = BucketSpec("chat", 100, 1, overrides=[("vip-*", BucketSpec("vip", 200, 1))])
    limiter = Limiter([chat, *BucketSpec.parse_all("login", "10/second; 20/minute")])
    limiter.overrides.set("chat", "tenant-8", "50/60s")
    assert limiter.bucket("chat[=50/60s]").take("tenant-8")
    with pytest.raises(UnknownBucket) as caught:
        limiter.bucket("chaat")
    assert str(caught.value) == "no bucket 'chaat'; there are: chat, login:1, login:2"


@pytest.mark.parametrize("text", ["", "# later\n", "rating: {fallback_ratio: 0.5}\n"])
def test_a_file_that_was_cut_short_takes_no_limit_away(tmp_path: Path, text: str) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("services: {api: {limit: 100/hour}}\n")
    limiter = Limiter.from_file(path)
    limiter.bucket("api").take("k", 100)
    path.write_text(text)
    with pytest.raises(
        ConfigError, match="services: has no bucket, and would take every limit away"
    ):
        limiter.reload()
    assert limiter.bucket("api").peek("k").remaining == 0
    assert limiter.stats()["config"]["fault"].startswith(f"{path}: services: has no bucket")
    path.write_text("services: {api: {limit: 100/hour, consistancy: x, capcity: 3}}\n")
    with pytest.raises(ConfigError):
        limiter.reload()
    assert limiter.stats()["config"]["fault"].endswith(", and 1 more")
    path.write_text("services: {api: {limit: 100/hour}}\n")
    limiter.reload()
    assert not limiter.stats()["config"]["fault"]


def test_what_comes_into_force_is_said_with_the_buckets_that_the_file_defines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "crdtbucket")
    limiter = limiter_in(VirtualTime())
    with_one = BucketSpec("api", 100, 1, overrides=[("vip-*", BucketSpec("vip", 200, 1))])
    limiter.reload(config_of(with_one))
    limiter.reload(config_of(SLOW, OTHER))
    limiter.reload(config_of(API, OTHER))
    one, two, three = (record.getMessage() for record in caplog.records)
    assert one.endswith("is in force: 1 bucket")
    assert two.endswith(": 2 buckets, other added, api[vip-*] removed")
    assert three.endswith(": 2 buckets, api changed")


def test_the_log_names_the_settings_that_a_reload_changes_and_no_secret(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path, secret = tmp_path / "node.yaml", "0123456789abcdef"
    text = "node: a\nmesh: {listen: 127.0.0.1:0, secret: %s, operator_keys: [%s]}\n"
    text += "services: {api: {limit: 100/hour}}\n"
    keys = ["ed25519:" + digit * 32 for digit in "ab"]
    path.write_text(text % (secret, f"'{keys[0]}'"))
    with Limiter.from_file(path) as limiter:
        caplog.set_level("INFO", "crdtbucket")
        path.write_text(text % (secret, ", ".join(f"'{key}'" for key in keys)))
        limiter.reload()
        path.write_text(text % (f"[{secret[::-1]}, {secret}]", f"'{keys[1]}'"))
        limiter.reload()
        limiter.reload()
    one, two, three = (line for line in caplog.messages if "is in force" in line)
    assert one.endswith(": 1 bucket; changed: mesh.operator_keys")
    assert two.endswith(": 1 bucket; changed: mesh.secret, mesh.operator_keys")
    assert three.endswith(": 1 bucket")


def test_order_and_spelling_are_those_of_the_file() -> None:
    limiter = Limiter([API, BucketSpec("a-b", 5, 5)])
    held = limiter.bucket("a-b")
    limiter.reload(config_of(BucketSpec("a\u2011b", 5, 5), API))
    assert list(limiter.buckets) == ["a\u2011b", "api"]
    assert limiter.bucket("a-b") is held


def test_a_smaller_capacity_and_back_gives_nothing_out_again() -> None:
    time = VirtualTime()
    limiter = limiter_in(time, BucketSpec("api", 1_000, 10))
    bucket = limiter.bucket("api")
    bucket.take("k", 1_000)
    limiter.reload(config_of(BucketSpec("api", 10, 10)))
    assert bucket.peek("k").retry_after == 99.1  # down to 9 of the 1,000 that were taken
    limiter.reload(config_of(BucketSpec("api", 1_000, 10)))
    assert bucket.peek("k").remaining == 0


def test_a_process_that_starts_in_between_gives_nothing_out_either(tmp_path: Path) -> None:
    large, small = (BucketSpec("api", size, size, "1d") for size in (300, 10))
    first = Limiter([large], shared=tmp_path / "table", max_keys=64)
    assert first.bucket("api").take("k", 300)
    first.reload(config_of(small))
    second = Limiter([small], shared=tmp_path / "table", max_keys=64)
    assert not second.bucket("api").take("k")
    first.reload(config_of(large))
    assert first.bucket("api").peek("k").remaining == 0
    # When the first one has ended, it is the second one that lowers the ceiling in time.
    assert second.in_force._raised.keys() == {"api"}


@virtually
async def test_a_raised_ceiling_is_lowered_once_nothing_needs_it(time: VirtualTime) -> None:
    limiter = limiter_in(time, BucketSpec("api", 1_000, 10))
    bucket = limiter.bucket("api")
    async with limiter:
        limiter.reload(config_of(BucketSpec("api", 10, 10)))
        assert bucket.max_debt == 1_990
        await asyncio.sleep(199)
        assert bucket.max_debt == 1_990
        await asyncio.sleep(2)
        assert bucket.max_debt == 10


@virtually
async def test_who_waits_looks_again(time: VirtualTime) -> None:
    limiter = limiter_in(time, BucketSpec("api", 10, 1, "1h"))
    bucket = limiter.bucket("api")
    bucket.take("k", 10)
    first, second = (asyncio.ensure_future(bucket.wait("k", n)) for n in (8, 10))
    await asyncio.sleep(0)
    limiter.reload(config_of(BucketSpec("api", 8, 8)))
    assert (await first).limit == 8
    with pytest.raises(CostExceedsCapacity):
        await second
    assert time.elapsed == pytest.approx(1.25)


def test_decisions_go_on_in_other_threads() -> None:
    limiter = Limiter([BucketSpec("api", 10**6, 1, "1m"), OTHER])
    bucket = limiter.bucket("api")
    stop = threading.Event()
    taken = [0, 0]

    def work(number: int) -> None:
        while not stop.is_set():
            taken[number] += bool(limiter.bucket("api").take("k"))
            taken[number] += sum(bucket.take_many(["k"] * 50).allowed)
            limiter.stats()

    with running(partial(work, 0), partial(work, 1)):
        for change in range(300):
            api = BucketSpec("api", 10**6 + change % 3, 1 + change % 2, "1m")
            extra = [BucketSpec(f"b{n}", 5, 5) for n in range(change % 5)]
            limiter.reload(config_of(api, *extra))
        stop.set()
    assert bucket.columns("k")[0, limiter._tables.main.epochs.running][1] == sum(taken)
    assert limiter.stats()["config"]["reloads"] == 300


definitions = st.builds(
    BucketSpec,
    st.just("api"),
    st.integers(1, 300),
    st.integers(1, 200),
    max_debt=st.none() | st.integers(0, 50),
)
steps = st.one_of(
    definitions,
    st.tuples(st.just("take"), st.integers(1, 300)),
    st.tuples(st.just("settle"), st.integers(1, 100)),
    st.tuples(st.just("wait"), st.integers(1, 5_000)),
)


@given(st.lists(steps, max_size=40), st.booleans())
def test_no_history_of_changes_gives_out_a_token(history: list[Any], looks: bool) -> None:
    """The debt never falls below all that was charged less all that was refilled, which is kept
    here in exact tokens without a ceiling; it is above that only by roundings."""
    time = VirtualTime()
    limiter = limiter_in(time)
    bucket = limiter.bucket("api")
    owed, slack = Fraction(0), Fraction(1, 10**3)
    for step in [*history, None]:
        if isinstance(step, BucketSpec):
            limiter.reload(config_of(step))
            slack += Fraction(1, 10**6)
        elif step is None:
            looks = True
        elif step[0] == "wait":
            time.advance(step[1] / 1_000)
            refilled = Fraction(bucket.spec.refill_rate * step[1], 1_000)
            owed = max(Fraction(0), owed - refilled)
        elif step[0] == "settle":
            owed += bucket.settle("k", step[1])
        elif step[1] <= bucket.spec.capacity and bucket.take("k", step[1]):
            assert owed + step[1] <= bucket.spec.capacity + Fraction(1, 10**6)
            owed += step[1]
        if looks:
            q, p = bucket.spec.emission
            debt = Fraction(bucket.peek("k").debt * p, q)
            assert owed - Fraction(1, 10**6) <= debt <= owed + slack


# ---- what is refused ----


MESH = MeshConfig(listen="127.0.0.1:0", secret="0123456789abcdef")
REDIS = RedisConfig(url="redis://user:hunter2hunter2@127.0.0.1:1/0")


def test_what_holds_until_a_restart_is_named_with_all_else_that_is_wrong() -> None:
    limiter = Limiter([API], node="eu-1", region="eu", mesh=MESH)
    mesh = MeshConfig(listen="127.0.0.1:7999", secret="another secret, of 16", peers=["a:1"])
    fixed = {"node": "eu-2", "region": "us", "shared": "auto"}
    assert refused(limiter, config_of(OTHER, **fixed, mesh=mesh, redis=REDIS)) == [
        "node", "region", "shared", "mesh.listen", "mesh.peers", "rating.bucket_backend",
        "mesh.secret",
    ]  # fmt: skip


def test_a_table_that_was_named_by_a_path_stays_with_a_file_that_names_it(tmp_path: Path) -> None:
    limiter = Limiter([API], shared=tmp_path / "table", max_keys=64)
    limiter.reload(config_of(OTHER, shared=str(tmp_path / "table")))
    assert refused(limiter, config_of(API, shared="auto")) == ["shared"]


def test_tls_that_would_change_is_called_as_in_the_file() -> None:
    limiter = Limiter([API], node="eu-1", mesh=MESH)
    mesh = dataclasses.replace(MESH, tls_cert="c.pem", tls_key="k.pem")
    assert refused(limiter, config_of(OTHER, mesh=mesh)) == ["mesh.tls.cert", "mesh.tls.key"]


def test_redis_that_would_change_is_called_as_in_the_file() -> None:
    old = RedisConfig(host="redis", tls=True, tls_cert="c", tls_key="k")
    new = RedisConfig(
        host="other", tls=True, tls_ca="ca.pem", tls_cert="c", tls_key="k", deadline=0.1
    )
    limiter = Limiter([API], node="eu-1", redis=old)
    limiter.reload(config_of(API, redis=old))
    backend = "rating.bucket_backend"
    assert refused(limiter, config_of(OTHER, redis=new)) == [
        f"{backend}.connection.host", f"{backend}.connection.tls.ca", f"{backend}.deadline",
    ]  # fmt: skip


def test_what_the_file_leaves_out_may_come_from_code() -> None:
    limiter = Limiter([API], node="eu-1", region="eu", mesh=MESH)
    limiter.reload(config_of(OTHER))
    limiter.reload(config_of(API))
    assert refused(limiter, config_of(API, node="eu-1")) == ["node"]  # now the file names it


def test_buckets_and_their_configuration_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, seen = Limiter([API], node="eu-1"), []

    def connect(*_: object) -> None:
        seen.append((limiter.config, set(limiter.buckets)))

    monkeypatch.setattr(limiter.in_force.outside, "connect", connect)
    limiter.reload(config := config_of(OTHER))
    assert seen == [(config, {OTHER.name})]


def test_no_secret_is_in_a_refusal() -> None:
    limiter = Limiter([API], redis=REDIS)
    limiter.reload(
        config_of(API, redis=REDIS, degradation=Degradation(webhook="https://hooks/topsecret"))
    )
    other = RedisConfig(url="redis://user:another-secret@127.0.0.1:1/0")
    with pytest.raises(ConfigError) as caught:
        limiter.reload(
            config_of(
                API, redis=other, degradation=Degradation(webhook="https://hooks/othersecret")
            )
        )
    assert [problem.path for problem in caught.value.problems] == [
        "rating.bucket_backend.connection.url",
        "rating.webhook",
    ]
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_regions_of_a_replicated_redis_hold_until_a_restart() -> None:
    two, three = (
        RedisConfig(host="redis", active_active=True, regions=("eu", "us", "ap")[:n])
        for n in (2, 3)
    )
    limiter = Limiter([API], node="eu-1", region="eu", redis=two)
    limiter.reload(config_of(API, redis=two))
    assert refused(limiter, config_of(API, redis=three)) == ["rating.bucket_backend.regions"]


def test_modes_hold_until_a_restart() -> None:
    limiter = Limiter([API])
    limiter.reload(config_of(API))
    modes = ControllerSettings(outage_after=2.0)
    assert refused(limiter, config_of(API, degradation=Degradation(modes=modes))) == [
        "rating.modes.outage_after"
    ]


def test_an_eventual_limiter_learns_no_strong_bucket() -> None:
    limiter = Limiter([API], node="eu-1", redis=REDIS)
    strong = BucketSpec("new", 5, 5, consistency="strong")
    assert refused(limiter, config_of(API, strong)) == ["services.new.consistency"]
    changed = BucketSpec("api", 5, 5, consistency="strong")
    assert refused(limiter, config_of(changed)) == ["services.api.consistency"]


def test_without_redis_strong_is_eventual_as_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter([API])
    limiter.reload(config_of(BucketSpec("api", 5, 5, consistency="strong")))
    assert limiter.bucket("api").take("k").limit == 5
    assert "asks for strong consistency and names no Redis" in caplog.text


def test_more_than_a_table_holds_is_refused() -> None:
    time = VirtualTime()
    limiter = limiter_in(time)
    many = [BucketSpec(f"b{n}", 5, 5) for n in range(1_001)]
    assert refused(limiter, config_of(*many)) == ["services"]
    for capacity in (5, 6, 7):
        limiter.reload(config_of(*[BucketSpec(one.name, capacity, 5) for one in many[:1_000]]))
    # Each of these may need two more definitions within the minute.
    wider = config_of(*[BucketSpec(one.name, 8, 5) for one in many[:1_000]])
    assert refused(limiter, wider) == ["services"]
    time.advance(60)
    limiter.reload(wider)
    assert {bucket.spec.capacity for bucket in limiter.buckets.values()} == {8}


# ---- overrides and shadows ----


def api_with(capacity: int, **plans: int) -> BucketSpec:
    specs = [(glob, BucketSpec("plan", size, 1, "1d")) for glob, size in plans.items()]
    return BucketSpec("api", capacity, 1, "1d", overrides=specs)


def test_overrides_come_change_and_go() -> None:
    limiter = Limiter([api_with(10)])
    held = limiter.bucket("api")
    assert held.take("gold", 10)
    limiter.reload(config_of(api_with(10, gold=100)))
    assert limiter.bucket("api") is held
    assert list(limiter.buckets) == ["api", "api[gold]"]
    assert held.take("gold", 60).limit == 100
    assert held.take("other", 10).limit == 10
    limiter.reload(config_of(api_with(10, gold=80)))
    assert held.peek("gold").remaining == 20
    limiter.reload(config_of(api_with(10)))
    assert held.peek("gold").remaining == 0  # as it was left under the bucket's own limit
    assert list(limiter.buckets) == ["api"]
    limiter.reload(config_of(api_with(10, gold=100)))
    assert held.peek("gold").remaining == 40


def test_overrides_of_a_strong_bucket_are_strong() -> None:
    limiter = Limiter([api_with(10)], node="n", redis=REDIS, consistency="strong")
    held = limiter.bucket("api")
    limiter.reload(config_of(api_with(10, gold=100), redis=REDIS, consistency=Mode.STRONG))
    assert limiter.bucket("api") is held
    assert not held.immediate
    assert not held.of("gold").immediate
    assert held.of("gold").spec.name == "api[gold]"
    config = config_of(api_with(10, gold=100), redis=REDIS)
    assert refused(limiter, config) == ["services.api.consistency"] * 2


def test_an_override_may_not_be_called_like_a_bucket() -> None:
    limiter = Limiter([API])
    config = config_of(api_with(10, gold=100), BucketSpec("api[gold]", 5, 5))
    assert refused(limiter, config) == ["services.api[gold]"]


@virtually
async def test_who_waits_has_the_override_that_comes(time: VirtualTime) -> None:
    limiter = limiter_in(time, api_with(10))
    bucket = limiter.bucket("api")
    bucket.take("gold", 10)
    waiting = asyncio.ensure_future(bucket.wait("gold", 10))
    await asyncio.sleep(0)
    limiter.reload(config_of(api_with(10, gold=100)))
    assert (await waiting).limit == 100
    assert time.elapsed == 0


def test_a_shadow_binds_once_it_is_none() -> None:
    shadow = BucketSpec("api", 10, 1, "1d", shadow=True)
    limiter = Limiter([shadow])
    bucket = limiter.bucket("api")
    assert [bool(bucket.take("k", 6)) for _ in range(2)] == [True, True]
    limiter.reload(config_of(BucketSpec("api", 10, 1, "1d")))
    assert not bucket.take("k", 6)
    assert bucket.take("k", 4)
    counters = limiter.stats()["buckets"]["api"]
    assert (counters["allowed"], counters["denied"], counters["shadowed"]) == (2, 1, 1)


# ---- a file ----


def write(path: Path, capacity: int, version: int = 1) -> None:
    path.write_text(
        f"version: {version}\nservices:\n  api:\n"
        f"    bucket: {{capacity: {capacity}, refill_rate: 1, refill_interval: 1d}}\n"
    )


def test_a_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "limits.yaml"
    write(path, 10)
    monkeypatch.chdir(tmp_path)
    limiter = Limiter.from_file("limits.yaml")
    first = load_config(path)
    shown = {"version": 1, "hash": first.hash, "stage": "", "reloads": 0, "refused": 0, "fault": ""}
    assert limiter.stats()["config"] == shown
    limiter.bucket("api").take("k", 10)
    write(path, 15, version=2)
    monkeypatch.chdir("/")
    limiter.reload()
    assert limiter.bucket("api").peek("k").remaining == 5
    second = load_config(path).hash
    assert second != first.hash
    shown = {"version": 2, "hash": second, "stage": "", "reloads": 1, "refused": 0, "fault": ""}
    assert limiter.stats()["config"] == shown
    path.write_text("services: {api: {bucket: {capacity: 0, refill_rate: -1}}}")
    with pytest.raises(ConfigError, match="2 problems"):
        limiter.reload()
    now = limiter.stats()["config"]
    assert now == shown | {"refused": 1, "fault": now["fault"]}
    assert now["fault"].endswith(", and 1 more")
    assert limiter.bucket("api").spec.capacity == 15


def test_there_must_be_a_file_to_read_again() -> None:
    with pytest.raises(CrdtbucketError, match="no file"):
        Limiter([API]).reload()
