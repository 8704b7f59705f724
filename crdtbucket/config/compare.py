"""Compares two configurations: what differs, and how that affects callers and their usage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crdtbucket.base.clock import NS_PER_SECOND
from crdtbucket.base.duration import span
from crdtbucket.config import Config
from crdtbucket.config.effective import MASK, effective
from crdtbucket.config.fingerprint import spec_content
from crdtbucket.mesh.mesh_config import RENEWABLE
from crdtbucket.rollout.staged import FIXED
from crdtbucket.spec.bucket_spec import BucketSpec
from crdtbucket.strong.redis.redis_config import CREDENTIALS

_CHOICES = {
    "max_debt": "late updates may push a key so far below empty",
    "max_keys": "keys that are held stay; None: as many as the table holds",
    "on_table_full": "what a new key gets that finds no room",
    "on_outage": "what decides in an outage of Redis",
    "consistency": "this asks for a restart",
    "overrides": "the first that matches a key decides",
    "slots": "a limit of another kind, which asks for a restart",
    "period": "this asks for a restart, or for another name of the bucket",
}


@dataclass(frozen=True)
class Difference:
    """One value that is not the same; secrets are not shown."""

    path: str
    before: Any
    after: Any
    words: str


@dataclass(frozen=True)
class BucketChange:
    """The change of one bucket, or of an override (`bucket[glob]`), in words and in values."""

    bucket: str
    change: Literal["added", "removed", "changed"]
    words: tuple[str, ...]
    values: dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Comparison:
    """All that differs between two configurations."""

    version: tuple[int, int]
    hash: tuple[str, str]
    buckets: tuple[BucketChange, ...]
    settings: tuple[Difference, ...]
    warnings: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.buckets or self.settings) and self.version[0] == self.version[1]

    def lines(self) -> Iterator[str]:
        """The differences for people."""
        old, new = self.version, self.hash
        if self.same:
            yield f"nothing changes: version {old[1]}, hash {new[1]}"
            return
        yield f"version {old[0]} -> {old[1]}, hash {new[0]} -> {new[1]}"
        for change in self.buckets:
            yield f"{change.bucket}: {change.change}"
            yield from (f"  {words}" for words in change.words)
        if self.settings:
            yield "settings: changed"
            yield from (f"  {one.words}" for one in self.settings)
        yield from (f"warning: {warning}" for warning in self.warnings)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts and lists, for JSON."""
        return {"same": self.same, **asdict(self)}


class _Hidden(str):
    """A secret that is compared but not shown."""

    __slots__ = ()


def compare(old: Config, new: Config) -> Comparison:
    """The differences between `old` and `new`."""
    warnings = []
    if old.hash != new.hash and new.version <= old.version:
        warnings.append(
            f"the limits differ and version does not rise ({old.version} -> {new.version}): "
            "nodes cannot tell which is newer; raise it"
        )
    return Comparison(
        (old.version, new.version),
        (old.hash, new.hash),
        tuple(_buckets(old, new)),
        tuple(_settings(old, new)),
        tuple(warnings),
    )


# -- buckets


def _buckets(old: Config, new: Config) -> Iterator[BucketChange]:
    before, after = _flat(old), _flat(new)
    for key in [*before, *(key for key in after if key not in before)]:
        if key not in after:
            yield _removed(*before[key])
        elif key not in before:
            yield _added(*after[key])
        else:
            yield from _changed(before[key], old, after[key], new)


Member = tuple[BucketSpec, "BucketSpec | None", str]
"""A bucket, or an override with its owner and glob."""


def _flat(config: Config) -> dict[tuple[str, str], Member]:
    """Every bucket, and after it every override of it."""
    found: dict[tuple[str, str], Member] = {}
    for spec in config.buckets:
        found[spec.key, ""] = (spec, None, "")
        found |= {(spec.key, glob): (override, spec, glob) for glob, override in spec.overrides}
    return found


def _added(spec: BucketSpec, owner: BucketSpec | None, glob: str) -> BucketChange:
    words = [f"new: {limit_words(spec)}; every key starts full"]
    if owner is not None:
        words.append(f"keys that match {glob} leave {owner.name}: what they used there stays there")
    if spec.shadow:
        words.append("a shadow: it decides and counts, and admits")
    return BucketChange(spec.name, "added", tuple(words), {})


def _removed(spec: BucketSpec, owner: BucketSpec | None, glob: str) -> BucketChange:
    if owner is None:
        words = "gone: callers that name it get UnknownBucket"
    else:
        words = (
            f"gone: keys that match {glob} go to another override or to {owner.name}, where what "
        )
        words += "they used here does not count"
    return BucketChange(spec.name, "removed", (words,), {})


def _changed(before: Member, old: Config, after: Member, new: Config) -> Iterator[BucketChange]:
    values = {}
    contents = [_values(before, old), _values(after, new)]
    for name in {**contents[0], **contents[1]}:
        one, other = (content.get(name) for content in contents)
        if one != other:
            values[name] = (one, other)
    if values:
        words = tuple(_words(name, *values[name], before[0], after[0]) for name in values)
        yield BucketChange(after[0].name, "changed", words, values)


def _values(member: Member, config: Config) -> dict[str, Any]:
    spec, owner, _ = member
    defaults = (owner and owner.consistency) or config.consistency, config.degradation.on_outage
    content = spec_content(spec, defaults)
    return {**content, "overrides": [glob for glob, _ in spec.overrides]}


def _words(name: str, before: Any, after: Any, old: BucketSpec, new: BucketSpec) -> str:
    if name == "slots" and None not in (before, after):
        return f"slots {_moved(before, after)}: what is in flight stays, each for its ttl at most"
    if name == "emission" and None not in (old.slots, new.slots):
        times = f"{span(old.interval_ns)} -> {span(new.interval_ns)}"
        return f"ttl {times}: what is in flight ends by time alone"
    if name == "emission" and None not in (old.period, new.period):
        return f"{limit_words(old)} -> {limit_words(new)}"
    if name == "capacity":
        used = after // 2 or 1
        return (
            f"capacity {_moved(before, after)}: what was used stays used, so a key that has used "
            f"{used:,} has {max(before - used, 0):,} left now and {max(after - used, 0):,} then"
        )
    if name == "emission":
        rates = f"{rate_words(old)} -> {rate_words(new)}"
        share = new.rate_per_second / old.rate_per_second - 1
        return (
            f"refill {rates} ({share:+.0%}): what was used stays used and comes back at that rate"
        )
    if name == "shadow":
        effect = "denies no more: it decides, counts and admits" if after else "denies from then on"
        return f"shadow {before} -> {after}: {effect}"
    if name == "overrides":
        before, after = ", ".join(before) or "none", ", ".join(after) or "none"
    return f"{name} {before} -> {after}: {_CHOICES[name]}"


def _moved(before: int, after: int) -> str:
    return f"{before:,} -> {after:,} ({after / before - 1:+.0%})"


def rate_words(spec: BucketSpec) -> str:
    """The rate for people, such as 2,000/s or 5 per 90s."""
    interval = span(spec.interval_ns)
    one = spec.interval_ns == NS_PER_SECOND
    return f"{spec.refill_rate:,}{'/s' if one else f' per {interval}'}"


def limit_words(spec: BucketSpec) -> str:
    """The limit in words: rate and capacity, or slots."""
    if spec.slots is not None:
        return f"{spec.slots:,} in flight at once, each for {span(spec.interval_ns)} at most"
    if spec.period is not None:
        return f"{spec.capacity:,} {spec.period}"
    return f"{rate_words(spec)}, at most {spec.capacity:,} at once"


# -- the rest


def changed_settings(old: Config, new: Config) -> list[str]:
    """The settings that differ, beside those of buckets and the version."""
    return [one.path for one in _settings(old, new)]


def _settings(old: Config, new: Config) -> Iterator[Difference]:
    trees = [effective(one, _Hidden) for one in (old, new)]
    for tree in trees:
        for left_out in ("services", "version"):
            tree.pop(left_out, None)
    for path, one, other in _differing("", *trees):
        before, after = _shown(one), _shown(other)
        words = f"{path}: {_text(before)} -> {_text(after)}"
        if before == after:
            words = f"{path}: another secret"
        if path.startswith(tuple(FIXED.values())) and not path.startswith(
            (*RENEWABLE, *CREDENTIALS)
        ):
            words += " (this asks for a restart)"
        yield Difference(path, before, after, words)


def _differing(path: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The places at which two trees differ; a section that only one of them has counts as one
    place."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            yield from _differing(f"{path}.{key}" if path else key, one.get(key), other.get(key))
    elif one != other:
        yield path, one, other


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return MASK if isinstance(value, _Hidden) else value


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "given"
    return "nothing" if value is None else str(value)
