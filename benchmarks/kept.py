"""Reads the results that are kept, for the page, the pictures and the claims."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.runner import FORMAT, QUESTIONS, RESULTS


class NotMeasured(LookupError):
    """The documents name something that no kept result has."""


@dataclass(frozen=True)
class Results:
    """The content of the file of each question that was measured."""

    files: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, folder: Path = RESULTS) -> Results:
        """The results in a folder. Raises NotMeasured for a question without a file, and for an old
        file."""
        files = {}
        for name in QUESTIONS:
            path = folder / f"{name}.json"
            if not path.exists():
                raise NotMeasured(f"no {path}: python -m benchmarks {name} --save")
            files[name] = json.loads(path.read_text())
            if files[name]["format"] != FORMAT:
                raise NotMeasured(f"{path} is of another format: measure it again")
        return cls(files)

    def comparisons(self, question: str) -> list[dict[str, Any]]:
        """All tables of a question."""
        told: list[dict[str, Any]] = self.files[question]["answer"]["comparisons"]
        return told

    def comparison(self, question: str, title: str) -> dict[str, Any]:
        """The table whose title begins with `title`."""
        for told in self.comparisons(question):
            if told["title"].startswith(title):
                return told
        raise NotMeasured(f"{question}: no table {title!r}")

    def value(self, question: str, title: str, label: str, unit: int = 0) -> dict[str, Any]:
        """The measured value of one row."""
        for row in self.comparison(question, title)["rows"]:
            if row["label"] == label:
                value: dict[str, Any] = row["values"][unit]
                return value
        raise NotMeasured(f"{question}, {title}: no row {label!r}")
