"""The console in a real browser, with much to show, or with strange keys."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from crdtbucket import BucketSpec, Limiter
from crdtbucket.http.server.console import console_routes
from crdtbucket.http.server.console.console_view import look_at
from tests.http.chromium import Page, chromium, page
from tests.http.server.console.three_nodes import sign_in
from tests.http.serving import TOKEN, Asker, serving

pytestmark = [pytest.mark.slow, pytest.mark.processes]

STRANGE = {
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "\u202etnanet-emca": "\\u{202e}tnanet-emca",
    "two\nlines\x00\x1b[31m": "two\\u{a}lines\\u{0}\\u{1b}[31m",
    "\ufeff\u200b": "\\u{feff}\\u{200b}",
    " acme ": "\\u{20}acme\\u{20}",
    "שלום": "שלום",
    "__proto__": "__proto__",
    "k" * 512: "k" * 512,
}
"""Keys, and how they are shown: what cannot be seen, or turns the text around it, by its number."""
SHOWN = "[...document.querySelectorAll('#key-rows .name')].map((one) => one.textContent)"
WHOLE = """[...document.querySelectorAll('.scroll')].every((one) =>
  one.scrollWidth <= one.clientWidth)"""

MANY_NODES = """(async () => {
  const { alertsOf } = await import('/console/alerts.js');
  const { drawFleet, fleetOf } = await import('/console/fleet.js');
  const away = Array.from({ length: 150 }, (_, n) => `far-${n}`);
  const peer = (name, state, unseen) => ({ name, region: '', state, lag: 1, unseen, config: null });
  const near = Array.from({ length: 149 }, (_, n) => peer(`near-${n}`, 'alive', [...away]));
  near[0].unseen.push('near-1');
  const state = {
    node: 'this', region: '', private: null, mesh: true, not_ready: '', buckets: [],
    peers: [...near, ...away.map((name) => peer(name, 'dead', []))],
  };
  const fleet = fleetOf(state);
  const picture = drawFleet(fleet, 400, false, '');
  return {
    far: fleet.far.length,
    parts: picture.querySelectorAll('*').length,
    told: picture.getAttribute('aria-label'),
    alerts: alertsOf(state, fleet).map((one) => one.text),
  };
})()"""
"""The picture and the text about 300 nodes, half of them beyond a partition."""

MANY_ALERTS = """(async () => {
  const { firstOf } = await import('/console/alerts.js');
  const alerts = Array.from({ length: 1000 }, (_, n) => ({ text: `${n}`, spoken: `${n}` }));
  return firstOf(alerts).map((one) => one.text);
})()"""

HISTORY = """(async () => {
  const { History } = await import('/console/history.js');
  const history = new History();
  const bucket = { name: 'a', allowed: 0, denied: 0, granted: 0, lowest: 1, fill: 1 };
  const add = (node, at) => history.add({ node, at, buckets: [bucket] });
  const lengths = [];
  for (const [node, at] of [['a', 5], ['a', 6], ['a', 2], ['a', 3], ['b', 4], ['b', 5]]) {
    add(node, at);
    lengths.push(history.of('a').length);
  }
  return lengths;
})()"""
"""How many samples there are as time goes on, jumps back, and another node answers."""


@asynccontextmanager
async def shown(limiter: Limiter) -> AsyncIterator[tuple[Asker, Page]]:
    """A server, and the console of it in a window."""
    program = chromium()
    if program is None:
        pytest.skip("there is no chromium: `make chromium` installs it")
    async with serving(limiter, admin_token=TOKEN) as client, page(program) as one:
        await one.shape(1440, 900, dark=False)
        await one.open(f"{client.url}/console")
        yield client, one


async def test_keys_are_shown_apart_whatever_is_in_them() -> None:
    async with shown(Limiter([BucketSpec("api", 100, 1)])) as (client, one):
        bucket = client.limiter.bucket("api")
        for cost, key in enumerate(STRANGE, start=20):
            decision = bucket.take(key, cost)
            client.server.api.calls.weigh(bucket, key, cost, decision.allowed)
        await one.until("!document.getElementById('sign').hidden")
        await sign_in(one)
        await one.until(f"{SHOWN}.length === {len(STRANGE)}")
        assert await one.value(SHOWN) == [*reversed(STRANGE.values())]
        assert await one.value(WHOLE)
        # A field for text has no room for two lines: the question is about the key all the same.
        place = len(STRANGE) - 1 - list(STRANGE).index("two\nlines\x00\x1b[31m")
        await one.value(f"document.querySelectorAll('#key-rows button')[{place}].click()")
        await one.until("document.querySelector('#why-answer')?.textContent.includes('local')")
        assert "22" in await one.value("document.querySelector('#why-answer table').textContent")
        assert one.said == []


async def test_a_thousand_buckets_leave_the_charts_in_sight() -> None:
    specs = [BucketSpec(f"bucket-{number:04}", 10, 1) for number in range(1_000)]
    async with shown(Limiter(specs)) as (_, one):
        await one.until("document.querySelectorAll('#bucket-rows tr').length === 1000")
        await one.until("!document.getElementById('detail').hidden")
        assert await one.value("document.getElementById('detail').offsetTop") < 900
        for _ in range(40):
            await one.press("j")
        row = "document.querySelector('#bucket-rows .chosen')"
        assert await one.value(f"{row}.textContent.startsWith('bucket-0040')")
        inside = f"{row}.getBoundingClientRect(), document.querySelector('#buckets .scroll')"
        assert await one.value(
            f"(([row, box]) => row.top >= box.top && row.bottom <= box.bottom)"
            f"([{inside}.getBoundingClientRect()])"
        )


async def test_many_nodes_are_drawn_without_the_links_between_others() -> None:
    async with shown(Limiter([BucketSpec("api", 10, 1)])) as (_, one):
        found = await one.value(MANY_NODES)
        assert found["far"] == 150
        assert found["parts"] < 2_000
        assert len(found["told"]) < 300
        assert found["alerts"][0].startswith("Partition, for 1.0 s: this, near-0, near-1, near-2")
        assert "and 145 more | far-0" in found["alerts"][0]
        assert "near-0 and near-1 do not see each other; this node relays." in found["alerts"]
        few = [str(number) for number in range(10)]
        assert await one.value(MANY_ALERTS) == [*few, "And 990 more."]


async def test_a_page_that_cannot_show_an_update_does_not_say_that_it_is_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = itertools.count()

    async def half(*parts: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        public, private = await look_at(*parts)
        return (public if next(looks) < 2 else {"node": public["node"]}), private

    monkeypatch.setattr(console_routes, "look_at", half)
    async with shown(Limiter([BucketSpec("api", 10, 1)])) as (_, one):
        await one.until("document.getElementById('live').textContent.startsWith('no update for ')")
        assert await one.value("document.body.classList.contains('stale')")
        assert "not iterable" in one.said[0]


async def test_no_name_makes_the_page_wider_than_its_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def long(*parts: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        public, private = await look_at(*parts)
        peer = {"region": "r" * 200, "lag": 9.0, "config": None, "mode": "eventual", "unseen": []}
        states = ("alive", "suspect", "dead", "left")
        peers = [{**peer, "name": state[0] * 200, "state": state} for state in states]
        return {**public, "mesh": True, "peers": peers, "not_ready": "x" * 200}, private

    monkeypatch.setattr(console_routes, "look_at", long)
    limiter = Limiter([BucketSpec("b" * 200, 10, 1)], node="n" * 200, region="g" * 200)
    async with shown(limiter) as (client, one):
        bucket = client.limiter.bucket("b" * 200)
        for key in ("k" * 512, "a"):
            client.server.api.calls.weigh(bucket, key, 1, bucket.take(key).allowed)
        await one.until("!document.getElementById('sign').hidden")
        await sign_in(one)
        await one.value("document.querySelector('#key-rows button').click()")
        await one.until("document.querySelectorAll('#why-answer li').length")
        await one.until("document.querySelectorAll('#map .node').length === 4")
        for width in (1440, 360):
            await one.shape(width, 800, dark=False)
            await one.until(f"innerWidth === {width}")
            assert await one.value("document.documentElement.scrollWidth") == width
            inside = (
                "[...document.querySelectorAll('#map text')].every((one) => one.getBBox().x > -9)"
            )
            await one.until(inside)


async def test_the_charts_begin_anew_where_another_node_or_another_start_answers() -> None:
    async with shown(Limiter([BucketSpec("api", 10, 1)])) as (_, one):
        assert await one.value(HISTORY) == [0, 1, 0, 1, 0, 1]
