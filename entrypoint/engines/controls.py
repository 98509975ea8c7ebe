"""What is said stays text: a control word in a message does not become a control token.

To a tokenizer a prompt is one text, in which it takes `<|im_start|>` for the beginning of a turn,
whoever wrote it: a user could put words into the system's mouth. So control words in messages are
broken by a mark before the template is applied, and what lies between marks is tokenized apart.
Whoever guessed the mark could break their own text with it, and nothing else.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from entrypoint.common.facts import THOUGHT_MARKS
from entrypoint.engines import Message

# What a model itself writes into its answers, and reads in the history.
TAGS: Final = {
    *THOUGHT_MARKS,
    *THOUGHT_MARKS.values(),
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>"),
}


class Controls:
    """The control words of a model, and how to break them; an assistant's TAGS stay whole."""

    def __init__(self, words: Iterable[str]) -> None:
        known = set(words)
        self._begin, self._assistants = _begin(known), _begin(known - TAGS)
        self._mark = secrets.token_hex(16)
        self._after = rf"\g<0>{self._mark}"

    def broken(self, messages: Sequence[Message]) -> list[Message]:
        """Return messages whose control words are broken by marks; the others are the same."""
        return [self._broken(each) for each in messages]

    def _broken(self, message: Message) -> Message:
        begin = self._assistants if message["role"] == "assistant" else self._begin
        broken = message.copy()
        broken["content"] = begin.sub(self._after, message["content"])
        if thought := message.get("reasoning_content"):
            broken["reasoning_content"] = begin.sub(self._after, thought)
        return broken

    def pieces(self, prompt: str) -> list[str]:
        """Return what a tokenizer may see at once of the prompt that broken messages made."""
        return prompt.split(self._mark)


def _begin(words: set[str]) -> re.Pattern[str]:
    """Return what finds the first character of each word, even of one that begins in another."""
    rests: dict[str, list[str]] = {}
    for word in sorted(words):
        rests.setdefault(word[:1], []).append(re.escape(word[1:]))
    ways = [f"{re.escape(first)}(?={'|'.join(each)})" for first, each in rests.items()]
    return re.compile("|".join(ways) or "(?!)")
