"""Vectors of texts: what llama-server makes of them beside its answers, with the same weights.

For the vector of a text it keeps the likelihoods of a whole vocabulary for each token of a batch,
twice: memory that answers never need, and that is looked for first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from http.client import HTTPResponse
from typing import Any

from entrypoint.common import machine
from entrypoint.common.errors import NotEnoughMemoryLeft
from entrypoint.common.language import _
from entrypoint.engines import Line, Message, Texts, Tokens, Usage
from entrypoint.engines.controls import Controls

BATCH = 512  # tokens that the server computes at once
EACH = 2 * 4  # bytes for a word of the vocabulary and a token of the batch

Send = Callable[..., AbstractContextManager[HTTPResponse]]


class Vectors:
    """Asks the server for the vectors of texts."""

    def __init__(self, controls: Controls, send: Send) -> None:
        self._controls, self._send = controls, send
        self._has_room = False  # a whole batch has been computed

    def of(self, texts: Texts, line: Line) -> Generator[str | Usage, None, None]:
        """Yield the vector of each text, then what they cost; raise NotEnoughMemoryLeft."""
        begun, tokens, first = time.monotonic(), 0, 0.0
        for text in texts:
            self._require_room()
            body = {"input": self._input(text), "encoding_format": "base64"}
            with self._send("POST", "/v1/embeddings", body, line) as response:
                answer = json.load(response)
            count = answer["usage"]["prompt_tokens"]
            self._has_room = self._has_room or count >= BATCH
            tokens += count
            first = first or time.monotonic() - begun
            yield answer["data"][0]["embedding"] + "\n"
        yield Usage(tokens, 0, 0, first, 0.0, "stop")

    def _input(self, text: str | Tokens) -> Any:
        """Return a text as the server reads it: control words in it are text."""
        if isinstance(text, Tokens):
            return list(text)
        (message,) = self._controls.broken([Message(role="user", content=text)])
        return [{"prompt_string": self._controls.pieces(message["content"])}]

    def _require_room(self) -> None:
        if self._has_room:
            return
        with self._send("GET", "/v1/models") as response:
            words = json.load(response)["data"][0]["meta"]["n_vocab"]
        need, available = EACH * BATCH * words, machine.memory().available
        if available is not None and available < need:
            raise NotEnoughMemoryLeft(
                _("The vector of a text needs {need} of memory more.").format(
                    need=machine.size(need)
                ),
                _("Only {available} are free.").format(available=machine.size(available)),
                _("Give the container more, or compute fewer answers at once: --parallel"),
            )
