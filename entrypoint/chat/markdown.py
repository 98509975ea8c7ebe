"""Markdown of an answer, shown on a terminal while it streams.

Lines of code, titles and marked words are held back until they are whole, all else is written at
once. So nothing that was written is ever taken back, and lines that have scrolled away are right.
"""

from __future__ import annotations

import keyword
import re

BOLD, CODE, FAINT = ("\x1b[1m", "\x1b[22m"), ("\x1b[36m", "\x1b[39m"), ("\x1b[2m", "\x1b[22m")
COLOURS = {
    "comment": FAINT,
    "string": ("\x1b[32m", "\x1b[39m"),
    "number": ("\x1b[35m", "\x1b[39m"),
    "keyword": ("\x1b[94m", "\x1b[39m"),
}
OTHERS = "const else function int let new null public return static struct this var void"  # C, ...
KEYWORDS = "|".join({*keyword.kwlist, *OTHERS.split()})
SLASHES = re.compile(r"c|cc|cpp|c\+\+|c#|cs|go|java\w*|js|kotlin|php|rust|swift|ts|typescript")
PYTHON, C = (
    re.compile(
        rf"""(?P<comment>{comment}.*)|(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
        rf"""|\b(?:(?P<number>\d[\w.]*)|(?P<keyword>{KEYWORDS})\b)"""
    )
    for comment in ("#", "//")
)

FENCE = re.compile(r"[ \t]*```+[ \t]*([\w+#-]*)")
# What begins a line that is shown when it is whole: a title, a block of code.
WHOLE = re.compile(r"[ \t]*(?:#{1,6}(?:[ \t].*)?|`{1,2}|```.*)?")
TITLE = re.compile(r"[ \t]*#{1,6}[ \t]+(.*)")
PIECE = re.compile(r"\*\*(?=[^\s*])([^\n]+?)(?<=\S)\*\*|`([^`\n]+)`|[^*`\n]+|\*(?=[^*])")
LONGEST = 400  # characters: a mark that nobody closed by then is only a character


class Markdown:
    """An answer that streams: `feed` takes its text as it comes, and returns what to write.

    The last line feed of the answer lets out all that was held back.
    """

    def __init__(self) -> None:
        self._held = ""
        self._line_begins = True
        self._tokens: re.Pattern[str] | None = None  # of the block of code that is open

    def feed(self, text: str) -> str:
        """Return what can be written by now."""
        self._held += text
        shown = ""
        while "\n" in self._held:
            line, _feed, self._held = self._held.partition("\n")
            shown += (self._whole(line) if self._line_begins else _inline(line)) + "\n"
            self._line_begins = True
        return shown + self._begun()

    def _whole(self, line: str) -> str:
        """Return a line of which nothing was written yet."""
        fence = FENCE.match(line)
        if fence:
            slashes = SLASHES.fullmatch(fence[1].lower())
            self._tokens = None if self._tokens else C if slashes else PYTHON
            return _in(FAINT, line)
        if self._tokens:
            return self._tokens.sub(_coloured, line)
        title = TITLE.fullmatch(line)
        return _in(BOLD, title[1].replace("**", "")) if title else _inline(line)

    def _begun(self) -> str:
        """Take from a line that has begun what can be written before it is whole."""
        if self._tokens or (self._line_begins and WHOLE.fullmatch(self._held)):
            return ""
        end = 0
        while piece := PIECE.match(self._held, end):
            end = piece.end()
        if len(self._held) - end > LONGEST:
            end = len(self._held)
        ready, self._held = self._held[:end], self._held[end:]
        self._line_begins = self._line_begins and not ready
        return _inline(ready)


def _inline(text: str) -> str:
    """Return text with its bold words and its code in their colours."""
    return PIECE.sub(
        lambda piece: (
            _in(BOLD, piece[1]) if piece[1] else _in(CODE, piece[2]) if piece[2] else piece[0]
        ),
        text,
    )


def _coloured(token: re.Match[str]) -> str:
    return _in(COLOURS[token.lastgroup or ""], token[0])


def _in(colour: tuple[str, str], text: str) -> str:
    begins, ends = colour
    return begins + text + ends if text else text
