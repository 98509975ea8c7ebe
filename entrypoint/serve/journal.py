"""The log: one JSON object a line on standard error, without keys, prompts or answers."""

from __future__ import annotations

import logging
import secrets
import sys
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from entrypoint.serve import metrics

PROBES = ("health", "ready", "metrics")  # asked all the time, and told of when they fail only

# Nothing from elsewhere runs in our pages, and no page elsewhere shows ours.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def write(event: str, level: str = "info", **facts: Any) -> None:
    """Write one line; `facts` must not have in them what a client typed."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    line = msgspec.json.encode({"time": stamp, "level": level, "event": event, **facts})
    with suppress(OSError):  # where the disk it goes to is full, answering matters more
        print(line.decode(), file=sys.stderr, flush=True)


def note(scope: Scope, **facts: Any) -> None:
    """Keep facts of a request for its line in the log, and for the metrics."""
    scope["state"]["facts"] |= facts


class Handler(logging.Handler):
    """Sends what libraries log the same way."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record as one line."""
        error = repr(record.exc_info[1]) if record.exc_info else None
        facts = {"error": error} if error else {}
        write(record.getMessage(), record.levelname.lower(), logger=record.name, **facts)


class Journal:
    """Wraps the application: gives each request an id, and tells the log and the metrics of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, identity = time.monotonic(), secrets.token_hex(8)
        facts: dict[str, Any] = {}
        scope.setdefault("state", {})["facts"] = facts
        status = 499  # nginx's word for a client that left before there was an answer
        unread = _has_body(scope)

        async def hear() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", identity.encode()), *GUARDS]
                if unread:  # the rest of the body would be taken for the next request
                    headers.append((b"connection", b"close"))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, hear, tell)
        finally:
            seconds = time.monotonic() - begun
            # Not the path, which could have anything in it.
            endpoint = getattr(scope.get("endpoint"), "__name__", "other")
            model = facts.get("model", "")
            metrics.requests.labels(endpoint, status, model).inc()
            metrics.duration.labels(endpoint, model).observe(seconds)
            if "error" in facts:
                metrics.errors.labels(facts["error"], model).inc()
            if status != HTTPStatus.OK or endpoint not in PROBES:
                write(
                    "request",
                    id=identity,
                    method=scope["method"],
                    endpoint=endpoint,
                    status=status,
                    seconds=round(seconds, 3),
                    **facts,
                )


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
