"""A person at a terminal types while an answer comes; it is the kernel that holds the keys then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from builder.settings import ROOT
from entrypoint.chat import terminal

ECHO = """
import select, sys
from entrypoint.chat import terminal
with terminal.person([], {"/bye": (), "/set": ["seed"], "/load": None}) as read:
    while True:
        try:
            print("answering", read(">>> "))
        except EOFError:
            break
        select.select([sys.stdin], [], [])  # a key arrived
        print("answered")
print("left")
"""


@pytest.fixture
def child() -> Iterator[pexpect.spawn[str]]:
    """Return a program that has begun to answer the question `one`."""
    command = ["-c", '"$0" -c "$1"; stty -a', sys.executable, ECHO]
    child = pexpect.spawn("sh", command, cwd=ROOT, encoding="utf-8", timeout=30)
    child.expect_exact(">>>")
    child.sendline("one")
    child.expect_exact("answering one")
    yield child
    child.close(force=True)


def test_tab_completes_commands_their_words_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.json").touch()
    completer = terminal.completer({"/set": ["seed", "top_p"], "/show": (), "/load": None})

    def offered(typed: str) -> list[str]:
        found = completer.get_completions(Document(typed), CompleteEvent())
        return [typed[: len(typed) + each.start_position] + each.text for each in found]

    assert offered("/") == ["/set", "/show", "/load"]
    assert offered("/s") == ["/set", "/show"]
    assert offered("/set ") == ["/set seed", "/set top_p"]
    assert offered("/set t") == ["/set top_p"]
    assert offered("/load ta") == ["/load talk.json"]
    assert offered("/show x") == offered("What is /s") == offered("s") == []


def test_ctrl_d_during_an_answer_leaves_after_it(child: pexpect.spawn[str]) -> None:
    child.send("\x04")
    child.expect_exact("answered")
    child.expect_exact("left")
    child.expect(r" icanon .* echo ")  # the terminal is as it was


def test_a_line_typed_during_an_answer_is_the_next_question(child: pexpect.spawn[str]) -> None:
    child.send("two\r")
    child.expect_exact("answered")
    assert "two" not in str(child.before), "it was written into the answer"
    child.expect_exact("answering two")


MANY = "\n".join(f"第{number}行：苹果" for number in range(300))
LONG = "把这些数读一遍：" + " ".join(map(str, range(7_500)))  # 40 kB


@pytest.mark.parametrize("pasted", [MANY, LONG], ids=["300 lines", "40 kB"])
def test_a_pasted_text_is_one_question(child: pexpect.spawn[str], pasted: str) -> None:
    child.send("\r")
    child.expect_exact("answered")
    child.expect_exact(">>>")
    child.send(f"\x1b[200~{pasted}\x1b[201~\r")
    child.expect_exact("answering ")
    child.expect_exact(pasted.replace("\n", "\r\n") + "\r\n")


def test_an_emoji_of_several_code_points_is_as_wide_as_every_terminal_draws_it() -> None:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.document import Document
    from prompt_toolkit.layout.controls import BufferControl
    from prompt_toolkit.layout.processors import TransformationInput

    from entrypoint.chat.emoji import FirstCodePoints

    line = "a👨\u200d👩\u200d👦👍\U0001f3fd❤\ufe0f🇨🇳1\ufe0f\u20e3b"
    known = TransformationInput(
        BufferControl(Buffer()), Document(line), 0, lambda at: at, [("", line)], 80, 1
    )
    seen = FirstCodePoints().apply_transformation(known)
    assert "".join(fragment[1] for fragment in seen.fragments) == "a👨👍❤CN1b"
    for at, letter in enumerate(line):
        if letter in "a👨👍❤1b":  # the cursor stands where the letter is seen, and back
            assert seen.fragments[seen.source_to_display(at)][1] == letter
            assert seen.display_to_source(seen.source_to_display(at)) == at
    assert seen.source_to_display(len(line)) == len(seen.fragments)
    assert seen.display_to_source(len(seen.fragments)) == len(line)
