"""What one examination found: that something is in order, or what is wrong and how to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Diagnosis:
    """One line of the report."""

    subject: str
    """What was examined, such as "redis 10.0.0.5:6379 clock"."""
    level: Level
    """"note": in order, or unknown, but worth knowing."""
    text: str
    """What was found; with "wrong" it ends with what to do."""

    def as_dict(self) -> dict[str, str]:
        """The diagnosis as a dict for JSON."""
        return asdict(self)


def ok(subject: str, text: str) -> Diagnosis:
    """A subject that is in order."""
    return Diagnosis(subject, "ok", text)


def note(subject: str, text: str) -> Diagnosis:
    """A subject that works, and what the reader should know about it."""
    return Diagnosis(subject, "note", text)


def wrong(subject: str, text: object) -> Diagnosis:
    """A subject that does not work; the text says what to do."""
    return Diagnosis(subject, "wrong", str(text))
