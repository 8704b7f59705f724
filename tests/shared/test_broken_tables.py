"""A short run of what `make fuzz` does with the files of shared tables."""

from tests.broken_tables import open_broken


def test_a_broken_file_is_used_or_begun_anew() -> None:
    files, kept = open_broken(60, seed=3, most=150)
    assert files == 150
    assert 10 < kept < 150
