"""The names that the package exports, and which of its modules may import which."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import crdtbucket

ROOT = Path(crdtbucket.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [*ROOT.rglob("*.py"), ROOT / "_core.pyx"]
}

# Lowest first; the longest prefix of a module's name decides. A new module gets a line here.
LAYERS = [
    "errors base spec.mode",
    "spec _core http.fields",
    """mesh.protocol mesh.node_info mesh.engine_settings mesh.identity_settings mesh.mesh_config
    mesh.mesh_fields
    mesh.snapshot mesh.state_dir mesh.state_file config rollout.rollout_plan rollout.staged
    strong reconcile.merging reconcile.findings""",
    """limiter.background rollout.watching shared
    mesh.links mesh.sockets mesh.engines mesh.transport
    strong.redis.access strong.redis.login strong.redis.redis_connection strong.redis.topology
    strong.redis.locator strong.redis.registry strong.redis.server_facts
    strong.address_watch strong.region_watch strong.store_regions
    strong.redis.blocking_connection strong.deadlines strong.dispatcher strong.endpoint
    strong.endpoint_health strong.endpoints strong.read_tally strong.resync
    strong.room_queue strong.server_link strong.store strong.store_slots strong.store_upkeep
    strong.supervisor strong.threads strong.controller.webhook strong.redis.lateness
    limiter.tables""",
    """limiter rollout strong.rule_maker strong.strong_bucket
    strong.strong_side strong.strong_slots strong.strong_waiting reconcile doctor""",
    "testing simulator cli demo http integrations metrics upstream __main__",
]
RANK = {f"crdtbucket.{name}": rank for rank, names in enumerate(LAYERS) for name in names.split()}
# An error of a denied call carries the decision, which the core makes; the core raises errors. The
# bucket of a decision is the limiter's, which its caller knows: the stub says so.
EXCEPTED = {
    ("crdtbucket.errors", "crdtbucket._core"),
    ("crdtbucket._core", "crdtbucket.limiter.bucket"),
}
# The package itself shows things of all layers, and imports none of the surfaces.
RANK["crdtbucket"] = len(LAYERS) - 2


def rank(module: str) -> int:
    """The layer of a module, by the longest prefix that has one."""
    name = module
    while name not in RANK:
        name, dot, _ = name.rpartition(".")
        assert dot, f"{module} has no layer"
    assert name != "crdtbucket" or module == name, f"{module} has no layer: give it one above"
    return RANK[name]


def included() -> str:
    """What the compiled core is made of, beside its headers."""
    return "\n".join(path.read_text() for path in (ROOT / "core/binding").glob("*.pxi"))


class Read(NamedTuple):
    """What a file of the package says, without its tree: that of all of them is large."""

    imports: frozenset[str]
    classes: tuple[tuple[str, int], ...]
    """With the number of arguments that each is made with."""


@functools.cache
def read(path: Path) -> Read:
    if path.suffix == ".pyx":
        source = path.read_text() + included() + path.with_suffix(".pyi").read_text()
        found = re.findall(r"^\s*from (crdtbucket[\w.]*) import", source, re.MULTILINE)
        assert "crdtbucket.spec.priority" in found, "what the stub alone imports"
        return Read(frozenset(found), ())
    tree = ast.parse(path.read_text())
    classes = tuple(
        (one.name, size(one)) for one in statements(tree) if isinstance(one, ast.ClassDef)
    )
    return Read(frozenset(imports_of(tree, path)), classes)


def imports(path: Path) -> frozenset[str]:
    """Modules that this one imports: in functions, and for the type checker alone, too."""
    return read(path).imports


def uses() -> dict[str, set[str]]:
    """The modules of the package that each one imports, without the exceptions."""
    return {
        name: {one for one in imports(path) & MODULES.keys() if (name, one) not in EXCEPTED}
        for name, path in MODULES.items()
    }


def imports_of(tree: ast.AST, path: Path) -> Iterator[str]:
    """The modules that the imports of a tree name."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All parts that may have an import or a class within, which no expression has."""
    new = [tree]
    while new:
        for node in ast.iter_child_nodes(new.pop()):
            if not isinstance(node, ast.expr):
                yield node
                new.append(node)


def test_no_module_imports_a_higher_layer() -> None:
    upwards = [
        f"{module} imports {other}"
        for module, others in uses().items()
        for other in others
        if rank(other) > rank(module)
    ]
    assert upwards == [], "the higher one may pass what the lower one needs; else see `LAYERS`"


def circles(uses: dict[str, set[str]]) -> set[str]:
    """The modules that import themselves through others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        new = [start]
        while new:
            for other in uses.get(new.pop(), set()) - seen:
                seen.add(other)
                new.append(other)
        return seen

    return {module for module in uses if module in reached(module)}


def test_no_module_imports_itself_through_others() -> None:
    # The package shows things of all layers, and is imported before each of its modules anyway.
    assert circles({name: used - {"crdtbucket"} for name, used in uses().items()}) == set()


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def test_every_exception_is_one() -> None:
    for module, other in EXCEPTED:
        assert other in imports(MODULES[module])
        assert circles(uses() | {module: uses()[module] | {other}}) >= {module, other}


def test_no_two_modules_share_a_name() -> None:
    names = Counter(
        name.rpartition(".")[2] for name, path in MODULES.items() if path.name != "__init__.py"
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_no_two_classes_share_a_name() -> None:
    names = Counter(name for path in MODULES.values() for name, _ in read(path).classes)
    stub = ast.parse((ROOT / "_core.pyi").read_text()).body
    names.update(node.name for node in stub if isinstance(node, ast.ClassDef))
    assert [name for name, times in names.items() if times > 1] == []


# Users give these their arguments by keyword.
FOR_USERS = ["BucketSpec", "Limiter"]
# Values with a name for each part: settings, what was read, what is shown. No service is one.
VALUES = """
    Board BucketLoad Config ControllerSettings Frame Hello Holder LimiterFile MeshCounters
    MeshFields NodeReport Outcome Outlook PeerState QuotaSubscription RedisConfig
    Report Rollout Route Row RunOptions RunVerdict Scenario ScriptCall ServeSettings Settings
    SimulationSettings YamlNode
"""
MOST_ARGUMENTS = 7


def test_what_takes_more_arguments_lacks_an_object() -> None:
    every = [one for path in MODULES.values() for one in read(path).classes]
    large = {name for name, number in every if number > MOST_ARGUMENTS}
    assert sorted(large - {*FOR_USERS}) == VALUES.split()
    assert large >= {*FOR_USERS}


def size(made: ast.ClassDef) -> int:
    """How many arguments its constructor takes, a written one or that of a dataclass."""
    for node in made.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
    if not any("dataclass" in ast.unparse(one) for one in made.decorator_list):
        return 0
    fields = [ast.unparse(node) for node in made.body if isinstance(node, ast.AnnAssign)]
    return sum("ClassVar" not in one and "init=False" not in one for one in fields)


def test_the_layers_are_looked_at() -> None:
    # That the readers above find imports at all: late ones, and those for the type checker.
    found = imports(MODULES["crdtbucket.limiter.local_node"])
    assert {"crdtbucket.shared.leader_view", "crdtbucket.rollout.in_force"} <= found
    assert "crdtbucket.errors" in set(imports(MODULES["crdtbucket._core"]))
    assert rank("crdtbucket.mesh.transport.mesh_network") > rank(
        "crdtbucket.mesh.protocol.mesh_node"
    )
    with pytest.raises(AssertionError, match="no layer"):
        rank("crdtbucket.something_new")


def test_exports_equal_all() -> None:
    public = {
        name
        for name, value in vars(crdtbucket).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public | {"__version__"} == set(crdtbucket.__all__)
    assert len(set(crdtbucket.__all__)) == len(crdtbucket.__all__)


def test_the_names_that_programs_are_written_with() -> None:
    names = "BucketSpec Limiter Decision Decisions Bucket Mode MeshConfig CrdtbucketError"
    assert set(names.split()) <= set(crdtbucket.__all__)


def test_the_version_is_that_of_the_project() -> None:
    text = (ROOT.parent / "pyproject.toml").read_text()
    assert f'\nversion = "{crdtbucket.__version__}"\n' in text


@pytest.mark.parametrize("name", sorted(set(crdtbucket.__all__) - {"__version__"}))
def test_every_public_thing_is_explained(name: str) -> None:
    thing = getattr(crdtbucket, name)
    assert inspect.getdoc(thing)
    for member, value in vars(thing).items():
        made_here = inspect.isroutine(value) or isinstance(value, (property, classmethod))
        if made_here and not member.startswith("_") and thing.__module__ != "crdtbucket._core":
            assert inspect.getdoc(value), f"{name}.{member}"


def test_the_import_is_light() -> None:
    # Network, YAML and models are read by those who use them.
    import subprocess
    import sys

    script = (
        "import sys, crdtbucket; crdtbucket.Limiter([crdtbucket.BucketSpec('a', 1, 1)]);"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    loaded = set(done.stdout.split())
    assert "crdtbucket" in loaded
    late = "aiohttp pydantic ruamel redis rich click msgpack prometheus_client"
    assert not loaded & set(late.split())
