"""The real server in a thread, with an engine that answers what it is told to."""

from __future__ import annotations

import base64
import http.client
import json
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from entrypoint.common.catalog import NO_ADVICE, Model, SamplingAdvice
from entrypoint.engines import (
    AnswerStream,
    HungUp,
    Line,
    Message,
    Options,
    Prompt,
    ScoredText,
    ScoredToken,
    Texts,
    Tokens,
    Usage,
)
from entrypoint.serve.front import Front
from entrypoint.serve.keys import Keys
from entrypoint.serve.limits import Limits
from entrypoint.serve.server import Server, listen
from entrypoint.serve.service import Service


@dataclass
class Parrot:
    """An engine that repeats the last words, a word a piece, when `go` lets it or it is hung up.

    `asked` has the prompts and options, `made` counts the pieces, `mishap` is raised after one.
    """

    model: str
    context: int = 200
    asked: list[tuple[Prompt, Options]] = field(default_factory=list)
    made: int = 0
    closed: int = 0  # answers that were closed or hung up before their end
    mishap: Exception | None = None
    go: threading.Event = field(default_factory=threading.Event)
    dead: bool = False
    texts: Texts | None = None

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        line = Line()
        return AnswerStream(self._pieces(prompt, options, line), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        self.asked.append((prompt, options))
        if isinstance(prompt, Tokens):
            words = list(map(str, prompt))
        else:
            words = (prompt if isinstance(prompt, str) else prompt[-1]["content"]).split(" ")
        try:
            for number, word in enumerate(words):
                self._wait(line)
                self.made += 1
                yield scored(word if number == 0 else f" {word}", options)
                if self.mishap:
                    raise self.mishap
            cut = options.max_tokens is not None
            yield Usage(10, 4, len(words), 0.25, 50.0, "length" if cut else "stop")
        except (GeneratorExit, HungUp):
            self.closed += line.hung_up
            raise

    def vectors(self, texts: Texts) -> AnswerStream:
        def pieces() -> Generator[str | Usage, None, None]:
            yield from (vector(len(text)) for text in texts)
            yield Usage(3 * len(texts), 0, 0, 0.25, 0.0, "stop")

        self.texts = texts
        return AnswerStream(pieces())

    def _wait(self, line: Line) -> None:
        while not self.go.wait(0.01):
            if line.hung_up:
                raise HungUp

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(messages)

    def alive(self) -> bool:
        return not self.dead

    def close(self) -> None:
        self.dead = True


def vector(length: int) -> str:
    """Return a vector of three numbers, by the length of its text."""
    number = 1 / (1 + length)
    return base64.b64encode(struct.pack("<3f", number, (1 - number**2) ** 0.5, 0)).decode() + "\n"


def scored(word: str, options: Options) -> str:
    """Return a word with its score, if that was asked for."""
    if options.logprobs is None:
        return word
    top = ((word.encode(), -0.5),) * options.logprobs
    return ScoredText(word, [ScoredToken(word.encode(), -0.5, top)])


@dataclass
class Served:
    """A running server and the engine in it."""

    port: int
    engine: Parrot
    engines: list[Parrot]
    server: Server

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of one request."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as peer:
            content = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            peer.request(method, path, content, {"Content-Type": "application/json", **named})
            response = peer.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def chat(self, text: str, **more: Any) -> tuple[int, dict[str, str], Any]:
        """Ask for a whole answer to `text`."""
        body = {"messages": [{"role": "user", "content": text}], **more}
        status, headers, content = self.ask("POST", "/v1/chat/completions", body)
        return status, headers, json.loads(content)


Serve = Callable[..., Served]


def model(name: str, engine: str = "parrot", sampling: SamplingAdvice = NO_ADVICE) -> Model:
    return Model(
        name, name.title(), engine, "Q4_0", 200, 1, (), "", "", "", "", (), (), sampling=sampling
    )


@contextmanager
def serving(
    *models: str | Model,
    keys: Keys | None = None,
    front: Front | None = None,
    halted: bool = False,
    **limits: int,
) -> Iterator[Served]:
    """Run a server with these models, or of these names; engines wait for `go` if `halted`."""
    engines: list[Parrot] = []

    def open_engine(model: Model, *_words: object, **_settings: object) -> Parrot:
        engines.append(Parrot(model.name))
        if not halted:
            engines[-1].go.set()
        return engines[-1]

    bounds = Limits(**limits)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("entrypoint.serve.service.open_engine", open_engine)
        known = [each if isinstance(each, Model) else model(each) for each in models or ("polly",)]
        services = [Service(each, Path("/nowhere"), bounds, None) for each in known]
        server = Server(services, keys or Keys("", None), bounds, front or Front())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: all(each.look() == "ready" for each in services))
        yield Served(port, engines[0], engines, server)
        for engine in engines:
            engine.go.set()
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server; all end with the test."""
    with ExitStack() as stack:
        yield lambda *models, **settings: stack.enter_context(serving(*models, **settings))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Return a server that the tests of a module share."""
    with serving() as running:
        yield running


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
