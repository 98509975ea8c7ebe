"""A model that somebody else serves: a real server on the loopback that says what it is told to."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of `script`: a status and a body, whole or in parts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, bytes | Iterable[bytes]]] = []
        self.asked: list[dict[str, Any]] = []
        self.hang = threading.Event()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(http.server.BaseHTTPRequestHandler):
    """Speaks for the server."""

    server: Server

    def do_POST(self) -> None:
        """Answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
        status, content = self.server.script.pop(0)
        if not status:  # drops the connection without a word
            return
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.end_headers()
        with suppress(OSError):  # who has heard enough hangs up
            for part in [content] if isinstance(content, bytes) else content:
                self.wfile.write(part)
        if isinstance(content, bytes) and content.endswith(b"hang\n\n"):
            self.server.hang.wait(20)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    """Yield a server that runs."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hang.set()
        server.shutdown()
        thread.join()


def piece(text: object, reason: str | None = None) -> bytes:
    """Return a line of an answer."""
    choice = {"delta": {"content": text} if text else {}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
