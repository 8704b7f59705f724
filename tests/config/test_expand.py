"""References of a file to values outside of it, and the errors of those that lead nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket import ConfigError
from crdtbucket.config import Config, load_config


def load(folder: Path, text: str) -> Config:
    """The configuration of a file with this text, where no variable is set."""
    file = folder / "limits.yaml"
    file.write_text(text)
    return load_config(file, env={})


def test_a_value_that_names_what_is_not_there_has_this_one_fault(tmp_path: Path) -> None:
    text = (
        "node: n-${env:A}\nversion: ${env:B}\n"
        "services:\n  x: {limit: '5/${env:C}'}\n  y: {limit: '${env:D}'}\n"
        "  z:\n    bucket: {capacity: '${env:E}', refill_rate: '1${env:F}'}\n"
        "mesh: {listen: '127.0.0.1:${env:G}', peers: ['h:${env:H}'], secret: 'a${env:I}'}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    found = [problem.message for problem in caught.value.problems]
    assert found == [f"the environment variable {name} is not set" for name in "ABCDEFGHI"]
    places = [(problem.line, problem.column) for problem in caught.value.problems]
    assert places[:3] == [(1, 7), (2, 10), (4, 14)]  # where the values stand


def test_a_wrong_value_is_shown_once_as_the_file_has_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "node: n\nmesh: {listen: '127.0.0.1:${env:PORT:-}'}\n")
    (problem,) = caught.value.problems
    assert problem.message == "is '127.0.0.1:${env:PORT:-}', which has no port"


@pytest.mark.parametrize("name", ["$host", "$5", "$ABc", "a$HOST", "$$", "$", "$A B", "${env:OWN}"])
def test_a_dollar_that_is_no_variable_of_a_shell_stays(tmp_path: Path, name: str) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"node: {name}\nservices: {{a: {{limit: 1/s}}}}\n")
    assert load_config(file, {"OWN": "$OWN"}).node == name.replace("${env:OWN}", "$OWN")


@pytest.mark.parametrize("name", ["$HOST", "$H", "$HOST_1/x", "$HOST:1"])
def test_a_variable_of_a_shell_is_not_the_name_of_a_node(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"node: begins with \$ and a name, which is not replaced"
    ):
        load(tmp_path, f"node: {name}\nservices: {{a: {{limit: 1/s}}}}\n")


@pytest.mark.parametrize("value", ["['${env:WORD}']", "{word: '${env:WORD}'}"])
def test_a_list_in_place_of_a_word_repeats_no_secret(tmp_path: Path, value: str) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text(f"rating: {{consistency: {value}}}")
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"WORD": "hunter2"})
    assert [(one.message, one.fix) for one in caught.value.problems] == [
        ("must be a single word", "known here: eventual, strong")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "version: 0x{0}", "rating: {{consistency: 0x{0}}}", "rating: {{fallback_ratio: 0x{0}}}",
        "mesh: {{gossip_interval: 0x{0}}}",
    ],
)  # fmt: skip
def test_a_number_that_python_does_not_print_has_a_place_and_a_fix(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"has more digits than any setting \(write fewer\)"):
        load(tmp_path, text.format("f" * 4_000))
