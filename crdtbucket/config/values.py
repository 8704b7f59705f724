"""Types of the values of a configuration: how each is read, what is refused, and its JSON
Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from crdtbucket.base.clipped import clipped
from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import DURATION_HINT, UNIT_NS, duration_ns
from crdtbucket.base.setting_checks import UnitlessSeconds
from crdtbucket.errors import InvalidSpec
from crdtbucket.mesh.mesh_fields import NEVER
from crdtbucket.spec.field_checks import MAX_NAME_LENGTH, check_name, check_whole
from crdtbucket.spec.priority import PRIORITIES, Floor, Priority, check_floor
from crdtbucket.spec.rate_text import parse_rate
from crdtbucket.strong.controller.webhook_target import check_webhook

_SHARE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?) *(%?)", re.ASCII)


class WrongValue(ValueError):
    """A wrong value: what is wrong, and what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix


@dataclass(frozen=True, eq=False)
class ValueCheck:
    """Reads a value of the file; `schema` describes the allowed values, in JSON Schema."""

    function: Callable[[Any], Any]
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.function, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return dict(self.schema)


def whole(field: str, low: int, high: int) -> ValueCheck:
    """Reads a whole number of this range, which messages call `field`."""

    def check(value: Any) -> int:
        # A value from the environment is always text.
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            value = int(value.strip()[:40])
        return check_whole(field, value, low, high)

    digits = {"type": "string", "pattern": r"^\s*[0-9]+\s*$"}
    return ValueCheck(
        check, {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, digits]}
    )


def named(field: str) -> ValueCheck:
    """Reads the name of a node or region, which messages call `field`."""
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
    return ValueCheck(lambda value: check_name(value, field), schema)


def any_case(word: str) -> str:
    """A pattern for a word in letters of any case, for which JSON Schema has no flag."""
    return "".join(f"[{one.upper()}{one}]" if one.isalpha() else one for one in word)


def _duration(value: Any) -> str | int | float | timedelta:
    duration_ns(value, "duration")
    return value  # type: ignore[no-any-return] # duration_ns refuses every other type


def _seconds(value: Any) -> float:
    seconds = duration_ns(value, "duration") / NS_PER_SECOND
    # A number of the environment is text.
    unitless = not isinstance(value, timedelta) and str(value).strip()[-1:].isdigit()
    return UnitlessSeconds(seconds) if unitless else seconds


def _seconds_or_never(value: Any) -> float | str:
    if isinstance(value, str) and value.strip().lower() == NEVER:
        return NEVER
    try:
        return _seconds(value)
    except InvalidSpec as error:
        raise WrongValue(f"is {clipped(value)}", f"{DURATION_HINT}, or {NEVER}") from error


def _rate(value: Any) -> str:
    parse_rate(value)
    return str(value)


def _share(value: Any) -> float:
    """A number, or text as people and environment variables write it: "0.1", "10%"."""
    match = _SHARE.fullmatch(str(value))
    if isinstance(value, bool) or match is None:
        raise WrongValue(f"is {clipped(value)}", 'write a number such as 0.1, or "10%"')
    return float(match[1]) / (100 if match[2] else 1)


def _ratio(value: Any) -> float:
    ratio = _share(value)
    if not 0 < ratio <= 1:
        raise WrongValue(
            f"is {clipped(value)}", 'write a share above 0 and up to 1, such as 0.1 or "10%"'
        )
    return ratio


def _floor(value: Any) -> Floor:
    floor = value
    if _SHARE.fullmatch(str(value)):
        floor = _share(value)
    check_floor(floor)
    return floor  # type: ignore[no-any-return] # check_floor refuses every other type


def _secret_text(value: Any) -> str:
    if not isinstance(value, str):
        # Unquoted digits lose their zeros in YAML, and the value must not be repeated here.
        raise WrongValue("must be text", "put it in quotes")
    return value


def _secrets(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [_secret_text(one) for one in value]
    return _secret_text(value)


def _fingerprints(value: Any) -> Any:
    """Texts or lists of them by name."""
    if not isinstance(value, dict):
        raise WrongValue("is no mapping", "write names of nodes, each with its fingerprint")
    for name, one in value.items():
        if not isinstance(one, str) and not (
            isinstance(one, list) and one and all(isinstance(each, str) for each in one)
        ):
            fix = "write what `crdtbucket identity show` prints, or a list"
            raise WrongValue(f"has no text for {name!r}", fix)
    return value


def _address(value: Any) -> Any:
    """A port alone becomes text: its fault is reported later, together with all others."""
    return str(value) if type(value) is int else value


def _addresses(value: Any) -> Any:
    """A list as it is; text, as an environment variable gives it, is split at the commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [_address(one) for one in value] if isinstance(value, list) else value


# To keep the pattern short, it accepts any word for a unit with a capital letter.
_NUMBER = r"[0-9]{1,20}(\.[0-9]{1,20})?"
_TOKENS = "[0-9][0-9_]{0,30}"
_UNIT = f"({'|'.join(UNIT_NS)}|[µμ]s|[A-Za-z]*[A-Z][A-Za-z]*)"
_RATE_PATTERN = (
    rf"^\s*{_TOKENS}\s*(/|{any_case('per')})\s*({_NUMBER})?\s*{_UNIT}"
    rf"(\s*[;,]?\s*{any_case('burst')}\s*[=:]?\s*{_TOKENS})?\s*$"
)
_TEXT = {"type": "string"}
_SPAN = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*{_UNIT}?\s*$"},
    ]
}
_SPAN_OR_NEVER = {
    "anyOf": [*_SPAN["anyOf"], {"type": "string", "pattern": rf"^\s*{any_case(NEVER)}\s*$"}]
}
_PERCENT = {"type": "string", "pattern": "^[0-9.]+ *%?$"}
_PART = {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "maximum": 1}, _PERCENT]}
_FLOOR = {
    "anyOf": [
        {"enum": [*PRIORITIES]},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        _PERCENT,
    ]
}
_TEXTS = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}

SECONDS = ValueCheck(_seconds, _SPAN)
Duration = Annotated[str | int | float | timedelta, ValueCheck(_duration, _SPAN)]
Seconds = Annotated[Any, SECONDS]  # `float` would lose that there was no unit
SECONDS_OR_NEVER = ValueCheck(_seconds_or_never, _SPAN_OR_NEVER)
SecondsOrNever = Annotated[Any, SECONDS_OR_NEVER]
Rate = Annotated[str, ValueCheck(_rate, {**_TEXT, "pattern": _RATE_PATTERN})]
Share = Annotated[float, ValueCheck(_share, _PART)]
Ratio = Annotated[float, ValueCheck(_ratio, _PART)]
FloorValue = Annotated[float | Priority, ValueCheck(_floor, _FLOOR)]
SecretText = Annotated[str, ValueCheck(_secret_text, _TEXT)]
Secrets = Annotated[str | list[str], ValueCheck(_secrets, _TEXTS)]
Address = Annotated[str, ValueCheck(_address, _TEXT)]
Addresses = Annotated[list[str], ValueCheck(_addresses, _TEXTS)]
_KEYS = {"type": "object", "additionalProperties": _TEXTS}
Fingerprints = Annotated[dict[str, str | list[str]], ValueCheck(_fingerprints, _KEYS)]
_WEBHOOK = r"^((slack|pagerduty)\+)?https?://"
Webhook = Annotated[str, ValueCheck(check_webhook, {**_TEXT, "pattern": _WEBHOOK})]
