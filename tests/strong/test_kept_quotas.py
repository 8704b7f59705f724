"""What a process has granted of its quotas in an outage binds the next process of its node."""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtbucket import BucketSpec, Limiter, MeshConfig, MeshError, RedisConfig
from crdtbucket._core import Table
from crdtbucket.base.packing import pack
from crdtbucket.mesh import snapshot
from crdtbucket.mesh.state_file import CheckedFile
from crdtbucket.strong.controller.controller_settings import ControllerSettings
from crdtbucket.strong.controller.degradation import Degradation
from crdtbucket.strong.kept_quotas import KeptQuotas
from crdtbucket.strong.quota import CandidateQuota, Quota
from crdtbucket.strong.redis.shares import ALONE, Division
from crdtbucket.strong.rule_maker import RuleMaker
from crdtbucket.strong.strong_side import StrongSide
from tests.strong.redis_server import EAGER, Server
from tests.waits import eventually

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
SPEC = BucketSpec("b", 1_000, 10, "1h", consistency="strong")
GONE = "redis://127.0.0.1:7999"
"""Where nothing listens."""
DEGRADED = Degradation(expected_nodes=20, modes=ControllerSettings(**EAGER))  # type: ignore[arg-type]
BOOT = b"a boot"


def limiter(folder: Path | None, *specs: BucketSpec) -> Limiter:
    mesh = MeshConfig(listen="127.0.0.1:0", **({"state_dir": folder} if folder else {}))
    redis = RedisConfig(url=GONE)
    return Limiter(specs or [SPEC], node="n", mesh=mesh, redis=redis, degradation=DEGRADED)


async def drain(one: Limiter, key: str = "k", cost: int = 5) -> int:
    granted = 0
    while await one.bucket("b").acquire(key, cost):
        granted += cost
    return granted


# -- processes


async def test_a_process_that_ends_in_order_leaves_what_it_has_granted(tmp_path: Path) -> None:
    async with limiter(tmp_path) as one:
        assert (await one.bucket("b").acquire("k", 30)).allowed
        assert await drain(one, "more") == 50
    for granted in (20, 0):
        async with limiter(tmp_path) as one:
            assert [await drain(one, key) for key in ("k", "more")] == [granted, 0]
            assert await drain(one, f"new {granted}") == 50


async def test_after_a_process_that_was_killed_every_quota_begins_empty(tmp_path: Path) -> None:
    """The copy is what a process leaves that is killed meanwhile."""
    here, there = tmp_path / "here", tmp_path / "there"
    async with limiter(here) as one:
        assert (await one.bucket("b").acquire("k", 30)).allowed
        shutil.copytree(here, there)
    for _ in range(2):  # the second process inherits it from one that ends in order
        async with limiter(there) as one:
            assert [await drain(one, key) for key in ("k", "new")] == [0, 0]
            left = await one.bucket("b").acquire("other")
            assert (left.allowed, left.remaining) == (False, 0)


async def test_a_start_that_fails_forfeits_nothing(tmp_path: Path) -> None:
    async with limiter(tmp_path) as one:
        assert (await one.bucket("b").acquire("k", 30)).allowed
    again = limiter(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StrongSide, "start", _fail)
        with pytest.raises(OSError, match="failed"):
            await again.__aenter__()
    async with again:
        assert [await drain(again, key) for key in ("k", "new")] == [20, 50]
    async with limiter(tmp_path) as one:
        assert [await drain(one, key) for key in ("k", "new")] == [0, 0]


async def _fail(_: StrongSide) -> None:
    raise OSError("failed")


LIFE = """
import asyncio, os, signal, sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from tests.strong.test_kept_quotas import drain, limiter

async def live():
    async with limiter(Path(sys.argv[1])) as one:
        print(await drain(one), flush=True)
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(live())
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_real_processes_of_a_node_grant_its_share_once(tmp_path: Path, end: str) -> None:
    granted = []
    for _ in range(3):
        command = [sys.executable, "-c", LIFE, str(tmp_path), end]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == (-signal.SIGKILL if end == "killed" else 0), done.stderr
        granted.append(int(done.stdout))
    assert granted == [50, 0, 0]


async def test_without_a_state_dir_a_process_warns_that_it_grants_its_quota_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warned() -> int:
        lines = [one for one in caplog.records if "once more" in one.getMessage()]
        caplog.clear()
        return len(lines)

    with caplog.at_level(logging.WARNING, "crdtbucket.strong"):
        async with limiter(None) as one:
            assert await drain(one) == 50
        assert warned() == 1
        async with limiter(tmp_path) as one:
            assert await drain(one) == 50
        assert warned() == 0


async def test_a_disk_that_is_full_at_the_end_costs_the_quotas_and_not_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = CheckedFile.save

    def full(self: CheckedFile, *pieces: bytes) -> None:
        if self.path.suffix == ".quotas":
            raise MeshError("no space")
        save(self, *pieces)

    async with limiter(tmp_path) as one:
        assert (await one.bucket("b").acquire("k", 30)).allowed
        monkeypatch.setattr(CheckedFile, "save", full)
    monkeypatch.undo()
    assert [one.levelname for one in caplog.records if "begins with empty" in one.getMessage()] == [
        "ERROR"
    ]
    async with limiter(tmp_path) as one:
        assert [await drain(one, key) for key in ("k", "new")] == [0, 0]


# -- the file, at any time


class Life:
    """One process of a node: its table of quotas, in a boot whose clock is `now`."""

    def __init__(self, file: Path | CheckedFile, now: int, spec: BucketSpec = SPEC) -> None:
        self.table = Table(max_keys=100, virtual=True, hash_key=bytes(16))
        self.table.set_time(now)
        self.kept = KeptQuotas(self.table, "n")
        self.quota = Quota(self.table, spec, Fraction(1, 10), fleet=False, kept=self.kept)
        self.kept.begin(CheckedFile(file, "remove it") if isinstance(file, Path) else file)

    def grant(self, most: int = 1_000, key: str = "k", among: Division = ALONE) -> int:
        granted = 0
        while granted < most and self.quota.take(key, 1, among):
            granted += 1
        return granted


class InMemory(CheckedFile):
    """A file on no disk."""

    def __init__(self) -> None:
        super().__init__(Path("quotas"), "")
        self.data: bytes | None = None

    def load(self) -> bytes | None:
        return self.data

    def save(self, *pieces: bytes) -> None:
        self.data = b"".join(pieces)


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(snapshot, "boot_id", lambda: BOOT)
    return monkeypatch


def test_what_was_granted_is_refilled_between_two_processes(
    tmp_path: Path, boot: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quotas"
    life = Life(path, HOUR)
    assert life.grant() == 100
    life.kept.end()
    assert Life(path, 21 * HOUR).grant() == 20  # a tenth of ten an hour


def test_in_another_boot_nothing_was_refilled(tmp_path: Path, boot: pytest.MonkeyPatch) -> None:
    path = tmp_path / "quotas"
    life = Life(path, HOUR)
    assert life.grant(70) == 70
    life.kept.end()
    boot.setattr(snapshot, "boot_id", lambda: b"another boot")
    life = Life(path, 90 * HOUR)
    assert life.grant() == 30
    life.table.set_time(100 * HOUR)
    assert life.grant() == 10


def test_a_quota_that_began_empty_refills_over_the_ends_of_processes(
    tmp_path: Path, boot: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quotas"
    Life(path, HOUR)
    life = Life(path, 2 * HOUR)  # the one before was killed
    assert life.grant() == 0
    life.table.set_time(12 * HOUR)
    life.kept.end()
    life = Life(path, 22 * HOUR)
    assert life.grant(key="new") == 20
    life.kept.end()
    boot.setattr(snapshot, "boot_id", lambda: b"another boot")
    life = Life(path, SECOND)
    assert (life.grant(key="new"), life.grant(key="newer")) == (0, 20)
    life.table.set_time(SECOND + 80 * HOUR)
    assert life.grant(key="newest") == 100
    life.kept.end()
    Life(path, 100 * HOUR)
    assert Life(path, 100 * HOUR).grant(key="newest") == 0


def test_an_empty_quota_is_empty_in_every_way_of_use(
    tmp_path: Path, boot: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quotas"
    Life(path, HOUR)
    life = Life(path, 11 * HOUR)
    doubt = Division(20, 10)
    life.table.set_time(61 * HOUR)  # half of it is there again
    life.quota.charge("charged", 10, ALONE)
    life.quota.give_back("returned", 10, ALONE)
    assert life.quota.debt_ns("shown", ALONE) == 950 * 360 * SECOND
    assert life.quota.debt_ns("doubted", doubt) == 975 * 360 * SECOND
    assert life.grant(key="doubted", among=doubt) == 25
    found = [life.grant(key=key) for key in ("charged", "returned", "shown", "doubted")]
    assert found == [40, 60, 50, 25]


def test_an_empty_quota_is_empty_for_a_candidate_too(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    Life(path, HOUR)
    life = Life(path, 11 * HOUR)
    ratio, spec = Fraction(1, 10), BucketSpec("b", 1_000, 1, "1h")
    life.quota = CandidateQuota(
        life.table, spec, ratio, fleet=False, kept=life.kept, in_force=life.quota
    )
    life.table.set_time(61 * HOUR)  # half of the quota in force is there again
    assert life.grant() == 5


@pytest.mark.parametrize("killed", [False, True])
def test_a_process_knows_how_many_its_predecessor_knew(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "quotas"
    life = Life(path, HOUR)
    assert life.kept.nodes == 1
    for nodes in (7, 7, 5):
        life.kept.note(nodes)
    if not killed:
        life.kept.end()
    for _ in range(2):  # it passes it on, also if it never learns of another number
        assert Life(path, HOUR).kept.nodes == 5


async def test_a_process_that_starts_in_an_outage_counts_those_of_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    degraded = Degradation(fallback_ratio=1, modes=DEGRADED.modes)
    with Server() as server:

        def node(name: str) -> Limiter:
            mesh = MeshConfig(listen="127.0.0.1:0", state_dir=tmp_path)
            redis = RedisConfig(url=server.url, deadline=10.0)
            return Limiter([SPEC], node=name, mesh=mesh, redis=redis, degradation=degraded)

        async with node("a") as first, node("b"), node("c"):
            registry = first.bucket("b").store.registry  # type: ignore[attr-defined]
            registry._due = 0
            await eventually(lambda: registry.here == 3)
            server.kill()
        caplog.clear()
        async with node("a") as again:
            assert await drain(again) == 330
            assert again.stats()["strong"]["sharing_nodes"] == 3
        assert "expected_nodes" not in caplog.text


def test_another_limit_goes_on_from_what_was_granted(
    tmp_path: Path, boot: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "quotas"
    life = Life(path, HOUR)
    assert life.grant(60) == 60
    life.kept.end()
    life = Life(path, HOUR, BucketSpec("b", 800, 20, "1h"))
    assert life.grant() == 20
    life.kept.end()
    assert Life(path, HOUR, BucketSpec("other", 1_000, 10, "1h")).grant() == 100


@pytest.mark.parametrize(
    "data",
    [b"", b"text", pack(1), pack((1,)), pack((1, 2)), pack((1, 0, None)), pack((1, 2.5, None)),
     pack((1, 1, 2)), pack((1, 1, (BOOT, 1, None))), pack((1, 1, (BOOT, 1, None, b"no snapshot"))),
     pack((1, 1, (BOOT, "x", 1, b""))), pack((1, 1, (BOOT, 1, 0.5, b""))),
     pack((1, 1, (BOOT, 1, True, b"")))],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "quotas"
    CheckedFile(path, "").save(data)
    with pytest.raises(MeshError, match=r"quotas is damaged .*: remove it"):
        Life(path, HOUR)


def test_the_file_of_another_version_is_one_of_which_nothing_is_known(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    CheckedFile(path, "").save(pack((2, {"any": 1})))
    assert Life(path, HOUR).grant() == 0
    CheckedFile(path, "").save(pack((1, 1, (BOOT, 1, None, pack((99, b"another snapshot"))))))
    assert Life(path, HOUR).grant() == 0


def test_the_child_of_a_fork_reads_what_another_child_has_left(tmp_path: Path) -> None:
    """Both have the table that the parent has made."""
    path = tmp_path / "quotas"
    life = Life(tmp_path / "unused", HOUR)
    epoch = life.table.epochs.running
    child = Life(path, HOUR)
    child.table.epochs.open(epoch)
    assert child.grant(30) == 30
    child.kept.end()
    twin = Table(max_keys=100, virtual=True, hash_key=bytes(16), epoch=epoch)
    twin.set_time(HOUR)
    kept = KeptQuotas(twin, "n")
    quota = Quota(twin, SPEC, Fraction(1, 10), fleet=False, kept=kept)
    kept.begin(CheckedFile(path, ""))
    assert not quota.take("k", 71, ALONE)
    assert quota.take("k", 70, ALONE)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "take", "charge", "close", "kill", "reboot", "power"]),
            st.integers(1, 60),
            st.sampled_from([0, 0, SECOND, HOUR, 10 * HOUR, 200 * HOUR]),
        ),
        max_size=40,
    )
)
def test_processes_of_a_node_never_grant_more_than_its_share(
    ops: list[tuple[str, int, int]],
) -> None:
    """Whatever ends them; the clock of a machine begins anew when that is booted."""
    with pytest.MonkeyPatch.context() as patch:
        file, boots, clock, passed, granted = InMemory(), 0, HOUR, 0, 0
        patch.setattr(snapshot, "boot_id", lambda: b"%d" % boots)
        life = Life(file, clock)
        for what, cost, wait in ops:
            clock, passed = clock + wait, passed + wait
            life.table.set_time(clock)
            if what == "take":
                granted += cost * bool(life.quota.take("k", cost, ALONE))
            elif what == "charge":
                life.quota.charge("k", cost, ALONE)
            else:
                if what in ("close", "reboot"):
                    life.kept.end()
                if what in ("reboot", "power"):
                    boots, clock = boots + 1, cost * SECOND
                life = Life(file, clock)
            assert granted <= 100 + passed // HOUR


def test_the_warning_of_a_start_names_the_key_as_a_file_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`mesh.expected_nodes` is another one."""
    new = SimpleNamespace(
        degradation=Degradation(), _kept=SimpleNamespace(nodes=1, kept=True, shared=False)
    )
    RuleMaker.warn_of_a_start(cast("RuleMaker", new))
    assert "Set rating.expected_nodes to the number of processes" in caplog.text
