"""What a person sees while many answers are computed at once: the answers in order, and how far.

Answers go to standard output when it is their turn. How far it is, how fast and how long still goes
to standard error: on a terminal one line that changes, otherwise one line for each answer.
"""

from __future__ import annotations

import sys
import time

from entrypoint.common.language import _
from entrypoint.common.visible import visible

PAUSE = 0.1  # seconds between two changes of the line
CLEAR = "\r\x1b[K"  # to the beginning of the line, and erase it


class Page:
    """Texts printed in the order of their numbers, from 0, whatever the order they come in."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = 0
        self._texts: dict[int, str] = {}

    def add(self, number: int, text: str) -> None:
        """Print a text, and those that waited for it."""
        self._texts[number] = text
        while self._next in self._texts:
            self._progress.clear()
            print(visible(self._texts.pop(self._next)), flush=True)
            self._next += 1


class Progress:
    """Counts answers and their tokens, of which each piece is taken for one."""

    def __init__(self, total: int, limit: int | None) -> None:
        self._total = total
        self._limit = limit or 0  # tokens of an answer, as long as none has ended
        self._done = self._tokens = self._ended = 0
        self._busy = 0.0  # seconds; loading a model does not count
        self._since: float | None = None
        self._shown = 0.0
        self._live = sys.stderr.isatty()

    def begin(self) -> None:
        """Start the clock: a model begins to answer."""
        self._since = time.monotonic()

    def pause(self) -> None:
        """Stop the clock: a model has no questions left."""
        self._busy = self._elapsed()
        self._since = None

    def piece(self) -> None:
        """Show that an answer grows."""
        self._tokens += 1
        if self._live and time.monotonic() - self._shown > PAUSE:
            self._shown = time.monotonic()
            print(f"{CLEAR}{self._line()}", end="", file=sys.stderr, flush=True)

    def answered(self, tokens: int) -> None:
        """Show that an answer of so many tokens has ended."""
        self._done += 1
        self._ended += tokens
        if not self._live:
            print(self._line(), file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away that changes."""
        if self._live:
            print(CLEAR, end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        rate = self._tokens / max(self._elapsed(), 1e-3)
        # The rest will be as long as those that ended; what came of it already is no rest.
        each = self._ended / self._done if self._done else self._limit
        begun = max(0, self._tokens - self._ended)  # a piece can be more than a token
        rest = max(0.0, each * (self._total - self._done) - begun)
        return _("{done}/{total}  {rate:.1f} tok/s  {left:.0f} s left").format(
            done=self._done, total=self._total, rate=rate, left=rest / rate if rate else 0
        )

    def _elapsed(self) -> float:
        return self._busy + (time.monotonic() - self._since if self._since else 0)
