"""Golden cases of strong mode: the answer that a call must get, worked out by hand.

`Take`, `Refund` and `Spend` are what one node does by itself: they hold for the compiled core and
for the script alike. `Ask` is one call of the script. Times are seconds after the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.script import Column, ScriptStatus, owner_name

NS = 1_000_000_000
KEY = b"crdtbucket:{b:0}"
A, B, C = (owner_name(epoch, node) for epoch, node in ((1, "a"), (2, "b"), (2**64 - 1, "c/ü")))
DENIED, ALLOWED, UNKNOWN, FENCED = ScriptStatus


class Take(NamedTuple):
    """A take and its decision. `debt_ns`: the debt after it, rounded up. `wait_ns`: the time until
    it would pass."""

    at: float
    cost: int
    allowed: bool
    debt_ns: int
    wait_ns: int = 0


class Refund(NamedTuple):
    """Gives tokens of the latest take back."""

    at: float
    tokens: int
    debt_ns: int


class Spend(NamedTuple):
    """Tokens that were consumed whatever the level was; all of them are charged."""

    at: float
    tokens: int
    debt_ns: int


class Ask(NamedTuple):
    """One call of an owner, whose column is (generation, taken, refunded), and its answer."""

    at: float
    owner: bytes
    cost: int
    column: tuple[int, int, int]
    status: ScriptStatus
    debt_ns: int
    record: tuple[int, int]
    """Taken and refunded tokens, as answered."""
    stated_ns: int = 0
    others: tuple[Column, ...] | None = None
    columns: tuple[Column, ...] = ()
    """The columns in the answer to a whole call, in any order."""
    fence: int = 1
    spec: BucketSpec | None = None
    """A definition in place of the case's."""


@dataclass(frozen=True)
class Case:
    name: str
    spec: BucketSpec
    steps: tuple[Take | Refund | Spend | Ask, ...]
    retention_ms: int = field(default=3_600_000)

    @property
    def single(self) -> bool:
        """Whether one node without Redis can play it."""
        return not any(isinstance(step, Ask) for step in self.steps)


PLAIN = BucketSpec("b", 100, 100)  # 10 ms a token
TWICE = BucketSpec("b", 100, 200)
SEVEN = BucketSpec("b", 10, 7)  # 142,857,142 6/7 ns a token
FAST = BucketSpec("b", 10_000, 10**9)
SLOW = BucketSpec("b", 2, 1, "30d")
LARGE = BucketSpec("b", 2**51, 10**9, max_debt=2**51)
MS = 1_000_000
DAY = 86_400 * NS


def crowded(others: int, kept: bool) -> tuple[Ask, ...]:
    """So many processes and A leave records; when these are older than the retention, B comes."""
    crowd = tuple(Column(owner_name(100 + i, "x"), 1, 1, 0) for i in range(others))
    own = (1, 200 - others, 0)
    return (
        Ask(
            0,
            A,
            0,
            own,
            ALLOWED,
            2 * NS,
            own[1:],
            stated_ns=2 * NS,
            others=crowd,
            columns=(*crowd, Column(A, *own)),
        ),
        Ask(2.5, B, 1, (1, 0, 0), ALLOWED, 10 * MS, (1, 0)),
        Ask(
            2.5,
            B,
            0,
            (1, 1, 0),
            ALLOWED,
            10 * MS,
            (1, 0),
            stated_ns=10 * MS,
            others=(),
            columns=(*((*crowd, Column(A, *own)) if kept else ()), Column(B, 1, 1, 0)),
        ),
    )


CASES = (
    Case("a take leaves one token's time", PLAIN, (Take(0, 1, True, 10 * MS),)),
    Case(
        "refill is exact",
        PLAIN,
        (Take(0, 1, True, 10 * MS), Take(0.1, 1, True, 10 * MS), Take(0.105, 2, True, 25 * MS)),
    ),
    Case(
        "all at once, and the next at its time",
        PLAIN,
        (
            Take(0, 100, True, NS),
            Take(0, 1, False, NS, 10 * MS),
            Take(0.009999, 1, False, NS - 9_999_000, 1000),
            Take(0.01, 1, True, NS),
            Take(0.5, 60, False, 510 * MS, 110 * MS),
            Take(0.62, 60, True, 990 * MS),
        ),
    ),
    Case(
        "what is refunded may be taken again",
        PLAIN,
        (
            Take(0, 100, True, NS),
            Refund(0, 40, 600 * MS),
            Take(0, 41, False, 600 * MS, 10 * MS),
            Take(0, 40, True, NS),
        ),
    ),
    Case(
        "debt below empty",
        PLAIN,
        (
            Take(0, 90, True, 900 * MS),
            Spend(0, 60, 1500 * MS),
            Take(0.5, 1, False, NS, 10 * MS),
            Spend(0.5, 100, 2 * NS),
            Take(1.51, 1, True, NS),
        ),
    ),
    Case(
        "a fraction of a ns a token is kept",
        SEVEN,
        (
            Take(0, 1, True, 142_857_143),
            Take(0, 6, True, NS),
            Take(0, 3, True, 1_428_571_429),
            Take(0, 1, False, 1_428_571_429, 142_857_142),
            Take(0.142857, 1, False, 1_285_714_429, 142),
            Take(0.142858, 1, True, 1_428_570_572),
        ),
    ),
    Case(
        "a ns a token",
        FAST,
        (
            Take(0, 9_999, True, 9_999),
            Take(0, 1, True, 10_000),
            Take(0, 1, False, 10_000, 1),
            Take(0.000001, 1_000, True, 10_000),
        ),
    ),
    Case(
        "one in 30 days",
        SLOW,
        (
            Take(0, 2, True, 60 * DAY),
            Take(86_400 * 30 - 1, 1, False, 30 * DAY + NS, NS),
            Take(86_400 * 30, 1, True, 60 * DAY),
        ),
    ),
    Case(
        "as large as may be",
        LARGE,
        (
            Take(0, 2**51, True, 2**51),
            Spend(0, 2**51 - 1, 2**52 - 1),
            Take(0.000001, 1, False, 2**52 - 1001, 2**51 - 1000),
        ),
    ),
    Case(
        "two owners share one level",
        PLAIN,
        (
            Ask(0, A, 60, (1, 0, 0), ALLOWED, 600 * MS, (60, 0)),
            Ask(0, B, 41, (7, 0, 0), DENIED, 600 * MS, (0, 0)),
            Ask(0, B, 40, (7, 0, 0), ALLOWED, NS, (40, 0)),
            Ask(0, A, 1, (1, 60, 0), DENIED, NS, (60, 0)),
        ),
    ),
    Case(
        "every call settles what an earlier one left open",
        PLAIN,
        (
            Ask(0, A, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0)),
            Ask(0, A, 1, (1, 15, 3), ALLOWED, 130 * MS, (16, 3), stated_ns=120 * MS),
            Ask(0, A, 1, (1, 16, 3), ALLOWED, 140 * MS, (17, 3)),
            Ask(0, A, 0, (1, 15, 3), ALLOWED, 140 * MS, (17, 3), stated_ns=120 * MS),
            Ask(0, A, 0, (1, 17, 17), ALLOWED, 0, (17, 17)),
        ),
    ),
    Case(
        "a call that ran unheard and was denied here",
        PLAIN,
        (
            Ask(0, A, 30, (1, 0, 0), ALLOWED, 300 * MS, (30, 0)),
            Ask(0, A, 0, (1, 30, 30), ALLOWED, 0, (30, 30)),
            Ask(0, A, 0, (1, 30, 30), ALLOWED, 0, (30, 30)),
        ),
    ),
    Case(
        "a new generation counts whole, an old one not at all",
        PLAIN,
        (
            Ask(0, A, 70, (1, 0, 0), ALLOWED, 700 * MS, (70, 0)),
            Ask(1, A, 0, (2, 5, 0), ALLOWED, 50 * MS, (5, 0), stated_ns=50 * MS),
            Ask(1, A, 0, (1, 80, 0), ALLOWED, 50 * MS, (5, 0), stated_ns=NS),
            Ask(1, A, 0, (2, 4, 0), ALLOWED, 50 * MS, (5, 0)),
        ),
    ),
    Case(
        "a missing record is to be sent whole",
        PLAIN,
        (
            Ask(0, B, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0)),
            Ask(0, A, 1, (1, 5_000, 0), UNKNOWN, 100 * MS, (0, 0), stated_ns=20 * MS),
            Ask(
                0,
                A,
                1,
                (1, 5_000, 0),
                ALLOWED,
                130 * MS,
                (5_001, 0),
                stated_ns=20 * MS,
                others=(),
                columns=(Column(A, 1, 5_001, 0), Column(B, 1, 10, 0)),
            ),
        ),
    ),
    Case(
        "who owes nothing is charged nothing for history",
        PLAIN,
        (
            Ask(0, A, 1, (3, 5_000, 7), ALLOWED, 10 * MS, (5_001, 7)),
            Ask(0, B, 0, (1, 0, 0), ALLOWED, 10 * MS, (0, 0)),
        ),
    ),
    Case(
        "what was taken long ago is compared, not charged",
        PLAIN,
        (
            Ask(0, A, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0)),
            Ask(600, A, 1, (1, 50_000, 0), UNKNOWN, 0, (10, 0), stated_ns=20 * MS),
            Ask(600, A, 1, (1, 50_000, 0), UNKNOWN, 0, (10, 0)),
            Ask(
                600,
                A,
                1,
                (1, 50_000, 0),
                ALLOWED,
                30 * MS,
                (50_001, 0),
                stated_ns=20 * MS,
                others=(),
                columns=(Column(A, 1, 50_001, 0),),
            ),
        ),
    ),
    Case(
        "a lower level of one who knows as much is adopted, and stays",
        PLAIN,
        (
            Ask(0, A, 50, (1, 0, 0), ALLOWED, 500 * MS, (50, 0)),
            Ask(
                0,
                B,
                0,
                (1, 0, 0),
                ALLOWED,
                200 * MS,
                (0, 0),
                stated_ns=200 * MS,
                others=(Column(A, 1, 50, 0),),
                columns=(Column(A, 1, 50, 0),),
            ),
            Ask(0, A, 1, (1, 50, 0), ALLOWED, 210 * MS, (51, 0)),
        ),
    ),
    Case(
        "a lower level of one who knows less is not",
        PLAIN,
        (
            Ask(0, A, 50, (1, 0, 0), ALLOWED, 500 * MS, (50, 0)),
            Ask(
                0,
                B,
                0,
                (1, 5, 0),
                ALLOWED,
                550 * MS,
                (5, 0),
                stated_ns=200 * MS,
                others=(Column(A, 1, 10, 0),),
                columns=(Column(A, 1, 50, 0), Column(B, 1, 5, 0)),
            ),
        ),
    ),
    Case(
        "after a flush each is charged what it states, however much the others had taken",
        PLAIN,
        (
            Ask(
                0,
                A,
                0,
                (1, 9_000, 0),
                ALLOWED,
                50 * MS,
                (9_000, 0),
                stated_ns=50 * MS,
                others=(),
                columns=(Column(A, 1, 9_000, 0),),
            ),
            Ask(
                0,
                B,
                0,
                (1, 8_000, 10),
                ALLOWED,
                90 * MS,
                (8_000, 10),
                stated_ns=40 * MS,
                others=(),
                columns=(Column(A, 1, 9_000, 0), Column(B, 1, 8_000, 10)),
            ),
        ),
    ),
    Case(
        "columns of a third are pushed, once",
        PLAIN,
        (
            Ask(0, A, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0)),
            *(
                Ask(
                    0,
                    A,
                    0,
                    (1, 10, 0),
                    ALLOWED,
                    400 * MS,
                    (10, 0),
                    stated_ns=400 * MS,
                    others=(Column(C, 1, 35, 5),),
                    columns=(Column(A, 1, 10, 0), Column(C, 1, 35, 5)),
                )
                for _ in range(2)
            ),
            Ask(0, C, 0, (1, 35, 5), ALLOWED, 400 * MS, (35, 5), stated_ns=300 * MS),
        ),
    ),
    Case(
        "a later connection fences an earlier one off",
        PLAIN,
        (
            Ask(0, A, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0), fence=1),
            Ask(0, A, 0, (1, 10, 0), ALLOWED, 100 * MS, (10, 0), fence=2),
            Ask(0, A, 10, (1, 10, 0), FENCED, 100 * MS, (10, 0), fence=1),
            Ask(0, A, 10, (1, 10, 0), FENCED, 100 * MS, (10, 0), fence=1, others=()),
            Ask(0, A, 10, (1, 10, 0), ALLOWED, 200 * MS, (20, 0), fence=2),
            Ask(0, B, 10, (1, 0, 0), ALLOWED, 300 * MS, (10, 0), fence=1),
        ),
    ),
    Case(
        "the fence counts for whatever generation",
        PLAIN,
        (
            Ask(0, A, 10, (1, 0, 0), ALLOWED, 100 * MS, (10, 0), fence=5),
            Ask(1, A, 0, (2, 1, 0), ALLOWED, 10 * MS, (1, 0), fence=5, stated_ns=10 * MS),
            Ask(1, A, 1, (3, 0, 0), FENCED, 10 * MS, (1, 0), fence=4),
        ),
    ),
    Case(
        "a clock that is set back lets no time pass, then goes on",
        PLAIN,
        (
            Ask(0, A, 100, (1, 0, 0), ALLOWED, NS, (100, 0)),
            Ask(-3600, A, 1, (1, 100, 0), DENIED, NS, (100, 0)),
            Ask(-3599.5, A, 50, (1, 100, 0), ALLOWED, NS, (150, 0)),
        ),
    ),
    Case(
        "debt in tokens stays when the rate changes, and when it comes back",
        PLAIN,
        (
            Ask(0, A, 64, (1, 0, 0), ALLOWED, 640 * MS, (64, 0)),
            # doubles round the change up by a ns
            Ask(0, A, 16, (1, 64, 0), ALLOWED, 400 * MS + 1, (80, 0), spec=TWICE),
            Ask(0, A, 0, (1, 80, 80), ALLOWED, 3, (80, 80)),
        ),
    ),
    Case(
        "across definitions history is worth no more than what is stated",
        PLAIN,
        (
            Ask(0, A, 64, (1, 0, 0), ALLOWED, 640 * MS, (64, 0)),
            Ask(
                0,
                B,
                0,
                (1, 9_000, 0),
                ALLOWED,
                325 * MS + 1,
                (9_000, 0),
                stated_ns=5 * MS,
                others=(Column(A, 1, 64, 0),),
                columns=(Column(A, 1, 64, 0), Column(B, 1, 9_000, 0)),
                spec=TWICE,
            ),
        ),
    ),
    Case(
        "what goes beyond the ceiling is forgiven and stays counted",
        PLAIN,
        (
            Ask(0, A, 100, (1, 0, 0), ALLOWED, NS, (100, 0)),
            Ask(0, A, 0, (1, 2**53 - 1, 0), ALLOWED, 2 * NS, (2**53 - 1, 0), stated_ns=2 * NS),
            Ask(0.5, B, 1, (1, 0, 0), DENIED, 1500 * MS, (0, 0)),
        ),
    ),
    Case("64 records are kept", PLAIN, crowded(62, kept=True), retention_ms=1_000),
    Case("of 65 records the old ones go", PLAIN, crowded(63, kept=False), retention_ms=1_000),
    Case(
        "a full bucket's key outlives it by the retention and no more",
        PLAIN,
        (
            Ask(0, A, 50, (1, 0, 0), ALLOWED, 500 * MS, (50, 0)),
            Ask(2.5, A, 0, (1, 50, 0), ALLOWED, 0, (50, 0)),
            Ask(2.501, A, 0, (1, 0, 0), ALLOWED, 0, (0, 0)),
        ),
        retention_ms=2_000,
    ),
)
