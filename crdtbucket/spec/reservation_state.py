"""The states of a reservation."""

from __future__ import annotations

import enum


class ReservationState(enum.Enum):
    """The state of a reservation."""

    NEW = "not entered"
    HELD = "its estimate is taken"
    RETURNED = "left, or past its time, without a commit: the estimate was given back"
    COMMITTED = "its true cost is charged"
