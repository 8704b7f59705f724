"""What a node says of its certificate in the mesh, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crdtbucket.base.certificate_dates import ends_soon, until_the_end


@dataclass(frozen=True)
class CertificateReport:
    """The certificate of a node: seconds until it expires, and for how many it was issued; None
    where it has none."""

    left: float | None = None
    validity: float | None = None

    def faults(self, node: str) -> Iterator[str]:
        """What is wrong, as a sentence."""
        if self.left is None or self.validity is None:
            return
        if ends_soon(self.left, self.validity):
            yield (
                f"{node}: its certificate {until_the_end(self.left)}, and nodes refuse one that "
                "has expired when they connect: put a new one and its key in the files of "
                "mesh.tls, which needs no restart"
            )
