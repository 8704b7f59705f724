"""Until when the certificate of a node is valid, and what is logged before its end."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import pytest

from crdtbucket.mesh.links.own_certificate import LOOK_NS, OwnCertificate
from crdtbucket.mesh.transport.mesh_network import MeshNetwork
from tests.certificates import Authority
from tests.mesh.network import RecordingNode, config, running
from tests.waits import eventually

HOUR, DAY = 3600.0, 86_400.0


class Wall:
    """A wall clock that a test turns: seconds since 1970."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(one.levelname, one.getMessage()) for one in caplog.records]
    caplog.clear()
    return found


def test_it_is_said_once_that_it_ends_soon_and_once_that_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crdtbucket.mesh")
    file = Authority(tmp_path, "ca").issue("a", hours=(-1, 365 * 24))["tls_cert"]
    wall = Wall()
    own = OwnCertificate(file, wall)
    for turn, day in enumerate((0, 300, 357.9, 358.1, 359, 364.9, 365.1, 366, 380)):
        wall.now = time.time() + day * DAY
        own.look(turn * LOOK_NS)
        own.look(turn * LOOK_NS)
        left = own.stats()["certificate_left"]
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
    authority = Authority(tmp_path, "ca")
    file = authority.issue("a", hours=(-1000, 30))["tls_cert"]
    own = OwnCertificate(file)
    own.look(7)
    assert len(lines(caplog)) == 1
    shutil.copy(authority.issue("b", hours=(-1, 1000))["tls_cert"], file)
    own.look(7 + LOOK_NS - 1)
    assert own.stats()["certificate_left"] == pytest.approx(30 * HOUR, abs=60)
    own.look(7 + LOOK_NS)
    assert own.stats() == {
        "certificate_left": pytest.approx(1000 * HOUR, abs=60),
        "certificate_validity": 1001 * 3600,
    }
    assert not lines(caplog)
    shutil.copy(authority.issue("c", hours=(-1000, 20))["tls_cert"], file)
    own.look(7 + 2 * LOOK_NS)
    assert len(lines(caplog)) == 1


def test_while_a_file_is_replaced_what_was_read_stays(tmp_path: Path) -> None:
    file = Path(Authority(tmp_path, "ca").issue("a", hours=(-1, 30))["tls_cert"])
    own = OwnCertificate(str(file))
    own.look(0)
    for turn, text in enumerate(("", "-----BEGIN CERTIFICATE-----\n"), 1):
        file.write_text(text)
        own.look(turn * LOOK_NS)
    file.unlink()
    own.look(3 * LOOK_NS)
    assert own.stats()["certificate_left"] == pytest.approx(30 * HOUR, abs=60)


def test_a_node_without_a_certificate_has_no_end_of_it() -> None:
    own = OwnCertificate(None)
    own.look(0)
    assert own.stats() == {"certificate_left": None, "certificate_validity": None}


async def test_a_node_watches_its_certificate_from_the_start_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crdtbucket.mesh.links.own_certificate.LOOK_NS", 1)
    authority = Authority(tmp_path, "ca")
    settings = authority.issue("a", hours=(-1000, 30))
    mesh = MeshNetwork(RecordingNode("a"), config(**settings, tls_ca=authority.file))
    async with running(mesh):
        await eventually(lambda: "expires in 29 hours" in caplog.text)
        assert mesh.certificate.stats()["certificate_left"] == pytest.approx(30 * HOUR, abs=60)
        shutil.copy(authority.issue("b", hours=(-1, 90))["tls_cert"], settings["tls_cert"])
        await eventually(lambda: (mesh.certificate.stats()["certificate_left"] or 0) > 80 * HOUR)
