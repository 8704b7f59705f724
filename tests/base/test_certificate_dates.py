"""Reads from its file when a certificate begins and ends to be valid."""

from __future__ import annotations

import base64
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from crdtbucket.base.certificate_dates import CertificateDates, ends_soon, read_dates, until_the_end
from tests.certificates import Authority

UTC = datetime.timezone.utc


def certificate(begin: datetime.datetime, end: datetime.datetime, serial: int = 7) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n" * 60)])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(serial)
    made = made.not_valid_before(begin).not_valid_after(end)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ((1950, 1, 1), (1999, 12, 31, 23, 59, 59)),
        ((1999, 12, 31), (2000, 1, 1)),
        ((2026, 12, 1, 22, 46, 19), (2027, 2, 28, 1, 2, 3)),
        ((2049, 12, 31, 23, 59, 59), (2050, 1, 1)),  # from 2050 on the field has another form
        ((2026, 1, 1), (9999, 12, 31, 23, 59, 59)),
    ],
)
def test_the_dates_are_those_of_the_certificate(
    begin: tuple[int, ...], end: tuple[int, ...], tmp_path: Path
) -> None:
    first, last = (datetime.datetime(*one, tzinfo=UTC) for one in (begin, end))  # type: ignore[misc,arg-type]
    file = tmp_path / "node.crt"
    file.write_bytes(certificate(first, last))
    assert read_dates(str(file)) == CertificateDates(int(first.timestamp()), int(last.timestamp()))


def test_of_a_chain_it_is_the_certificate_of_the_node_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    own = Path(authority.issue("eu-1", hours=(-1, 5))["tls_cert"])
    chain = tmp_path / "chain.crt"
    chain.write_bytes(b"about it: \xe4\n" + own.read_bytes() + Path(authority.file).read_bytes())
    assert read_dates(str(chain)) == read_dates(str(own))
    assert read_dates(str(own)) != read_dates(authority.file)


def test_a_long_serial_number_and_a_long_name_are_passed_over(tmp_path: Path) -> None:
    first, last = (datetime.datetime(year, 1, 1, tzinfo=UTC) for year in (2026, 2027))
    file = tmp_path / "node.crt"
    file.write_bytes(certificate(first, last, serial=2**158 + 1))
    dates = read_dates(str(file))
    assert dates is not None
    assert dates.end - dates.begin == 365 * 86_400


PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "text", ["", "no certificate", PEM.format(""), PEM.format("MIIB"), PEM.format("AAAA"), "\0"]
)
def test_what_holds_no_certificate_has_no_dates(text: str, tmp_path: Path) -> None:
    file = tmp_path / "node.crt"
    file.write_text(text)
    assert read_dates(str(file)) is None
    assert read_dates(str(tmp_path / "missing.crt")) is None


def test_every_part_of_a_certificate_that_is_cut_off_has_no_dates_or_the_right_ones(
    tmp_path: Path,
) -> None:
    own = Path(Authority(tmp_path, "authority").issue("eu-1")["tls_cert"])
    der, whole = ssl.PEM_cert_to_DER_cert(own.read_text()), read_dates(str(own))
    for size in range(len(der)):
        own.write_text(PEM.format(base64.b64encode(der[:size]).decode()))
        assert read_dates(str(own)) in (None, whole)


@pytest.mark.parametrize(
    ("days", "left_days", "short"),
    [
        (365, 7.1, False),
        (365, 6.9, True),
        (90, 7.1, False),
        (30, 6.1, False),  # a fifth of its life
        (30, 5.9, True),
        (1, 0.21, False),
        (1, 0.19, True),
        (365, -1.0, True),
    ],
)
def test_little_is_left_below_a_week_and_below_a_fifth_of_its_life(
    days: int, left_days: float, short: bool
) -> None:
    dates = CertificateDates(0, days * 86_400)
    left = dates.left((days - left_days) * 86_400)
    assert left == pytest.approx(left_days * 86_400)
    assert ends_soon(left, dates.validity) is short


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (6.9 * 86_400, "expires in 6 days"),
        (47.5 * 3_600, "expires in 47 hours"),
        (7_100, "expires in 118 minutes"),
        (61, "expires in 1 minute"),
        (1, "expires in 0 minutes"),
        (-1, "expired 0 minutes ago"),
        (-3 * 86_400, "expired 3 days ago"),
    ],
)
def test_how_long_it_is_until_the_end_in_words(left: float, words: str) -> None:
    assert until_the_end(left) == words
