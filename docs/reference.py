"""Write the tables of settings from the code: `python docs/reference.py`.

The keys of a file are in docs/configuration.md. docs/api.md and docs/modes.md have the fields of
each class of settings with their defaults, and the meaning of those that are no keys of a file.
"""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from crdtbucket import ControllerSettings, Degradation, MeshConfig, RedisConfig
from crdtbucket.base.field_texts import field_texts
from crdtbucket.config.mesh_section import MESH_KEYS
from crdtbucket.config.model import ModesSection, RatingSection
from crdtbucket.config.redis_section import REDIS_KEYS
from crdtbucket.config.schema import as_meaning, reference
from crdtbucket.config.settings_section import file_keys

DOCS = Path(__file__).parent
END = "<!-- end of reference -->\n"
ALIKE = "as [`services.*."
"""How the meaning of a key begins that is like one of a service."""
Rows = Iterable[tuple[str, Any, str]]


def begin(name: str) -> str:
    """The line before a table."""
    return f"<!-- {name}, written by docs/reference.py -->\n"


def keys() -> Rows:
    """Every key of a file, with its default as one writes it there. The keys of a section that are
    like those of a service have one row."""
    for section, rows in groupby(reference(), _section_or_key):
        found = list(rows)
        if found[0][2].startswith(ALIKE):
            names = ", ".join(f"`{key.rpartition('.')[2]}`" for key, *_ in found)
            yield section, "", f"{names}: as in [`services.*`](#defaults-and-overrides)"
            continue
        for key, default, text in found:
            yes_or_no = str(default).lower() if isinstance(default, bool) else default
            yield key, "" if default is None else f"`{yes_or_no}` ", text


def _section_or_key(row: tuple[str, Any, str]) -> str:
    key, _, text = row
    return key.rpartition(".")[0] if text.startswith(ALIKE) else key


def default_of(one: dataclasses.Field[Any]) -> str:
    """The default of a field, as one writes it in Python."""
    made = one.default_factory
    value = repr(one.default if made is dataclasses.MISSING else made())
    return re.sub(r"\(latency_limit.*\)", "()", value.replace("'", '"'))


def signature(settings: type[Any]) -> str:
    """A class of settings with its fields and defaults."""
    arguments = ", ".join(f"{one.name}={default_of(one)}" for one in dataclasses.fields(settings))
    lines = textwrap.fill(arguments, 96, break_on_hyphens=False, break_long_words=False)
    return f"```text\n{settings.__name__}(\n{textwrap.indent(lines, '    ')})\n```\n"


def fields(settings: type[Any], keys: Collection[str]) -> str:
    """The fields of a class of settings, with a table of those that are no keys of a file."""
    texts = field_texts(settings)
    rows = [
        (one.name, f"`{default_of(one)}` ", as_meaning(texts[one.name], {}))
        for one in dataclasses.fields(settings)
        if one.name not in keys
    ]
    return signature(settings) + (f"\n{table('field', rows)}" if rows else "")


def table(head: str, rows: Rows) -> str:
    """The table in Markdown."""
    lines = (f"| `{name}` | {default}| {text} |" for name, default, text in rows)
    return "\n".join((f"| {head} | default | meaning |", "|---|---|---|", *lines, ""))


def written(page: str) -> str:
    """`page` with its tables as they should be."""
    tables = {"reference": table("key", keys())}
    in_a_file: dict[type[Any], Collection[str]] = {
        MeshConfig: MESH_KEYS,
        RedisConfig: REDIS_KEYS,
        Degradation: file_keys(RatingSection),
        ControllerSettings: file_keys(ModesSection),
    }
    for settings, names in in_a_file.items():
        tables[f"fields of {settings.__name__}"] = fields(settings, names)
    for name, text in tables.items():
        before, found, rest = page.partition(begin(name))
        if found:
            page = f"{before}{found}{text}{END}{rest.partition(END)[2]}"
    return page


if __name__ == "__main__":
    for name in ("configuration.md", "api.md", "modes.md"):
        path = DOCS / name
        path.write_text(written(path.read_text()))
