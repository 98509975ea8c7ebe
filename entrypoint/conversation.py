"""A conversation: complete turns only, the oldest left out when the model's context is full."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure, MessageTooLong
from entrypoint.common.language import _
from entrypoint.common.tomlfile import record
from entrypoint.engines import Message

SCHEMA = 1


@dataclass(frozen=True)
class Turn:
    """One question and its whole answer."""

    question: str
    answer: str


@dataclass
class Conversation:
    """What the model sees: the system prompt, if any, and `turns`; not the `forgotten` ones."""

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    forgotten: list[Turn] = field(default_factory=list)

    def messages(self, question: str) -> list[Message]:
        """Return what the model gets to answer `question`."""
        return self._messages(self.turns, question)

    def fit(
        self, question: str, count: Callable[[Sequence[Message]], int], context: int, answer: int
    ) -> int:
        """Forget the oldest turns until `answer` tokens are left; return how many turns went.

        `count` counts tokens. Raises MessageTooLong, and forgets nothing, if the question alone
        fills the context.
        """
        turns = self.turns
        while (tokens := count(self._messages(turns, question))) + answer > context and turns:
            turns = turns[1:]
        if tokens >= context:
            raise MessageTooLong(
                _("The message has {tokens} tokens; the model's context has {context}.").format(
                    tokens=tokens, context=context
                ),
                next=_("Use a shorter message."),
            )
        gone = len(self.turns) - len(turns)
        self.forgotten += self.turns[:gone]
        self.turns = turns
        return gone

    def save(self, path: Path) -> None:
        """Write all turns to `path` in one step; raise NotWritable or DiskFull."""
        turns = [asdict(turn) for turn in self.forgotten + self.turns]
        data = {"schema": SCHEMA, "system": self.system, "turns": turns}
        text = json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        files.write(path, text.encode())

    def _messages(self, turns: Sequence[Turn], question: str) -> list[Message]:
        messages: list[Message] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        return [*messages, {"role": "user", "content": question}]


def load(path: Path) -> Conversation:
    """Read a saved conversation; raise ConfigFailure if it is absent or malformed, NotUtf8."""
    try:
        return _parse(json.loads(files.text(path)), path.name)
    except UnicodeEncodeError:
        raise ConfigFailure(
            _("{path} is not a saved conversation: {error}").format(
                path=path, error=_("it contains incomplete characters.")
            ),
            next=_("Name another file, or delete this one."),
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigFailure(
            _("{path} is not a saved conversation: {error}").format(path=path, error=repr(error)),
            next=_("Name another file, or delete this one."),
        ) from None


def _parse(data: dict[str, Any], name: str) -> Conversation:
    """Make a conversation of what a file has; raise ConfigFailure or what is wrong with it."""
    if data["schema"] != SCHEMA:
        raise ConfigFailure(
            _("{path} has format {found}; this program reads format {known}.").format(
                path=name, found=data["schema"], known=SCHEMA
            )
        )
    if not isinstance(data["system"], str):
        raise TypeError(data["system"])
    talk = Conversation(data["system"], [record(Turn, turn, name) for turn in data["turns"]])
    for text in (talk.system, *(each for turn in talk.turns for each in astuple(turn))):
        text.encode()  # JSON can write halves of characters
    return talk
