"""A budget in the proxy of LiteLLM, which is a large package and not among the tools of this
project: these tests are skipped where it is not installed (`pip install 'litellm[proxy]'`)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import crdtbucket
from crdtbucket import Bucket, BucketSpec, InvalidSpec, Limiter
from tests.strong.redis_server import free_port

if not all(map(importlib.util.find_spec, ("litellm", "backoff"))):  # the second is of its proxy
    pytest.skip("the proxy of LiteLLM is not installed", allow_module_level=True)
pytestmark = pytest.mark.slow
ROOT = Path(crdtbucket.__file__).parents[1]
OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Without it an import asks the network."""
START_S = 120.0


def budget(capacity: int = 150) -> Bucket:
    spec = BucketSpec("tokens", capacity, 1, refill_interval="1h")
    return Limiter([spec]).bucket("tokens")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(os.environ, *next(iter(OFFLINE.items())))
    from crdtbucket.integrations import litellm

    return litellm


def test_a_text_in_place_of_a_list_of_calls_is_refused(module: Any) -> None:
    """Its letters were once taken for types of calls, so that no call was charged."""
    with pytest.raises(InvalidSpec, match=r"call_types is 'completion': write a list"):
        module.BudgetHook(budget(), call_types="completion")


async def begin(hook: Any, call_id: str, longest: int) -> None:
    data = {"litellm_call_id": call_id, "max_tokens": longest, "messages": []}
    await hook.async_pre_call_hook(SimpleNamespace(api_key="k"), None, data, "acompletion")


async def succeed(hook: Any, call_id: str, used: int) -> None:
    response = SimpleNamespace(usage={"total_tokens": used})
    await hook.async_log_success_event({"litellm_call_id": call_id}, response, None, None)


async def fail(hook: Any, call_id: str, error: Exception) -> None:
    data = {"litellm_call_id": call_id}
    await hook.async_post_call_failure_hook(data, error, SimpleNamespace(api_key="k"))


async def test_what_a_call_used_is_charged_in_place_of_its_estimate(module: Any) -> None:
    bucket = budget()
    hook = module.BudgetHook(bucket)
    for call_id, longest, used, left in (("a", 100, 30, 120), ("b", 20, 70, 50)):
        await begin(hook, call_id, longest)
        await succeed(hook, call_id, used)
        await succeed(hook, call_id, used)  # reported twice, it is charged once
        assert bucket.peek("k").remaining == left
    await begin(hook, "c", 40)
    await fail(hook, "c", RuntimeError())
    assert bucket.peek("k").remaining == 50
    await succeed(hook, "c", 10)  # the client left the stream, which the model is paid for
    assert bucket.peek("k").remaining == 40


async def test_calls_of_one_id_and_one_that_is_denied_are_kept_apart(module: Any) -> None:
    bucket = budget()
    hook = module.BudgetHook(bucket)
    await begin(hook, "same", 60)
    await begin(hook, "same", 60)
    with pytest.raises(module.BudgetDenied) as told:
        await begin(hook, "same", 60)
    assert told.value.status_code == 429
    assert int(told.value.headers["Retry-After"]) > 3_000
    await fail(hook, "same", told.value)  # as the proxy does
    assert bucket.peek("k").remaining == 30
    await succeed(hook, "same", 10)
    await succeed(hook, "same", 20)
    assert bucket.peek("k").remaining == 120


async def test_more_calls_than_are_remembered_stay_charged(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 2)
    bucket = budget()
    hook = module.BudgetHook(bucket)
    for call_id in "abc":
        await begin(hook, call_id, 10)
    for call_id in "abc":
        await succeed(hook, call_id, 1)
    assert bucket.peek("k").remaining == 150 - 10 - 1 - 1


async def test_calls_of_one_id_are_remembered_up_to_a_bound(module: Any) -> None:
    bucket = budget(capacity=10_000)
    hook = module.BudgetHook(bucket)
    for _ in range(module.MAX_SAME_ID + 10):
        await begin(hook, "same", 10)
        await fail(hook, "same", RuntimeError())
    assert [len(calls) for calls in hook._open.values()] == [module.MAX_SAME_ID]
    assert bucket.peek("k").remaining == 10_000


def test_an_estimate_is_of_the_texts_and_of_the_longest_answer(module: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:" + "x" * 3_000}}
    parts: Sequence[Any] = [{"type": "text", "text": "x" * 30}, image]
    messages = [{"role": "user", "content": parts}, {"role": "user", "content": "x" * 60}]
    assert module.estimate_tokens({"messages": messages, "max_tokens": 7}) == 37
    assert module.estimate_tokens({"prompt": ["x" * 9, "x" * 9]}) == 1_006
    assert module.estimate_tokens({"input": None, "max_tokens": "many"}) == 1_000


# -- the proxy itself

EXAMPLE = ROOT / "examples/litellm"


@contextlib.contextmanager
def proxy(place: Path) -> Iterator[int]:
    """The port of a proxy with the budget of the example."""
    shutil.copytree(EXAMPLE, place, dirs_exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", "config.yaml"]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=place,
            env={**os.environ, **OFFLINE, "PYTHONPATH": f"{ROOT}{os.pathsep}{place}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < end, (place / "log").read_text()
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def ask(port: int, model: str, *, stream: bool = False) -> tuple[int, bytes, Any]:
    """Status, body and header fields of a call whose estimate is 102 tokens."""
    body = {"model": model, "max_tokens": 100, "stream": stream}
    body["messages"] = [{"role": "user", "content": "tell me"}]
    fields = {"Authorization": "Bearer sk-example", "Content-Type": "application/json"}
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/chat/completions", json.dumps(body), fields)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def asked(port: int, model: str, status: int, *, stream: bool = False) -> bytes:
    """The body, once a call is answered by this status. The proxy reports what a call has used a
    moment after its answer, so that the next one may be denied until then."""
    end = time.monotonic() + START_S
    while True:
        got, body, _ = ask(port, model, stream=stream)
        if got == status:
            return body
        assert got == 429, body
        assert time.monotonic() < end, body
        time.sleep(0.1)


@pytest.mark.processes
def test_the_proxy_keeps_a_budget(tmp_path: Path) -> None:
    with proxy(tmp_path) as port:
        for _ in range(3):
            asked(port, "fails", 500)  # what failed is not charged: 102 fit once only
        # The mock model uses 30 tokens a call, as it says; streamed, it counts them otherwise.
        assert b"one two three" in asked(port, "answers", 200)
        assert b"data: [DONE]" in asked(port, "answers", 200, stream=True)
        for _ in range(5):  # until 102 do not fit, and in this hour they will not
            status, body, fields = ask(port, "answers")
        assert status == 429
        assert b"quota-exceeded" in body
        assert int(fields["Retry-After"]) > 3_000
