"""Makes a section of a configuration from a class of settings, so that each field is defined once.

The type, the range, the default and the meaning of a key are those of the field. A section only
states how the file differs: which fields are in a section below, and under which name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, TypeVar, get_origin

from pydantic import Field, create_model

from crdtbucket.base.setting_checks import (
    HOST_PORT,
    RATIO,
    WEBHOOK,
    NumberRange,
    SecondsRange,
    WholeRange,
    options_of,
    types_of,
)
from crdtbucket.config.section import Section, sections_below
from crdtbucket.config.values import (
    Address,
    Addresses,
    Duration,
    Fingerprints,
    Ratio,
    Seconds,
    SecondsOrNever,
    Secrets,
    SecretText,
    Share,
    Webhook,
    whole,
)

Kind = TypeVar("Kind", bound=Section)
_MARKS = {HOST_PORT: Address, RATIO: Ratio, WEBHOOK: Webhook}


def keys_of(settings: type, *names: str, **called: str) -> Callable[[type[Kind]], type[Kind]]:
    """Gives a section a key for each field of `settings`, behind the keys that it has itself.

    `names`: the fields that are keys here; `called`: those that have another name here. If both are
    left out: all fields except those of the sections below.
    """

    def complete(section: type[Kind]) -> type[Kind]:
        types = types_of(settings)
        fields = {one.name: one for one in dataclasses.fields(settings)}
        section.settings = settings
        rest = [name for name in fields if name not in file_keys(section)]
        section.fields = {name: name for name in names} | called or {name: name for name in rest}
        keys: dict[str, Any] = {}
        for key, name in section.fields.items():
            if key not in section.model_fields:
                kind = _kind_in_file(name, types[name], secret=not fields[name].repr)
                keys[key] = (kind | None, Field(default=None, repr=fields[name].repr))
        return create_model(
            section.__name__,
            __base__=section,
            __doc__=section.__doc__,
            __module__=section.__module__,
            **keys,
        )

    return complete


def _kind_in_file(name: str, hint: Any, *, secret: bool) -> Any:
    """The type of a key whose field has this type in code."""
    options = options_of(hint)
    match getattr(options[0], "__metadata__", ()):
        case (WholeRange(low, high),):
            return Annotated[int, whole(name, int(low), int(high))]
        case (SecondsRange(word=word),):
            return SecondsOrNever if word else Seconds
        case (NumberRange(),):
            return Share
        case (str() as mark,):
            return _MARKS[mark]
    if timedelta in options:
        return Duration
    if secret:
        return Secrets if any(get_origin(one) is Sequence for one in options) else SecretText
    return {Sequence: Addresses, Mapping: Fingerprints}.get(get_origin(options[0]), options[0])


def parts_below(section: type[Section]) -> dict[str, type[Section]]:
    """The sections below a section that have fields of the same settings."""
    below = sections_below(section).items()
    return {key: inner for key, inner in below if inner.settings is section.settings}


def file_keys(section: type[Section]) -> dict[str, str]:
    """The key in a file for each field of the settings of a section, such as `tls.ca`."""
    found = {name: key for key, name in section.fields.items()}
    for key, inner in parts_below(section).items():
        for name, one in file_keys(inner).items():
            found[name] = key if one == inner.alone else f"{key}.{one}"
    return found


def given(section: Section) -> dict[str, Any]:
    """The fields of the settings that are given in a section and in the sections below it."""
    found = {name: getattr(section, key) for key, name in section.fields.items()}
    for key in parts_below(type(section)):
        inner = getattr(section, key)
        found |= given(inner) if inner is not None else {}
    return {name: value for name, value in found.items() if value is not None}
