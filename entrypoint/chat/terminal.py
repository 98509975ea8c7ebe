"""Where questions come from: a person at a terminal, or the lines of a pipe."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from entrypoint.common.errors import NotUtf8
from entrypoint.common.language import _

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

# Takes a prompt and returns a line; raises EOFError at the end, KeyboardInterrupt on Ctrl-C.
Reader = Callable[[str], str]


def is_terminal() -> bool:
    """Tell whether a person can type and see."""
    return sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())


def has_colours() -> bool:
    """Tell whether answers go to a terminal that shows colours, to a person who wants them."""
    return sys.stdout.isatty() and not _is_dumb() and not os.environ.get("NO_COLOR")


def _is_dumb() -> bool:
    """Tell whether a terminal knows no escape sequences, or does not say which ones."""
    return os.environ.get("TERM", "dumb") == "dumb"


def completer(commands: Mapping[str, Iterable[str] | None]) -> Completer:
    """Return what the tab key offers: commands, and their words, or files where that is None."""
    from prompt_toolkit.completion import (
        NestedCompleter,
        PathCompleter,
        WordCompleter,
        merge_completers,
    )

    files = PathCompleter(expanduser=True)
    words: dict[str, Completer | None] = {
        name: files if words is None else WordCompleter(list(words), sentence=True)
        for name, words in commands.items()
    }
    names = WordCompleter(list(commands), sentence=True)
    return merge_completers([names, NestedCompleter(words)], deduplicate=True)


@contextmanager
def person(
    earlier: Iterable[str], commands: Mapping[str, Iterable[str] | None]
) -> Iterator[Reader]:
    """Yield a line editor; the up arrow brings back what was typed, and `earlier` questions.

    The tab key completes `commands`, see `completer`. What is typed between two prompts waits for
    the second one. A terminal that knows no escape sequences is read line by line.
    """
    if _is_dumb():
        yield _plain(pipe(sys.stdin.buffer))
        return
    # It would ask the terminal where the cursor is, wait for an answer, and warn if none comes.
    os.environ["PROMPT_TOOLKIT_NO_CPR"] = "1"
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory
    from prompt_toolkit.output import create_output

    from entrypoint.chat.emoji import FirstCodePoints

    session: PromptSession[str] = PromptSession(
        history=InMemoryHistory(list(earlier)),
        completer=completer(commands),
        complete_while_typing=False,
        input_processors=[FirstCodePoints()],
        output=create_output(
            always_prefer_tty=True
        ),  # so that `chat > answers.txt` can be typed to
    )

    def read(prompt: str) -> str:
        line = session.prompt(prompt)
        # Typed bytes that are not UTF-8 arrive as lone surrogates.
        if not line.isascii() and any("\ud800" <= each <= "\udfff" for each in line):
            raise NotUtf8(_("What was typed is not UTF-8."), next=_("Set the terminal to UTF-8."))
        return line

    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    # Left as it is, the terminal would write into an answer what is typed during it, and it would
    # take Ctrl-D for itself.
    tty.setcbreak(keyboard, termios.TCSANOW)
    try:
        yield read
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(keyboard, termios.TCSANOW, before)


def _plain(lines: Reader) -> Reader:
    def read(prompt: str) -> str:
        print(prompt, end="", file=sys.stderr, flush=True)
        return lines(prompt)

    return read


def pipe(stream: BinaryIO) -> Reader:
    """Return a reader of the lines of `stream`; it raises NotUtf8 at a line that is not text."""
    number = 0

    def read(_prompt: str) -> str:
        nonlocal number
        line = stream.readline()
        number += 1
        if not line:
            raise EOFError
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise NotUtf8(
                _("Line {number} of standard input is not UTF-8.").format(number=number),
                next=_("Convert it first, for example with: iconv -f GB18030 -t UTF-8"),
            ) from None
        return text.rstrip("\r\n")

    return read
