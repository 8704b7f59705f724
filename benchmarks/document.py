"""`python -m benchmarks.document`: writes docs/benchmarks.md, its pictures and a part of the
README, from the results that are kept and the templates beside this file. It measures nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.environment import ROOT
from benchmarks.kept import NotMeasured, Results
from benchmarks.plots import PICTURES, draw
from benchmarks.report import markdown, number

HERE = Path(__file__).parent
PAGE, IMAGES, README = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img", ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: written by make bench-report -->", "<!-- end of benchmarks -->"
PLACE = re.compile(r"\{\{(\w+)(?: ([^}]+))?\}\}")


def image(question: str) -> str:
    """The file name of a picture."""
    return f"bench-{question}.svg"


def machines(results: Results) -> str:
    """A sentence for each kind of machine: when it measured, and which questions."""
    runs: dict[str, list[tuple[str, str]]] = {}
    for name, file in results.files.items():
        about = file["environment"]
        machine = f"{about['processor']}, {about['cores']} cores, {about['python']}"
        runs.setdefault(machine, []).append((about["date"][:10], name))
    return "\n".join(_machine(machine, measured) for machine, measured in runs.items())


def _machine(machine: str, measured: list[tuple[str, str]]) -> str:
    days = sorted({day for day, _ in measured})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{machine}, {when}: {', '.join(name for _, name in measured)}."


def versions(results: Results) -> str:
    """The versions of the limiters that were compared, and of the programs that were used."""
    found: dict[str, set[str]] = {}
    for file in results.files.values():
        about = file["environment"]
        for name, version in {**about["versions"], **about["programs"]}.items():
            found.setdefault(name, set()).add(version or "none")
    return ", ".join(f"{name} {' and '.join(sorted(all_))}" for name, all_ in found.items())


def shown(what: str, results: Results) -> list[dict[str, Any]]:
    """The tables that a place in a template names: `question: title; title`, where each title may
    be cut short.

    Raises NotMeasured for a title that no table has.
    """
    question, _, titles = what.partition(": ")
    return [results.comparison(question, title) for title in titles.split("; ")]


def figure(what: str, results: Results) -> str:
    """The median that a place in a template names: `question: title; row; unit`."""
    question, _, rest = what.partition(": ")
    title, row, unit = rest.split("; ")
    units = results.comparison(question, title)["units"]
    return number(results.value(question, title, row, units.index(unit))["median"])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def render(template: str, results: Results) -> str:
    """The template with all places filled. Raises NotMeasured for what the results do not have."""

    def fill(match: re.Match[str]) -> str:
        kind, what = match[1], match[2] or ""
        if kind == "tables":
            return markdown(shown(what, results))
        if kind == "figure":
            return figure(what, results)
        if kind == "question":
            return _sentence(results.files[what]["answer"]["question"])
        if kind == "picture":
            return f"![{_sentence(PICTURES[what][2])}](img/{image(what)})"
        if kind == "ratio":
            return claims.written(what, results)
        return {"machines": machines, "versions": versions}[kind](results)

    return PLACE.sub(fill, template)


def page(results: Results) -> str:
    """The text of docs/benchmarks.md."""
    return render((HERE / "page.md").read_text(), results)


def with_summary(readme: str, results: Results) -> str:
    """The README with its part written anew."""
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no {BEGIN!r} ... {END!r}")
    return f"{head}{BEGIN}\n{render((HERE / 'summary.md').read_text(), results)}{END}{tail}"


def main() -> None:
    """Writes the page, its pictures, and the part of the README."""
    try:
        results = Results.load()
        text, readme = page(results), with_summary(README.read_text(), results)
    except NotMeasured as error:
        raise SystemExit(str(error)) from None
    PAGE.write_text(text)
    README.write_text(readme)
    IMAGES.mkdir(exist_ok=True)
    for name in PICTURES:
        draw(name, results, IMAGES / image(name))


if __name__ == "__main__":
    main()
