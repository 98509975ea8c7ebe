"""An answer on the wire: whole, or as server-sent events while it is computed."""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from entrypoint.common.errors import EngineCrashed, MessageTooLong
from entrypoint.common.language import _
from entrypoint.engines import Options, Prompt, ScoredToken, Texts, Usage, joined, scores
from entrypoint.serve import adherence, journal, likelihood, metrics, objects, problems, wire
from entrypoint.serve.limits import Limits
from entrypoint.serve.problems import Problem
from entrypoint.serve.service import Answering, Service
from entrypoint.serve.speech import FunctionCall, Part, Thought, Words

EVENTS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes events on at once
]

encode = msgspec.json.Encoder().encode


class Gone(Exception):
    """The client hung up."""


class ComputedReply(Response, ABC):
    """What is computed for a request, while it is sent; `asks` is the field that asks for it.

    It asks when it is called, so that whatever is wrong before the first piece can still become
    an error with a status of its own.
    """

    asks = "messages"

    def __init__(
        self, service: Service, questions: Sequence[tuple[Prompt | Texts, Options]], seconds: int
    ) -> None:
        self.service, self.questions, self.limit = service, questions, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and send what comes."""
        journal.note(scope, model=self.service.model.name)
        answerings = self._ask()
        async with self._watched(answerings, receive):
            try:
                await self._tell(answerings, scope, receive, send)
            except Gone:
                journal.note(scope, error="client_gone")
            except MessageTooLong as error:
                raise problems.too_long(error, self.asks) from None
        self._count(answerings, scope)

    @abstractmethod
    def whole(self, texts: Sequence[str], usages: Sequence[Usage]) -> msgspec.Struct:
        """Return all that is answered."""

    async def _tell(
        self, answerings: Sequence[Answering], scope: Scope, receive: Receive, send: Send
    ) -> None:
        texts = [joined([piece async for piece in answering]) for answering in answerings]
        usages = [_usage(answering) for answering in answerings]
        await self._check(texts, usages)
        body = encode(self.whole(texts, usages))
        await Response(body, media_type="application/json")(scope, receive, send)

    async def _check(self, texts: Sequence[str], usages: Sequence[Usage]) -> None:
        """Raise Problem for answers that must not be told."""

    def _ask(self) -> list[Answering]:
        """Ask for each of the answers, or for none if there is no room for all."""
        answerings: list[Answering] = []
        try:
            for prompt, options in self.questions:
                answerings.append(self.service.ask(prompt, options))
        except Exception:
            self._leave(answerings, Gone())
            raise
        return answerings

    def _leave(self, answerings: Sequence[Answering], reason: Exception) -> None:
        for answering in answerings:
            self.service.leave(answering, reason)

    @asynccontextmanager
    async def _watched(
        self, answerings: Sequence[Answering], receive: Receive
    ) -> AsyncIterator[None]:
        """Stop the answers when the client hangs up, at the time limit, and at the block's end."""

        async def wait_for_the_end() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._leave(answerings, Gone())

        watcher = asyncio.create_task(wait_for_the_end())
        clock = asyncio.get_running_loop().call_later(
            self.limit, self._leave, answerings, problems.late(self.limit)
        )
        try:
            yield
        finally:
            clock.cancel()
            watcher.cancel()
            self._leave(answerings, Gone())

    def _count(self, answerings: Sequence[Answering], scope: Scope) -> None:
        """Keep what was read and written, for the metrics and for the log."""
        name = self.service.model.name
        usages = [each.usage for each in answerings if each.usage]
        for kind in ("prompt", "cached", "completion") if usages else ():
            tokens = sum(getattr(usage, f"{kind}_tokens") for usage in usages)
            journal.note(scope, **{f"{kind}_tokens": tokens})
            metrics.tokens.labels(name, kind).inc(tokens)
        for usage in usages:
            metrics.lengths.labels(name, "prompt").observe(usage.prompt_tokens)


class GeneratedReply(ComputedReply):
    """The answers to a request for text, whole or streamed."""

    prefix: str
    done = b"data: [DONE]\n\n"

    def __init__(
        self,
        service: Service,
        request: wire.GenerationRequest,
        prompts: Sequence[Prompt],
        limits: Limits,
    ) -> None:
        self.request = request
        options = request.options(service.default, limits.max_tokens)
        questions = [
            (prompt, _varied(options, number))
            for prompt in prompts
            for number in range(request.n or 1)
        ]
        super().__init__(service, questions, limits.timeout)
        self.head: dict[str, Any] = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.model.name,
            "system_fingerprint": service.fingerprint,
        }

    @abstractmethod
    def opening(self) -> list[msgspec.Struct]:
        """Return the events before the first piece."""

    @abstractmethod
    def piece(self, index: int, text: str) -> list[msgspec.Struct]:
        """Return the events of a piece of one of the answers."""

    @abstractmethod
    def ending(self, index: int, usage: Usage) -> list[msgspec.Struct]:
        """Return the events after the last piece of one of the answers."""

    @abstractmethod
    def closing(self, usages: Sequence[Usage]) -> list[msgspec.Struct]:
        """Return the events after all answers."""

    def event(self, struct: msgspec.Struct) -> bytes:
        """Return an event as it travels."""
        return b"data: %b\n\n" % encode(struct)

    def failed(self, problem: Problem) -> bytes:
        """Return what goes wrong in the middle of a stream, as it travels."""
        return b"data: %b\n\n" % problem.body

    async def _tell(
        self, answerings: Sequence[Answering], scope: Scope, receive: Receive, send: Send
    ) -> None:
        if self.request.stream:
            await self._stream(answerings, scope, send)
        else:
            await super()._tell(answerings, scope, receive, send)

    async def _check(self, texts: Sequence[str], usages: Sequence[Usage]) -> None:
        if schema := self.request.whole_schema:
            for text, usage in zip(texts, usages, strict=True):
                if usage.finish_reason == "stop":  # else it is a part
                    await asyncio.to_thread(adherence.require, text, schema)

    def _count(self, answerings: Sequence[Answering], scope: Scope) -> None:
        super()._count(answerings, scope)
        name = self.service.model.name
        firsts = [each.first for each in answerings if each.first is not None]
        for first in firsts:
            metrics.first_token.labels(name).observe(first)
        if firsts:
            journal.note(scope, first_token=round(min(firsts), 3))
        usages = [each.usage for each in answerings if each.usage]
        for usage in usages:
            metrics.lengths.labels(name, "completion").observe(usage.completion_tokens)
            if usage.rate:
                metrics.token_time.labels(name).observe(1 / usage.rate)
        if usages:
            journal.note(scope, finish_reason=usages[0].finish_reason)

    async def _stream(self, answerings: Sequence[Answering], scope: Scope, send: Send) -> None:
        started = False

        async def events(structs: Sequence[msgspec.Struct]) -> None:
            nonlocal started
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
                structs = [*self.opening(), *structs]
            if structs:
                body = b"".join(map(self.event, structs))
                await send({"type": "http.response.body", "body": body, "more_body": True})

        try:
            async for index, text in _merged(answerings):
                if text is None:
                    await events(self.ending(index, _usage(answerings[index])))
                else:
                    await events(self.piece(index, text))
            await events(self.closing([_usage(answering) for answering in answerings]))
        except Gone:
            raise
        except Exception as error:
            if not started:
                raise
            problem = problems.of(error)
            journal.note(scope, error=problem.code)
            body = self.failed(problem)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": self.done, "more_body": False})


class ChatReply(GeneratedReply):
    """Answer of /v1/chat/completions."""

    prefix = "chatcmpl"
    request: wire.ChatRequest

    def __init__(
        self, service: Service, request: wire.ChatRequest, prompt: Prompt, limits: Limits
    ) -> None:
        super().__init__(service, request, [prompt], limits)
        self._speeches = [request.speech() for _question in self.questions]
        self._called = [0 for _question in self.questions]  # functions, by each answer
        self._untold: list[list[ScoredToken]] = [[] for _question in self.questions]

    def whole(self, texts: Sequence[str], usages: Sequence[Usage]) -> msgspec.Struct:
        """Return all that is answered."""
        choices = []
        for index, (text, usage) in enumerate(zip(texts, usages, strict=True)):
            parts = [*self._speeches[index].feed(str(text)), *self._speeches[index].end()]
            calls = [objects.call(part) for part in parts if isinstance(part, FunctionCall)]
            words = "".join(part.text for part in parts if isinstance(part, Words))
            thought = "".join(part.text for part in parts if isinstance(part, Thought))
            message = objects.Said(
                None if calls and not words else words,
                reasoning_content=thought or msgspec.UNSET,
                tool_calls=calls or msgspec.UNSET,
            )
            reason: objects.Reason = "tool_calls" if calls else usage.finish_reason
            choices.append(
                objects.ChatChoice(message, reason, index, likelihood.of_chat(scores(text)))
            )
        return objects.ChatCompletion(**self.head, choices=choices, usage=_cost(usages))

    def opening(self) -> list[msgspec.Struct]:
        """Return the events that tell who speaks."""
        return [self._chunk(n, objects.Delta("assistant", "")) for n in range(len(self.questions))]

    def piece(self, index: int, text: str) -> list[msgspec.Struct]:
        """Return the events of a piece; its scores come with what is shown next."""
        self._untold[index] += scores(text)
        return [self._part(index, part) for part in self._speeches[index].feed(str(text))]

    def ending(self, index: int, usage: Usage) -> list[msgspec.Struct]:
        """Return what was held back, and why the answer ended."""
        rest = [self._part(index, part) for part in self._speeches[index].end()]
        reason: objects.Reason = "tool_calls" if self._called[index] else usage.finish_reason
        return [*rest, self._chunk(index, objects.Delta(), reason)]

    def closing(self, usages: Sequence[Usage]) -> list[msgspec.Struct]:
        """Return what the answers cost, if the client wants to know."""
        if not self.request.wants_usage:
            return []
        return [objects.ChatChunk(**self.head, choices=[], usage=_cost(usages))]

    def _part(self, index: int, part: Part) -> objects.ChatChunk:
        match part:
            case Thought():
                return self._chunk(index, objects.Delta(reasoning_content=part.text))
            case Words():
                return self._chunk(index, objects.Delta(content=part.text))
        number, self._called[index] = self._called[index], self._called[index] + 1
        return self._chunk(index, objects.Delta(tool_calls=[objects.call(part, number)]))

    def _chunk(
        self, index: int, delta: objects.Delta, reason: objects.Reason | None = None
    ) -> objects.ChatChunk:
        tokens, self._untold[index] = self._untold[index], []
        choice = objects.ChunkChoice(delta, reason, index, likelihood.of_chat(tokens))
        return objects.ChatChunk(**self.head, choices=[choice])


class TextReply(GeneratedReply):
    """Answer of /v1/completions."""

    prefix, asks = "cmpl", "prompt"
    request: wire.CompletionRequest

    def __init__(self, service: Service, request: wire.CompletionRequest, limits: Limits) -> None:
        super().__init__(service, request, request.prompts, limits)
        self._lengths = [0 for _question in self.questions]  # of what was sent

    def whole(self, texts: Sequence[str], usages: Sequence[Usage]) -> msgspec.Struct:
        """Return all that is answered."""
        choices = [
            objects.TextChoice(
                self._echo(index) + text,
                usage.finish_reason,
                index,
                likelihood.of_text(scores(text), 0),
            )
            for index, (text, usage) in enumerate(zip(texts, usages, strict=True))
        ]
        return objects.Completion(**self.head, choices=choices, usage=_cost(usages))

    def opening(self) -> list[msgspec.Struct]:
        """Return the prompts, if the client wants them: a text begins with its first piece."""
        return [
            self._completion(index, echo)
            for index in range(len(self.questions))
            if (echo := self._echo(index))
        ]

    def piece(self, index: int, text: str) -> list[msgspec.Struct]:
        """Return the event of a piece."""
        return [self._completion(index, text)]

    def ending(self, index: int, usage: Usage) -> list[msgspec.Struct]:
        """Return why the text ended."""
        return [self._completion(index, "", usage.finish_reason)]

    def closing(self, usages: Sequence[Usage]) -> list[msgspec.Struct]:
        """Return what the texts cost, if the client wants to know."""
        if not self.request.wants_usage:
            return []
        return [objects.Completion(**self.head, choices=[], usage=_cost(usages))]

    def _echo(self, index: int) -> str:
        """Return what is sent back of the prompt, "" where the engine does that."""
        prompt, options = self.questions[index]
        return str(prompt) if self.request.echo and not options.echo else ""

    def _completion(
        self, index: int, text: str, reason: objects.Reason | None = None
    ) -> objects.Completion:
        tokens = likelihood.of_text(scores(text), self._lengths[index])
        self._lengths[index] += len(text)
        choice = objects.TextChoice(str(text), reason, index, tokens)
        return objects.Completion(**self.head, choices=[choice])


async def _merged(answerings: Sequence[Answering]) -> AsyncIterator[tuple[int, str | None]]:
    """Yield (index, text) as texts come, and (index, None) at the end of each."""
    if len(answerings) == 1:  # the texts that came meanwhile stay together
        async for text in answerings[0]:
            yield 0, text
        yield 0, None
        return
    news: asyncio.Queue[tuple[int, str | Exception | None]] = asyncio.Queue()

    async def forward(index: int, answering: Answering) -> None:
        try:
            async for text in answering:
                news.put_nowait((index, text))
        except Exception as error:  # noqa: BLE001 (it is raised again below)
            news.put_nowait((index, error))
        else:
            news.put_nowait((index, None))

    tasks = [asyncio.create_task(forward(*each)) for each in enumerate(answerings)]
    try:
        running = len(tasks)
        while running:
            index, said = await news.get()
            if isinstance(said, Exception):
                raise said
            running -= said is None
            yield index, said
    finally:
        for task in tasks:
            task.cancel()


def _varied(options: Options, number: int) -> Options:
    """Return the options of a request's answer `number`: with its own chance, but repeatable."""
    if options.seed is None or not number:
        return options
    return replace(options, seed=(options.seed + number) % wire.SEEDS)


def _usage(answering: Answering) -> Usage:
    if answering.usage is None:
        raise EngineCrashed(_("The engine ended an answer without giving a reason."))
    return answering.usage


def _cost(usages: Sequence[Usage]) -> objects.CompletionUsage:
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    cached = sum(usage.cached_tokens for usage in usages)
    return objects.CompletionUsage(
        prompt, completion, prompt + completion, objects.PromptDetails(cached)
    )
