"""Reads the report of a node about the certificates that it shows, and says what is wrong with
them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crdtbucket.base.certificate_dates import ends_soon, until_the_end
from crdtbucket.base.own_certificates import FIX, USES
from crdtbucket.cli.answer_values import mapping_of, number_of


def late_certificates(answer: Any) -> Iterator[str]:
    """What is wrong, a sentence each. `answer`: `certificates` of `GET /admin/status`."""
    for use, (setting, then) in USES.items():
        found = mapping_of(mapping_of(answer).get(use))
        left, validity = number_of(found.get("left")), number_of(found.get("validity"))
        if left is None or validity is None:
            continue
        if left <= 0 or ends_soon(left, validity):
            ends = until_the_end(left)
            yield f"its certificate, {setting}, {ends}: after that {then}; {FIX}"
