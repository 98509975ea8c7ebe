"""The engine `endpoint`: a model that somebody else serves, behind OpenAI's API.

Requests are repeated a few times while no answer has begun, for a server may be busy or starting;
an answer that breaks off in the middle is a failure. So is one that is not of the API, or has no
end: what comes is checked piece by piece, and no more of it is held than a long answer has.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import string
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote
from weakref import WeakSet

import msgspec
from msgspec import Meta, Struct

from entrypoint.common import certificates
from entrypoint.common.address import parse
from entrypoint.common.errors import (
    BrokenAnswer,
    EndpointFailure,
    Failure,
    MessageTooLong,
    NotSupported,
    UsageFailure,
)
from entrypoint.common.language import _
from entrypoint.engines import AnswerStream, Line, Message, Options, Prompt, Tokens, Usage, require

KEY = "LLMDEPLOY_API_KEY"  # the variable that has the endpoint's key
TRIES = 4
WAITS = (0.5, 1.0, 2.0)  # seconds before each further try
LONGEST_WAIT = 30.0  # seconds, whatever the server asks for
PATIENCE = 120.0  # seconds without a byte
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# What an answer may have, far above what a model writes: a line, all lines, and its text.
LINE, LINES, TEXT = 1 << 20, 1 << 26, 1 << 20
REASON = 500  # characters of a server's own words

Count: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]


class _Delta(Struct):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: Count | None = None


class _Cost(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class _Event(Struct):
    """A line of an answer, as far as it is looked at."""

    choices: tuple[_Choice, ...] | None = None
    usage: _Cost | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class Endpoint:
    """A model at an address such as http://host:8000/v1; see `entrypoint.engines.Engine`.

    Any number of threads may have an answer at once. Nobody tells the length of its context, so
    `context` is 0.
    """

    context = 0

    def __init__(self, address: str, model: str) -> None:
        self.model = model
        self.address = address
        parts = parse(address)
        if parts is None:
            raise UsageFailure(
                _("{address} is not the address of an endpoint.").format(address=address),
                next=_("Write it as: http://host:8000/v1"),
            )
        self._host, self._port = parts.hostname or "", parts.port
        self._secure = parts.scheme == "https"
        self._path = quote(parts.path.rstrip("/"), safe=string.punctuation) + "/chat/completions"
        self._open: WeakSet[socket.socket] = WeakSet()
        self._closed = False

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        """Answer a conversation; raise BrokenAnswer if the answer breaks off or is none.

        Raises EndpointFailure if there is no answer, MessageTooLong if that is why.
        """
        line = Line()
        return AnswerStream(self._pieces(prompt, options, line), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        if isinstance(prompt, str | Tokens):
            raise NotSupported(_("An endpoint answers conversations only."))
        require("endpoint", prompt, options)
        begun = time.monotonic()
        first = 0.0
        pieces, length, reason = 0, 0, ""
        cost = _Cost()
        with self._ask(self._body(prompt, options), line) as response:
            for event in self._events(response):
                cost = event.usage or cost
                for choice in event.choices or ():
                    if piece := choice.delta and choice.delta.content:
                        first = first or time.monotonic() - begun
                        pieces, length = pieces + 1, length + len(piece)
                        if length > TEXT:
                            raise self._broken(_("It does not stop."))
                        yield piece
                    reason = choice.finish_reason or reason
        if not reason:
            raise self._broken(_("The connection was closed in the middle of an answer."))
        last = time.monotonic() - begun
        tokens = pieces if cost.completion_tokens is None else cost.completion_tokens
        cached = cost.prompt_tokens_details and cost.prompt_tokens_details.cached_tokens
        yield Usage(
            prompt_tokens=cost.prompt_tokens or 0,
            cached_tokens=cached or 0,
            completion_tokens=tokens,
            first_token=first or last,
            rate=(tokens - 1) / (last - first) if tokens > 1 and 0 < first < last else 0.0,
            finish_reason="length" if reason == "length" else "stop",
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:  # noqa: ARG002 - the protocol's
        """Raise NotSupported: the API cannot tell."""
        raise NotSupported(_("An endpoint cannot count tokens in advance."))

    def alive(self) -> bool:
        """Tell whether it is open; whether the server is there shows with the next answer."""
        return not self._closed

    def close(self) -> None:
        """Break off what is being answered; safe to call twice."""
        self._closed = True
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _body(self, messages: Sequence[Message], options: Options) -> dict[str, Any]:
        settings = {"max_tokens": options.max_tokens, "seed": options.seed, "stop": options.stop}
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": options.temperature,
            "top_p": options.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in settings.items() if value not in (None, ())},
        }

    @contextmanager
    def _ask(self, body: Mapping[str, Any], line: Line) -> Iterator[http.client.HTTPResponse]:
        """Send a request, again and again while the server is busy or away."""
        for number in range(TRIES):
            with closing(self._connection()) as connection:
                response, failure, wait = self._try(connection, body, line)
                if response:
                    with closing(response):
                        yield response
                    return
            if self._closed or line.hung_up or number == TRIES - 1:
                raise failure
            time.sleep(min(wait or WAITS[number], LONGEST_WAIT))

    def _try(
        self, connection: http.client.HTTPConnection, body: Mapping[str, Any], line: Line
    ) -> tuple[http.client.HTTPResponse | None, Failure, float]:
        """Return the answer; or why there is none yet, and how long the server wants us to wait.

        Raises a Failure if another try would be in vain.
        """
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.connect()
            self._open.add(connection.sock)  # the connection forgets it
            line.take(connection.sock)
            connection.request("POST", self._path, json.dumps(body), headers)
            response = connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            remedy = certificates.remedy(error, "SSL_CERT_FILE")
            raise self._failure(error.verify_message, remedy) from None
        except (OSError, http.client.HTTPException) as error:
            return None, self._failure(_reason(error)), 0.0
        if response.status == http.HTTPStatus.OK:
            return response, self._failure(""), 0.0
        with closing(response):
            failure = self._refusal(response)
        if response.status not in BUSY:
            raise failure
        seconds = response.headers.get("Retry-After", "")
        return None, failure, float(seconds) if seconds.isdecimal() else 0.0

    def _events(self, response: http.client.HTTPResponse) -> Iterator[_Event]:
        """Yield the server-sent events of an answer, up to [DONE]."""
        room = LINES
        try:
            while line := response.readline(LINE):
                room -= len(line)
                if room < 0 or len(line) == LINE:
                    raise self._broken(_("It does not stop."))
                data = line.strip().removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if not line.startswith(b"data:"):
                    continue
                event = _decode(data)
                if error := event.error:
                    reason = error.get("message", error) if isinstance(error, dict) else error
                    raise self._broken(str(reason)[:REASON])
                yield event
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(_reason(error)) from None
        except (ValueError, RecursionError):
            raise self._broken(_("What it sent does not follow OpenAI's API.")) from None

    def _refusal(self, response: http.client.HTTPResponse) -> Failure:
        """Return what the server refused as a Failure."""
        error: dict[str, Any] = {}
        reason = ""
        with suppress(ValueError, RecursionError, OSError, http.client.HTTPException):
            content = _decode(response.read(1 << 16)).error
            error = content if isinstance(content, dict) else {"message": content}
            reason = str(error.get("message") or "")[:REASON]
        if error.get("code") == "context_length_exceeded":
            return MessageTooLong(reason, next=_("Use a shorter message."))
        ways = {
            401: _("Set the variable {key} to its key.").format(key=KEY),
            403: _("Set the variable {key} to its key.").format(key=KEY),
            404: _("See which models it has, and that the address ends as in /v1."),
        }
        why = _("It answered {status}: {reason}").format(
            status=response.status, reason=reason or response.reason[:REASON]
        )
        return self._failure(why, ways.get(response.status, ""))

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=PATIENCE)
        return http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)

    def _failure(self, why: str, way: str = "") -> EndpointFailure:
        return EndpointFailure(
            _("The endpoint {address} did not answer.").format(address=self.address), why, way
        )

    def _broken(self, why: str) -> BrokenAnswer:
        return BrokenAnswer(
            _("The endpoint {address} broke off an answer.").format(address=self.address), why
        )


def _reason(error: Exception) -> str:
    """Say in words why a connection failed."""
    if isinstance(error, TimeoutError):
        return _("No data arrived for {seconds:.0f} seconds.").format(seconds=PATIENCE)
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return _("The connection was closed in the middle of an answer.")
    return getattr(error, "strerror", None) or str(error)
