"""Write the tables of settings from the code: `python docs/reference.py`.

The keys of a file are in docs/configuration.md, the fields of each class of settings in docs/api.md
and docs/modes.md. In docs/api.md a field that is also a key has only the beginning of its meaning.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from crdtbucket import ControllerSettings, Degradation, MeshConfig, RedisConfig
from crdtbucket.base.field_texts import field_texts
from crdtbucket.config.mesh_section import MESH_KEYS
from crdtbucket.config.model import RatingSection
from crdtbucket.config.redis_section import REDIS_KEYS
from crdtbucket.config.schema import as_meaning, reference
from crdtbucket.config.settings_section import file_keys

DOCS = Path(__file__).parent
END = "<!-- end of reference -->\n"
Rows = Iterable[tuple[str, Any, str]]


def begin(name: str) -> str:
    """The line before a table."""
    return f"<!-- {name}, written by docs/reference.py -->\n"


def keys() -> Rows:
    """Every key of a file, with its default as one writes it there."""
    for key, default, text in reference():
        yes_or_no = str(default).lower() if isinstance(default, bool) else default
        yield key, "" if default is None else f"`{yes_or_no}` ", text


def fields(settings: type[Any], shortened: Collection[str]) -> Rows:
    """Every field of a class of settings, with its default."""
    texts = field_texts(settings)
    for one in dataclasses.fields(settings):
        made = one.default_factory
        value = repr(one.default if made is dataclasses.MISSING else made())
        default = re.sub(r"\(latency_limit.*\)", "()", value.replace("'", '"'))
        meaning = as_meaning(texts[one.name], {})
        if one.name in shortened:
            meaning = re.split(r"[.;:] ", meaning)[0]
        yield one.name, f"`{default}` ", meaning


def table(head: str, rows: Rows) -> str:
    """The table in Markdown."""
    lines = (f"| `{name}` | {default}| {text} |" for name, default, text in rows)
    return "\n".join((f"| {head} | default | meaning |", "|---|---|---|", *lines, ""))


def written(page: str) -> str:
    """`page` with its tables as they should be."""
    tables = {"reference": table("key", keys())}
    shortened: dict[type[Any], Collection[str]] = {
        MeshConfig: MESH_KEYS,
        RedisConfig: REDIS_KEYS,
        Degradation: file_keys(RatingSection),
        ControllerSettings: (),
    }
    for settings, names in shortened.items():
        tables[f"fields of {settings.__name__}"] = table("field", fields(settings, names))
    for name, text in tables.items():
        before, found, rest = page.partition(begin(name))
        if found:
            page = f"{before}{found}{text}{END}{rest.partition(END)[2]}"
    return page


if __name__ == "__main__":
    for name in ("configuration.md", "api.md", "modes.md"):
        path = DOCS / name
        path.write_text(written(path.read_text()))
