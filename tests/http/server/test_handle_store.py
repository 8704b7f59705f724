"""Ids that end: after their time, or when there is no room for more."""

from __future__ import annotations

from crdtbucket.http.server.handle_store import HandleStore


def test_until_its_time_an_item_is_found() -> None:
    handles: HandleStore[str] = HandleStore(10)
    name = handles.put("a", 100, 0)
    other = handles.put("b", 50, 0)
    assert name != other
    assert handles.get(other, 49) == "b"
    assert (handles.get(other, 50), len(handles)) == (None, 1)
    assert handles.get(name, 99) == "a"
    assert (handles.get(name, 100), len(handles)) == (None, 0)
    assert handles.get("unknown", 0) is None


def test_without_room_the_handle_that_would_end_first_is_dropped() -> None:
    handles: HandleStore[str] = HandleStore(2)
    long = handles.put("long", 100, 0)
    short = handles.put("short", 50, 0)
    assert handles.full(49)
    assert not handles.full(50)
    handles.put("a", 90, 50)
    handles.put("b", 90, 50)
    assert len(handles) == 2
    assert handles.get(short, 50) is None
    assert handles.get(long, 50) == "long"
