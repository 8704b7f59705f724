"""The page on the demo names every option and every check."""

from __future__ import annotations

import click

from crdtbucket.cli.demo_command import demo
from tests.demo.programs import ROOT
from tests.demo.test_demo import CHECKS
from tests.demo.test_strong_demo import CHECKS as REDIS_CHECKS

PAGE = (ROOT / "docs" / "demo.md").read_text()


def test_every_option_is_documented() -> None:
    for option in demo.params:
        assert isinstance(option, click.Option)
        assert option.opts[0] in PAGE, option.opts


def test_every_check_is_documented() -> None:
    without, _, with_redis = PAGE.partition("## With a Redis")
    for check in REDIS_CHECKS:
        assert f"**{check}**" in with_redis, check
    for check in CHECKS:
        assert f"**{check.partition(',')[0].partition(' in the')[0]}**" in without, check
