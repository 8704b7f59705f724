"""The program itself: what it needs, its help, and what a shell completes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from crdtbucket import __version__
from crdtbucket.cli.commands import cli, run

ROOT = Path(__file__).parents[2]
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r} or name.startswith({package!r} + "."):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
from crdtbucket.cli.main import main
main()
"""


def program(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A run of Python with these arguments."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(package: str) -> None:
    done = program("-c", HIDE.format(package=package), "status")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"crdtbucket: the command line needs {package}")
    assert done.stderr.endswith(": pip install 'crdtbucket[cli]'\n")
    assert done.stderr.count("\n") == 1


def test_what_else_is_missing_is_shown_as_it_is() -> None:
    done = program("-c", HIDE.format(package="crdtbucket.cli.top"), "top")
    assert done.returncode == 1
    assert "No module named 'crdtbucket.cli.top'" in done.stderr
    assert "pip install" not in done.stderr


def test_an_interrupt_during_the_imports_is_no_traceback() -> None:
    hidden = HIDE.format(package="click")
    program_ = hidden[: hidden.index("raise")] + "raise KeyboardInterrupt\n"
    done = program("-c", program_ + hidden[hidden.index("\nsys.meta_path") :], "status")
    assert (done.returncode, done.stderr) == (130, "crdtbucket: stopped\n")


SIGNALLED = """
import os, signal, sys

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signalling())
signal.signal({number}, {handler})
from {program} import main
main()
"""


@pytest.mark.parametrize("module", ["crdtbucket.errors", "crdtbucket.cli.commands"])
@pytest.mark.parametrize(
    ("number", "handler", "status", "said"),
    [
        (signal.SIGINT, "signal.default_int_handler", 130, "crdtbucket: stopped\n"),
        (signal.SIGINT, "signal.SIG_IGN", 0, ""),
        (signal.SIGHUP, "signal.SIG_DFL", -signal.SIGHUP, ""),
    ],
)
def test_a_signal_while_the_package_is_imported_waits_for_its_handler(
    number: signal.Signals, handler: str, status: int, said: str, module: str
) -> None:
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2]
    called = re.search(r'^crdtbucket = "(.*):main"$', scripts, re.MULTILINE)
    assert called
    code = SIGNALLED.format(module=module, number=int(number), handler=handler, program=called[1])
    done = program("-c", code, "--version")
    assert (done.returncode, done.stderr) == (status, said)


def test_a_hangup_while_the_package_is_imported_does_not_end_a_server() -> None:
    code = SIGNALLED.format(
        module="crdtbucket.errors", number=int(signal.SIGHUP), handler="signal.SIG_DFL",
        program="crdtbucket_command",
    )  # fmt: skip
    done = program("-c", code, "serve", "--config", "/nowhere")
    assert done.returncode == 2
    assert "'/nowhere' does not exist" in done.stderr


FULL = "crdtbucket: cannot write: No space left on device\n"
OUTPUTS = [("--help",), ("config", "schema"), ("simulate", "--list"), ("status", "--timeout", "1")]
"""One by click, a long one, one that prints, and one by rich."""


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_a_full_disk_for_its_output_is_one_line(words: tuple[str, ...]) -> None:
    done = written_to(os.open("/dev/full", os.O_WRONLY), "-m", "crdtbucket", *words)
    assert (done.returncode, done.stderr) == (1, FULL)


def test_so_it_is_when_the_disk_is_full_only_at_the_end() -> None:
    prints = "import crdtbucket.cli.commands as c\nc.run = lambda: print('once')\n"
    main = f"{prints}from crdtbucket.cli.main import main\nmain()"
    done = written_to(os.open("/dev/full", os.O_WRONLY), "-c", main)
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize("words", OUTPUTS, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error_that_is_said(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = written_to(writer, "-m", "crdtbucket", *words)
    assert (done.returncode, done.stderr) == (1, "")


def written_to(out: int, *words: str) -> subprocess.CompletedProcess[str]:
    """A run of Python whose output goes to this descriptor, which is closed then."""
    try:
        return subprocess.run(
            [sys.executable, *words],
            stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    finally:
        os.close(out)


def test_a_locale_without_a_character_gets_its_number(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("services: {\u7a0e: {limit: 5/s}}\n", encoding="utf-8")
    words = ("-m", "crdtbucket", "config", "show", str(file))
    assert r"\u7a0e:" in program(*words, PYTHONIOENCODING="latin-1").stdout


def test_an_error_of_the_system_that_no_output_caused_is_shown_as_it_is() -> None:
    fails = "import crdtbucket.cli.commands as c\ndef run(): raise OSError(5, 'bad disk')\n"
    done = program("-c", f"{fails}c.run = run\nfrom crdtbucket.cli.main import main\nmain()")
    assert done.returncode == 1
    assert "OSError: [Errno 5] bad disk" in done.stderr


def test_the_program_prints_its_version() -> None:
    done = program("-m", "crdtbucket", "--version")
    assert (done.returncode, done.stdout) == (0, f"crdtbucket {__version__}\n")


def test_a_shell_can_complete_it() -> None:
    folder = Path(sys.executable).parent
    if not (folder / "crdtbucket").exists():
        pytest.skip("the program is not installed here")
    found = subprocess.run(
        [folder / "crdtbucket"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "_CRDTBUCKET_COMPLETE": "bash_complete",
             "COMP_WORDS": "crdtbucket st", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert found.stdout.split() == ["plain,status"]


def test_a_checkout_that_is_not_built_says_how_to_build_it() -> None:
    done = program("-c", HIDE.format(package="crdtbucket._core"), "status")
    assert done.returncode == 1
    assert "which is a checkout that is not built: start Python in another folder" in done.stderr
    assert done.stderr.endswith("or build it there: pip install -e '.[cli]'\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("take", "'BUCKET'. Example: crdtbucket take api tenant-42 30 (more: crdtbucket take -"),
        ("serve", "'--config'. Example: crdtbucket serve --config limits.yaml (more: "),
        ("top --onec", " (more: crdtbucket top --help)\n"),
        ("statsu", "No such command 'statsu'."),
        ("frob", "No such command 'frob'. Example: crdtbucket demo (more: crdtbucket --help)\n"),
        ("take a b x", "'x' is not a whole number.\n"),
        ("status --timeout x", "'x' is not a number.\n"),
        ("simulate --seed x", "'x' is not a whole number.\n"),
        ("take a b -5", "No such option"),
        ("take a b -5", ". Example: crdtbucket take api tenant-42 30 (more: "),
        ("doctor", "examine itself. Example: crdtbucket doctor limits.yaml (more: "),
        ("config", "Usage: crdtbucket config [OPTIONS] COMMAND [ARGS]...\n\n  Check, show"),
    ],
)
def test_a_call_that_is_none_says_what_is_wrong_and_shows_a_right_one(
    words: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["crdtbucket", *words.split()])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """The group and all commands below it, each with the words that call it."""
    yield path, group
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(cli, "crdtbucket"))


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_a_command_ends_with_a_call_that_can_be_made(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = COMMANDS[path].get_help(click.Context(COMMANDS[path])).splitlines()[-1].strip()
    assert example.startswith(f"Example: {path} ")
    monkeypatch.chdir(tmp_path)
    for file in ("limits.yaml", "new.yaml", "trace.csv", "ops.pem", "token"):
        Path(file).touch()
    words = example.partition(" > ")[0].split()[2:]
    called, command = "crdtbucket", COMMANDS["crdtbucket"]
    while isinstance(command, click.Group):
        called = f"{called} {words.pop(0)}"
        command = COMMANDS[called]
    command.make_context(called, words)


def test_a_command_does_not_import_what_only_others_need() -> None:
    names = "('config', 'doctor', 'serve', 'take')"
    done = program(
        "-c",
        f"import sys; from crdtbucket.cli.commands import cli; [cli.commands[n] for n in {names}];"
        "print(*sorted({'.'.join(m.split('.')[:2]) for m in sys.modules}))",
    )
    loaded = set(done.stdout.split())
    assert "crdtbucket.cli" in loaded
    assert not loaded & {"rich", "aiohttp", "pydantic", "crdtbucket.simulator", "crdtbucket.demo"}


@pytest.mark.parametrize("group", [cli, cli.commands["config"], cli.commands["overrides"]])
def test_the_list_of_commands_says_what_each_does_to_its_end(group: click.Group) -> None:
    listed = group.get_help(click.Context(group)).partition("Commands:")[2]
    assert listed.count("\n  ") >= len(group.commands)
    assert "..." not in listed
