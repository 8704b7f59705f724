"""A short run of the kills that `make soak` makes by the thousand."""

from tests.kills import run


def test_killed_processes_leave_a_table_in_which_every_token_is_counted() -> None:
    kills, _repairs = run(15, seed=1)
    assert kills >= 15
