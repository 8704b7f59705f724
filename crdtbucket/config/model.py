"""The shape of each section of a configuration: keys, types and ranges."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from crdtbucket.clock import NS_PER_SECOND
from crdtbucket.duration import duration_ns
from crdtbucket.policy import MAX_TOKENS, check_name, check_whole, parse_rate


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


class Connection(Section):
    """How to reach Redis; `url` or `host` and `port`."""

    host: str | None = None
    port: Annotated[int, _whole("port", 1, 65_535)] = 6379
    password: SecretText | None = Field(default=None, repr=False)
    url: SecretText | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _one_address(self) -> Connection:
        if self.url is not None and self.host is not None:
            raise Fault("has both url and host", "keep one of them")
        schemes = ("redis://", "rediss://", "unix://")
        if self.url is not None and not self.url.startswith(schemes):
            raise Fault("the url is of no known kind", f"start it with {' or '.join(schemes)}")
        return self


class Backend(Section):
    """The common store of strong consistency."""

    type: Literal["redis"] = "redis"
    connection: Connection = Connection()


class Rating(Section):
    """What holds for all buckets."""

    enabled: bool = True
    bucket_backend: Backend | None = None
    consistency: Literal["strong", "eventual"] = "eventual"


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
    peers: Annotated[list[str], BeforeValidator(_addresses)] | None = None
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
    """Who this node is."""

    node: Annotated[str, _named("node")] | None = None
    region: Annotated[str, _named("region")] | None = None


__all__ = [
    "Backend",
    "Bucket",
    "Connection",
    "Fault",
    "Identity",
    "Mesh",
    "Rating",
    "Section",
    "Service",
]
