"""Reads a YAML file into a tree in which each value knows its line, and where it came from.

YAML 1.2 (so `no` is text), one document, no tags of its own, duplicate keys refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.scanner import Scanner, ScannerError

from crdtbucket.base.clipped import clipped
from crdtbucket.base.file_shortage import fix_of
from crdtbucket.base.setting_checks import is_unicode
from crdtbucket.config.hints import syntax_problem
from crdtbucket.errors import ConfigError, Problem

# No real configuration comes near these bounds. The parser takes some 50 us per value, and for a
# tag the square of its length; and aliases let a small file describe a huge tree.
MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 50_000
MAX_DEPTH = 50
MAX_TAG = 100
MAX_BITS = 100
"""Longer whole numbers are refused at once: Python does not print those of over 4,300 digits."""

_SCALARS = ("null", "bool", "int", "float", "str")


@dataclass
class YamlNode:
    """One value of the file: `value` is a dict or list of nodes, or a plain scalar."""

    value: Any
    path: str
    line: int
    column: int
    key_line: int
    key_column: int
    raw: str | None = None
    """The text in the file, if it was replaced by a `value` from elsewhere."""
    unresolved: bool = False
    """Whether it refers to something that does not exist, which is reported."""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Line and column of each key of a mapping."""

    @property
    def entries(self) -> dict[str, YamlNode]:
        """The children of a mapping; nothing for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def walk(self) -> Iterator[YamlNode]:
        """This node and all below it."""
        yield self
        children = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, (dict, list)):
            for child in children:
                yield from child.walk()

    def find(self, location: tuple[int | str, ...]) -> tuple[YamlNode, tuple[int | str, ...]]:
        """The deepest existing node on the way to `location`, and the part of the location that is
        missing below it."""
        node: YamlNode = self
        for depth, step in enumerate(location):
            child = node._child(step)
            if child is None:
                return node, location[depth:]
            node = child
        return node, ()

    def _child(self, step: int | str) -> YamlNode | None:
        if isinstance(self.value, dict):
            return self.value.get(step)
        inside = isinstance(self.value, list) and isinstance(step, int) and step < len(self.value)
        return self.value[step] if inside else None


@dataclass
class Source:
    """One file that is being read, and the faults found in it so far."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def report(self, message: str, fix: str, path: str, line: int, column: int) -> None:
        """Notes a fault at a place of this file, once: an inherited value may be met again."""
        problem = Problem(message, fix, path, self.file, line, column)
        if problem not in self.problems:
            self.problems.append(problem)

    def report_key(self, node: YamlNode, message: str, fix: str) -> None:
        """Notes a fault of a key, or something that is missing below it."""
        self.report(message, fix, node.path, node.key_line, node.key_column)

    def report_no_mapping(self, node: YamlNode, fix: str) -> None:
        """Notes that a value stands in the place of a mapping."""
        if not node.unresolved:
            self.report("must be a mapping", fix, node.path, node.line, node.column)

    def report_at(self, node: YamlNode, message: str, fix: str) -> None:
        """Notes a fault of a value; a fault of a whole section, or of a blank value, is placed at
        its key."""
        if node.unresolved:
            return
        at_key = node.value is None or isinstance(node.value, (dict, list))
        line = node.key_line if at_key else node.line
        column = node.key_column if at_key else node.column
        self.report(message, fix, node.path, line, column)


def read_tree(path: Path, source: Source) -> YamlNode:
    """The file's tree. Faults of single values are reported to `source`; a file that is unreadable
    as a whole (missing, not UTF-8, broken YAML) raises a `ConfigError` at once."""
    try:
        data = beginning_of(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fix = fix_of(error, "check the path")
        fault = Problem(f"cannot be read: {reason}", fix, file=source.file)
        raise ConfigError([fault]) from error
    if len(data) > MAX_FILE_BYTES:
        fault = Problem("is over 1 MiB", "this is not a configuration", file=source.file)
        raise ConfigError([fault])
    return _Reader(source).read(_decoded(data, source.file))


def beginning_of(path: Path) -> bytes:
    """The content of a file; only the beginning if it is too large for a configuration. Raises
    OSError."""
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        fault = Problem("is not UTF-8", "save it as UTF-8", "", file, line, column)
        raise ConfigError([fault]) from error


class _TooLarge(Exception):
    """The file has more values than a configuration may have."""


class _Composer(Composer):
    """Stops at more values than a configuration may have, before it has read them all."""

    count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise _TooLarge
        return super().compose_node(parent, index)


class _Scanner(Scanner):
    """Reads YAML, and refuses a tag that is longer than any that is used."""

    def scan_tag(self) -> Any:
        here = self.reader.prefix(MAX_TAG + 1)
        if len(here) > MAX_TAG and len(here.split(None, 1)[0]) > MAX_TAG:
            mark = self.reader.get_mark()
            raise ScannerError("while scanning a tag", mark, f"over {MAX_TAG} characters", mark)
        return super().scan_tag()


class _Reader:
    """Turns the composed YAML into `YamlNode`s."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._yaml = YAML(typ="safe", pure=True)
        self._yaml.Composer, self._yaml.Scanner = _Composer, _Scanner
        self._count = 0

    def read(self, text: str) -> YamlNode:
        try:
            composed = self._yaml.compose(text)
        except YAMLError as error:
            raise ConfigError([syntax_problem(error, text, self._source.file)]) from error
        except (RecursionError, _TooLarge) as error:  # brackets by the thousand exhaust the stack
            fix = f"nest less, and write at most {MAX_VALUES:,} values"
            fault = Problem("too large or too deep", fix, "", self._source.file)
            raise ConfigError([fault]) from error
        if composed is None:
            return YamlNode({}, "", 1, 1, 1, 1)
        return self._node(composed, "", (1, 1), 0)

    def _node(self, composed: Any, path: str, key: tuple[int, int], depth: int) -> YamlNode:
        line, column = composed.start_mark.line + 1, composed.start_mark.column + 1
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            fix = "an alias (*) may refer to itself or multiply; write the values out"
            fault = Problem("too large or too deep", fix, path, self._source.file, line, column)
            raise ConfigError([fault])
        node = YamlNode(None, path, line, column, *key)
        if isinstance(composed, MappingNode):
            node.value = self._mapping(composed, node, depth)
        elif isinstance(composed, SequenceNode):
            node.value = [
                self._node(item, f"{path}[{number}]", (line, column), depth + 1)
                for number, item in enumerate(composed.value)
            ]
        elif isinstance(composed, ScalarNode):
            node.value = self._scalar(composed, node)
        return node

    def _mapping(self, composed: MappingNode, node: YamlNode, depth: int) -> dict[str, YamlNode]:
        children: dict[str, YamlNode] = {}
        for key_node, value_node in composed.value:
            place = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            name = str(key_node.value) if isinstance(key_node, ScalarNode) else ""
            shown = name if name.isprintable() else repr(name)[1:-1]
            path = f"{node.path}.{shown}" if node.path else shown
            if not name:
                fault = "empty" if isinstance(key_node, ScalarNode) else "not text"
                self._source.report(f"this key is {fault}", "write a name", node.path, *place)
            elif name == "<<":
                self._source.report("merge keys are not used", "write the keys out", path, *place)
            elif name in children:
                first = node.keys[name][0]
                fix = f"it is also in line {first}; keep one"
                self._source.report(f"key {clipped(name)} is given twice", fix, path, *place)
            else:
                node.keys[name] = place
                children[name] = self._node(value_node, path, place, depth + 1)
        return children

    def _scalar(self, composed: ScalarNode, node: YamlNode) -> Any:
        tag = str(composed.tag)
        if tag.rpartition(":")[2] not in _SCALARS or not tag.startswith("tag:yaml.org,2002:"):
            if tag.startswith("tag:yaml.org,2002:timestamp"):
                return composed.value  # a date is read as text
            self._source.report_at(node, f"the tag {tag} is not used here", "remove the tag")
            return None
        try:
            value = self._yaml.constructor.construct_object(composed)
        except (YAMLError, ValueError) as error:  # such as !!int abc
            self._source.report_at(node, f"cannot be read: {error}", "remove the tag or correct it")
            return None
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            self._source.report_at(node, "has more digits than any setting", "write fewer")
            return None
        if isinstance(value, str) and not is_unicode(value):
            fix = "write the character itself, not as two escapes"
            self._source.report_at(node, "holds half a surrogate pair", fix)
            return None
        return value
