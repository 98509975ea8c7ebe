"""The engine `endpoint`: a model that somebody else serves, behind OpenAI's API.

Requests are repeated a few times while no answer has begun, for a server may be busy or starting;
an answer that breaks off in the middle is a failure.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

from entrypoint.common.errors import (
    EndpointFailure,
    Failure,
    MessageTooLong,
    NotSupported,
    UsageFailure,
)
from entrypoint.common.language import _
from entrypoint.engines import Answer, Line, Message, Options, Prompt, Usage

KEY = "LLMDEPLOY_API_KEY"  # the variable that has the endpoint's key
TRIES = 4
WAITS = (0.5, 1.0, 2.0)  # seconds before each further try
LONGEST_WAIT = 30.0  # seconds, whatever the server asks for
PATIENCE = 120.0  # seconds without a byte
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class Endpoint:
    """A model at an address such as http://host:8000/v1; see `entrypoint.engines.Engine`.

    Any number of threads may have an answer at once. Nobody tells the length of its context, so
    `context` is 0.
    """

    context = 0

    def __init__(self, address: str, model: str) -> None:
        self.model = model
        self.address = address
        parts = urlsplit(address)
        try:
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            self._host = ""
        if parts.scheme not in {"http", "https"} or not self._host:
            raise UsageFailure(
                _("{address} is not the address of an endpoint.").format(address=address),
                next=_("Write it as: http://host:8000/v1"),
            )
        self._secure = parts.scheme == "https"
        self._path = parts.path.rstrip("/") + "/chat/completions"
        self._open: WeakSet[socket.socket] = WeakSet()
        self._closed = False

    def stream(self, prompt: Prompt, options: Options) -> Answer:
        """Answer a conversation; raise EndpointFailure if the answer breaks off.

        Raises MessageTooLong if the server says so.
        """
        line = Line()
        return Answer(self._pieces(prompt, options, line), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        if isinstance(prompt, str) or options.schema is not None:
            raise NotSupported(_("An endpoint answers conversations only."))
        begun = time.monotonic()
        first = 0.0
        pieces, reason = 0, ""
        usage: dict[str, Any] = {}
        with self._ask(self._body(prompt, options), line) as response:
            for event in self._events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    if piece := (choice.get("delta") or {}).get("content"):
                        first = first or time.monotonic() - begun
                        pieces += 1
                        yield piece
                    reason = choice.get("finish_reason") or reason
        if not reason:
            raise self._broken(_("The connection was closed in the middle of an answer."))
        last = time.monotonic() - begun
        written = usage.get("completion_tokens", pieces)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        yield Usage(
            prompt_tokens=usage.get("prompt_tokens", 0),
            cached_tokens=cached,
            completion_tokens=written,
            first_token=first or last,
            rate=(written - 1) / (last - first) if written > 1 and 0 < first < last else 0.0,
            finish_reason="length" if reason == "length" else "stop",
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:  # noqa: ARG002 - the protocol's
        """Raise NotSupported: the API cannot tell."""
        raise NotSupported(_("An endpoint does not count tokens beforehand."))

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
            raise self._broken(
                error.verify_message, _("Name a file of certificates to trust: SSL_CERT_FILE")
            ) from None
        except (OSError, http.client.HTTPException) as error:
            return None, self._broken(_reason(error)), 0.0
        if response.status == http.HTTPStatus.OK:
            return response, self._broken(""), 0.0
        with closing(response):
            failure = self._refusal(response)
        if response.status not in BUSY:
            raise failure
        asked = response.headers.get("Retry-After", "")
        return None, failure, float(asked) if asked.isdecimal() else 0.0

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """Yield the server-sent events of an answer, up to [DONE]."""
        try:
            for line in response:
                data = line.strip().removeprefix(b"data:").strip()
                if not line.startswith(b"data:") or data == b"[DONE]":
                    continue
                event = json.loads(data)
                if error := event.get("error"):
                    raise self._broken(str(error.get("message", error)))
                yield event
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(_reason(error)) from None
        except (ValueError, AttributeError):
            raise self._broken(_("It sent what is not of OpenAI's API.")) from None

    def _refusal(self, response: http.client.HTTPResponse) -> Failure:
        """Return what the server refused as a Failure."""
        error: dict[str, Any] = {}
        said = ""
        with suppress(ValueError, LookupError, TypeError, OSError, http.client.HTTPException):
            found = json.loads(response.read(1 << 16))["error"]
            error = found if isinstance(found, dict) else {"message": found}
            said = str(error.get("message") or "")
        if error.get("code") == "context_length_exceeded":
            return MessageTooLong(said, next=_("Ask with fewer words."))
        ways = {
            401: _("Set the variable {key} to its key.").format(key=KEY),
            403: _("Set the variable {key} to its key.").format(key=KEY),
            404: _("See which models it has, and that the address ends as in /v1."),
        }
        why = _("It answered {status}: {reason}").format(
            status=response.status, reason=said or response.reason
        )
        return self._broken(why, ways.get(response.status, ""))

    def _connection(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=PATIENCE)
        return http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE)

    def _broken(self, why: str, way: str = "") -> EndpointFailure:
        return EndpointFailure(
            _("The endpoint {address} did not answer.").format(address=self.address), why, way
        )


def _reason(error: Exception) -> str:
    """Say in words why a connection failed."""
    if isinstance(error, TimeoutError):
        return _("Nothing came for {seconds:.0f} seconds.").format(seconds=PATIENCE)
    if isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
        return _("The connection was closed in the middle of an answer.")
    return getattr(error, "strerror", None) or str(error)
