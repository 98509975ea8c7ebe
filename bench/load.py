#!/usr/bin/env python3
"""Clients of a server with OpenAI's API, cheap enough to leave the processor to it.

One thread and raw sockets: whatever a client costs would be measured as the server's.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

END = b"\r\n0\r\n\r\n"  # of a chunked body
PIECE = b'"content":"'


@dataclass
class Exchange:
    """One request and what came back.

    `status_due` and `due` are the status and the text that it must get, None for any text.
    `patience` is how many bytes the client takes before it hangs up, None for all. `first` is in
    seconds from the request to the first piece of the answer, `ended` on the monotonic clock.
    """

    body: dict[str, Any] | bytes
    patience: int | None = None
    status_due: int = 200
    due: str | None = None
    begun: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    seen: bytes = b""

    @property
    def status(self) -> int:
        """The status, 0 for a connection that ended without one."""
        words = self.seen[:20].split()
        return int(words[1]) if len(words) > 1 else 0

    def overlaps(self, begun: float, ended: float) -> bool:
        """Tell whether it was under way in a span of time."""
        return begun <= self.ended and self.begun <= ended

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was streamed."""
        lines = self.seen.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(
            choice["delta"].get("content") or ""
            for event in self.events
            for choice in event.get("choices", ())
        )

    @property
    def tokens(self) -> int:
        """The length of the answer, as the server counts it."""
        return int(self.events[-1]["usage"]["completion_tokens"])


def chat(model: str, text: str, tokens: int, **more: Any) -> dict[str, Any]:
    """Return the body of a request for a streamed answer."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **more,
    }


def run(port: int, clients: int, exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """Let `clients` ask at once, each its next question when one is answered; yield the ended."""
    left = iter(exchanges)
    with selectors.DefaultSelector() as selector:
        for _client in range(clients):
            _ask(selector, port, left)
        while selector.get_map():
            for key, _events in selector.select():
                peer, exchange = key.fileobj, key.data
                if not _read(peer, exchange):
                    continue
                selector.unregister(peer)
                peer.close()
                exchange.ended = time.monotonic()
                yield exchange
                _ask(selector, port, left)


def _ask(selector: selectors.BaseSelector, port: int, left: Iterator[Exchange]) -> None:
    exchange = next(left, None)
    if exchange is None:
        return
    body = exchange.body if isinstance(exchange.body, bytes) else json.dumps(exchange.body).encode()
    peer = socket.create_connection(("127.0.0.1", port))
    exchange.begun = time.monotonic()
    peer.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    selector.register(peer, selectors.EVENT_READ, exchange)


def _read(peer: socket.socket, exchange: Exchange) -> bool:
    """Take what came; return whether that was all, or all that this client wants."""
    try:
        data = peer.recv(1 << 16)
    except ConnectionResetError:
        data = b""
    exchange.seen += data
    # The first event of ours has an empty piece, which llama.cpp's has as null.
    if not exchange.first and PIECE in data.replace(b'"content":""', b""):
        exchange.first = time.monotonic() - exchange.begun
    enough = exchange.patience is not None and len(exchange.seen) >= exchange.patience
    return enough or not data or exchange.seen.endswith(END)
