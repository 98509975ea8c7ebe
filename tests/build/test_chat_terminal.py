"""Chat with the real engine: a person at a pseudo-terminal, and lines of a pipe."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from builder.settings import ROOT
from entrypoint import conversation
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog

Terminal = Callable[..., "pexpect.spawn[str]"]
Pipe = Callable[..., "subprocess.Popen[bytes]"]

SMALL = ("--model", "smollm2-135m", "--temperature", "0")
SHORT = ("--max-tokens", "16")
STORY = "Write a very long story."


@pytest.fixture(scope="session")
def python(unpacked: Path) -> str:
    return os.fspath(unpacked / "bin/python3")


@pytest.fixture
def surroundings(models_dir: Path, tmp_path: Path) -> dict[str, str]:
    """Return an environment whose temporary folder shows what a chat leaves behind."""
    (tmp_path / "tmp").mkdir()
    return {
        "PYTHONPATH": os.fspath(ROOT),
        "LLMDEPLOY_MODELS": os.fspath(models_dir),
        "TMPDIR": os.fspath(tmp_path / "tmp"),
        "LANG": "C.UTF-8",
        "TERM": "xterm",
    }


@pytest.fixture
def terminal(python: str, surroundings: dict[str, str]) -> Iterator[Terminal]:
    """Return a function that starts a chat in a pseudo-terminal and waits for its prompt."""
    started: list[pexpect.spawn[str]] = []

    def start(*words: str) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            python,
            ["-m", "entrypoint", "chat", *SMALL, *words],
            env=surroundings,
            encoding="utf-8",
            timeout=300,
            dimensions=(40, 100),
        )
        started.append(child)
        child.expect_exact(">>>")
        return child

    yield start
    for child in started:
        child.close(force=True)


@pytest.fixture
def pipe(python: str, surroundings: dict[str, str]) -> Pipe:
    """Return a function that starts a chat without a terminal."""

    def start(*words: str, **settings: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [python, "-m", "entrypoint", "chat", *SMALL, *words],
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=settings.get("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
        )

    return start


@pytest.fixture
def talk(pipe: Pipe) -> Callable[..., tuple[int, str, str]]:
    """Return a function that sends bytes to a chat: its exit code, answers and messages."""

    def run(typed: bytes, *words: str) -> tuple[int, str, str]:
        with pipe(*words) as chat:
            out, err = chat.communicate(typed, timeout=600)
        return chat.returncode, out.decode(), err.decode()

    return run


Talk = Callable[..., tuple[int, str, str]]


def left(surroundings: dict[str, str]) -> list[str]:
    """Return the files and the engines that a chat left behind."""
    folder = surroundings["TMPDIR"]
    found = os.listdir(folder)  # noqa: PTH208 - names are what is wanted
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [process.name] if folder.encode() in (process / "cmdline").read_bytes() else []
        except OSError:
            continue
    return found


def say(child: pexpect.spawn[str], line: str) -> None:
    """Type a line and wait until it is taken: the line editor ends its bracketed paste."""
    child.sendline(line)
    child.expect_exact("\x1b[?2004l")


def leave(child: pexpect.spawn[str]) -> int | None:
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_person_talks_stops_an_answer_and_leaves(
    terminal: Terminal, surroundings: dict[str, str], tmp_path: Path
) -> None:
    child = terminal(*SHORT, "--session", os.fspath(tmp_path / "talk.json"))
    say(child, "Name three colours.")
    child.expect_exact(">>>")
    say(child, "/stats")
    child.expect(r"prompt \d+ tokens, \d+ of them cached; answer \d+ tokens, [\d.]+ a second")
    child.expect_exact(">>>")

    say(child, "/set max_tokens 100")
    child.expect_exact(">>>")
    say(child, STORY)
    child.expect(r"\w+ \w+ \w+")
    child.sendintr()
    child.expect_exact("Stopped.")
    child.expect_exact(">>>")
    assert len(conversation.load(tmp_path / "talk.json").turns) == 1

    say(child, "/set max_tokens 16")
    child.expect_exact(">>>")
    say(child, "Thank you.")
    child.expect_exact(">>>")
    assert leave(child) == 0
    turns = conversation.load(tmp_path / "talk.json").turns
    assert [turn.question for turn in turns] == ["Name three colours.", "Thank you."]
    assert all(turn.answer for turn in turns)
    assert left(surroundings) == []


def test_a_dumb_terminal_gets_an_answer_without_escape_sequences(
    terminal: Terminal, surroundings: dict[str, str]
) -> None:
    surroundings["TERM"] = "dumb"
    child = terminal(*SHORT)
    shown = child.before or ""
    for line in ("Name three colours.", "/stats"):
        child.sendline(line)
        child.expect_exact(">>>")
        shown += child.before or ""
    assert re.search("answer .+ a second", shown)
    assert leave(child) == 0
    assert "\x1b" not in shown + (child.before or "")


def test_ctrl_c_at_the_prompt_says_how_to_leave(terminal: Terminal) -> None:
    child = terminal()
    child.sendintr()
    child.expect_exact("Ctrl-D or /bye leaves.")
    child.expect_exact(">>>")
    assert leave(child) == 0


def test_lines_are_edited_and_brought_back(terminal: Terminal, tmp_path: Path) -> None:
    child = terminal(*SHORT, "--session", os.fspath(tmp_path / "talk.json"))
    child.send("你好世界" + "\x1b[D" * 2 + "，")  # left, left
    child.expect_exact("\x1b[4D")  # two characters, four columns
    say(child, "")
    child.expect_exact(">>>")
    child.send("\x1b[A")  # up
    child.expect_exact("你好，世界")
    say(child, "！")
    child.expect_exact(">>>")
    for line in ('"""', "one", 'two"""'):
        say(child, line)
    child.expect_exact(">>>")
    assert leave(child) == 0
    turns = conversation.load(tmp_path / "talk.json").turns
    assert [turn.question for turn in turns] == ["你好，世界", "你好，世界！", "one\ntwo"]


def test_another_model_goes_on_in_the_same_chat(terminal: Terminal) -> None:
    child = terminal(*SHORT)
    say(child, "/model qwen2.5-coder-0.6b")
    child.expect_exact("Did you mean qwen2.5-coder-0.5b?")
    say(child, "/model qwen2.5-coder-0.5b")
    child.expect_exact("Qwen2.5")
    child.expect_exact(">>>")
    say(child, "用中文说：你好")
    child.expect("[\u4e00-\u9fff]")
    child.expect_exact(">>>")
    assert leave(child) == 0


@pytest.mark.parametrize("words", [(), ("--max-tokens", "1000")])
def test_sigterm_ends_it_at_the_prompt_and_in_an_answer(
    terminal: Terminal, surroundings: dict[str, str], words: tuple[str, ...]
) -> None:
    child = terminal(*words)
    if words:
        say(child, STORY)
        child.expect(r"\w+ \w+")
    child.kill(signal.SIGTERM)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 143
    assert left(surroundings) == []


def test_each_line_of_a_pipe_is_a_turn(talk: Talk, surroundings: dict[str, str]) -> None:
    typed = b"Name three colours.\n\n/stats\nWhich one is the sky?\n/stats"
    code, out, err = talk(typed, *SHORT)
    assert code == 0
    assert len(out.splitlines()) >= 2
    counts = re.findall(r"prompt (\d+) tokens, (\d+) of them cached", err)
    (first, none), (second, cached) = [tuple(map(int, pair)) for pair in counts]
    assert none == 0
    assert cached > first - 1
    assert second - cached < 20
    assert left(surroundings) == []


def test_the_same_questions_get_the_same_answers(talk: Talk, tmp_path: Path) -> None:
    typed = b"Name three colours.\nWhich one is the sky?\n/retry\n"
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    outs = [talk(typed, "--seed", "1", "--max-tokens", "24", "--session", str(f))[1] for f in files]
    first, second = (turn.answer for turn in conversation.load(files[0]).turns)
    assert outs == [f"{first}\n{second}\n{second}\n"] * 2
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_session_goes_on_where_it_was(talk: Talk, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    assert talk(b"Name three colours.\n", *SHORT, "--session", str(path))[0] == 0
    code, _out, err = talk(b"/show\nWhy?\n", *SHORT, "--session", str(path), "--system", "Be brief")
    assert code == 0
    assert "Turns: 1 seen" in err
    assert "System prompt: Be brief" in err
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [turn["question"] for turn in data["turns"]] == ["Name three colours.", "Why?"]


def test_a_full_context_is_told_and_the_chat_goes_on(
    talk: Talk, surroundings: dict[str, str], models_dir: Path, tmp_path: Path
) -> None:
    small = dataclasses.replace(catalog.load(models_dir).find(SMALL[1]), context=512)
    catalog.dump(Catalog(small.name, (small,)), tmp_path)
    (tmp_path / small.name).symlink_to(models_dir / small.name)
    surroundings["LLMDEPLOY_MODELS"] = os.fspath(tmp_path)
    code, out, err = talk((b"word " * 150 + b"\n") * 3 + b"/show", *SHORT)
    assert code == 0
    assert len(out.splitlines()) >= 3
    assert "Oldest turns that the model no longer sees: 1." in err
    assert "Turns: 2 seen by the model, 1 forgotten; 512 tokens fit." in err


@pytest.mark.parametrize(
    ("typed", "words", "code", "told"),
    [
        ("你好\n".encode("gbk"), (), 15, "Line 1 of standard input is not UTF-8"),
        (b"/hlep\n", (), 2, "Did you mean /help?"),
        (b"word " * 9000, (), 21, "the model's context has"),
        (b"", ("--model", "smollm"), 3, "Did you mean smollm2-135m?"),
        (b"", ("--session", "/proc/talk.json"), 14, "/proc/talk.json cannot be written"),
        (b"", ("--session", "/proc/version"), 4, "/proc/version is not a saved conversation"),
    ],
)
def test_wrong_input_is_one_message_and_a_code(
    talk: Talk, typed: bytes, words: tuple[str, ...], code: int, told: str
) -> None:
    found, out, err = talk(typed, *words)
    assert (found, out) == (code, "")
    assert err.startswith("llmdeploy: ")
    assert told in err
    assert "Traceback" not in err


def test_a_reader_that_has_enough_is_no_error(pipe: Pipe, surroundings: dict[str, str]) -> None:
    read, write = os.pipe()
    with pipe("--max-tokens", "200", stdout=write) as chat:
        os.close(write)
        assert chat.stdin
        chat.stdin.write(STORY.encode() + b"\n")
        chat.stdin.flush()
        assert os.read(read, 1)
        os.close(read)
        _out, err = chat.communicate(timeout=300)
    assert (chat.returncode, err) == (0, b"")
    assert left(surroundings) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_a_signal_in_an_answer_ends_it_and_its_engine(
    pipe: Pipe, surroundings: dict[str, str], number: signal.Signals, code: int
) -> None:
    with pipe() as chat:
        assert chat.stdin
        assert chat.stdout
        chat.stdin.write(STORY.encode() + b"\n")
        chat.stdin.flush()
        assert chat.stdout.read(1)
        chat.send_signal(number)
        _out, err = chat.communicate(timeout=60)
    assert (chat.returncode, err) == (code, b"")
    while any(name.isdecimal() for name in left(surroundings)):
        pass  # the kernel is about to kill the engine of a chat that was killed
