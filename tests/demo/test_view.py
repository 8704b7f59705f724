"""What is shown: the figures that there are, lines that fit, colours only on terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from crdtbucket.demo import words
from crdtbucket.demo.board import Board, Row
from crdtbucket.demo.run import Demo, Options
from crdtbucket.demo.traffic import phases
from crdtbucket.demo.view import LiveView, PlainView, SilentView, picture, sparkline, view_for


def a_board(name: str = "cut", **more: object) -> Board:
    phase = next(one for one in phases(25) if one.name == name)
    rows = (
        Row("eu", 8_936.0, 1_049.0, 10_000, 0.1, 2, 2, False),
        Row("us", 1_000.0, 400.0, 6_498, 4.0, 0, 2, name == "cut"),
    )
    fields = {
        "elapsed_s": 17.0, "phase": phase, "left_s": 3.4, "rows": rows,
        "spark": (0, 1, 2_000, 4_000, 9_999), "admitted": 31_226, "allowed": 37_189.0,
        "refill": 2_000.0,
    }  # fmt: skip
    return Board(**{**fields, **more})  # type: ignore[arg-type]


def test_the_table_has_every_figure() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(picture(a_board()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("8,936", "1,049", "7,887", "6,498", "4.0 s", "0 of 2", "us (cut off)", "CUT"):
        assert part in text, part
    assert "31,226 of 37,189" in text
    assert words.BANNERS["cut"] in text


def test_the_refill_is_half_the_height_and_nothing_is_blank() -> None:
    assert sparkline(a_board()) == " ▁▄██"


def test_plain_lines_say_a_phase_once_and_have_every_figure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView()
    view.show(a_board())
    view.show(a_board())
    view.show(a_board("healed"))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("-- ") for line in lines) == 2
    figures = lines[-1].replace("|", " ").split()
    assert figures[:2] == ["17.0s", "healed"]
    assert figures[2:8] == ["8936", "1049", "7887", "10000", "0.1", "2/2"]


def test_the_live_view_gives_the_cursor_back() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100))
    view.show(a_board())
    assert "\x1b[?25l" in out.getvalue()
    view.close()
    assert out.getvalue().count("\x1b[?25h") == 1
    view.close()
    assert out.getvalue().count("\x1b[?25h") == 1


def test_the_view_fits_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(view_for(plain=False, json=True), SilentView)
    assert isinstance(view_for(plain=False, json=False), PlainView)  # pytest has no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(Console, "is_terminal", True)
    assert isinstance(view_for(plain=False, json=False), LiveView)
    assert isinstance(view_for(plain=True, json=False), PlainView)


def test_the_words_fit_and_say_the_mode() -> None:
    demo = Demo(Options(), SilentView())
    said = [
        words.title(demo.spec), words.setting("strong", "eventual", 40), words.AFTER,
        words.source(demo.traffic, "the Azure LLM trace"),
    ]  # fmt: skip
    assert max(len(line) for text in said for line in text.splitlines()) <= 100
    assert "eventual mode" in said[1]
    assert "eventual mode" not in words.setting("eventual", "eventual", 40)
    assert demo.mode == "strong"
