"""Checks the settings by which the nodes of a mesh prove who they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial

from crdtbucket.base.clipped import clipped
from crdtbucket.base.setting_checks import section_problem
from crdtbucket.errors import Problem
from crdtbucket.mesh.mesh_fields import MeshFields

_problem = partial(section_problem, "mesh")
_FINGERPRINT = re.compile(r"ed25519:[0-9a-f]{32}")
_EXAMPLE = "such as eu-1: ed25519:4be1c9d7a30f5e2260b8f71c9a4d3e85"


def is_fingerprint(text: object) -> bool:
    """Whether this is what `crdtbucket identity show` prints of a key."""
    return isinstance(text, str) and _FINGERPRINT.fullmatch(text) is not None


def identity_problems(mesh: MeshFields) -> Iterator[Problem]:
    """Every wrong field, none for a mesh that knows its nodes by the secret alone."""
    for number, one in enumerate(mesh.operator_keys):
        if not is_fingerprint(one):
            fix = "write what `crdtbucket identity make` has printed"
            yield _problem(f"operator_keys[{number}]", f"is {clipped(one)}", fix)
    policy = mesh.identity_policy
    if policy == "certificate":
        if mesh.transport != "sockets" or not mesh.mutual_tls:
            fix = "set tls_cert, tls_key and tls_ca, with transport: sockets"
            yield _problem("identity", "is certificate, and nobody checks certificates", fix)
    elif policy == "pinned" and mesh.state_dir is None:
        fix = "name a folder that outlives the process"
        yield _problem("state_dir", "is missing, where pinned keys are kept", fix)
    elif policy == "allowed" and mesh.state_dir is None and mesh.identity_key is None:
        fix = "give the private key, or set state_dir, where one is made"
        yield _problem("identity_key", "is missing", fix)
    if mesh.identity_key is not None:
        if policy not in ("pinned", "allowed"):
            fix = "set identity: pinned, or allowed"
            yield _problem("identity_key", f"is not used, as identity is {policy}", fix)
        elif not isinstance(mesh.identity_key, str) or not mesh.identity_key.strip():
            yield _problem("identity_key", "is empty", "write ${file:/path/of/the/key.pem}")
    yield from _allowed_problems(mesh, policy)


def _allowed_problems(mesh: MeshFields, policy: str) -> Iterator[Problem]:
    listed = mesh.allowed_keys
    if policy == "allowed" and not listed:
        fix = (
            f"list each node's name with what `crdtbucket identity show` prints for it, {_EXAMPLE}"
        )
        yield _problem("allowed_keys", "is missing", fix)
        return
    if listed and policy != "allowed":
        yield _problem(
            "allowed_keys", f"is not used, as identity is {policy}", "set identity: allowed"
        )
    if listed is None:
        return
    if not isinstance(listed, Mapping):
        yield _problem(
            "allowed_keys", "is no mapping", f"write names with fingerprints, {_EXAMPLE}"
        )
        return
    owners: dict[str, str] = {}
    for name, several in listed.items():
        for one in several or ("",):
            if not is_fingerprint(one):
                fix = f"write what `crdtbucket identity show` prints, {_EXAMPLE}"
                yield _problem(f"allowed_keys.{name}", f"is {clipped(one)}", fix)
            elif owners.setdefault(one, name) != name:
                fix = "give each node a key of its own"
                yield _problem(f"allowed_keys.{name}", f"has the key of {owners[one]!r}", fix)
