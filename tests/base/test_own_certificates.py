"""Until when the certificates of a process are valid, and what is logged before their end."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest

from crdtbucket import BucketSpec, Limiter, MeshConfig, RedisConfig
from crdtbucket.base import own_certificates
from crdtbucket.base.own_certificates import LOOK_NS, OwnCertificates
from crdtbucket.http.server.serve_settings import ServeSettings
from crdtbucket.http.server.serving import SidecarServer
from tests.certificates import Authority
from tests.waits import eventually

HOUR, DAY = 3600.0, 86_400.0


class Times:
    """A wall clock, seconds since 1970, and a local clock, ns, that a test turns."""

    def __init__(self) -> None:
        self.wall, self.local = time.time(), 7

    def watching(self, file: str | None, use: str = "mesh") -> OwnCertificates:
        own = OwnCertificates(lambda: self.local, lambda: self.wall)
        own.watch(use, file)
        return own


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(one.levelname, one.getMessage()) for one in caplog.records]
    caplog.clear()
    return found


def test_it_is_said_once_that_it_ends_soon_and_once_that_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket")
    file = Authority(tmp_path, "ca").issue("a", hours=(-1, 365 * 24))["tls_cert"]
    times = Times()
    own = times.watching(file)
    for day in (0, 300, 357.9, 358.1, 359, 364.9, 365.1, 366, 380):
        times.wall = time.time() + day * DAY
        times.local += LOOK_NS
        own.beat()
        own.beat()
        left = own.stats()["mesh"]["left"]
        assert left == pytest.approx((365 - day) * DAY, abs=60)
        said = lines(caplog)
        if day == 358.1:
            ((level, text),) = said
            assert level == "WARNING"
            assert f"mesh.tls.cert '{file}', expires in 6 days: renew it before" in text
        elif day == 365.1:
            ((level, text),) = said
            assert level == "ERROR"
            assert "expired 2 hours ago: nodes refuse it when they connect anew" in text
        else:
            assert not said


def test_a_new_certificate_is_seen_within_ten_seconds_and_judged_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, times = Authority(tmp_path, "ca"), Times()
    file = authority.issue("a", hours=(-1000, 30))["tls_cert"]
    own = times.watching(file)
    own.beat()
    assert len(lines(caplog)) == 1
    shutil.copy(authority.issue("b", hours=(-1, 1000))["tls_cert"], file)
    times.local += LOOK_NS - 1
    own.beat()
    assert own.stats()["mesh"]["left"] == pytest.approx(30 * HOUR, abs=60)
    times.local += 1
    own.beat()
    found = {"left": pytest.approx(1000 * HOUR, abs=60), "validity": 1001 * 3600}
    assert own.stats() == {"mesh": found}
    assert not lines(caplog)
    shutil.copy(authority.issue("c", hours=(-1000, 20))["tls_cert"], file)
    times.local += LOOK_NS
    own.beat()
    assert len(lines(caplog)) == 1


def test_while_a_file_is_replaced_what_was_read_stays(tmp_path: Path) -> None:
    file = Path(Authority(tmp_path, "ca").issue("a", hours=(-1, 30))["tls_cert"])
    times = Times()
    own = times.watching(str(file))
    own.beat()
    for text in ("", "-----BEGIN CERTIFICATE-----\n"):
        file.write_text(text)
        times.local += LOOK_NS
        own.beat()
    file.unlink()
    times.local += LOOK_NS
    own.beat()
    assert own.stats()["mesh"]["left"] == pytest.approx(30 * HOUR, abs=60)


def test_a_process_without_a_certificate_has_no_end_of_it() -> None:
    own = Times().watching(None)
    own.beat()
    assert own.stats() == {}


def test_each_line_says_which_certificate_and_what_follows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = Authority(tmp_path, "ca").issue("a", hours=(-1000, 3))["tls_cert"]
    for use, setting, then in (
        ("redis", "redis.tls_cert", "Redis refuses it when a connection begins"),
        ("serve", "--tls-cert", "clients refuse it when they connect"),
    ):
        times = Times()
        own = times.watching(file, use)
        own.beat()
        times.wall += 4 * HOUR
        times.local += LOOK_NS
        own.beat()
        (_, soon), (_, ended) = lines(caplog)
        assert f"{setting} '{file}', expires in 2 hours: renew it before; put a new" in soon
        assert f"{setting} '{file}', expired 60 minutes ago: {then}; put a new" in ended


async def test_a_limiter_watches_those_of_the_mesh_for_redis_and_of_serve(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_certificates, "LOOK_NS", 1)
    authority = Authority(tmp_path, "ca")
    one, two, three = (authority.issue(name, "n", hours=(-1000, 30)) for name in "nrs")
    mesh = MeshConfig(listen="127.0.0.1:0", secret="x" * 32, tls_ca=authority.file, **one)
    redis = RedisConfig(url="rediss://127.0.0.1:9", tls_ca=authority.file, **two)
    limiter = Limiter([BucketSpec("b", 1, 1)], node="n", mesh=mesh, redis=redis)
    SidecarServer(limiter, ServeSettings(listen=("127.0.0.1:0",), **three))
    async with limiter:
        await eventually(lambda: len(limiter.stats()["certificates"]) == 3)
        assert caplog.text.count("expires in 29 hours") == 3
        shutil.copy(authority.issue("b", hours=(-1, 90))["tls_cert"], two["tls_cert"])
        await eventually(lambda: limiter.stats()["certificates"]["redis"]["left"] > 80 * HOUR)
