"""The seam between the modes of the program and what computes the answers.

An engine opens one model of the catalogue and turns conversations into text. Heavy imports and
processes belong into its constructor, so that `--help` stays instant. Every engine passes
tests/engines/test_conformance.py.
"""

from __future__ import annotations

import socket
import threading
from codecs import getincrementaldecoder
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import (
    Any,
    Literal,
    NotRequired,
    Protocol,
    Self,
    TypeAlias,
    TypedDict,
    cast,
    runtime_checkable,
)

from entrypoint.common.catalog import Model, thought
from entrypoint.common.errors import Failure, NotSupported, StageMissing
from entrypoint.common.language import _


class Message(TypedDict):
    """One turn of a conversation, as the OpenAI API writes it.

    An assistant's `tool_calls` are answered by a turn of role "tool" with the same id.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    tool_call_id: NotRequired[str]
    reasoning_content: NotRequired[str]


# Of Options, for every engine.
PLAIN = ("temperature", "top_p", "max_tokens", "seed", "stop", "counts_thought")
NEUTRAL = {  # of Options, what changes nothing: every engine can do that
    "top_k": 0,
    "min_p": 0,
    "repeat_penalty": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}


class Tokens(tuple[int, ...]):
    """A raw text, as numbers of the model's vocabulary."""

    __slots__ = ()


class Texts(tuple[str | Tokens, ...]):
    """Raw texts, of each of which the vector is asked for."""

    __slots__ = ()


# A conversation to answer, or a raw text to go on with, without the model's chat template.
Prompt: TypeAlias = str | Tokens | Sequence[Message]


@dataclass(frozen=True)
class ScoredToken:
    """A token and the natural logarithm of its likelihood, before anything else was considered.

    `data` is its text in UTF-8, which may be a part of a character only. `logprob` is None where
    nothing stands before the token. `top` are the likeliest tokens of its place, best first.
    """

    data: bytes
    logprob: float | None
    top: tuple[tuple[bytes, float], ...] = ()


class ScoredText(str):
    """A piece of text with the scores of the tokens that it was written in."""

    __slots__ = ("tokens",)

    tokens: tuple[ScoredToken, ...]

    def __new__(cls, text: str, tokens: Iterable[ScoredToken]) -> Self:
        """Return `text` with `tokens`."""
        scored = super().__new__(cls, text)
        scored.tokens = tuple(tokens)
        return scored


def scores(text: str) -> tuple[ScoredToken, ...]:
    """Return the scores that a piece has, () where nobody asked for them."""
    return text.tokens if isinstance(text, ScoredText) else ()


def joined(pieces: Iterable[str]) -> str:
    """Return pieces as one, with the scores that they have."""
    pieces = list(pieces)
    text = "".join(pieces)
    tokens = [token for piece in pieces for token in scores(piece)]
    return ScoredText(text, tokens) if tokens else text


def by_token(text: str) -> list[str]:
    """Return a text token by token, where it has scores and its tokens spell it."""
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    pieces = [ScoredText(decoder.decode(token.data), [token]) for token in scores(text)]
    return [*pieces] if "".join(pieces) == text else [text]


@dataclass(frozen=True)
class Options:
    """How to sample one answer; `max_tokens` None means up to the end of the context.

    The answer ends before the first of the `stop` texts, besides the model's own. With a `schema`
    it is JSON that follows that JSON Schema. `logit_bias` adds to the scores of tokens, by their
    number. `tools` are functions, as OpenAI's API describes them, that the chat template tells the
    model of; `template` are further variables of the template.

    `think` is how many tokens it may think before it answers: 0 are none, `catalog.ENDLESS` as many
    as it likes; None leaves it to the chat template. Unless `counts_thought`, they are beside
    `max_tokens`; an engine that cannot follow `think` counts them.

    With `logprobs`, pieces are ScoredText that tells so many of the likeliest tokens for each token
    (0: none but the token itself). With `echo`, a raw text comes before what goes on with it, and
    its tokens have scores too; `max_tokens` may be 0 then. With a `suffix`, a raw text goes on with
    what leads from it to there.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    template: Mapping[str, Any] | None = None
    think: int | None = None
    counts_thought: bool = False
    logprobs: int | None = None
    echo: bool = False
    suffix: str | None = None


@dataclass(frozen=True)
class Usage:
    """What one answer cost.

    `prompt_tokens` is the whole prompt, of which `cached_tokens` were in the engine's cache and
    not computed again. `first_token` is in seconds from the request, `rate` in tokens per second
    after the first token.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token: float
    rate: float
    finish_reason: Literal["stop", "length"]


def require(engine: str, prompt: Prompt, options: Options, known: Collection[str] = ()) -> None:
    """Raise NotSupported for what this engine cannot do: more options than PLAIN and `known`.

    Those that change nothing are never refused. Turns of tools, and an answer that goes on from the
    last turn, are told of as "messages", tokens as "prompt".
    """
    unset = Options()
    names = [
        each.name
        for each in fields(options)
        if each.name not in {*PLAIN, *known}
        and getattr(options, each.name) not in (getattr(unset, each.name), NEUTRAL.get(each.name))
    ]
    if isinstance(prompt, Tokens):
        names.append("prompt")
    elif not isinstance(prompt, str) and prompt[-1]["role"] != "user":
        names.append("messages")
    if names:
        raise NotSupported(
            _("The engine {engine} does not follow: {names}.").format(
                engine=engine, names=", ".join(names)
            ),
            option=names[0],
        )


class HungUp(Exception):
    """Nobody listens to an answer any more. What computes it ends with this; nobody is told."""


class Line:
    """The connection that an answer comes over."""

    def __init__(self) -> None:
        self.hung_up = False
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def take(self, connection: socket.socket) -> None:
        """Note the connection that is used from now on."""
        with self._lock:
            self._connection = connection
            self._shut()

    def hang_up(self) -> None:
        """Shut the connection, and those that follow; who waits for it finds its end."""
        with self._lock:
            self.hung_up = True
            self._shut()

    def _shut(self) -> None:
        if self.hung_up and self._connection:
            with suppress(OSError):  # it has been closed already
                self._connection.shutdown(socket.SHUT_RDWR)


class AnswerStream(Iterator[str | Usage]):
    """The pieces of one answer, then its Usage. Closing it stops the computation.

    Another thread may `hang_up` at any time, even while the prompt is computed: the computation is
    stopped and no piece comes any more.
    """

    def __init__(
        self, pieces: Generator[str | Usage, None, None], line: Line | None = None
    ) -> None:
        self._pieces, self._line = pieces, line or Line()

    def __next__(self) -> str | Usage:
        try:
            piece = next(self._pieces)
        except (Failure, HungUp):
            if self.hung_up:
                raise StopIteration from None
            raise
        if self.hung_up:
            raise StopIteration
        return piece

    @property
    def hung_up(self) -> bool:
        """Whether somebody did."""
        return self._line.hung_up

    def hang_up(self) -> None:
        """End it, from any thread; its owner closes it as ever."""
        self._line.hang_up()

    def close(self) -> None:
        """Stop the computation; for the thread that reads it."""
        self._pieces.close()


class Engine(Protocol):
    """A loaded model. `context` is the number of tokens that a conversation may have."""

    context: int

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        """Answer a conversation, or go on with a raw text.

        Control words in messages are text; in a raw text they are control tokens.

        A conversation ends with a user's message; where the engine can, with what a tool brought,
        or with the beginning of the answer, which then goes on from there.

        As many threads as the engine was opened for may each have an answer at once. Raises
        MessageTooLong if the prompt does not fit the context, NotSupported for options that the
        engine or the model cannot follow, EngineCrashed or NotEnoughMemory if the engine dies.
        """
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length in tokens of the prompt that these messages make."""
        ...

    def alive(self) -> bool:
        """Tell whether it can still answer, which takes a second at most; one that hangs cannot."""
        ...

    def close(self) -> None:
        """Free the model; safe to call twice."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """An Engine that makes vectors of texts, too."""

    def vectors(self, texts: Texts) -> AnswerStream:
        """Tell the vector of each text, in their order, then what they cost.

        Each is a line, the base64 of 32-bit floats (little-endian), and has the length 1. Raises
        what `stream` raises, and NotEnoughMemory before an engine would run out of it.
        """
        ...


class Backend(Protocol):
    """The package of an engine.

    `FOLLOWS` names the options beyond PLAIN that it can follow.
    """

    FOLLOWS: Collection[str]

    def load(
        self, model: Model, folder: Path, *, context: int | None = None, parallel: int = 1
    ) -> Engine:
        """Load `model` from its own `folder`; see `open_engine`."""
        ...

    def version(self) -> tuple[str, str]:
        """Return the name of what computes, and its version: "" where it is not installed."""
        ...

    def kernels(self) -> str:
        """Return which of its kernels it takes on this CPU, in its own words.

        Raises UnsupportedCpu if it takes none, StageMissing where it is not installed.
        """
        ...


def find(name: str) -> Backend | None:
    """Return the engine that the catalogue calls `name`, None if this program has none such.

    An engine is a package here; an image has its own only. What fails inside of one is not hidden.
    """
    module = f"{__name__}.{name}"
    place = find_spec(module) if name.isidentifier() else None
    if place is None or not place.has_location:  # a folder alone, what was in it is gone
        return None
    return cast("Backend", import_module(module))


def follows(engine: str, option: str) -> bool:
    """Tell whether an engine can follow one of the Options."""
    backend = find(engine)
    return option in PLAIN or (backend is not None and option in backend.FOLLOWS)


def advised(model: Model, options: Options) -> Options:
    """Return `options`, but sampled as the model's publisher advises, and thinking as is its way.

    Advice that the model's engine cannot follow is left out: nobody here asked for it.
    """
    think = thought(model.think) if model.think else None
    advice: dict[str, Any] = {
        name: value
        for name, value in {**asdict(model.sampling), "think": think}.items()
        if value is not None and follows(model.engine, name)
    }
    return replace(options, **advice)


def open_engine(
    model: Model, folder: Path, *, context: int | None = None, parallel: int = 1
) -> Engine:
    """Load `model` from the models `folder` with the engine it was made for.

    `parallel` is how many answers may be computed at once. Raises DamagedModel, NotEnoughMemory,
    UnsupportedCpu or EngineCrashed, and StageMissing where the engine is not installed.
    """
    if backend := find(model.engine):
        return backend.load(model, folder / model.name, context=context, parallel=parallel)
    raise StageMissing(
        _("{name} is made for the engine {engine}, which this program does not know.").format(
            name=model.name, engine=model.engine
        ),
        next=_("Build the image and its models with the same version of llmdeploy."),
    )
