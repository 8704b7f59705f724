"""The options by which commands reach a node."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from crdtbucket.cli.node_options import token_of
from crdtbucket.http.server.serve_settings import ServeSettings


@pytest.mark.parametrize("token", ["0123456789abcdef", "four words that last"])
def test_a_token_that_a_server_takes_can_be_shown(token: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    needs = ServeSettings(token=token).calls_need
    assert needs is not None
    assert needs.matches(token_of(str(file), None) or "")


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError) as caught:
        token_of(str(tmp_path), None)
    assert caught.value.message == f"--token-file {tmp_path} cannot be read: Is a directory"
