"""What a model's text says: its thought, its answer, and the functions that it wants called.

Models write calls in a few ways, which all are JSON objects with a name and arguments, between
marks of their own, in a fence, or bare. What is no call of a function that was offered stays text.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from entrypoint.engines.thinking import Splitter

MARKS = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
BARE = ("{", "[", "`")  # what a call without a mark begins with
NOISE = re.compile(  # around calls
    r"(?:\s|,|;|```(?:json)?|</?tool_call>|\[TOOL_CALLS\]|<\|python_tag\|>)*"
)


@dataclass(frozen=True)
class Thought:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True)
class Words:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class FunctionCall:
    """A call of a function; `arguments` is JSON, though not always what its schema says."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


Part: TypeAlias = Thought | Words | FunctionCall


class Speech:
    """Tells the parts of one answer apart while its text comes in pieces.

    `functions` are the names of those that may be called, `most` is how many calls are wanted.
    """

    def __init__(self, functions: Collection[str] = (), most: int | None = None) -> None:
        self._functions, self._most = functions, most
        self._splitter = Splitter()
        self._held = ""  # of the answer: what may be a call, or the beginning of a mark
        self._begun = False  # whether the answer has words

    def feed(self, text: str) -> Iterator[Part]:
        """Yield what is certain now."""
        for kind, piece in self._splitter.feed(text):
            yield from self._part(kind, piece)

    def end(self) -> Iterator[Part]:
        """Yield the rest: the text is over."""
        for kind, piece in self._splitter.end():
            yield from self._part(kind, piece)
        calls, rest = parse(self._held, self._functions)
        yield from calls[: self._most]
        if rest:
            yield Words(rest)

    def _part(self, kind: str, text: str) -> Iterator[Part]:
        if kind == "thought":
            yield Thought(text)
            return
        self._held += text
        sure = self._words() if self._functions else len(self._held)
        words, self._held = self._held[:sure], self._held[sure:]
        if words:
            self._begun = True
            yield Words(words)

    def _words(self) -> int:
        """Return how much of what is held is no call, whatever comes next."""
        if not self._begun and self._held.lstrip()[:1] in {"", *BARE}:
            return 0
        starts = [at for mark in MARKS if (at := self._held.find(mark)) >= 0]
        ends = [
            len(self._held) - length
            for mark in MARKS
            for length in range(1, len(mark))
            if self._held.endswith(mark[:length])
        ]
        return min([*starts, *ends], default=len(self._held))


def parse(text: str, functions: Collection[str]) -> tuple[list[FunctionCall], str]:
    """Return the calls that a text begins with, and what of it follows them."""
    calls: list[FunctionCall] = []
    rest = text
    while functions:
        json_on = NOISE.sub("", rest, count=1)
        try:
            value, length = json.JSONDecoder().raw_decode(json_on)
        except (ValueError, RecursionError):
            break
        parts = [_call(each, functions) for each in (value if isinstance(value, list) else [value])]
        if not parts or None in parts:
            break
        calls += [call for call in parts if call]
        rest = json_on[length:]
    return calls, NOISE.sub("", rest, count=1) if calls else rest


def _call(value: Any, functions: Collection[str]) -> FunctionCall | None:
    """Return what a model wrote as a call, None if it is something else."""
    if not isinstance(value, dict):
        return None
    inner = value.get("function")
    object_ = inner if isinstance(inner, dict) else value
    name = object_.get("name")
    arguments = object_.get("arguments", object_.get("parameters", {}))
    if not isinstance(name, str) or name not in functions:
        return None
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return FunctionCall(name, arguments)
