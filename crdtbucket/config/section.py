"""A section of a configuration: a mapping whose keys, types and ranges are known.

The text below a key is copied to docs/configuration.md and to the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """A mapping with known keys; a key that is left blank counts as left out."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )
    settings: ClassVar[type | None] = None
    """The class whose defaults hold for keys that have none here."""
    fields: ClassVar[Mapping[str, str]] = {}
    """Keys that are fields of that class, with the names of these; see `keys_of`."""
    alone: ClassVar[str | None] = None
    """The key that is meant when the section is written as a single value and not as a mapping."""
    in_python: ClassVar[Mapping[str, str]] = {}
    """The right places of keys that are often written here by mistake, because Python or another
    section has them so."""

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, dict):
            # An unknown key stays, so that it is refused even when blank.
            return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}
        return data if cls.alone is None or isinstance(data, list) else {cls.alone: data}


def section_of(field: FieldInfo) -> tuple[type[Section] | None, bool]:
    """The section that a field holds, and whether it holds many of them, by name or in a list."""
    options = [field.annotation, *get_args(field.annotation)]
    options = [get_args(one)[0] if get_origin(one) is Annotated else one for one in options]
    many = [one for one in options if get_origin(one) in (dict, list)]
    for option in (*options, *(get_args(one)[-1] for one in many)):
        # In Python 3.10 `list[str]` is an instance of `type`, too.
        if not get_origin(option) and isinstance(option, type) and issubclass(option, Section):
            return option, bool(many)
    return None, False


def sections_below(section: type[Section]) -> dict[str, type[Section]]:
    """The keys of a section that hold sections, one or many."""
    inner = {key: section_of(field)[0] for key, field in section.model_fields.items()}
    return {key: one for key, one in inner.items() if one is not None}
