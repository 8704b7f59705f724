"""The way of copies between two members of a replicated Redis: late, cut, broken, never lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtbucket.testing.copy_queue import NS, CopyQueue, KeyVersion, ReplicationFaults

KEYS = (b"one@eu", b"two@eu")
LATER = 1_000 * NS


def version(number: int, key: bytes = KEYS[0]) -> KeyVersion:
    """Every version changes the level and one record; a record is added now and then."""
    fields = {b"level": b"%d" % number, b"a": b"%d" % number, b"b%d" % (number // 4): b"1"}
    return KeyVersion(key, fields, 1_000)


def numbers(found: list[KeyVersion]) -> list[int]:
    return [int(one.fields[b"level"]) for one in found]


def test_versions_arrive_in_their_order_and_none_before_its_lag() -> None:
    queue = CopyQueue(ReplicationFaults(lag=0.1, jitter=0.5), "seed")
    for number in range(100):
        queue.send(version(number), number * NS // 100)
    assert queue.arrived(NS // 20 - 1) == []
    due = queue.due()
    assert due is not None
    assert NS // 20 <= due <= 3 * NS // 20
    assert numbers(queue.arrived(due)) == [0]
    assert numbers(queue.arrived(NS + 3 * NS // 20)) == list(range(1, 100))
    assert queue.due() is None


def test_a_cut_holds_everything_back_and_the_heal_delivers_it_in_its_order() -> None:
    queue = CopyQueue(ReplicationFaults(), "seed")
    queue.send(version(0), 0)
    queue.cut()
    queue.send(version(1), NS)
    assert queue.due() is None
    assert queue.arrived(LATER) == []
    assert len(queue) == 2
    queue.heal(LATER)
    assert numbers(queue.arrived(LATER)) == [0, 1]


def test_what_a_cut_does_not_record_arrives_as_it_stands_at_the_heal() -> None:
    queue = CopyQueue(ReplicationFaults(), "seed")
    queue.send(version(0, KEYS[1]), 0)
    queue.cut(recorded=False)
    for number in (1, 2):
        queue.send(version(number), NS)
    queue.heal(LATER)
    assert queue.arrived(LATER) == []
    found = queue.arrived(LATER + NS)
    assert {one.key: one for one in found} == {KEYS[0]: version(2), KEYS[1]: version(0, KEYS[1])}


def test_of_a_torn_version_some_fields_that_changed_arrive_first() -> None:
    queue = CopyQueue(ReplicationFaults(torn=1.0), "seed")
    queue.send(version(0), 0)
    queue.send(version(1), NS)
    whole, part, again = queue.arrived(LATER)
    assert whole == version(0)
    assert not part.whole
    assert set(part.fields) < {b"level", b"a"}
    assert len(part.fields) == 1
    assert part.fields.items() <= version(1).fields.items()
    assert again == version(1)


def test_an_older_version_arrives_again_and_then_the_newest() -> None:
    queue = CopyQueue(ReplicationFaults(older=1.0), "seed")
    queue.send(version(0), 0)
    queue.send(version(1), NS)
    assert numbers(queue.arrived(LATER)) == [0, 1, 0, 1]


def test_a_repeated_version_arrives_twice() -> None:
    queue = CopyQueue(ReplicationFaults(repeated=1.0), "seed")
    queue.send(version(0), 0)
    assert numbers(queue.arrived(LATER)) == [0, 0]


def test_faults_put_off_a_version_by_a_few_lags_however_many_versions_there_are() -> None:
    faults = ReplicationFaults(lag=0.1, jitter=0.5, torn=1.0, older=1.0, repeated=1.0)
    queue = CopyQueue(faults, "seed")
    now = latest = arrived = 0
    for number in range(400):
        now = number * NS // 100
        queue.send(version(number, KEYS[number % 2]), now)
        arrived = max([arrived, *numbers([v for v in queue.arrived(now) if v.whole])])
        latest = max(latest, number - arrived)
    assert 15 < latest <= 35, latest  # 1.5 lags, and two for what a fault brings
    assert len(queue) < 100


SHARES = st.sampled_from([0.0, 0.5, 1.0])


@given(
    st.builds(ReplicationFaults, torn=SHARES, older=SHARES, repeated=SHARES),
    st.lists(st.sampled_from(["send", "cut", "unrecorded", "heal", "arrive", "resend"])),
    st.integers(0, 9),
)
def test_whatever_happens_the_newest_of_every_key_arrives_last(
    faults: ReplicationFaults, acts: list[str], seed: int
) -> None:
    queue = CopyQueue(faults, str(seed))
    held: dict[bytes, dict[bytes, bytes]] = {}
    sent: dict[bytes, KeyVersion] = {}
    now = 0
    for number, act in enumerate([*acts, "heal"]):
        now += NS // 50
        if act == "send":
            one = version(number, KEYS[number % 2])
            sent[one.key] = one
            queue.send(one, now)
        elif act in ("cut", "unrecorded"):
            queue.cut(recorded=act == "cut")
        elif act == "heal":
            queue.heal(now)
        elif act == "resend":
            held.clear()
            queue.resend(now)
        keep(queue.arrived(now), held)
    keep(queue.arrived(now + LATER), held)
    assert held == {key: dict(one.fields) for key, one in sent.items()}


def keep(arrived: list[KeyVersion], held: dict[bytes, dict[bytes, bytes]]) -> None:
    for one in arrived:
        before = {} if one.whole else held.get(one.key, {})
        held[one.key] = {**before, **one.fields}
