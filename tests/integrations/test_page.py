"""Snippets of docs/integrations.md for packages that are too large for the tools of this project:
each runs where its package is installed. They stand in blocks of `py`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.processes]
PAGE = Path(__file__).parents[2] / "docs/integrations.md"
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def ran(part: str) -> dict[str, Any]:
    """The names of the only block that has this text, run alone."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    (block,) = (block for block in BLOCKS if part in block)
    exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


def test_every_block_is_run() -> None:
    names = "litellm", "fastmcp", "celery", "taskiq"
    found = [[name for name in names if name in block.lower()] for block in BLOCKS]
    assert found == [["litellm"], ["fastmcp"], ["celery"], ["taskiq"]]


def test_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    pytest.importorskip("litellm")
    names = ran("BudgetHook")
    asyncio.run(names["hook"].async_post_call_failure_hook({}, RuntimeError(), None))
    names["limiter"].close()


def test_fastmcp() -> None:
    pytest.importorskip("fastmcp")
    assert ran("BucketMiddleware")["server"].name == "search"


def test_celery() -> None:
    testing = pytest.importorskip("celery.contrib.testing.worker")
    names = ran("Celery")
    options = {"pool": "solo", "perform_ping_check": False, "loglevel": "ERROR"}
    with testing.start_worker(names["app"], **options):
        asked = [names["call_supplier"].delay(number) for number in range(6)]
        assert [one.get(timeout=60) for one in asked] == [*range(6)]


def test_taskiq() -> None:
    pytest.importorskip("taskiq")
    names = ran("InMemoryBroker")

    async def main() -> None:
        asked = [await names["fetch"].kiq(number) for number in range(6)]
        results = [await one.wait_result(timeout=60) for one in asked]
        assert [one.return_value for one in results] == [*range(6)]
        assert names["supplier"].counters()["granted"] == 6

    asyncio.run(main())
