"""What a person sees of a battery: the answers in order, and how far it is.

Answers go to standard output when it is their turn, piece by piece if they are asked one by one.
How far it is, how fast and how long still goes to standard error: where several are computed at
once on a terminal it is one line that changes, otherwise one line for each answer.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Sequence

from entrypoint.common.language import _
from entrypoint.common.visible import visible

PAUSE = 0.1  # seconds between two changes of the line
WINDOW = 10.0  # seconds that the rate is of
CLEAR = "\r\x1b[K"  # to the beginning of the line, and erase it


class Page:
    """Texts printed in the order of their numbers, from 0, whatever the order they come in.

    There is one for each of the `headings`, which stand above them.
    """

    def __init__(self, progress: Progress, headings: Sequence[str]) -> None:
        self._progress = progress
        self._headings = headings
        self._next = 0
        self._texts: dict[int, str | None] = {}
        self._grown = ""  # what has been printed of the next text

    def heading(self, number: int) -> str:
        """Return the last line of a text's heading."""
        return self._headings[number].splitlines()[-1]

    def grow(self, number: int, piece: str) -> None:
        """Print a piece of a text, if it is the one whose turn it is."""
        if number != self._next or not piece:
            return
        begin = "" if self._grown else f"{self._headings[number]}\n"
        self._grown += piece
        self._progress.clear()
        print(visible(begin + piece), end="", flush=True)

    def add(self, number: int, text: str | None) -> None:
        """Print the rest of a text, and those that waited for it; None if it broke off."""
        self._texts[number] = text
        while self._next in self._texts:
            self._progress.clear()
            print(visible(self._rest(self._texts.pop(self._next))), flush=True)
            self._next, self._grown = self._next + 1, ""

    def _rest(self, text: str | None) -> str:
        """Return what is still to be printed of the text whose turn it is."""
        if self._grown:
            return text.removeprefix(self._grown) if text else ""
        heading = self._headings[self._next]
        return heading if text is None else f"{heading}\n{text}"


class Progress:
    """Counts answers and their tokens, of which each piece is taken for one."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._tokens = self._ended = 0
        self._busy = 0.0  # seconds; loading a model does not count
        self._since: float | None = None
        self._recent: deque[float] = deque()  # when pieces came, on the clock of `_elapsed`
        self._from = 0.0  # when the model began that answers now, on that clock
        self._shown = 0.0
        self._live = False

    def begin(self, *, alone: bool = False) -> None:
        """Start the clock: a model begins to answer, one question at a time if `alone`."""
        self._since = time.monotonic()
        self._from = self._busy
        self._live = sys.stderr.isatty() and not alone

    def pause(self) -> None:
        """Stop the clock: a model has no questions left."""
        self._busy = self._elapsed()
        self._since = None
        self._recent.clear()  # the next model has a speed of its own

    def piece(self) -> None:
        """Show that an answer grows."""
        self._tokens += 1
        self._recent.append(self._elapsed())
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
        rate = self._rate()
        line = _("{done}/{total}  {rate:.1f} tok/s").format(
            done=self._done, total=self._total, rate=rate
        )
        if not self._ended or not rate:  # nothing tells yet how long an answer is
            return line
        # The rest will be as long as those that ended; what came of it already is no rest.
        each = self._ended / self._done
        begun = max(0, self._tokens - self._ended)  # a piece can be more than a token
        rest = max(0.0, each * (self._total - self._done) - begun)
        return line + _("  {left:.0f} s left").format(left=rest / rate)

    def _rate(self) -> float:
        """Return the pieces a second of the last seconds."""
        now = self._elapsed()
        while self._recent and self._recent[0] < now - WINDOW:
            self._recent.popleft()
        return len(self._recent) / max(min(now - self._from, WINDOW), 1e-3)

    def _elapsed(self) -> float:
        return self._busy + (time.monotonic() - self._since if self._since else 0)
