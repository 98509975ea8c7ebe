"""A person at a terminal types while an answer comes; it is the kernel that holds the keys then."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pexpect
import pytest

from builder.settings import ROOT

ECHO = """
import select, sys
from entrypoint.chat import terminal
with terminal.person([]) as read:
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
