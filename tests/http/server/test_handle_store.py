"""Ids that end: by their time, or for want of room."""

from __future__ import annotations

from crdtbucket.http.server.handle_store import Tickets


def test_until_its_time_an_item_is_found() -> None:
    tickets: Tickets[str] = Tickets(10)
    name = tickets.put("a", 100, 0)
    other = tickets.put("b", 50, 0)
    assert name != other
    assert tickets.get(other, 49) == "b"
    assert (tickets.get(other, 50), len(tickets)) == (None, 1)
    assert tickets.get(name, 99) == "a"
    assert (tickets.get(name, 100), len(tickets)) == (None, 0)
    assert tickets.get("unknown", 0) is None


def test_without_room_what_would_end_first_goes() -> None:
    tickets: Tickets[str] = Tickets(2)
    long = tickets.put("long", 100, 0)
    short = tickets.put("short", 50, 0)
    assert tickets.full(49)
    assert not tickets.full(50)
    tickets.put("a", 90, 50)
    tickets.put("b", 90, 50)
    assert len(tickets) == 2
    assert tickets.get(short, 50) is None
    assert tickets.get(long, 50) == "long"
