"""An answer on the wire: whole, or as server-sent events while it is computed."""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from entrypoint.common.errors import EngineCrashed
from entrypoint.common.language import _
from entrypoint.engines import Prompt, Usage
from entrypoint.serve import metrics, problems, wire
from entrypoint.serve.limits import Limits
from entrypoint.serve.service import Answering, Service

EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes events on at once
]
DONE = b"data: [DONE]\n\n"

encode = msgspec.json.Encoder().encode


class Gone(Exception):
    """The client hung up."""


class Reply(Response, ABC):
    """The answer to a question, computed while it is sent.

    It asks when it is called, so that whatever is wrong before the first piece can still become
    an error with a status of its own.
    """

    prefix: str

    def __init__(
        self, service: Service, request: wire.Sampling, prompt: Prompt, limits: Limits
    ) -> None:
        self.service, self.request, self.prompt = service, request, prompt
        self.options, self.limit = request.options(limits.max_tokens), limits.timeout
        self.head: dict[str, Any] = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.model.name,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and send what comes."""
        answering = self.service.ask(self.prompt, self.options)
        async with self._watched(answering, receive):
            try:
                if self.request.stream:
                    await self._stream(answering, send)
                else:
                    await self._whole(answering, scope, receive, send)
            except Gone:
                metrics.errors.labels("client_gone").inc()
        self._count(answering, scope)

    @abstractmethod
    def whole(self, text: str, usage: Usage) -> msgspec.Struct:
        """Return the whole answer."""

    @abstractmethod
    def opening(self) -> list[msgspec.Struct]:
        """Return the events before the first piece."""

    @abstractmethod
    def piece(self, text: str) -> msgspec.Struct:
        """Return the event of a piece."""

    @abstractmethod
    def ending(self, reason: wire.Reason) -> msgspec.Struct:
        """Return the event after the last piece."""

    @abstractmethod
    def cost(self, cost: wire.Cost) -> msgspec.Struct:
        """Return the event that tells what the answer cost."""

    @asynccontextmanager
    async def _watched(self, answering: Answering, receive: Receive) -> AsyncIterator[None]:
        """Stop the answer when the client hangs up, at the time limit, and at the block's end."""

        async def wait_for_the_end() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.service.leave(answering, Gone())

        watcher = asyncio.create_task(wait_for_the_end())
        clock = asyncio.get_running_loop().call_later(
            self.limit, self.service.leave, answering, problems.late(self.limit)
        )
        try:
            yield
        finally:
            clock.cancel()
            watcher.cancel()
            self.service.leave(answering, Gone())

    async def _whole(
        self, answering: Answering, scope: Scope, receive: Receive, send: Send
    ) -> None:
        text = "".join([piece async for piece in answering])
        body = encode(self.whole(text, _usage(answering)))
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _stream(self, answering: Answering, send: Send) -> None:
        started = False

        async def event(*structs: msgspec.Struct) -> None:
            body = b"".join([b"data: %b\n\n" % encode(struct) for struct in structs])
            await send({"type": "http.response.body", "body": body, "more_body": True})

        async def start() -> None:
            nonlocal started
            started = True
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            await event(*self.opening())

        try:
            async for text in answering:
                if not started:
                    await start()
                await event(self.piece(text))
            if not started:
                await start()
            usage = _usage(answering)
            ends = [self.ending(usage.finish_reason)]
            if self.request.wants_usage:
                ends.append(self.cost(_cost(usage)))
            await event(*ends)
        except Gone:
            raise
        except Exception as error:
            if not started:
                raise
            problem = problems.of(error)
            metrics.errors.labels(problem.code).inc()
            body = b"data: %b\n\n" % problem.body
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": DONE, "more_body": False})

    def _count(self, answering: Answering, scope: Scope) -> None:
        """Keep what the answer cost, for the metrics and for the log."""
        name, usage = self.service.model.name, answering.usage
        facts: dict[str, Any] = {"model": name}
        if answering.first is not None:
            metrics.first_token.labels(name).observe(answering.first)
            facts["first_token"] = round(answering.first, 3)
        if usage:
            for kind in ("prompt", "cached", "completion"):
                facts[f"{kind}_tokens"] = getattr(usage, f"{kind}_tokens")
                metrics.tokens.labels(name, kind).inc(facts[f"{kind}_tokens"])
            facts["finish_reason"] = usage.finish_reason
        scope["state"]["facts"] |= facts


class ChatReply(Reply):
    """Answer of /v1/chat/completions."""

    prefix = "chatcmpl"

    def whole(self, text: str, usage: Usage) -> msgspec.Struct:
        """Return the whole answer."""
        choice = wire.ChatChoice(wire.Said(text), usage.finish_reason)
        return wire.Chat(**self.head, choices=[choice], usage=_cost(usage))

    def opening(self) -> list[msgspec.Struct]:
        """Return the event that tells who speaks."""
        return [self._chunk(wire.ChunkChoice(wire.Delta("assistant", "")))]

    def piece(self, text: str) -> msgspec.Struct:
        """Return the event of a piece."""
        return self._chunk(wire.ChunkChoice(wire.Delta(content=text)))

    def ending(self, reason: wire.Reason) -> msgspec.Struct:
        """Return the event after the last piece."""
        return self._chunk(wire.ChunkChoice(wire.Delta(), reason))

    def cost(self, cost: wire.Cost) -> msgspec.Struct:
        """Return the event that tells what the answer cost."""
        return wire.ChatChunk(**self.head, choices=[], usage=cost)

    def _chunk(self, choice: wire.ChunkChoice) -> wire.ChatChunk:
        return wire.ChatChunk(**self.head, choices=[choice])


class TextReply(Reply):
    """Answer of /v1/completions."""

    prefix = "cmpl"

    def whole(self, text: str, usage: Usage) -> msgspec.Struct:
        """Return the whole answer."""
        return self._completion(wire.TextChoice(text, usage.finish_reason), _cost(usage))

    def opening(self) -> list[msgspec.Struct]:
        """Return nothing: a text begins with its first piece."""
        return []

    def piece(self, text: str) -> msgspec.Struct:
        """Return the event of a piece."""
        return self._completion(wire.TextChoice(text))

    def ending(self, reason: wire.Reason) -> msgspec.Struct:
        """Return the event after the last piece."""
        return self._completion(wire.TextChoice("", reason))

    def cost(self, cost: wire.Cost) -> msgspec.Struct:
        """Return the event that tells what the answer cost."""
        return wire.Completion(**self.head, choices=[], usage=cost)

    def _completion(
        self, choice: wire.TextChoice, cost: wire.Cost | msgspec.UnsetType = msgspec.UNSET
    ) -> wire.Completion:
        return wire.Completion(**self.head, choices=[choice], usage=cost)


def _usage(answering: Answering) -> Usage:
    if answering.usage is None:
        raise EngineCrashed(_("The engine ended an answer without a word about why."))
    return answering.usage


def _cost(usage: Usage) -> wire.Cost:
    return wire.Cost(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens + usage.completion_tokens,
        wire.PromptDetails(usage.cached_tokens),
    )
