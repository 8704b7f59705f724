"""Checks one section against its model; each fault names its place in the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from crdtbucket.base.clipped import clipped
from crdtbucket.config.hints import BELOW, did_you_mean, fix_of_no_mapping, unknown_key
from crdtbucket.config.section import Section, section_of
from crdtbucket.config.source import Source, YamlNode
from crdtbucket.config.values import WrongValue
from crdtbucket.errors import InvalidSpec, Problem

Model = TypeVar("Model", bound=Section)

_STEP = re.compile(r"[a-z_]+|\d+")
_TYPES = {
    "string_type": ("must be text", "put it in quotes"),
    "bool_type": ("must be true or false", "write true or false"),
    "bool_parsing": ("must be true or false", "write true or false"),
    "list_type": ("must be a list", "write one entry a line, each after a dash"),
}


def validate(model: type[Model], node: YamlNode, source: Source) -> Model | None:
    """The section that `node` holds; None when it has faults, which are then in `source`."""
    try:
        return model.model_validate(node.plain())
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=True):
            _report(details, model, node, source)
        return None


def masked(text: str, node: YamlNode) -> str:
    """`text` in which every value that came from elsewhere is shown as the file has it. So a
    message does not repeat a secret that was written in a wrong place.
    """
    for child in node.walk():
        if child.raw is not None and isinstance(child.value, str):
            quoted, short = repr(child.value), clipped(child.value)
            shown = {child.value, quoted[1:-1], *({short} - {quoted})}
            # In one pass: the text of the file may hold the value again.
            each = "|".join(re.escape(one) for one in sorted(shown, key=len, reverse=True))
            text = re.sub(each, child.raw.replace("\\", r"\\"), text)
    return text


def _report(details: ErrorDetails, model: type[Section], node: YamlNode, source: Source) -> None:
    place, _ = node.find(details["loc"])
    kind = details["type"]
    cause: Any = details.get("ctx", {}).get("error")
    if kind == "extra_forbidden":
        name, section = str(details["loc"][-1]), _section_at(model, details["loc"][:-1])
        message, fix = unknown_key(name, section.model_fields, _key_below(section, name))
        source.report_key(place, message, fix)
    elif isinstance(cause, (InvalidSpec, WrongValue)):
        source.report_at(place, masked(cause.message, place), cause.fix)
    elif kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(details["ctx"]["expected"]))
        shown = place.raw if place.raw is not None else place.value
        one = not isinstance(shown, (dict, list))  # several may hold secrets
        message = f"{shown!r} is no choice" if one else "must be a single word"
        source.report_at(place, message, did_you_mean(str(shown) if one else "", choices))
    elif kind in ("dict_type", "model_type"):
        fix = BELOW
        if isinstance(place.value, str) and "limit" in model.model_fields:
            at = "in place of `bucket:`" if details["loc"][-1:] == ("bucket",) else "before it"
            fix = f"write `limit:` {at}, on a line of its own that is indented"
        fix = fix_of_no_mapping(place.value) or fix
        source.report_no_mapping(place, fix)
    else:
        message, fix = _TYPES.get(kind, (details["msg"], "correct the value"))
        source.report_at(place, masked(message, place), fix)


def report_problem(
    problem: Problem, key: str, node: YamlNode, source: Source, words: Callable[[str], str]
) -> None:
    """Notes a fault of the settings that were made from `node`, at `key` below it, such as
    "peers[2]". `words` replaces the names of Python fields by the keys of the file.
    """
    steps = tuple(int(step) if step.isdigit() else step for step in _STEP.findall(key))
    place, missing = node.find(steps)
    message = f"{key} {problem.message}" if missing else problem.message
    # The message is masked first: a secret whose words were replaced would not be found.
    source.report_at(place, words(masked(message, place)), words(problem.fix))


def as_keys(text: str, keys: Mapping[str, str]) -> str:
    """A text about Python fields as a text about keys of the file: `keys` maps one to the other."""
    return re.sub(r"\w+", lambda word: keys.get(word[0], word[0]), text)


def report_missing(node: YamlNode, location: tuple[str, ...], source: Source) -> None:
    """Notes that a key below `node` is missing or blank."""
    place, missing = node.find(location)
    name = location[-1]
    path = ".".join((place.path, *map(str, missing)))
    message = f"{name} is missing" if missing else f"{name} is blank"
    source.report(message, f"add {name}: with its value", path, place.key_line, place.key_column)


def _section_at(model: type[Section], location: tuple[int | str, ...]) -> type[Section]:
    """The section at `location`, whose keys are known."""
    steps = iter(location)
    for step in steps:
        section, is_named = section_of(model.model_fields[str(step)])
        assert section is not None, "only sections have keys"
        model = section
        if is_named:
            next(steps, None)
    return model


def _key_below(section: type[Section], name: str) -> str | None:
    """The right place of a key that has its Python name, or that is written one level too high,
    under its own name or under the names of both levels (`tls_ca`); None if it is not a key of that
    level either."""
    if name in section.in_python:
        return section.in_python[name]
    for key, field in section.model_fields.items():
        below, is_named = section_of(field)
        if below is not None and not is_named:
            inner = name.removeprefix(f"{key}_")
            if name in below.model_fields or inner in below.model_fields:
                return f"{key}.{name if name in below.model_fields else inner}"
    return None
