"""The shape of each section of a configuration: keys, types and ranges."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from crdtbucket.clock import NS_PER_SECOND
from crdtbucket.duration import duration_ns
from crdtbucket.policy import MAX_TOKENS, OnOutage, check_name, check_whole, clipped, parse_rate
from crdtbucket.strong.notice import check_webhook

_SHARE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?) *(%?)", re.ASCII)


class Fault(ValueError):
    """A wrong value: what is wrong, and what to write instead."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix


def _whole(field: str, low: int, high: int) -> BeforeValidator:
    def check(value: Any) -> int:
        # A value from the environment is always text.
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            value = int(value.strip()[:40])
        return check_whole(field, value, low, high)

    return BeforeValidator(check)


def _duration(value: Any) -> str | int | float | timedelta:
    duration_ns(value, "duration")
    return value  # type: ignore[no-any-return] # duration_ns refuses every other type


def _seconds(value: Any) -> float:
    return duration_ns(value, "duration") / NS_PER_SECOND


def _rate(value: Any) -> str:
    parse_rate(value)
    return str(value)


def _share(value: Any) -> float:
    """A number as it is, or text as people and environments write it: "0.1", "10%"."""
    match = _SHARE.fullmatch(str(value))
    if isinstance(value, bool) or match is None:
        raise Fault(f"is {clipped(value)}", 'write a number such as 0.1, or "10%"')
    return float(match[1]) / (100 if match[2] else 1)


def _ratio(value: Any) -> float:
    ratio = _share(value)
    if not 0 < ratio <= 1:
        raise Fault(
            f"is {clipped(value)}", 'write a share above 0 and up to 1, such as 0.1 or "10%"'
        )
    return ratio


def _secret_text(value: Any) -> str:
    if not isinstance(value, str):
        # Unquoted digits lose their zeros in YAML, and the value must not be repeated here.
        raise Fault("must be text", "put it in quotes")
    return value


def _secrets(value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [_secret_text(one) for one in value]
    return _secret_text(value)


def _addresses(value: Any) -> Any:
    """A list as it is; text, as an environment variable gives it, is split at the commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _named(field: str) -> BeforeValidator:
    return BeforeValidator(lambda value: check_name(value, field))


Duration = Annotated[str | int | float | timedelta, BeforeValidator(_duration)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
SecretText = Annotated[str, BeforeValidator(_secret_text)]
Addresses = Annotated[list[str], BeforeValidator(_addresses)]
Consistency = Literal["strong", "eventual"]
FallbackScope = Literal["node", "fleet"]


class Section(BaseModel):
    """A mapping with known keys; a key that is left blank counts as left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, data: Any) -> Any:
        if data is None:
            return {}
        if isinstance(data, dict):
            # An unknown key stays, so that it is refused even when blank.
            return {k: v for k, v in data.items() if v is not None or k not in cls.model_fields}
        return data


class Tls(Section):
    """Encryption towards Redis; `tls: true` alone where the system knows the authority."""

    enabled: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_word_alone(cls, data: Any) -> Any:
        return data if isinstance(data, (dict, list)) or data is None else {"enabled": data}


class Sentinel(Section):
    """The sentinels that know the primary."""

    master: str | None = None
    nodes: Addresses | None = None
    password: SecretText | None = Field(default=None, repr=False)


class Connection(Section):
    """How to reach Redis; see `RedisConfig`, which checks what goes together."""

    url: SecretText | None = Field(default=None, repr=False)
    host: str | None = None
    port: Annotated[int, _whole("port", 1, 65_535)] | None = None
    username: str | None = None
    password: SecretText | None = Field(default=None, repr=False)
    db: Annotated[int, _whole("db", 0, 99_999)] | None = None
    tls: Tls | None = None
    sentinel: Sentinel | None = None
    cluster: bool | None = None
    nodes: Addresses | None = None


class Backend(Section):
    """The common store of strong consistency; see `RedisConfig`."""

    type: Literal["redis"] = "redis"
    connection: Connection = Connection()
    prefix: str | None = None
    deadline: Seconds | None = None
    connect_timeout: Seconds | None = None
    retention: Seconds | None = None
    active_active: bool | None = None


class Modes(Section):
    """When Redis counts as slow or gone, and as back; see `ControllerSettings`."""

    latency_limit: Seconds | None = None
    latency_quantile: Annotated[float, BeforeValidator(_share)] | None = None
    latency_window: Seconds | None = None
    least_samples: Annotated[int, _whole("least_samples", 1, 1_000_000)] | None = None
    outage_after: Seconds | None = None
    stable_after: Seconds | None = None
    stable_after_failover: Seconds | None = None
    least_return_gap: Seconds | None = None
    probe_interval: Seconds | None = None
    longest_probe_interval: Seconds | None = None


class Rating(Section):
    """What holds for all buckets, unless one says otherwise."""

    enabled: bool = True
    bucket_backend: Backend | None = None
    consistency: Consistency = "eventual"
    on_outage: OnOutage = "quota"
    fallback_ratio: Annotated[float, BeforeValidator(_ratio)] = 0.1
    fallback_scope: FallbackScope = "node"
    modes: Modes = Modes()
    webhook: Annotated[str, BeforeValidator(check_webhook)] | None = Field(default=None, repr=False)


class Bucket(Section):
    """A bucket's numbers; see `BucketSpec`."""

    capacity: Annotated[int, _whole("capacity", 1, MAX_TOKENS)]
    refill_rate: Annotated[int, _whole("refill_rate", 1, MAX_TOKENS)]
    refill_interval: Duration = "1s"
    max_debt: Annotated[int, _whole("max_debt", 0, MAX_TOKENS)] | None = None
    max_keys: Annotated[int, _whole("max_keys", 1, MAX_TOKENS)] | None = None
    on_table_full: Literal["deny", "allow"] = "deny"


class Service(Section):
    """One named bucket: in numbers, or as a rate string."""

    bucket: Bucket | None = None
    limit: Annotated[str, BeforeValidator(_rate)] | None = None
    consistency: Consistency | None = None
    on_outage: OnOutage | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Service:
        if self.bucket is None and self.limit is None:
            raise Fault("has no bucket", 'add bucket: or limit: "100/minute burst 20"')
        if self.bucket is not None and self.limit is not None:
            raise Fault("has both bucket and limit", "keep one of them")
        return self


class Mesh(Section):
    """This node's part in the mesh; see `MeshConfig`, whose fields these are."""

    listen: str | None = None
    advertise: str | None = None
    peers: Addresses | None = None
    secret: Annotated[str | list[str], BeforeValidator(_secrets)] | None = Field(
        default=None, repr=False
    )
    hash_secret: SecretText | None = Field(default=None, repr=False)
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    tls_verify_peer: bool | None = None
    gossip_interval: Seconds | None = None
    partition_trust: Seconds | None = None
    forget_after: Seconds | None = None
    state_dir: str | None = None
    max_peers: Annotated[int, _whole("max_peers", 1, 1024)] | None = None


class Identity(Section):
    """Who this node is, and which version of the definitions this file is."""

    node: Annotated[str, _named("node")] | None = None
    region: Annotated[str, _named("region")] | None = None
    version: Annotated[int, _whole("version", 0, MAX_TOKENS)] = 0


__all__ = [
    "Backend",
    "Bucket",
    "Connection",
    "FallbackScope",
    "Fault",
    "Identity",
    "Mesh",
    "Modes",
    "Rating",
    "Section",
    "Service",
]
