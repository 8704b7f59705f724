"""Watches until when the certificate of a node is valid, and says once when it should have been
renewed, and once when it has expired."""

from __future__ import annotations

import time
from collections.abc import Callable

from crdtbucket.base.certificate_dates import CertificateDates, ends_soon, read_dates, until_the_end
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.mesh.links.counters import LOG

LOOK_NS = 10 * NS_PER_SECOND
"""Between two readings of the file."""
FIX = "put a new certificate and its key in their files: no restart is needed"


def late_renewal(file: str | None) -> str:
    """Why the certificate in this file should have been renewed, and what to do; "" where it need
    not be, or where there is none."""
    dates = None if file is None else read_dates(file)
    if dates is None or not ends_soon(left := dates.left(time.time()), dates.validity):
        return ""
    return f"mesh.tls.cert {file!r} {until_the_end(left)}: {FIX}"


class OwnCertificate:
    """The certificate in the file of `mesh.tls.cert`, which the next connection uses."""

    def __init__(self, file: str | None, wall: Callable[[], float] = time.time) -> None:
        """`file`: None where the node has no certificate. `wall`: seconds since 1970."""
        self._file = file
        self._wall = wall
        self._dates: CertificateDates | None = None
        self._due: int | None = None
        self._said = ""
        self._of: CertificateDates | None = None
        """The dates of the certificate that `_said` is about."""

    def look(self, now: int) -> None:
        """Reads the file when that is due, and logs what is wrong; to be called often. `now`: local
        ns. While a file is being replaced, what was read before stays."""
        if self._file is None or (self._due is not None and now < self._due):
            return
        self._due = now + LOOK_NS
        self._dates = read_dates(self._file) or self._dates
        if self._dates is not None:
            self._say(self._dates)

    def stats(self) -> dict[str, float | None]:
        """`certificate_left`: seconds until it expires, below 0 once it has; `certificate_validity`
        is for how many it was issued. Both are None where there is no certificate."""
        if self._dates is None:
            return {"certificate_left": None, "certificate_validity": None}
        left, validity = self._dates.left(self._wall()), self._dates.validity
        return {"certificate_left": left, "certificate_validity": validity}

    def _say(self, dates: CertificateDates) -> None:
        if dates != self._of:
            self._of, self._said = dates, ""
        left = dates.left(self._wall())
        what = f"the certificate of this node, mesh.tls.cert {self._file!r}, {until_the_end(left)}"
        if left <= 0 and self._said == "soon":  # one that had expired before is refused in words
            LOG.error("%s: nodes refuse it when they connect anew; %s", what, FIX)
            self._said = "expired"
        elif left > 0 and not self._said and ends_soon(left, dates.validity):
            LOG.warning("%s: renew it before; %s", what, FIX)
            self._said = "soon"
