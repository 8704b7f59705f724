"""The answer to a denied request that the application lets through."""

from __future__ import annotations

import json
import pickle

import pytest

from crdtbucket import BucketSpec, Limiter, LimitExceeded, limited
from crdtbucket.http.answers import answer_of
from tests.http.waits import in_minutes


def denied() -> LimitExceeded:
    work = limited(Limiter([BucketSpec.parse("api", "1/hour")]).bucket("api"), key="k")(len)
    work("")
    with pytest.raises(LimitExceeded) as error:
        work("")
    return error.value


def test_a_denial_is_answered_by_a_problem_document() -> None:
    answer = answer_of(denied())
    assert (answer.status, in_minutes(answer.headers["Retry-After"])) == (429, "3600")
    assert json.loads(answer.body)["violated-policies"] == ["api"]


def test_a_denial_of_another_process_is_raised_as_it_is() -> None:
    """Its bucket is unknown here; an error about that would hide the denial."""
    copy = pickle.loads(pickle.dumps(denied()))
    with pytest.raises(LimitExceeded) as error:
        answer_of(copy)
    assert error.value is copy
