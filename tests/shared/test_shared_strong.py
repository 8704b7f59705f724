"""Strong buckets of processes that share a table: one limit at Redis, one quota when it is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, Mode
from crdtbucket.limiter.tables import QUOTA_SUFFIX, Tables
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.redis.replicated import read_entry
from tests.strong.redis_server import PATIENT, Server, free_port
from tests.waits import until

LIMIT = 500
STRONG = BucketSpec("api", LIMIT, 1, "1h", max_debt=0, consistency="strong")
LOCAL = BucketSpec("local", 300, 1, "1h", max_debt=0, consistency="eventual")
WORKERS = 4
GONE = "redis://127.0.0.1:7999"
"""Where nothing listens."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "table")


@pytest.fixture
def redis() -> Iterator[Server]:
    with Server() as server:
        yield server


def sharing(path: str, settings: dict[str, Any]) -> Limiter:
    """One of several that share a table."""
    return Limiter([STRONG], node="edge-1", shared=path, **settings)


def taken_in(limiter: Limiter, bucket: str, attempts: int) -> int:
    """How many of so many calls are admitted."""
    take = limiter.bucket(bucket).acquire_sync
    return sum(take("k").allowed for _ in range(attempts))


def in_children(work: Callable[[], int], children: int = WORKERS) -> list[int]:
    """What `work` gives in so many forked processes at once."""
    pipes, pids = [], []
    for _ in range(children):
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(write, str(work()).encode())
            except BaseException:  # noqa: BLE001 - shown, and missed by the parent
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(0)
        os.close(write)
        pipes.append(read)
        pids.append(pid)
    answers = []
    for read, pid in zip(pipes, pids, strict=True):
        with os.fdopen(read) as pipe:
            answers.append(pipe.read())
        os.waitpid(pid, 0)
    assert all(answers), "a child failed: its error is above"
    return [int(answer) for answer in answers]


def test_forked_workers_keep_one_limit(path: str, redis: Server) -> None:
    limiter = Limiter([STRONG, LOCAL], node="edge-1", shared=path, **redis.patient())

    def work() -> int:
        with limiter:
            strong, local = taken_in(limiter, "api", 300), taken_in(limiter, "local", 150)
            assert limiter.stats()["strong"]["sharing_nodes"] == 1
            return 1000 * strong + local

    answers = in_children(work)
    assert sum(answer // 1000 for answer in answers) == LIMIT
    assert sum(answer % 1000 for answer in answers) == 300
    limiter.close()


def test_forked_workers_of_a_region_keep_one_limit(path: str, redis: Server) -> None:
    patient = redis.patient()
    patient["redis"] = replace(patient["redis"], active_active=True, regions=("eu", "us"))
    limiter = Limiter([STRONG], node="edge-1", region="eu", shared=path, **patient)

    def work() -> int:
        with limiter:
            until(lambda: "us" in limiter.stats()["regions"], "a server is known")
            return taken_in(limiter, "api", 300)

    assert sum(in_children(work)) == LIMIT
    limiter.close()
    (key,) = redis.call("KEYS", "*{api:*}@eu")
    flat = redis.call("HGETALL", key)
    entry = read_entry(dict(zip(flat[::2], flat[1::2], strict=True)))
    assert entry is not None
    assert sum(one.taken - one.refunded for one in entry.records.values()) == LIMIT
    assert not redis.call("KEYS", "*@us")  # never written here


def test_all_workers_together_grant_one_share_of_an_outage(path: str) -> None:
    """Redis was never there: the host has its tenth of the limit, not each of its processes."""
    limiter = Limiter(
        [STRONG],
        node="edge-1",
        redis=f"redis://127.0.0.1:{free_port()}",
        degradation=Degradation(fallback_ratio=0.1),
        shared=path,
    )

    def work() -> int:
        with limiter:
            until(lambda: limiter.bucket("api").mode is Mode.FALLBACK, "the outage is seen")
            return taken_in(limiter, "api", 100)

    assert sum(in_children(work)) == LIMIT // 10
    limiter.close()


def test_each_process_shows_what_is_left_of_the_share_of_all(path: str) -> None:
    gone = {"redis": f"redis://127.0.0.1:{free_port()}"}
    with sharing(path, gone) as first, sharing(path, gone) as second:
        one, other = first.bucket("api"), second.bucket("api")
        assert one.acquire_sync("k", 20).remaining == LIMIT // 10 - 20
        assert other.acquire_sync("k", 5).remaining == 25
        assert list(asyncio.run(one.acquire_many(["k", "k"], [4, 1])).remaining) == [21, 20]
        assert asyncio.run(other.acquire("k", 3)).remaining == 17
        denied = one.acquire_sync("k", 18)
        assert (denied.allowed, denied.remaining) == (False, 17)


def test_the_share_is_charged_for_what_redis_granted_to_any_worker(
    path: str, redis: Server
) -> None:
    settings = redis.patient(fallback_ratio=0.5)
    with sharing(path, settings) as one, sharing(path, settings) as other:
        assert taken_in(one, "api", 200) == 200
        redis.kill()
        bucket = other.bucket("api")
        until(lambda: other.bucket("api").mode is Mode.FALLBACK, "the outage is seen")
        until(lambda: one.bucket("api").mode is Mode.FALLBACK, "the outage is seen by both")
        assert bucket.acquire_sync("other").allowed, "a key that nobody took of has its share"
        granted = taken_in(other, "api", 100) + taken_in(one, "api", 100)
        assert granted == 50, "half of the limit, of which 200 are spent"


def test_a_host_whose_new_shared_table_may_follow_another_one_warns_of_that_once(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After a reboot the file is gone, and with it what was granted before."""

    def warned() -> list[bool]:
        lines = [one.getMessage() for one in caplog.records if "once more" in one.getMessage()]
        caplog.clear()
        return ["its shared table is new" in line for line in lines]

    settings = {"redis": GONE, "degradation": Degradation(expected_nodes=1)}
    with caplog.at_level(logging.WARNING, "crdtbucket.strong"):
        with sharing(path, settings):
            assert warned() == [True]
            with sharing(path, settings):
                assert warned() == []
        with sharing(path, settings):
            assert warned() == []


def test_what_an_outage_granted_is_settled_once(path: str, redis: Server) -> None:
    """All that any worker granted without Redis is charged there when it is back."""
    settings = redis.patient(fallback_ratio=0.2)
    with sharing(path, settings) as one, sharing(path, settings) as other:
        granted = taken_in(one, "api", 10) + taken_in(other, "api", 10)
        redis.kill()
        until(
            lambda: all(x.bucket("api").mode is Mode.FALLBACK for x in (one, other)),
            "the outage is seen",
        )
        granted += taken_in(one, "api", 60) + taken_in(other, "api", 60)
        assert 20 <= granted <= LIMIT // 5
        redis.start()
        until(
            lambda: all(x.bucket("api").mode is Mode.STRONG for x in (one, other)),
            "Redis decides again",
        )
        until(
            lambda: not any(x.stats()["strong"]["unsettled"] for x in (one, other)),
            "the grants are settled",
        )
        granted += taken_in(one, "api", LIMIT)
        granted += taken_in(other, "api", LIMIT)
        assert granted == LIMIT


def test_a_killed_worker_loses_and_repeats_nothing(path: str, redis: Server) -> None:
    code = f"""
import sys
from crdtbucket import BucketSpec, ControllerSettings, Limiter, RedisConfig
from crdtbucket.strong.controller.degradation import Degradation
spec = BucketSpec("api", {LIMIT}, 1, "1h", max_debt=0, consistency="strong")
redis = RedisConfig(url={redis.url!r}, deadline=10.0)
how = Degradation(modes=ControllerSettings(**{PATIENT!r}))
with Limiter([spec], node="edge-1", redis=redis, degradation=how, shared={path!r}) as limiter:
    take = limiter.bucket("api").acquire_sync
    while True:
        print(int(take("k").allowed), flush=True)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        told = [worker.stdout.readline().strip() for _ in range(100)]
        worker.send_signal(signal.SIGKILL)
        told += worker.stdout.read().split()
    granted = told.count("1")
    assert granted >= 100
    with sharing(path, redis.patient()) as limiter:
        rest = taken_in(limiter, "api", LIMIT)
    # The call that the kill interrupted may have been charged without being reported.
    assert LIMIT - 1 <= granted + rest <= LIMIT


def test_strong_beside_a_mesh_asks_redis_and_falls_back_to_its_share(
    path: str, redis: Server
) -> None:
    """The mesh carries the shared table; strong buckets have their own and Redis."""
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32)
    with Limiter([STRONG, LOCAL], node="edge-1", mesh=mesh, shared=path, **redis.patient()) as one:
        assert taken_in(one, "api", 10) == 10
        assert one.bucket("local").take("k", 10)
        redis.kill()
        until(lambda: one.bucket("api").mode is Mode.FALLBACK, "no mesh could decide for it")
        assert one.bucket("local").take("k", 10)
        assert one.stats()["buckets"]["local"]["granted"] == 20


def test_what_a_limiter_shows_is_of_all_its_buckets(path: str, redis: Server) -> None:
    from prometheus_client import CollectorRegistry

    from crdtbucket.metrics.collector import register

    with Limiter([STRONG, LOCAL], node="edge-1", shared=path, **redis.patient()) as limiter:
        taken_in(limiter, "api", LIMIT // 2)
        assert limiter.bucket("local").take("k", 300)
        assert limiter.keys("api") == limiter.keys("local") == ["k"]
        registry = CollectorRegistry()
        register(limiter, registry)
        lowest = {
            bucket: registry.get_sample_value("crdtbucket_lowest_fill_ratio", {"bucket": bucket})
            for bucket in ("api", "local")
        }
        assert lowest["api"] == pytest.approx(0.5, abs=0.01)
        assert lowest["local"] == pytest.approx(0.0, abs=0.01)


def test_a_closed_limiter_leaves_no_decision_and_no_file_open(path: str, redis: Server) -> None:
    limiter = Limiter([STRONG, LOCAL], node="edge-1", shared=path, **redis.patient())
    with limiter:
        taken_in(limiter, "api", 1)
    held = {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    assert not held & {path, path + QUOTA_SUFFIX}
    for bucket in limiter.buckets.values():
        with pytest.raises(Exception, match="closed"):
            bucket.acquire_sync("k")


def test_a_fork_counts_under_an_epoch_of_its_own() -> None:
    """Two processes under one epoch would each state the other's takes as their own."""
    tables = Tables(None, node="a", mesh=None, redis=None, max_keys=16)

    def work() -> int:
        tables.begin_epoch()
        first = tables.main.epochs.running
        tables.begin_epoch()
        assert tables.main.epochs.running == first, "a second time changes nothing"
        return first

    epochs = in_children(work)
    before = tables.main.epochs.running
    tables.begin_epoch()
    assert tables.main.epochs.running == before
    assert len({before, *epochs}) == WORKERS + 1
