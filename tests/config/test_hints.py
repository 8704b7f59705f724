"""What is to be written instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from crdtbucket.config import load_config
from crdtbucket.config.hints import did_you_mean, fix_of_no_mapping, unknown_key
from crdtbucket.config.source import Source, read_tree
from crdtbucket.errors import ConfigError, Problem


@pytest.mark.parametrize(
    ("right", "written"),
    [
        ("keys", "keys: ..."),
        ("tls.ca", "tls: {ca: ...}"),
        ("rating.bucket_backend.type", "rating: {bucket_backend: {type: ...}}"),
    ],
)
def test_the_place_of_a_key_is_shown_as_yaml(right: str, written: str) -> None:
    assert unknown_key("x", ["keys"], right) == ("unknown key 'x'", f"write it as {written}")


def test_a_key_with_dots_that_begins_with_a_known_one_is_shown_below_that() -> None:
    assert unknown_key("tls.ca", iter(["tls"]), None)[1] == "write it as tls: {ca: ...}"
    assert unknown_key("ftp.ca", iter(["tls"]), None)[1] == "known here: tls"


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("gosip_interval", "did you mean 'gossip_interval'?"),
        ("gossip", "did you mean 'gossip_interval'?"),
        ("least", "known here: gossip_interval, least_return_gap, least_samples"),  # which one?
        ("zzz", "known here: gossip_interval, least_return_gap, least_samples"),
    ],
)
def test_a_word_that_is_a_part_of_one_known_word_only_means_that(word: str, fix: str) -> None:
    assert did_you_mean(word, ["gossip_interval", "least_samples", "least_return_gap"]) == fix


@pytest.mark.parametrize(
    ("value", "glued"),
    [("limit:5/s", True), ("5/s", False), ("limit: 5/s", False), ("a b:c", False), (5, False)],
)
def test_a_key_without_a_space_after_its_colon(value: object, glued: bool) -> None:
    assert fix_of_no_mapping(value) == ("put a space after the colon" if glued else None)


def problem(text: str, folder: Path) -> Problem:
    """The only fault of a file with this text."""
    file = folder / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    (only,) = raised.value.problems
    return only


@pytest.mark.parametrize("text", ["services:\n- a: {limit: 1/s}\n", "node: a\nservices: [a]\n"])
def test_a_list_in_place_of_a_mapping_is_placed_where_it_begins(text: str, tmp_path: Path) -> None:
    found = problem(text, tmp_path)
    assert (found.line, found.column) == (2, 1 if "- a" in text else 11)
    assert found.fix.endswith("in place of the list")


@pytest.mark.parametrize(
    ("name", "fix"),
    [("api", "if it is a bucket, write it below services:, indented"), ("default", "did you mean")],
)
def test_a_bucket_at_the_top_belongs_below_services(name: str, fix: str, tmp_path: Path) -> None:
    assert problem(f"node: a\n{name}:\n  limit: 1/s\n", tmp_path).fix.startswith(fix)


@pytest.mark.parametrize(
    ("text", "place"),
    [('a: 1\nb: "c\nd: 2\n', (2, 4)), ("a: 1\nb: [c\n", (2, 4)), ("a: 1\nb: @c\n", (2, 4))],
)
def test_what_is_never_closed_is_placed_where_it_begins(
    text: str, place: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("yaml") / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_tree(file, Source(str(file)))
    (problem,) = raised.value.problems
    assert (problem.line, problem.column) == place
    assert problem.fix != "correct the YAML here or just above"
