"""The program's edge, as a person types it: commands, options, messages, exit codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import entrypoint
from builder.settings import ROOT

COMMANDS = ("chat", "battery", "bench", "models", "doctor", "version")


def llmdeploy(*words: str, models: Path = Path("/nowhere")) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrypoint", *words],
        cwd=ROOT,
        env={"LLMDEPLOY_MODELS": os.fspath(models), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    done = llmdeploy("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"    {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    done = llmdeploy(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: llmdeploy {command}")


def test_help_loads_nothing_that_takes_long() -> None:
    code = (
        "import sys, entrypoint.__main__ as program; sys.argv[1:] = ['--version']\n"
        "try: program.main()\n"
        "except SystemExit: print(*sys.modules, sep='\\n')"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "entrypoint.chat" in loaded
    slow = {"prompt_toolkit", "asyncio", "http.client", "subprocess", "concurrent.futures", "ssl"}
    assert slow.isdisjoint(loaded)


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_the_version(words: tuple[str, ...]) -> None:
    done = llmdeploy(*words)
    assert (done.returncode, done.stdout) == (0, f"llmdeploy {entrypoint.__version__}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["caht"], "Did you mean chat?"),
        (["chat", "--temprature", "1"], "Did you mean --temperature?"),
        (["--sesion=talk.json"], "Did you mean --session?"),
        (["models", "--jsn"], "Did you mean --json?"),
        (["--hlep"], "Did you mean --help?"),
        (["--temp", "1"], "--temp"),  # no abbreviations: they would break with every new option
        (["chat", "hello"], "hello"),
        (["chat", "--temperature"], "--temperature"),
        (["chat", "--temperature", "2.1"], "'2.1' is not a number from 0 to 2"),
        (["chat", "--temperature", "warm"], "'warm' is not a number from 0 to 2"),
        (["chat", "--top-p", "0"], "'0' is not a number"),
        (["chat", "--top-p", "1.1"], "'1.1' is not a number"),
        (["chat", "--max-tokens", "0"], "'0' is not a number"),
        (["chat", "--max-tokens", "1.5"], "'1.5' is not a number"),
        (["chat", "--seed", "-1"], "'-1' is not a number"),
    ],
)
def test_what_cannot_be_understood_is_told_with_exit_code_2(words: list[str], told: str) -> None:
    done = llmdeploy(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("llmdeploy: ")
    assert told in done.stderr
    assert "llmdeploy" in done.stderr.splitlines()[-1], "the next command"


def test_without_a_command_it_chats() -> None:
    done = llmdeploy("--temperature", "0")
    assert done.returncode == 13
    assert "/nowhere/catalog.json does not exist" in done.stderr


def test_debug_shows_where_an_error_came_from() -> None:
    for words in (("--debug", "chat"), ("chat", "--debug"), ("--debug",)):
        done = llmdeploy(*words)
        assert done.returncode == 13
        assert "Traceback" in done.stderr
    assert "Traceback" not in llmdeploy("chat").stderr


def test_a_bug_is_one_message_too(tmp_path: Path) -> None:
    (tmp_path / "catalog.json").mkdir()
    done = llmdeploy("models", models=tmp_path)
    assert done.returncode == 1
    assert "Run the same command with --debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "entrypoint", "version"],
            cwd=ROOT,
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_answers_are_utf8_in_any_locale(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "entrypoint", "models"],
        cwd=ROOT,
        env={
            "LLMDEPLOY_MODELS": str(tmp_path / "模型"),
            "PYTHONIOENCODING": "latin-1",
        },
        capture_output=True,
        check=False,
    )
    assert "模型" in done.stderr.decode("utf-8")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_where_python_loses_what_is_raised(number: int, code: int) -> None:
    script = f"""
import os, sys, time, entrypoint.__main__ as program
class Finalizer:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(9)
def run(_):
    Finalizer()
    time.sleep(30)
program._print_version = run
sys.argv[1:] = ["version"]
sys.exit(program.main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
