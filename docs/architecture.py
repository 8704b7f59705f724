"""Draw the folders in docs/architecture.md from the imports: `make docs-architecture`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.test_exports import ROOT, uses

PAGE = Path(__file__).parent / "architecture.md"
BEGIN = "<!-- house, written by docs/architecture.py -->\n"
END = "<!-- end of house -->\n"
GROUND = ("base", "spec", "errors")
"""What every side may use is not drawn: its arrows would hide the others."""

BOTH_WAYS = """\
The layers are layers of modules, not of folders: a folder may have a low module (a rule, a plan,
the base of a class) beside one that brings everything together. So the folders of this table import
each other, although no two modules do:

| folders | the first uses of the second | the second uses of the first |
|---|---|---|"""


def folder(module: str) -> str:
    """The subject of a module: a folder of the package, the core, or a module at its top."""
    if module == "crdtbucket._core":
        return "core"
    parts = module.removesuffix(".__main__").split(".")[1:3]
    if len(parts) == 2 and not ROOT.joinpath(*parts).is_dir():
        parts.pop()
    return "/".join(parts) or "crdtbucket"


def arrows() -> dict[str, dict[str, set[str]]]:
    """Which folders use which others, and which modules of them; those on the ground and the
    exceptions left out."""
    found: dict[str, dict[str, set[str]]] = {}
    for module, others in uses().items():
        used = found.setdefault(folder(module), {})
        for other in others:
            if folder(other) not in (folder(module), *GROUND, "crdtbucket"):
                used.setdefault(folder(other), set()).add(other.rpartition(".")[2])
    return {name: used for name, used in found.items() if name not in (*GROUND, "crdtbucket")}


def both_ways(found: dict[str, dict[str, set[str]]]) -> Iterator[str]:
    """Rows of folders that use each other, with the modules that each uses of the other."""
    for one in sorted(found):
        for two in sorted(found[one]):
            if one < two and one in found.get(two, {}):
                there, back = (
                    ", ".join(f"`{name}`" for name in sorted(names))
                    for names in (found[one][two], found[two][one])
                )
                yield f"| `{one}` and `{two}` | {there} | {back} |"


def reachable(found: Mapping[str, Iterable[str]], start: str) -> set[str]:
    """All that a folder uses, through others as well."""
    seen: set[str] = set()
    new = [start]
    while new:
        for other in found[new.pop()]:
            if other not in seen:
                seen.add(other)
                new.append(other)
    return seen


def fewest(found: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, str]]:
    """The arrows without those that follow from others: A to C, where A uses B and B uses C."""
    kept = {name: set(used) for name, used in found.items()}
    for name in sorted(kept):
        for other in sorted(kept[name], key=lambda one: (len(reachable(found, one)), one)):
            kept[name].remove(other)
            if other not in reachable(kept, name):
                kept[name].add(other)
    for name in sorted(kept):
        yield from ((name, other) for other in sorted(kept[name]))


def purpose(name: str) -> str:
    """The first sentence of the docstring of a folder or module."""
    place = ROOT / name
    if name == "core":
        return "The compiled core: the table of keys, one decision, the merge, repair."
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(text.partition("\n\n")[0].split())


def drawn(name: str) -> str:
    """A folder as a node of the drawing, whose own name may have no slash."""
    return f'{name.replace("/", "_")}["{name}"]'


def house() -> str:
    """The drawing and the table of folders, in Markdown."""
    found = arrows()
    lines = [f"    {drawn(a)} --> {drawn(b)}" for a, b in fewest(found)]
    rows = [f"| `{name}` | {purpose(name)} |" for name in sorted({*found, *GROUND})]
    table = "\n".join(("| folder | what it is |", "|---|---|", *rows))
    circles = "\n".join((BOTH_WAYS, *both_ways(found)))
    drawing = "\n".join(("```mermaid", "flowchart TD", *lines, "```"))
    return f"{drawing}\n\n{table}\n\n{circles}\n"


def written(page: str) -> str:
    """`page` with the drawing as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{house()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
