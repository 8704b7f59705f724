"""Checks the settings of a mesh on a message engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from crdtbucket.base.setting_checks import section_problem
from crdtbucket.errors import Problem
from crdtbucket.mesh.mesh_fields import MeshFields

_problem = partial(section_problem, "mesh")
SCHEMES = {"nats": ("nats", "tls"), "redis": ("redis", "rediss")}
EXAMPLES = {"nats": "nats://10.0.0.5:4222", "redis": "redis://10.0.0.5:6379"}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def engine_problems(mesh: MeshFields) -> Iterator[Problem]:
    """Every wrong field, none for a mesh of sockets that names no engine."""
    kind = mesh.transport
    if kind not in ("sockets", *SCHEMES):
        return
    for name in ("subject_prefix", "mesh_name"):
        text = getattr(mesh, name)
        if not isinstance(text, str) or _TOKEN.fullmatch(text) is None:
            yield _problem(name, f"is {text!r}", "use 1 to 64 letters, digits, - and _")
    if kind == "sockets":
        for name in ("servers", "credentials"):
            if getattr(mesh, name):
                yield _problem(name, "is for a mesh on an engine", "add transport: nats, or redis")
        return
    for name in ("peers", "advertise"):
        if getattr(mesh, name):
            fix = "leave it out: nodes find each other at the engine"
            yield _problem(name, f"is for a mesh of sockets, and transport is {kind}", fix)
    yield from _server_problems(mesh, kind)
    if mesh.credentials is not None and not str(mesh.credentials).strip():
        yield _problem("credentials", "is empty", "write user:password, or leave it out")


def _server_problems(mesh: MeshFields, kind: str) -> Iterator[Problem]:
    example = EXAMPLES[kind]
    if not mesh.servers:
        yield _problem("servers", "names no server", f"write a list, such as [{example}]")
        return
    if kind == "redis" and len(mesh.servers) > 1:
        fix = "name one: what is published at one Redis does not reach the others"
        yield _problem("servers", f"names {len(mesh.servers)} servers", fix)
    for number, server in enumerate(mesh.servers):
        # The value is not repeated: it may hold a password.
        if wrong := _wrong_server(server, SCHEMES[kind]):
            yield _problem(f"servers[{number}]", wrong, f"write it as {example}")


def _wrong_server(server: object, schemes: tuple[str, ...]) -> str:
    if not isinstance(server, str):
        return "is not text"
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.username is not None or parts.password is not None:
        return "has credentials, which belong into mesh.credentials"
    if parts.scheme not in schemes:
        return f"begins with none of {', '.join(f'{one}://' for one in schemes)}"
    return "" if host and port != 0 else "has no host and port"
