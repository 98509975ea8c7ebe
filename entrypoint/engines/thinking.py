"""What a model thinks before it answers: between two marks at the beginning of its text.

The marks are `<think>` and `</think>`, or those of Gemma 4. Engines yield a text as the model
writes it; where the chat template already opened the block in the prompt, they yield the opening
mark first. So every text with a thought begins with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from entrypoint.common.facts import THOUGHT_MARKS
from entrypoint.engines import Usage

Kind: TypeAlias = Literal["thought", "answer"]
Part: TypeAlias = tuple[Kind, str]


class Splitter:
    """Tells thought from answer while a text comes in pieces, wherever they are cut.

    Only a mark that begins the text opens a thought, and only the first that ends it closes one:
    an answer may write of `<think>`. Space around the marks belongs to neither part. A model whose
    thought was ended for it may end it once more, which is left out.
    """

    def __init__(self) -> None:
        self.kind: Kind | None = None  # of what comes next; None as long as it may be either
        self._marks: tuple[str, ...] = ()  # of the thought that is open, or may be closed again
        self._begun = False  # whether the part that is under way has text
        self._held = ""  # may be the beginning of a mark, or space before one

    def feed(self, piece: str) -> Iterator[Part]:
        """Yield what is certain now, each with its kind."""
        self._held += piece
        if self.kind is None:
            self._open()
        if self.kind == "thought" and self._marks[1] in self._held:
            thought, _mark, self._held = self._held.partition(self._marks[1])
            yield from self._part(thought.rstrip())
            self.kind, self._begun = "answer", False
        if self.kind == "answer" and self._marks:
            self._drop()
        if self.kind:
            sure = len(self._held) - (self._doubtful() if self._marks else 0)
            text, self._held = self._held[:sure], self._held[sure:]
            yield from self._part(text)

    def end(self) -> Iterator[Part]:
        """Yield the rest: the text is over."""
        self.kind = self.kind or "answer"
        text, self._held = self._held, ""
        yield from self._part(text)

    def _open(self) -> None:
        """Decide by which kind the text begins, as soon as enough of it is there."""
        begun = self._held.lstrip()
        for marks in THOUGHT_MARKS.items():
            if begun.startswith(marks):
                self.kind, self._held = "thought", begun.removeprefix(marks[0])
                self._marks = marks
                return
        if not any(mark.startswith(begun) for marks in THOUGHT_MARKS.items() for mark in marks):
            self.kind, self._begun = "answer", True  # an ordinary answer stays as it is

    def _drop(self) -> None:
        """Leave out what closes a thought again, unless the answer itself writes of the marks."""
        opening, closing = self._marks
        before, mark, after = self._held.partition(closing)
        if opening in before:
            self._marks = ()
        elif mark:
            self._held = before + after
            self._drop()

    def _doubtful(self) -> int:
        """Return how many of the last characters may turn out to be a mark, or space before one."""
        for length in range(max(map(len, self._marks)) - 1, 0, -1):
            if any(self._held.endswith(mark[:length]) for mark in self._marks):
                before = self._held[:-length]
                return length + len(before) - len(before.rstrip())
        return len(self._held) - len(self._held.rstrip())

    def _part(self, text: str) -> Iterator[Part]:
        if not self._begun:
            text = text.lstrip()
        if text and self.kind:
            self._begun = True
            yield self.kind, text


class Limit:
    """The most tokens of an answer, which those of the thought before it do not count for.

    `opened` is the mark that the prompt ended with, if the text goes on within a thought.
    """

    def __init__(self, most: int, *, opened: str) -> None:
        self._most, self._thought = most, 0
        self._splitter = Splitter()
        self.reached(opened, 0)

    def reached(self, piece: str, tokens: int) -> bool:
        """Add a piece, with which the text has `tokens`; tell whether the answer has enough."""
        before = self._splitter.kind
        deque(self._splitter.feed(piece), maxlen=0)
        if "thought" in {before, self._splitter.kind}:
            self._thought = tokens
        return self._splitter.kind == "answer" and tokens - self._thought >= self._most


def apart(stream: Iterable[str | Usage]) -> Iterator[Part | Usage]:
    """Yield the parts of an answer that an engine streams, then its Usage if it gets that far."""
    splitter, usage = Splitter(), None
    for piece in stream:
        if isinstance(piece, Usage):
            usage = piece
        else:
            yield from splitter.feed(piece)
    yield from splitter.end()
    if usage:
        yield usage


def split(pieces: Iterable[str]) -> tuple[str, str]:
    """Return the thought and the answer of a whole text, "" for what it lacks."""
    splitter = Splitter()
    parts = [part for piece in pieces for part in splitter.feed(piece)]
    parts += splitter.end()
    thought, answer = (
        "".join(text for kind, text in parts if kind == chosen) for chosen in ("thought", "answer")
    )
    return thought, answer
