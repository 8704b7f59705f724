"""Reads from the file of a certificate between which dates it is valid.

The standard library reads dates only from a certificate that TLS has accepted, which one that has
expired is not, and `cryptography` need not be installed. So the few fields up to the dates are
read here (RFC 5280, section 4.1).
"""

from __future__ import annotations

import re
import ssl
from calendar import timegm
from contextlib import suppress
from dataclasses import dataclass
from time import strptime

from crdtbucket.base.counted import counted

FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
SEQUENCE, VERSION = 0x30, 0xA0
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SOON_S, SOON_SHARE = 7 * 86_400, 5
"""A certificate ends soon when less than a week is left, and less than a fifth of the time for
which it was issued: one that lives for a day is renewed when hours are left."""


@dataclass(frozen=True)
class CertificateDates:
    """The time in which a certificate is valid, in seconds since 1970."""

    begin: int
    end: int

    @property
    def validity(self) -> int:
        """For how many seconds it was issued."""
        return self.end - self.begin

    def left(self, now: float) -> float:
        """Seconds until it expires; below 0 once it has. `now`: since 1970."""
        return self.end - now


def ends_soon(left: float, validity: float) -> bool:
    """Whether a certificate should have been renewed. `left`: seconds until it expires. `validity`:
    seconds for which it was issued."""
    return left < min(SOON_S, validity / SOON_SHARE)


def until_the_end(left: float) -> str:
    """When a certificate expires, in words: `expires in 6 days`, or `expired 2 hours ago`. `left`:
    seconds until then."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if abs(left) >= 2 * size or unit == "minute":
            number = counted(int(abs(left) // size), unit)
            break
    return f"expires in {number}" if left > 0 else f"expired {number} ago"


def read_dates(file: str) -> CertificateDates | None:
    """The dates of the first certificate in a PEM file, which is the one that TLS shows; None where
    the file holds none that can be read."""
    with suppress(OSError, ValueError, IndexError):
        with open(file, "rb") as opened:
            found = FIRST.search(opened.read())
        if found is not None:
            return _dates(ssl.PEM_cert_to_DER_cert(found[0].decode("ascii")))
    return None


def _dates(der: bytes) -> CertificateDates:
    body = _inside(_inside(der))
    if body[0] == VERSION:
        body = _after(body)
    for _ in ("serial number", "algorithm", "issuer"):
        body = _after(body)
    begin = _inside(body)
    return CertificateDates(_time(begin), _time(_after(begin)))


def _time(der: bytes) -> int:
    text = _value(der).decode("ascii")
    if der[0] == UTC_TIME:  # two digits of the year, 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    elif der[0] != GENERALIZED_TIME:
        raise ValueError("no date")
    return timegm(strptime(text, "%Y%m%d%H%M%SZ"))


def _inside(der: bytes) -> bytes:
    if der[0] != SEQUENCE:
        raise ValueError("no sequence")
    return _value(der)


def _value(der: bytes) -> bytes:
    start, end = _place(der)
    return der[start:end]


def _after(der: bytes) -> bytes:
    return der[_place(der)[1] :]


def _place(der: bytes) -> tuple[int, int]:
    """Where the value of the first field begins and ends."""
    size, start = der[1], 2
    if size >= 0x80:
        start += size - 0x80
        size = int.from_bytes(der[2:start], "big")
    if start + size > len(der):
        raise ValueError("a field is cut off")
    return start, start + size
