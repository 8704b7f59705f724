"""Sessions of the console: they are random, few, end after some hours, and are stored only as
hashes."""

from __future__ import annotations

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.http.server.console.console_sessions import (
    LIFE_S,
    MAX_SESSIONS,
    ConsoleSessions,
)

LIFE = LIFE_S * NS_PER_SECOND


def test_a_session_is_known_until_its_end() -> None:
    sessions = ConsoleSessions("w1_")
    name, session = sessions.begin(0)
    assert name.startswith("w1_")
    assert len(name) > 40
    assert sessions.find(name, LIFE - 1) == session
    assert sessions.find(name, LIFE) is None
    assert sessions.find(name[:-1], 0) is None
    assert sessions.find("", 0) is None
    assert sessions.find("gr\u00fcn\udcff", 0) is None
    sessions.end(name)
    assert sessions.find(name, 0) is None
    assert name not in str(vars(sessions))


def test_only_its_own_proof_is_one() -> None:
    sessions = ConsoleSessions()
    (_, one), (_, other) = sessions.begin(0), sessions.begin(0)
    assert one.proven(one.proof)
    for wrong in (other.proof, "", one.proof[:-1], one.proof + "x", "gr\u00fcn"):
        assert not one.proven(wrong)


def test_beyond_the_bound_the_oldest_one_ends() -> None:
    sessions = ConsoleSessions()
    names = [sessions.begin(now)[0] for now in range(MAX_SESSIONS + 1)]
    found = [sessions.find(name, MAX_SESSIONS) is not None for name in names]
    assert found == [False] + [True] * MAX_SESSIONS
    sessions.begin(LIFE + MAX_SESSIONS)
    assert len(sessions) == 1  # those that are over make room first
