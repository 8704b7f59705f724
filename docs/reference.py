"""Write the table of keys in docs/configuration.md from the model: `python docs/reference.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crdtbucket.config.schema import reference

PAGE = Path(__file__).parent / "configuration.md"
BEGIN = "<!-- reference, written by docs/reference.py -->\n"
END = "<!-- end of reference -->\n"


def table() -> str:
    """The table in Markdown."""
    rows = [f"| `{key}` | {_cell(default)}| {text} |" for key, default, text in reference()]
    return "\n".join(("| key | default | meaning |", "|---|---|---|", *rows, ""))


def written(page: str) -> str:
    """`page` with its table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def _cell(default: Any) -> str:
    if default is None:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}` "


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
