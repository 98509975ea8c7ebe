"""Answers of APIs that take a chat apart into blocks: a thought, words, a call of a function.

OpenAI's Responses and Anthropic's Messages both are a chat to us: their requests become one, their
answers are told block by block, each with a beginning, its pieces, and an end.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from entrypoint.engines import Prompt, ScoredText, ScoredToken, Usage, by_token, scores
from entrypoint.serve import wire
from entrypoint.serve.limits import Limits
from entrypoint.serve.replies import GeneratedReply, encode
from entrypoint.serve.service import Service
from entrypoint.serve.speech import FunctionCall, Part, Thought

Kind: TypeAlias = Literal["thought", "words", "call"]
Event: TypeAlias = dict[str, Any]  # its "type" names it


@dataclass
class Block:
    """A part of an answer that belongs together; of a call, `text` is its arguments."""

    index: int
    kind: Kind
    text: str = ""
    name: str = ""  # of the function
    call: str = ""  # what its answer refers to
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    tokens: list[ScoredToken] = field(default_factory=list)  # of `text`, where scores are asked for


class BlockReply(GeneratedReply):
    """The answer to a chat, block by block."""

    done = b""
    request: wire.ChatRequest

    def __init__(
        self, service: Service, request: wire.ChatRequest, prompt: Prompt, limits: Limits
    ) -> None:
        super().__init__(service, request, [prompt], limits)
        self._speech = request.speech()
        self._untold: list[ScoredToken] = []  # of what the engine wrote and no part has shown
        self.blocks: list[Block] = []

    def whole(self, texts: Sequence[str], usages: Sequence[Usage]) -> Any:
        """Return all that is answered."""
        for piece in by_token(texts[0]):
            self.piece(0, piece)
        list(self._told(self._speech.end()))
        return self.answer(usages[0])

    def piece(self, index: int, text: str) -> list[Any]:  # noqa: ARG002 - there is one answer
        """Return the events of a piece."""
        self._untold += scores(text)
        return list(self._told(self._speech.feed(str(text))))

    def ending(self, index: int, usage: Usage) -> list[Any]:  # noqa: ARG002
        """Return the events of what was held back, and of the last block's end."""
        rest = [*self._told(self._speech.end())]
        return [*rest, *(self.closed(self.blocks[-1]) if self.blocks else ())]

    def closing(self, usages: Sequence[Usage]) -> list[Any]:
        """Return the events after the last block."""
        return self.ended(usages[0])

    def event(self, struct: Any) -> bytes:
        """Return an event as it travels: with its name, which these APIs' clients look at."""
        return b"event: %b\ndata: %b\n\n" % (struct["type"].encode(), encode(struct))

    @abstractmethod
    def answer(self, usage: Usage) -> Event:
        """Return all that is answered, from the blocks."""

    @abstractmethod
    def opened(self, block: Block) -> list[Event]:
        """Return the events of a block that begins."""

    @abstractmethod
    def grown(self, block: Block, text: str) -> Event:
        """Return the event of a piece of a block, which may have scores."""

    @abstractmethod
    def closed(self, block: Block) -> list[Event]:
        """Return the events of a block that is whole."""

    @abstractmethod
    def ended(self, usage: Usage) -> list[Event]:
        """Return the events after the last block."""

    def _told(self, parts: Sequence[Part] | Iterator[Part]) -> Iterator[Event]:
        for part in parts:
            kind, text = _read(part)
            last = self.blocks[-1] if self.blocks else None
            if last is None or kind != last.kind or kind == "call":
                if last:
                    yield from self.closed(last)
                last = Block(len(self.blocks), kind)
                if isinstance(part, FunctionCall):
                    last.name, last.call = part.name, part.id
                self.blocks.append(last)
                yield from self.opened(last)
            tokens = self._spelling(text)
            last.text += text
            last.tokens += tokens
            yield self.grown(last, ScoredText(text, tokens))

    def _spelling(self, text: str) -> list[ScoredToken]:
        """Return the tokens that spell a part: those before it are marks, the rest is kept."""
        tokens: list[ScoredToken] = []
        start = self._start(text.encode())
        end = start + len(text.encode())
        at = 0
        while self._untold and at < end:
            token = self._untold.pop(0)
            at += len(token.data)
            if at > start:
                tokens.append(token)
        return tokens

    def _start(self, text: bytes) -> int:
        """Return where a part begins in what was written: with a token, if it can be.

        Blanks before it are left out of a part. The letters of a mark may be those of the part.
        """
        spelled = b"".join(token.data for token in self._untold)
        at = 0
        for token in self._untold:
            begin = at + len(token.data) - len(token.data.lstrip())
            if spelled.startswith(text, at):
                return at
            if spelled.startswith(text, begin):
                return begin
            at += len(token.data)
        return max(spelled.find(text), 0)

    @property
    def calls(self) -> bool:
        """Whether the answer wants functions to be called."""
        return any(block.kind == "call" for block in self.blocks)


def _read(part: Part) -> tuple[Kind, str]:
    match part:
        case FunctionCall():
            return "call", part.arguments
        case Thought():
            return "thought", part.text
    return "words", part.text
