"""Watches until when the certificates that this process shows are valid. Of each it logs once that
it should have been renewed, and once that it has expired."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from crdtbucket.base.certificate_dates import CertificateDates, ends_soon, read_dates, until_the_end
from crdtbucket.base.clock import NS_PER_SECOND, now_ns

LOG = logging.getLogger("crdtbucket")
LOOK_NS = 10 * NS_PER_SECOND
"""Time (ns) between two readings of the files."""
FIX = "put a new certificate and its key in their files: no restart is needed"
USES = {
    "mesh": ("mesh.tls.cert", "nodes refuse it when they connect anew"),
    "redis": ("redis.tls_cert", "Redis refuses it when a connection begins"),
    "serve": ("--tls-cert", "clients refuse it when they connect"),
}
"""What a certificate is for, where its file is set, and what follows when it has expired."""


def late_renewal(use: str, file: str | None) -> str:
    """Why the certificate in this file should have been renewed, and what to do; "" where it need
    not be, or where there is none."""
    dates = None if file is None else read_dates(file)
    if dates is None or not ends_soon(left := dates.left(time.time()), dates.validity):
        return ""
    return f"{USES[use][0]} {file!r} {until_the_end(left)}: {FIX}"


@dataclass
class _Certificate:
    file: str
    dates: CertificateDates | None = None
    said: str = ""
    of: CertificateDates | None = None
    """The dates of the certificate that `said` is about."""


class OwnCertificates:
    """The certificates of one process, by their use, as they are in their files."""

    def __init__(
        self, clock: Callable[[], int] = now_ns, wall: Callable[[], float] = time.time
    ) -> None:
        """`clock`: local ns. `wall`: seconds since 1970."""
        self._clock, self._wall = clock, wall
        self._of_use: dict[str, _Certificate] = {}
        self._due: int | None = None

    def watch(self, use: str, file: str | None) -> None:
        """Watches a certificate, too. `use`: one of `USES`. `file`: None where there is none."""
        if file is not None:
            self._of_use[use] = _Certificate(file)
            self._due = None

    def beat(self) -> None:
        """Reads the files when that is due, and logs what is wrong; to be called often. While a
        file is being replaced, what was read before stays."""
        now = self._clock()
        if self._due is not None and now < self._due:
            return
        self._due = now + LOOK_NS
        for use, one in list(self._of_use.items()):
            one.dates = read_dates(one.file) or one.dates
            if one.dates is not None:
                self._say(use, one, one.dates)

    def stats(self) -> dict[str, dict[str, float]]:
        """Of each certificate that was read, `left`: the seconds until it expires, below 0 once it
        has, and `validity`: for how many it was issued. Safe from any thread."""
        return {
            use: {"left": dates.left(self._wall()), "validity": dates.validity}
            for use, one in list(self._of_use.items())
            if (dates := one.dates) is not None
        }

    def _say(self, use: str, one: _Certificate, dates: CertificateDates) -> None:
        if dates != one.of:
            one.of, one.said = dates, ""
        left, (setting, then) = dates.left(self._wall()), USES[use]
        what = f"the certificate of this node, {setting} {one.file!r}, {until_the_end(left)}"
        if left <= 0 and one.said == "soon":  # one that had expired before is refused in words
            LOG.error("%s: %s; %s", what, then, FIX)
            one.said = "expired"
        elif left > 0 and not one.said and ends_soon(left, dates.validity):
            LOG.warning("%s: renew it before; %s", what, FIX)
            one.said = "soon"
