"""Blocks of `py` in docs/integrations.md are for packages that are too large for the tools of this
project: each is quoted from an example, which runs where its package is installed."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/integrations.md"


def test_every_block_is_quoted_from_an_example_that_its_section_links() -> None:
    quoted = 0
    for section in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE):
        links = re.findall(r"\(\.\./(examples/[\w/]+\.py)\)", section)
        examples = [(ROOT / link).read_text() for link in links]
        for block in re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
            assert any(block in example for example in examples), block
            quoted += 1
    assert quoted == 3
