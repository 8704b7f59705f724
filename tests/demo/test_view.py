"""The views of the demo: all figures, lines that fit, colours only on terminals."""

from __future__ import annotations

import io
import queue
import re
import sys
import webbrowser
from dataclasses import replace

import pytest
from rich.console import Console, Group
from rich.table import Column, Table

from crdtbucket.demo import words
from crdtbucket.demo.board import Board, Row
from crdtbucket.demo.demo_run import Demo, Options
from crdtbucket.demo.modes import Switch
from crdtbucket.demo.traffic import REDIS_MARKS, STALL_MARKS, phases
from crdtbucket.demo.view import (
    LiveRunView,
    PlainRunView,
    SilentRunView,
    open_page,
    picture,
    sparkline,
    view_for,
)


def a_board(name: str = "cut", **more: object) -> Board:
    phase = next(one for one in phases(25, STALL_MARKS) if one.name == name)
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


SAID = (
    "  1.2s eu: strong -> eventual: 9 of 9 answers took over 40 ms, for 1 s or longer; p99 ...",
    "  2.0s us: strong -> eventual: the same",
)


def with_modes(name: str, switches: tuple[str, ...] = SAID) -> Board:
    rows = tuple(replace(row, mode=mode) for row, mode in zip(a_board().rows, MODES, strict=True))
    phase = next(one for one in phases(40, REDIS_MARKS) if one.name == name)
    return a_board("normal", phase=phase, rows=rows, switches=switches)


MODES = ("eventual", "strong")


def test_the_table_has_every_figure() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(picture(a_board()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("8,936", "1,049", "7,887", "6,498", "4.0 s", "0 of 2", "us (cut)", "CUT"):
        assert part in text, part
    assert "31,226 of 37,189" in text
    assert words.BANNERS["cut"] in text


@pytest.mark.parametrize("board", [a_board(), with_modes("slow"), with_modes("back")])
def test_the_live_table_fits_in_80_columns(board: Board) -> None:
    lines = []
    for width in (80, 200):
        console = Console(file=io.StringIO(), width=width)
        console.print(picture(board))
        lines.append(console.file.getvalue().splitlines())  # type: ignore[attr-defined]
    narrow, wide = lines
    assert [line.rstrip() for line in narrow] == [line.rstrip() for line in wide]


def test_the_refill_is_half_the_height_and_nothing_is_blank() -> None:
    assert sparkline(a_board()) == " ▁▄██"


def test_plain_lines_say_a_phase_once_and_have_every_figure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainRunView()
    view.show(a_board())
    view.show(a_board())
    view.show(a_board("healed"))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("-- ") for line in lines) == 2
    assert lines[2].split() == ["time", *["offer", "admit", "left", "lag", "|"] * 2][:-1]
    assert lines[-1].split()[:6] == ["17.0s", "8936", "1049", "10000", "0.1", "|"]


@pytest.mark.parametrize("modes", [False, True])
def test_a_plain_line_of_three_regions_fits_in_80_columns(
    modes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    view = PlainRunView()
    board = with_modes("gone", ()) if modes else a_board()
    highest = replace(board.rows[0], offered=99_999.0, admitted=10_000.0, mode="fallback")
    view.show(replace(board, elapsed_s=599.0, rows=(highest,) * 3))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith(" ") for line in lines)


def test_a_run_with_a_redis_shows_modes_and_their_changes() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(picture(with_modes("slow")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (*MODES, "SLOW", words.BANNERS["slow"], SAID[1]):
        assert part in text, part
    assert "9 of 9 answers took over 40 ms\n" in re.sub(" +\n", "\n", text)
    assert "mode" not in "".join(str(column.header) for column in table_of(picture(a_board())))


def table_of(group: Group) -> list[Column]:
    return next(one for one in group.renderables if isinstance(one, Table)).columns


def test_plain_lines_have_the_mode_and_say_a_change_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainRunView()
    view.show(with_modes("slow", SAID[:1]))
    view.show(with_modes("slow"))
    view.show(with_modes("gone"))
    out = capsys.readouterr().out
    for line in SAID:
        assert out.count(line) == 1, line
    assert out.splitlines()[-1].split()[:5] == ["17.0s", "8936", "1049", "eventual", "|"]
    assert words.BANNERS["gone"] in out


def test_every_phase_has_words_and_a_colour() -> None:
    for part in (*phases(25, STALL_MARKS), *phases(40, REDIS_MARKS)):
        phase = a_board("normal", phase=part)
        picture(phase)
        assert words.BANNERS[part.name]


def test_the_live_view_gives_the_cursor_back() -> None:
    out = io.StringIO()
    view = LiveRunView(Console(file=out, force_terminal=True, width=100))
    view.show(a_board())
    assert "\x1b[?25l" in out.getvalue()
    view.close()
    assert out.getvalue().count("\x1b[?25h") == 1
    view.close()
    assert out.getvalue().count("\x1b[?25h") == 1


def test_the_view_fits_where_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(view_for(plain=False, json=True), SilentRunView)
    assert isinstance(view_for(plain=False, json=False), PlainRunView)  # pytest has no terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(view_for(plain=False, json=False), LiveRunView)
    assert isinstance(view_for(plain=True, json=False), PlainRunView)


def test_the_words_fit_and_say_the_mode() -> None:
    demo = Demo(Options(), SilentRunView())
    said = [
        words.title(demo.spec), words.setting("strong", "eventual"), words.AFTER,
        words.source(demo.traffic, "the Azure LLM trace"), words.title(demo.spec, "auto"),
        words.redis_setting("redis-server"), words.redis_setting(None),
        words.switch_line(Switch(3 * 10**9, 1, "strong", "eventual", "slow"), 10**9),
        words.title(demo.spec, "regions"), words.regions_setting("redis-server"),
    ]  # fmt: skip
    assert max(len(line) for text in said for line in text.splitlines()) <= 100
    assert "eventual mode" in said[1]
    assert "redis-server" in said[5]
    assert "redis-server" not in said[6]
    assert said[7] == "  2.0s us: strong -> eventual: slow"
    assert "eventual mode" not in words.setting("eventual", "eventual")
    assert demo.mode == "strong"


class FakeBrowser(webbrowser.BackgroundBrowser):
    """Notes what it is to open."""

    def __init__(self) -> None:
        super().__init__("a browser")
        self.opened: list[str] = []

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened.append(url)
        return True


URL = "http://127.0.0.1:1/console"


@pytest.mark.parametrize(
    ("platform", "display", "opened"),
    [
        ("linux", {"DISPLAY": ":0"}, [URL]),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, [URL]),
        ("linux", {"DISPLAY": ""}, []),
        ("linux", {}, []),
        ("darwin", {}, [URL]),
    ],
)
def test_a_page_opens_where_there_is_a_desktop(
    platform: str, display: dict[str, str], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = FakeBrowser()
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in display.items():
        monkeypatch.setenv(name, value)
    open_page(URL)
    assert browser.opened == opened


def test_a_browser_that_would_draw_in_the_terminal_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> webbrowser.BaseBrowser:
        raise webbrowser.Error("none")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser.GenericBrowser, "open", lambda *_: pytest.fail("it is opened"))
    for get in (lambda: webbrowser.GenericBrowser("lynx"), none):
        monkeypatch.setattr(webbrowser, "get", get)
        open_page(URL)


def test_only_the_live_view_opens_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("crdtbucket.demo.view.open_page", opened.put)
    for one in (SilentRunView(), PlainRunView()):
        one.open_page(URL)
    LiveRunView(Console(file=io.StringIO())).open_page("http://127.0.0.1:2/console")
    assert opened.get(timeout=60) == "http://127.0.0.1:2/console"  # and none before it
