"""`${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` in the values of a tree.

Done after parsing, so that no value can change the structure of the file. `$${` stands for a plain
`${`. The result is always text, and the reference is kept, to be shown in place of the value. A
value such as `$HOST` is refused: its writer meant the variable, and it would be the name of a node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from crdtbucket.base.file_shortage import fix_of
from crdtbucket.base.setting_checks import is_unicode
from crdtbucket.config.source import Source, YamlNode

MAX_SECRET_BYTES = 64 * 1024

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_SHELL = re.compile(r"\$[A-Z][A-Z0-9_]*(?![^:/,])")
"""A variable as a shell has it, alone or before a port or a path."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HINT = "write ${env:NAME}, ${env:NAME:-default} or ${file:/path}, and $${ for a plain ${"


class _Missing(Exception):
    """Raised for a reference without a value; has the fault and the fix."""


def expand(tree: YamlNode, env: Mapping[str, str], folder: Path, source: Source) -> None:
    """Replace every reference in `tree`; relative files are looked for in `folder`."""
    for node in tree.walk():
        if isinstance(node.value, str) and "${" in node.value:
            _expand_node(node, env, folder, source)
        elif isinstance(node.value, str) and _SHELL.match(node.value):
            # Its name is not repeated: the value may be a secret that looks like one.
            fix = "write ${env:NAME}; a value that begins so may come from there, or from ${file:}"
            source.report_at(node, "begins with $ and a name, which is not replaced", fix)
            node.unresolved = True


def _expand_node(node: YamlNode, env: Mapping[str, str], folder: Path, source: Source) -> None:
    faults: list[tuple[str, str]] = []

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        try:
            if not match[0].endswith("}"):
                raise _Missing(f"{match[0]!r} has no closing brace", _HINT)
            return _value(match[1], env, folder)
        except _Missing as missing:
            message, fix = missing.args
            faults.append((message, fix))
            return ""

    node.raw = node.value
    text = _REFERENCE.sub(replacement, node.value)
    for message, fix in faults:
        source.report_at(node, message, fix)
    if faults:
        # Neither blank nor wrong: any further fault of this value would follow from this one.
        node.unresolved = True
    else:
        # `${env:NAME:-}` with nothing in it is the same as leaving the value blank.
        node.value = text or None


def _value(reference: str, env: Mapping[str, str], folder: Path) -> str:
    scheme, colon, rest = reference.partition(":")
    if colon and scheme == "env":
        return _env_value(rest, env)
    if colon and scheme == "file":
        return _file_value(rest, folder)
    if not colon and _NAME.fullmatch(reference):
        raise _Missing(f"${{{reference}}} has no source", f"did you mean ${{env:{reference}}}?")
    raise _Missing(f"${{{reference}}} is not known", _HINT)


def _env_value(rest: str, env: Mapping[str, str]) -> str:
    name, has_default, default = rest.partition(":-")
    if not _NAME.fullmatch(name):
        raise _Missing(f"{name!r} is no name of an environment variable", _HINT)
    value = env.get(name, "")
    if not is_unicode(value):
        raise _Missing(f"the environment variable {name} is not UTF-8", "set it to text")
    if value or (name in env and not has_default):
        return value
    if has_default:
        return default
    raise _Missing(
        f"the environment variable {name} is not set",
        f"set it, or write ${{env:{name}:-default}}",
    )


def _file_value(rest: str, folder: Path) -> str:
    if not rest:
        raise _Missing("${file:} names no file", _HINT)
    path = folder / rest
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_SECRET_BYTES + 1)
        text = data.decode()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _Missing(
            f"the file {path} cannot be read: {reason}", fix_of(error, "check path and rights")
        ) from error
    except UnicodeDecodeError as error:
        raise _Missing(f"the file {path} is not UTF-8 text", "store the secret as text") from error
    if len(data) > MAX_SECRET_BYTES:
        raise _Missing(f"the file {path} is over 64 KiB", "that is no secret; check the path")
    return text.rstrip("\r\n")
