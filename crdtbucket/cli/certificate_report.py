"""What a node says of its certificate in the mesh, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crdtbucket.base.certificate_dates import ends_soon, until_the_end
from crdtbucket.cli.answer_values import mapping_of, number_of


@dataclass(frozen=True)
class CertificateReport:
    """The certificate of a node: seconds until it expires, and for how many it was issued; None
    where it has none."""

    left: float | None = None
    validity: float | None = None

    @classmethod
    def of(cls, answer: Any) -> CertificateReport:
        """Reads the report from `certificate` of the answer of `GET /admin/status`."""
        found = mapping_of(answer)
        return cls(number_of(found.get("left")), number_of(found.get("validity")))

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
