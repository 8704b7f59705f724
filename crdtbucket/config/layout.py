"""Defines where the sections of a configuration may be written, and merges the parts of each. Every
section may be at the top of the file or under `openclaw`, or split between both: `rating` at the
top and `openclaw.rating` are read as one. `services` and `defaults` may also stand under `rating`.
"""

from __future__ import annotations

from crdtbucket.config.hints import BELOW, fix_of_no_mapping, unknown_key
from crdtbucket.config.mesh_section import MeshSection
from crdtbucket.config.model import RatingSection, RuleSection, ServiceSection
from crdtbucket.config.source import Source, YamlNode

ROOT = "openclaw"
IDENTITY = ("node", "region", "version", "shared")
MAPPINGS = ("rating", "services", "defaults", "mesh", "rollout", "envoy")
SECTIONS = (*MAPPINGS, *IDENTITY)
ELSEWHERE = {
    **{name: f"services.NAME.{name}" for name in RuleSection.model_fields},
    **{name: f"mesh.{name}" for name in MeshSection.model_fields},
    **{name: f"rating.{name}" for name in RatingSection.model_fields},
    "buckets": "services",
    "limits": "services",
    "redis": "rating.bucket_backend.connection",
}
"""Where keys belong that are written at the top by mistake."""
BUCKET = "if it is a bucket, write it below services:, indented"


def arrange(tree: YamlNode, source: Source) -> dict[str, YamlNode]:
    """The sections of a file by name, each with the places that it came from. `rating` and
    `identity`, which has all keys of `IDENTITY`, are always among them. Unknown keys, wrong types
    and values given twice are reported to `source`."""
    found: dict[str, YamlNode] = {}
    if _is_mapping(tree, source):
        inner = tree.entries.get(ROOT)
        _collect(tree, (*SECTIONS, ROOT), found, source)
        if inner is not None and _is_mapping(inner, source):
            _collect(inner, SECTIONS, found, source)
    rating = found.get("rating")
    for name in ("services", "defaults"):
        if rating is not None and name in rating.entries:
            # `services` is also accepted under `rating`, since a file may have lost its
            # indentation.
            _add(found, name, rating.value.pop(name), source)
    identity = {key: found.pop(key) for key in IDENTITY if key in found}
    blank = YamlNode({}, "rating", 1, 1, 1, 1)
    return {"rating": blank, **found, "identity": YamlNode(identity, "", 1, 1, 1, 1)}


def _collect(
    parent: YamlNode, known: tuple[str, ...], found: dict[str, YamlNode], source: Source
) -> None:
    for name, child in parent.entries.items():
        if name not in known:
            as_bucket = BUCKET if ServiceSection.model_fields.keys() & child.entries.keys() else ""
            message, fix = unknown_key(name, known, ELSEWHERE.get(name), as_bucket)
            source.report_key(child, message, fix)
        elif name != ROOT:
            _add(found, name, child, source)


def _add(found: dict[str, YamlNode], name: str, node: YamlNode, source: Source) -> None:
    if name in MAPPINGS and not _is_mapping(node, source):
        return
    if name not in found:
        found[name] = node
    else:
        _merge(found[name], node, source)


def _merge(first: YamlNode, second: YamlNode, source: Source) -> None:
    """Adds the content of `second` to `first`; a key that is given in both is a fault."""
    if not (isinstance(first.value, dict) and isinstance(second.value, dict)):
        fix = f"it is also in line {first.line} as {first.path}; keep one"
        source.report_key(second, "is given twice", fix)
        return
    for name, child in second.entries.items():
        if name in first.value:
            _merge(first.value[name], child, source)
        else:
            first.value[name] = child


def _is_mapping(node: YamlNode, source: Source) -> bool:
    if node.value is None:
        node.value = {}  # a section with nothing in it is a section with its defaults
    if not isinstance(node.value, dict):
        source.report_no_mapping(node, fix_of_no_mapping(node.value) or BELOW)
        return False
    return True
