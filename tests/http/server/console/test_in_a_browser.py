"""The console in a real browser: three nodes, a partition, four shapes of window."""

from __future__ import annotations

import struct

import pytest

from tests.http.chromium import chromium, page
from tests.http.server.console.three_nodes import SHAPES, sign_in, three_nodes

KEY = "tenant-with-a-name"
LEGIBLE = """[...document.querySelectorAll('.tiles dd')].every((tile) => {
  tile.textContent = "empty in 38.2 min";
  return tile.scrollWidth <= tile.clientWidth;
})"""
"""Whether the longest text of a tile is shown whole."""
WHOLE = """[...document.querySelectorAll('.scroll')].every((one) =>
  one.scrollWidth <= one.clientWidth)"""
"""Whether no column of a table is beyond its edge."""
SPARKS = """[...document.querySelectorAll('.spark polyline')].map((one) =>
  one.getAttribute('points'))"""
"""The lines of the last minute, two of each bucket."""
SHOWN = """[...document.querySelectorAll('figcaption')].map((one) =>
  one.querySelector('.u-value').textContent)"""
"""The time whose values each chart shows."""
GRID = """(() => {
  const canvas = document.querySelector('#rates canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const line = parseInt(getComputedStyle(canvas).getPropertyValue('--line').slice(1), 16);
  for (let i = 0; i < data.length; i += 4) {
    const [red, green, blue, opaque] = data.subarray(i, i + 4);
    if (opaque === 255 && ((red << 16) | (green << 8) | blue) === line) return true;
  }
  return false;
})()"""
"""Whether a chart is drawn in the colours of the page."""
SPOKEN = """Partition: eu-1, us-1 | ap-1. \
Until it heals each side limits with the last updates of the other."""
"""Read out once: how long it has lasted changes with every second."""


@pytest.mark.slow
@pytest.mark.processes
async def test_a_partition_is_seen_and_no_window_is_too_narrow() -> None:
    program = chromium()
    if program is None:
        pytest.skip("there is no chromium: `make chromium` installs it")
    async with three_nodes() as (network, clients), page(program) as one:
        bucket, calls = clients[0].limiter.bucket("ai-agent-inference"), clients[0].server.api.calls
        for key in (KEY, f"{KEY}-2"):
            decision = bucket.take(key, 390)
            calls.weigh(bucket, key, 390, decision.allowed)
        await one.shape(1440, 900, dark=False)
        await one.open(f"{clients[0].url}/console")
        await one.until("document.querySelectorAll('#map .node').length === 3")
        await one.until("document.querySelectorAll('#bucket-rows tr').length === 5")
        assert not await one.value("document.querySelector('#map .wall')")
        under = "[...document.querySelectorAll('#map .small')].map((one) => one.textContent)"
        for region in ("ap", "eu", "us"):
            await one.until(f"{under}.includes('{region} \u00b7 eventual')")
        assert await one.value("document.title.endsWith('eu-1 \u2013 crdtbucket')")

        network.cut("ap")
        await one.until("document.querySelector('#map .wall') !== null")
        told = await one.value("document.querySelector('#alerts .bad').textContent")
        assert told.startswith("Partition")
        assert "eu-1, us-1 | ap-1" in told
        assert await one.value("document.getElementById('spoken').textContent") == SPOKEN
        assert not await one.value("document.querySelector('#alerts').closest('[aria-live]')")
        cut = "document.querySelectorAll('#map .link.cut').length"
        await one.until(f"{cut} === 2")  # us-1 reports that it does not see ap-1 either

        assert KEY not in await one.value("document.body.textContent")
        await sign_in(one)
        await one.until(f"document.getElementById('key-rows').textContent.includes('{KEY}')")
        await one.value("document.querySelector('#key-rows button').click()")
        await one.until("document.querySelectorAll('#why-answer li').length")
        assert "Without an update now: ap-1" in await one.value(
            "document.getElementById('why-answer').textContent"
        )
        assert await one.value("document.cookie") == ""  # no script reads it

        bucket.take(KEY)
        await one.until(f"{SPARKS}.some((points) => points)")
        assert (await one.value(SPARKS))[2:] == [""] * 8  # nothing is drawn where nobody called

        chosen = "document.querySelector('#bucket-rows .chosen button').textContent"
        await one.press("j")
        assert await one.value(chosen) == "search"
        assert await one.value(f"document.activeElement.textContent === {chosen}")

        await one.press("k")
        await one.until(f"{SHOWN}.every((at) => at === 'now')")
        await one.until(
            "document.querySelector('#rates [role=img]').ariaLabel.includes('allowed from')"
        )
        await one.value("document.querySelector('#rates [role=img]').focus()")
        await one.press("ArrowLeft")
        assert await one.value(f"{SHOWN}.every((at) => / s$/.test(at))")
        await one.value("document.activeElement.blur()")
        assert await one.value(f"{SHOWN}.every((at) => at === 'now')")

        grounds = set()
        for width, height, dark in SHAPES.values():
            await one.shape(width, height, dark=dark)
            await one.until(f"innerWidth === {width}")
            assert await one.value("document.documentElement.scrollWidth") == width
            assert await one.value(LEGIBLE)
            assert await one.value(WHOLE)
            assert await one.until(GRID)
            grounds.add(await one.value("getComputedStyle(document.body).backgroundColor"))
            picture = await one.picture()
            assert picture.startswith(b"\x89PNG")
            assert struct.unpack(">II", picture[16:24])[0] == width
        assert len(grounds) == 2

        network.heal("ap")
        await one.until("document.querySelector('#map .wall') === null")
        await one.press("s")
        await one.until("document.getElementById('key-rows').children.length === 0")
        assert KEY not in await one.value("document.body.textContent")
        assert one.said == []  # neither an error nor anything that the policy refused
