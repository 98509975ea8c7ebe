"""EvalScope's own files, as it writes them below predictions/ and reviews/: JSONL of whole talks.

A line has `messages`, the last of which is the answer; what is right stands in a review's `target`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from entrypoint.answers.questions import LETTERS, Point, Question

CHOICES = re.compile(r"(?:^[A-Z]\) .*(?:\n|\Z))+\Z", re.MULTILINE)  # which its prompts end with
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def is_talk(row: Mapping[str, object]) -> bool:
    """Tell whether a line of JSONL is of this form."""
    messages = row.get("messages")
    return isinstance(messages, list) and all(isinstance(each, dict) for each in messages)


def question(row: Mapping[str, Any]) -> Question:
    """Return what was asked, and what is right if the line says it: a letter, a number, a text."""
    turns = [_text(each) for each in row["messages"] if each.get("role") != "assistant"]
    asked = "\n\n".join(turns).strip()
    target = str(row.get("target") or "").strip()
    listed = CHOICES.search(f"{asked}\n")
    choices = tuple(line[3:].strip() for line in listed[0].splitlines()) if listed else ()
    by_letter = set(target) <= set(LETTERS[: len(choices)])
    return Question(
        id=str(row.get("index")),
        text=(asked[: listed.start()] if listed else asked).strip(),
        choices=choices,
        right="".join(sorted(target)) if by_letter else "",
        dimensions=("accuracy",),
        points=() if by_letter else tuple(_points(target)),
    )


def answer(row: Mapping[str, Any]) -> str | None:
    """Return the answer without its thought; None if the talk ends without one."""
    replies = [each for each in row["messages"] if each.get("role") == "assistant"]
    return _text(replies[-1]).strip() if replies else None


def _points(target: str) -> Iterator[Point]:
    """Yield the point of a target; only a number can be told without a judge."""
    if NUMBER.fullmatch(target):
        must = rf"(?<![\d.,-]){re.escape(target)}(?!\d|[.,]\d)"
        yield Point(says=target, must=must, last=True)
    elif target:
        yield Point(says=target)


def _text(message: Mapping[str, Any]) -> str:
    """Return a message's text, which comes whole or in parts of several kinds."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")
