"""The JSON Schema of configuration files, as editors use it, and the rows of the reference.

A schema cannot express everything that `load_config` checks (which keys go together, what a
variable holds), so it accepts some wrong files; it refuses none that can be loaded.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic.fields import FieldInfo

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import span
from crdtbucket.base.field_texts import field_texts
from crdtbucket.config.descriptors import EnvoySection
from crdtbucket.config.mesh_section import MeshSection
from crdtbucket.config.model import (
    DefaultsSection,
    IdentitySection,
    RatingSection,
    ServiceSection,
)
from crdtbucket.config.section import Section, section_of, sections_below
from crdtbucket.config.settings_section import file_keys
from crdtbucket.config.stages import RolloutSection
from crdtbucket.config.values import SECONDS, SECONDS_OR_NEVER, any_case

TITLE = "crdtbucket configuration"
REFERENCE = {"type": "string", "pattern": r"\$\{"}
"""What stands for a value of any type: `${env:NAME}` or `${file:/path}`."""

_WORDS = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
TRUTH = {"type": "string", "pattern": f"^({'|'.join(map(any_case, _WORDS))})$"}
"""The texts that an environment variable may have for true and false."""


class _DefinitionSection(Section):
    defaults: DefaultsSection | None = None
    services: dict[str, ServiceSection] | None = None


class _Rating(RatingSection, _DefinitionSection):
    """The section `rating`: settings for all buckets, and the buckets themselves."""


class _Openclaw(IdentitySection, _DefinitionSection):
    """All sections; they may stand here or at the top."""

    rating: _Rating | None = None
    mesh: MeshSection | None = None
    rollout: RolloutSection | None = None
    envoy: EnvoySection | None = None


class _File(_Openclaw):
    openclaw: _Openclaw | None = None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a configuration file."""
    schema = _File.model_json_schema()
    kinds: dict[str, type[Section]] = {kind.__name__: kind for kind in _sections(_File)}
    for name, definition in schema["$defs"].items():
        schema["$defs"][name] = _definition(definition, kinds[name])
    top = _definition(schema, _File)
    # A file with nothing in it has the defaults.
    top["anyOf"] = [{"type": top.pop("type")}, {"type": "null"}]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": TITLE}
    return {**head, **{key: value for key, value in top.items() if key != "description"}}


def default_of(section: type[Section], name: str) -> Any:
    """The default of a key, as one writes it in a file; None where there is none."""
    field = section.model_fields[name]
    value = field.default
    if value is None and section.settings is not None:
        value = _defaults(section.settings).get(section.fields.get(name, name))
    if isinstance(value, (Section, tuple)) or value in (None, dataclasses.MISSING):
        return None
    seconds = is_span(field) and not isinstance(value, str)
    return span(round(value * NS_PER_SECOND)) if seconds else value


def meanings(section: type[Section]) -> dict[str, str]:
    """The meaning of each key: the text below it in the source of the section or its bases, or
    below the field of the settings that it stands for."""
    words = field_texts(section.settings) if section.fields and section.settings else {}
    keys = file_keys(section)
    found = {key: as_meaning(words[name], keys) for key, name in section.fields.items()}
    return found | field_texts(section, Section)


def as_meaning(text: str, keys: Mapping[str, str]) -> str:
    """Turns a text about fields into one about keys: with the names of keys, and without the form
    of a sentence."""
    text = re.sub(r"`(\w+)`", lambda one: f"`{keys.get(one[1], one[1])}`", text)
    return re.sub(r"^\[?[A-Z](?=[a-z ])", lambda one: one[0].lower(), text).removesuffix(".")


def is_span(field: FieldInfo) -> bool:
    """Whether a key holds seconds, which a file gives as text with a unit, or a word instead."""
    kinds = get_args(field.annotation)
    checks = [check for one in kinds for check in getattr(one, "__metadata__", ())]
    return SECONDS in checks or SECONDS_OR_NEVER in checks


def reference() -> Iterator[tuple[str, Any, str]]:
    """Every key with its path, default and meaning; sections that are alike are listed once."""
    listed_at: dict[tuple[type[Section], str], str] = {}
    sections: dict[str, type[Section]] = {
        "": IdentitySection, "rating.": RatingSection, "services.*.": ServiceSection,
        "defaults.": DefaultsSection, "mesh.": MeshSection, "rollout.": RolloutSection,
        "envoy.": EnvoySection,
    }  # fmt: skip
    for prefix, kind in sections.items():
        yield from _rows(kind, prefix, listed_at)


def _rows(
    section: type[Section], prefix: str, listed_at: dict[tuple[type[Section], str], str]
) -> Iterator[tuple[str, Any, str]]:
    texts = meanings(section)
    below = sections_below(section)
    for name, field in sorted(section.model_fields.items(), key=lambda one: one[0] in below):
        path = prefix + name
        inner, is_named = section_of(field)
        # Where the key comes from, as sections inherit keys.
        bases = [one for one in section.__mro__ if issubclass(one, Section)]
        owner = next(one for one in reversed(bases) if name in one.model_fields)
        first = listed_at.setdefault((owner, name), path)
        if first != path:
            yield path, None, f"as [`{first}`](configuration.md#defaults-and-overrides)"
        elif inner is not None:
            listed = "list[" in str(field.annotation)
            inside = "[]." if listed else ".*." if is_named else "."
            yield from _rows(inner, path + inside, listed_at)
        else:
            yield path, default_of(section, name), texts[name]


def _defaults(settings: type) -> Mapping[str, Any]:
    parameters = inspect.signature(settings).parameters.items()
    return {name: one.default for name, one in parameters if one.default is not one.empty}


def _sections(kind: type[Section]) -> Iterator[type[Section]]:
    yield kind
    for inner in sections_below(kind).values():
        yield from _sections(inner)


def _definition(schema: dict[str, Any], kind: type[Section]) -> dict[str, Any]:
    """A section's schema as people write it: blanks, references, and a value that stands alone."""
    schema.pop("title", None)
    texts = meanings(kind)
    schema["properties"] = {
        name: _property(one, default_of(kind, name), texts.get(name, ""))
        for name, one in schema["properties"].items()
    }
    if kind.alone is None:
        return schema
    words = schema["properties"][kind.alone]["anyOf"]
    return {"anyOf": [*(one for one in words if one != {"type": "null"}), schema]}


def _property(schema: dict[str, Any], default: Any, meaning: str) -> dict[str, Any]:
    # Links lead to other pages of the docs, which editors do not have.
    words = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", meaning)
    shown = {"description": words} if words else {}
    if default is not None:
        shown["default"] = default
    rest = {k: v for k, v in schema.items() if k not in ("description", "default", "title")}
    choices = list(_choices(rest))
    is_mapping = any("$ref" in one or one.get("type") == "object" for one in choices)
    return {**shown, "anyOf": [*choices, *([] if is_mapping else [REFERENCE]), {"type": "null"}]}


def _choices(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas of the values of a key, except for a blank one."""
    for one in schema.get("anyOf", [schema]):
        if "anyOf" in one:
            yield from _choices(one)
        elif one.get("type") == "boolean":
            yield from (one, {"enum": [0, 1]}, TRUTH)
        elif "additionalProperties" in one:  # sections by name, and a blank one has the defaults
            entry = {"anyOf": [one["additionalProperties"], {"type": "null"}]}
            yield {**one, "additionalProperties": entry}
        elif one != {"type": "null"}:
            yield one
