"""`python -m benchmarks.document`: docs/benchmarks.md, its pictures and the README's part, from the
results that are kept and the templates beside this file. Measures nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import claims
from benchmarks.environment import ROOT
from benchmarks.kept import NotMeasured, Results
from benchmarks.plots import PICTURES, draw
from benchmarks.report import markdown

HERE = Path(__file__).parent
PAGE, IMAGES, README = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "img", ROOT / "README.md"
BEGIN, END = "<!-- benchmarks: written by make bench-report -->", "<!-- end of benchmarks -->"
PLACE = re.compile(r"\{\{(\w+)(?: ([^}]+))?\}\}")


def image(question: str) -> str:
    """The file name of a picture."""
    return f"bench-{question}.svg"


def machines(results: Results) -> str:
    """A table of when and where the questions were measured, one line for those of one run."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for name, file in results.files.items():
        about = file["environment"]
        changed = f", changed files: {about['changed_files']}" if about["changed_files"] else ""
        run = (
            about["date"][:10],
            f"`{(about['commit'] or 'unknown')[:10]}`{changed}",
            f"{about['load']:.1f}",
            about["python"].removeprefix("CPython "),
            f"{about['processor']}, {about['cores']} cores",
        )
        runs.setdefault(run, []).append(name)
    lines = [
        "| questions | measured | commit | load before | Python | processor |",
        "| --- | --- | --- | ---: | --- | --- |",
        *(f"| {' | '.join((', '.join(names), *run))} |" for run, names in runs.items()),
    ]
    return "\n".join(lines)


def versions(results: Results) -> str:
    """What was compared with, and what was used."""
    found: dict[str, set[str]] = {}
    for file in results.files.values():
        about = file["environment"]
        for name, version in {**about["versions"], **about["programs"]}.items():
            found.setdefault(name, set()).add(version or "none")
    return ", ".join(f"{name} {' and '.join(sorted(all_))}" for name, all_ in found.items())


def shown(question: str, results: Results) -> list[dict[str, Any]]:
    """The tables that a claim is made of; of a question without claims the first."""
    titles = {
        title
        for claim in claims.CLAIMS.values()
        if claim.question == question
        for title in (claim.title, claim.title2 or claim.title)
    }
    every = results.comparisons(question)
    used = [one for one in every if any(one["title"].startswith(title) for title in titles)]
    return used or every[:1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def render(template: str, results: Results) -> str:
    """The template with its places filled. Raises NotMeasured for what the results do not have."""

    def fill(match: re.Match[str]) -> str:
        kind, what = match[1], match[2] or ""
        if kind == "tables":
            return markdown(shown(what, results))
        if kind == "every":
            return markdown(results.comparisons(what))
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
    """Writes all of it."""
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
