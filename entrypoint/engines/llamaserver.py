"""What the engines share whose child is a server of llama.cpp's family, on a Unix socket.

A crash of it is a message of ours; the socket lies in a private folder, so nobody else can talk to
it. The server brings the prompt cache, parallel slots and the models' chat templates.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrypoint.common import facts, machine
from entrypoint.common.catalog import ENDLESS, Model
from entrypoint.common.errors import (
    ConfigFailure,
    Failure,
    MessageTooLong,
    NotSupported,
    NotWritable,
    StageMissing,
)
from entrypoint.common.facts import THOUGHT_MARKS
from entrypoint.common.files import writing
from entrypoint.common.language import _
from entrypoint.engines import (
    NEUTRAL,
    AnswerStream,
    HungUp,
    Line,
    Message,
    Options,
    Prompt,
    Tokens,
    Usage,
    thinking,
    weights,
)
from entrypoint.engines.child import Child
from entrypoint.engines.connection import Connection
from entrypoint.engines.controls import Controls
from entrypoint.engines.pulse import MOMENT, Pulse
from entrypoint.engines.scoring import Scorer, Scores
from entrypoint.engines.vocabulary import control_words

UNKNOWN = re.compile(r"unknown model architecture: '([^']*)'")
LONGEST_SOCKET = 107  # bytes, <linux/un.h>
PENALTIES = {"repeat_penalty", "presence_penalty", "frequency_penalty"}
SAMPLING = (
    "top_k",
    "min_p",
    *sorted(PENALTIES),
    "logit_bias",
)  # of Options, as the server has them
FOLLOWS = (*SAMPLING, "schema", "tools", "template", "think", "logprobs", "echo")
POLL = 0.01  # seconds between two looks at a loading server
PATIENCE = 15.0  # seconds without a sign of life: a token takes a hundredth of it
# How often a thread looks for the others before it sleeps. libgomp's default takes milliseconds, in
# which the thread that all wait for is kept from its core if other programs use it too.
ENVIRONMENT = {"GOMP_SPINCOUNT": "2000"}


class LlamaServer(ABC):
    """A server with one model; see `entrypoint.engines.Engine`.

    `chats` tells whether it can be given a conversation as it is; one that parses what the model
    writes cannot, and gets the text that the template makes.
    """

    chats = True

    def __init__(
        self, model: Model, folder: Path, *, context: int | None = None, parallel: int = 1
    ) -> None:
        weights.require_files(model, folder)
        self._content = weights.Content(model, folder)
        self._parallel = parallel
        self._stop = list(model.stop)
        scratch = machine.require_scratch()
        with writing(scratch):
            self._home = Path(tempfile.mkdtemp(prefix="llmdeploy-", dir=scratch))
        self._socket = self._home / "engine.sock"
        try:
            length = context or model.context
            argv = self._command(model, folder, context=length, parallel=parallel)
            self._child = Child(argv, env=self._environment())
            self._controls = self._load(model, folder)
            hello = self._templated([{"role": "user", "content": "Hi"}], Options())
            self._opened = _opened(hello)
            self._pulse = Pulse(self._child, self._beat, PATIENCE)
            with self._send("GET", "/props") as response:
                about = json.load(response)
            # The server rounds it up to 256, and down to what the model was trained for.
            self.context: int = about["default_generation_settings"]["n_ctx"]
            self._opening = facts.opening(about["chat_template"])
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _command(self, model: Model, folder: Path, *, context: int, parallel: int) -> list[str]:
        """Return the server's command line; each of the `parallel` slots has `context` tokens."""

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """Return the variables that the server sees."""

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        """Answer a conversation, or go on with a raw text."""
        line = Line()
        return AnswerStream(self._content.guard(self._pieces(prompt, options, line)), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        opened = self._opened
        history: Sequence[Message] = ()
        if isinstance(prompt, str | Tokens):
            # It has no turns, and so no thought before one.
            options, opened = replace(options, think=None), ""
        else:
            broken = self._controls.broken(prompt)
            special = broken != list(prompt) or _templates(prompt, options)
            history = () if self.chats and special else broken[:-1]
            if special or not self.chats:
                # Without the parsing of chats, which we skip, the server heeds a schema here only.
                prompt = self._templated(broken, options)
                opened = _opened(prompt)
        begun = time.monotonic()
        if options.echo and isinstance(prompt, str | Tokens):
            count = yield from self._echoed(prompt, options, line)
            if options.max_tokens == 0:
                yield Usage(count, 0, 0, time.monotonic() - begun, 0.0, "length")
                return
        limit = _limit(options, opened=opened)
        body = self._body(prompt, options) | _thinking(options, limit, self._opening, opened)
        if options.temperature == 0 and not options.tools:  # a list of tools is long, and repeats
            body["cache_prompt"] = self._settle(history, line)
        chat = not isinstance(prompt, str | Tokens)
        path = "/v1/chat/completions" if chat else "/v1/completions"
        with self._send("POST", path, body, line) as response:
            if opened:
                yield opened
            yield from self._answer(response, begun, limit, Scores(options.logprobs))

    def _echoed(
        self, prompt: str | Tokens, options: Options, line: Line
    ) -> Generator[str, None, int]:
        """Yield a raw text, with scores if asked for; return the number of its tokens."""

        def ask(path: str, body: Mapping[str, Any]) -> Any:
            with self._send("POST", path, body, line) as response:
                return json.load(response)

        scorer = Scorer(ask)
        if isinstance(prompt, Tokens):
            numbers, hidden = list(prompt), 0
        else:
            numbers = scorer.numbers(prompt, begin=True)
            hidden = len(numbers) - len(scorer.numbers(prompt, begin=False))
        if len(numbers) >= self.context:
            raise _too_long(len(numbers), self.context)
        if options.logprobs is None:
            yield prompt if isinstance(prompt, str) else scorer.text(prompt)
        else:
            yield from scorer.scored(numbers, options.logprobs, hidden)
        return len(numbers)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length in tokens of the prompt that these messages make."""
        broken = self._controls.broken(messages)
        if self.chats and broken == list(messages):
            body: dict[str, Any] = {"messages": broken}
            with self._send("POST", "/v1/chat/completions/input_tokens", body) as response:
                count: int = json.load(response)["input_tokens"]
            return count
        pieces = self._controls.pieces(self._templated(broken, Options()))
        body = {"content": pieces, "add_special": True}
        with self._send("POST", "/tokenize", body) as response:
            return len(json.load(response)["tokens"])

    def alive(self) -> bool:
        """Tell whether the server runs, and its loop goes round."""
        return self._pulse.beats()

    def close(self) -> None:
        """Free the model; safe to call twice."""
        if child := getattr(self, "_child", None):
            child.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _load(self, model: Model, folder: Path) -> Controls:
        """Read the model's control words, and wait until the server has loaded the model."""
        try:
            controls = Controls(control_words(folder / model.files[0].path))
            self._wait()
        except Exception:
            weights.require_content(model, folder)  # a damaged file is the likeliest reason
            raise
        return controls

    def _wait(self) -> None:
        while not self._ready():
            if not self._child.alive():
                raise _named(self._child.death())
            time.sleep(POLL)

    def _beat(self) -> None:
        """Wait for a sign of the loop that computes: while it reads a prompt, too, it gives one."""
        with closing(Connection(self._socket, MOMENT)) as connection:
            connection.request("GET", "/metrics")
            connection.getresponse().read()

    def _ready(self) -> bool:
        with suppress(OSError), closing(Connection(self._socket)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def _settle(self, history: Sequence[Message], line: Line) -> bool:
        """Bring the prompt cache to the end of the history; return False if it has no answer.

        Tokens computed together differ in their last bits from tokens computed one by one, so
        an answer depends on what was cached: after a retry or a stopped answer that would be
        more than the history. Computing the history as a prompt makes both cases the same.
        """
        if not history or history[-1]["role"] != "assistant":
            return False
        path, body = "/v1/chat/completions", {"messages": list(history), "max_tokens": 0}
        if not self.chats:
            text = self._templated(history, Options())
            path, body = "/v1/completions", {"prompt": self._raw(text), "max_tokens": 0}
        with self._send("POST", path, body, line) as response:
            response.read()
        return True

    def _raw(self, text: str) -> dict[str, Any]:
        """Return a text as the server takes it: one prompt; a bare list would be as many."""
        return {"prompt_string": self._controls.pieces(text)}

    def _templated(self, messages: Sequence[Message], options: Options) -> str:
        """Return the text that the model's template makes of a conversation.

        It ends with the beginning of the answer, if the last turn has that, and not within a
        thought that is not wished. Raises NotSupported if the template leaves out the tools.
        """
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
        body = {
            "messages": list(messages if begun is None else messages[:-1]),
            "tools": list(options.tools),
            "chat_template_kwargs": _variables(options),
        }
        with self._send("POST", "/apply-template", body) as response:
            text: str = json.load(response)["prompt"]
        if any(tool["function"]["name"] not in text for tool in options.tools):
            raise NotSupported(_("The model's chat template does not support tools."))
        if (mark := _opened(text)) and (begun is not None or options.think == 0 or options.schema):
            text = f"{text}\n{THOUGHT_MARKS[mark]}\n\n"
        return f"{text}{begun or ''}"

    def _body(self, prompt: Prompt, options: Options) -> dict[str, Any]:
        wishes = {name: getattr(options, name) for name in ("max_tokens", "seed", *SAMPLING)}
        body: dict[str, Any] = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "stop": [*self._stop, *options.stop],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wishes.items() if value is not None},
        }
        if isinstance(prompt, Tokens):
            body["prompt"] = list(prompt)
        elif isinstance(prompt, str):
            body["prompt"] = self._raw(prompt)
        else:
            body["messages"] = list(prompt)
        if options.logprobs is not None:
            body["n_probs"] = max(options.logprobs, 1)
        if options.schema is not None:
            body["json_schema"] = options.schema
        if options.temperature == 0:
            # Only the likeliest token counts: the other samplers would sort a vocabulary in vain,
            # which takes 3 % of the time.
            punished = any(body.get(name, NEUTRAL[name]) != NEUTRAL[name] for name in PENALTIES)
            body |= {"samplers": [*(["penalties"] if punished else []), "top_k"], "top_k": 1}
        return body

    @contextmanager
    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        line: Line | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request; leaving the block closes the connection, which stops the computation."""
        with closing(Connection(self._socket)) as connection:
            try:
                content = json.dumps(body) if body else None
                connection.connect()
                if line:
                    line.take(connection.sock)
                connection.request(method, path, content, {"Content-Type": "application/json"})
                response = connection.getresponse()
                if response.status != http.HTTPStatus.OK:
                    raise self._refusal(json.load(response)["error"])
                yield response
            except (OSError, http.client.HTTPException):
                raise self._lost(line) from None

    def _told(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event as llama.cpp's own server writes it."""
        return event

    def _answer(
        self,
        response: http.client.HTTPResponse,
        begun: float,
        limit: thinking.Limit | None,
        scores: Scores,
    ) -> Iterator[str | Usage]:
        """Yield the pieces of an answer that was asked for at the time `begun`, then its Usage."""
        first, reason, full = 0.0, "", False
        for event in map(self._told, _events(response)):
            if error := event.get("error"):
                raise self._refusal(error)
            for choice in event["choices"]:
                reason = choice["finish_reason"] or reason
                text = choice.get("text") or choice.get("delta", {}).get("content")
                if piece := scores.on(text or "", choice.get("logprobs")):
                    first = first or time.monotonic() - begun
                    yield piece
                    full = bool(limit and limit.reached(piece, event["timings"]["predicted_n"]))
            if full or event.get("usage"):
                reason = "length" if full else reason
                yield _usage(event["timings"], first or time.monotonic() - begun, reason)
                return
        raise http.client.IncompleteRead(b"")

    def _refusal(self, error: dict[str, Any]) -> Failure:
        """Return what the server refused as a Failure."""
        if error.get("type") == "exceed_context_size_error":
            return _too_long(error["n_prompt_tokens"], error["n_ctx"])
        return NotSupported(
            _("The inference engine refused a request: {reason}").format(
                reason=error.get("message")
            )
        )

    def _lost(self, line: Line | None) -> Failure | HungUp:
        """Say why a connection ended too soon."""
        return HungUp() if line and line.hung_up else self._child.death()


def _named(death: Failure) -> Failure:
    """Return what the last words of a server mean that did not load its model."""
    if unknown := UNKNOWN.search(death.why):
        return ConfigFailure(
            _("llama.cpp cannot open models of the architecture {name}.").format(name=unknown[1])
        )
    return death


def version(wheel: str) -> str:
    """Return the version of an engine's wheel, "" where it is not installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(wheel)
    return ""


def program(package: str, name: str) -> Path:
    """Return the path of a program of an engine's wheel; raise StageMissing without it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StageMissing(
            _("The inference engine is not installed beside this Python."),
            next=_("Use the image, or the environment that this makes: ./llmdeploy build-env"),
        )
    return Path(spec.submodule_search_locations[0]) / name


def require_short(address: Path) -> None:
    """Raise NotWritable if a path is too long for the name of a socket."""
    if len(os.fsencode(address)) > LONGEST_SOCKET:
        raise NotWritable(
            _("{path} is too long for the name of a socket.").format(path=address),
            next=_("Set TMPDIR to a folder with a shorter name."),
        )


def _templates(prompt: Sequence[Message], options: Options) -> bool:
    """Tell whether the server's own way from a conversation to a text is not enough."""
    special = bool(options.schema or options.tools or options.template or options.think is not None)
    # Where it holds text back, the server tells no scores in a chat.
    return special or options.logprobs is not None or prompt[-1]["role"] == "assistant"


def _variables(options: Options) -> Mapping[str, Any]:
    """Return what the template is told besides; a schema holds from an answer's first token on."""
    thinks = {} if options.think is None else {"enable_thinking": bool(options.think)}
    if options.schema:
        thinks = {"enable_thinking": False}
    return {**thinks, **(options.template or {})}


def _limit(options: Options, *, opened: str) -> thinking.Limit | None:
    """Return the limit of an answer that is not the server's, since a thought comes before it."""
    if options.think and options.max_tokens and not options.counts_thought:
        return thinking.Limit(options.max_tokens, opened=opened)
    return None


def _thinking(
    options: Options, limit: thinking.Limit | None, opening: str, opened: str
) -> dict[str, Any]:
    """Return the part of a request that says how much may be thought.

    `opening` is the mark that the model opens a thought with, `opened` the one in the prompt.
    """
    body: dict[str, Any] = {"max_tokens": -1, "timings_per_token": True} if limit else {}
    if options.think not in {None, ENDLESS} and not options.schema:
        body |= {
            "reasoning_budget_tokens": options.think,
            "reasoning_budget_start_tag": opened or opening,
            "reasoning_budget_end_tags": [THOUGHT_MARKS[opened or opening]],
            "reasoning_budget_message": "\n",
            "generation_prompt": opened,
        }
    return body


def _opened(prompt: str) -> str:
    """Return the mark that a prompt opened a thought with and ends in, "" if it has not."""
    ways = (mark for mark in THOUGHT_MARKS if prompt.rstrip().endswith(mark))
    return next(ways, "")


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the server-sent events of a response; they end with [DONE].

    Whole chunks are read, because iterating over lines takes several calls for each.
    """
    rest = b""
    while chunk := response.read1():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield json.loads(line.removeprefix(b"data: "))


def _usage(timings: dict[str, Any], first: float, reason: str) -> Usage:
    steps = timings["predicted_n"] - 1  # the first token comes out of the prompt
    return Usage(
        prompt_tokens=timings["cache_n"] + timings["prompt_n"],
        cached_tokens=timings["cache_n"],
        completion_tokens=timings["predicted_n"],
        first_token=first,
        rate=steps / timings["predicted_ms"] * 1000 if steps else 0.0,
        finish_reason="length" if reason == "length" else "stop",
    )


def _too_long(tokens: int, context: int) -> MessageTooLong:
    return MessageTooLong(
        _("The messages have {tokens} tokens; the model's context has {context}.").format(
            tokens=tokens, context=context
        ),
        next=_("Use a shorter message."),
    )
