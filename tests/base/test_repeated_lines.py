"""Repeated events: one log line in a while, which counts those since the last one."""

from __future__ import annotations

from crdtbucket.base.repeated_lines import RepeatedLines

EVERY_NS = 60_000_000_000


def test_one_line_for_each_cause() -> None:
    lines = RepeatedLines(EVERY_NS)
    causes = ("a", ("a", 1), "b")
    said = [
        cause
        for now in range(0, EVERY_NS, EVERY_NS // 100)
        for cause in causes
        if lines.add(cause, now) is not None
    ]
    assert said == list(causes)


def test_the_next_line_sums_up() -> None:
    lines = RepeatedLines(EVERY_NS)
    times = (7, 8, EVERY_NS + 6, EVERY_NS + 7, EVERY_NS + 8, 9 * EVERY_NS, 99 * EVERY_NS)
    assert [lines.add("a", now, 3) for now in times] == [
        "",
        None,
        None,
        " (6 more since the last such line)",
        None,
        " (3 more since the last such line)",
        "",
    ]


def test_it_remembers_a_bounded_number() -> None:
    lines = RepeatedLines(EVERY_NS, most=2)
    said = [one for one in "abcca" if lines.add(one, 0) is not None]
    assert said == ["a", "b", "c", "a"]


def test_what_was_logged_last_is_remembered_for_longest() -> None:
    lines = RepeatedLines(EVERY_NS, most=2)
    came = (("a", 0), ("b", 0), ("a", EVERY_NS), ("c", EVERY_NS), ("a", EVERY_NS))
    said = [one for one, now in came if lines.add(one, now) is not None]
    assert said == ["a", "b", "a", "c"]
