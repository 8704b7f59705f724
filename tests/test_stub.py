"""The stub describes the compiled core: its names, and the arguments of each method."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import crdtbucket
from crdtbucket import _core

ROOT = Path(crdtbucket.__file__).parent
OF_OTHERS = (
    "crdtbucket.errors",
    "crdtbucket.spec.mode",
    "crdtbucket.spec.reservation_state",
    "crdtbucket.base.duration",
    "collections",
    "_operator",
)
"""Modules of which the core imports names."""
NAMED_TUPLES = ("Decisions", "Merged")


def stub_classes() -> dict[str, list[ast.stmt]]:
    """What the stub says of each class; under "" what stands outside of them."""
    classes: dict[str, list[ast.stmt]] = {"": []}
    for node in ast.parse((ROOT / "_core.pyi").read_text()).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node.body
        else:
            classes[""].append(node)
    return classes


STUB = stub_classes()


def members(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("_") or name in ("__len__", "__bool__")}


def test_the_stub_has_all_that_the_core_has_and_no_more() -> None:
    own = {
        name
        for name, value in vars(_core).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", "") not in OF_OTHERS
    }
    assert {*members(STUB[""]), *STUB} - {""} == own


@pytest.mark.parametrize("name", sorted(STUB.keys() - {""}))
def test_a_class_of_the_stub_has_the_members_of_that_of_the_core(name: str) -> None:
    if name in NAMED_TUPLES:
        assert tuple(members(STUB[name])) == getattr(_core, name)._fields
        return
    real = {member for part in getattr(_core, name).__mro__[:-1] for member in vars(part)}
    assert public({*members(STUB[name])}) == public(real)


class Parameter(NamedTuple):
    """One parameter of a function, without its type."""

    name: str
    kind: str
    default: str | None
    """Its source; None where a caller has to pass the parameter."""


def parameters(arguments: ast.arguments) -> list[Parameter]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults]
    named = list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    found = [("positional", *one) for one in zip(plain, defaults, strict=True)]
    found += [("named", *one) for one in named]
    found += [("the rest", rest, None) for rest in (arguments.vararg, arguments.kwarg) if rest]
    return [
        Parameter(arg.arg, kind, None if default is None else ast.unparse(default))
        for kind, arg, default in found
    ]


def parameters_of(signature: str) -> list[Parameter]:
    """Those of a signature as Python writes it, in parentheses."""
    (function,) = ast.parse(f"def f{signature}: ...").body
    assert isinstance(function, ast.FunctionDef)
    return parameters(function.args)


def constructor(kind: type) -> str:
    """The signature in the source of a class: the compiled type knows none of its own."""
    source = "\n".join(path.read_text() for path in (ROOT / "core/binding").glob("*.pxi"))
    for part in kind.__mro__[:-1]:
        body = re.search(
            rf"^cdef class {part.__name__}\b.*?(?=^\S|\Z)", source, re.MULTILINE | re.DOTALL
        )
        assert body, part
        for name in ("__init__", "__cinit__"):
            if header := re.search(rf"^    def {name}\(([^)]*)\)", body[0], re.MULTILINE):
                said = [argument(one) for one in header[1].split(",") if one.strip()]
                return f"({', '.join(said)})"
    raise AssertionError(f"{kind} has no constructor")


def argument(part: str) -> str:
    """One argument of a Cython header, without the type before its name."""
    declared, equals, default = part.partition("=")
    return declared.strip().removesuffix(" not None").split()[-1] + equals + default


METHODS = {
    f"{owner}.{node.name}".lstrip("."): (owner, node)
    for owner, body in STUB.items()
    for node in body
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    and not any(ast.unparse(one) == "property" for one in node.decorator_list)
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_stub_takes_what_that_of_the_core_does(name: str) -> None:
    """Its first line of documentation says what that is. A default that has a name there, or is a
    large number, may be "..." in the stub."""
    owner, node = METHODS[name]
    place = getattr(_core, owner) if owner else _core
    if node.name == "__init__":
        taken = parameters_of(constructor(place))
    else:
        said = getattr(place, node.name).__text_signature__
        taken = parameters_of(said.replace("$self", "self"))
    stub = parameters(node.args)
    assert [one[:2] for one in stub] == [one[:2] for one in taken]
    for stated, found in zip(stub, taken, strict=True):
        assert (stated.default is None) == (found.default is None), stated.name
        assert stated.default in (found.default, "..."), stated.name


def test_the_comparison_reads_kinds_and_defaults() -> None:
    taken = [("self", "positional", None), ("a", "positional", "1"), ("b", "named", None)]
    assert parameters_of("(self, a=1, *, b)") == taken
    assert parameters_of("(self, a, b)") != parameters_of("(self, a, *, b)")
    assert parameters_of("(*, b=...)") == [("b", "named", "...")]
    assert constructor(_core.TableInbox) == "(self, memory, epochs, names)"
