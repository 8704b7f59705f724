"""Reads as much of PromQL as is needed to see which metrics and labels an expression uses."""

from __future__ import annotations

import re
from collections.abc import Mapping

from crdtbucket.http.server.server_metrics import SERVER
from crdtbucket.metrics.catalogue import METRICS, PREFIX

STRINGS = re.compile(r'"[^"]*"|\'[^\']*\'')
SELECTOR = re.compile(r"\{([^}]*)\}")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
RANGE = re.compile(r"\[[^\]]*\]|\boffset\s+\w+")
NAME = re.compile(r"[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
WORDS = {"and", "or", "unless", "bool", "group_left", "group_right"}

EXPORTED = {
    PREFIX + metric.name + suffix: metric.labels
    for metric in (*METRICS, *SERVER)
    for suffix in (("_bucket", "_sum", "_count") if metric.histogram else ("",))
}
"""Labels by the names that a scrape shows."""


def metrics(expr: str) -> set[str]:
    """Every name in an expression that is no function, label, number or word."""
    text = STRINGS.sub("", expr)
    for pattern in (SELECTOR, GROUPING, RANGE):
        text = pattern.sub(" ", text)
    return {name for name in NAME.findall(text) if name not in WORDS}


def labels(expr: str) -> set[str]:
    """Labels that an expression selects or groups by."""
    text = STRINGS.sub("", expr)
    selected = [part for found in SELECTOR.findall(text) for part in found.split(",")]
    grouped = [part for found in GROUPING.findall(text) for part in found.split(",")]
    found = {re.split(r"[=!]", part)[0].strip() for part in [*selected, *grouped]}
    return found - {""}


def known_labels(expr: str, recorded: Mapping[str, str]) -> set[str]:
    """Labels that the metrics of an expression have, through recording rules too."""
    found = {"job", "instance"}
    for name in metrics(expr):
        if name in recorded:
            found |= known_labels(recorded[name], recorded)
        else:
            found |= {*EXPORTED[name], *(("le",) if name.endswith("_bucket") else ())}
    return found
