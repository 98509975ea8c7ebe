"""Bodies that travel compressed: both ways, within the same bounds."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from entrypoint.serve.limits import BODY
from tests.served import Served

CHAT = "/v1/chat/completions"


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode()


@pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip"])
def test_a_compressed_request_is_one_like_any_other(served: Served, name: str) -> None:
    status, _headers, content = served.ask(
        "POST", CHAT, gzip.compress(body("good morning")), Content_Encoding=name
    )
    assert status == 200, content
    assert json.loads(content)["choices"][0]["message"]["content"] == "good morning"


@pytest.mark.parametrize(
    ("sent", "name", "status", "code"),
    [
        (gzip.compress(bytes(BODY + 1)), "gzip", 413, "too_long"),
        (gzip.compress(bytes(1000 * BODY)), "gzip", 413, "too_long"),
        (gzip.compress(body("hi"))[:-1], "gzip", 400, "invalid_value"),
        (gzip.compress(body("hi")) + b"x", "gzip", 400, "invalid_value"),
        (body("hi"), "gzip", 400, "invalid_value"),
        (b"", "gzip", 400, "invalid_value"),
        (body("hi"), "br", 415, "unsupported_media_type"),
        (body("hi"), "gzip, gzip", 415, "unsupported_media_type"),
    ],
    ids=["above", "bomb", "half", "more", "plain", "empty", "br", "twice"],
)
def test_what_cannot_be_unpacked_is_told(
    served: Served, sent: bytes, name: str, status: int, code: str
) -> None:
    got, headers, content = served.ask("POST", CHAT, sent, Content_Encoding=name)
    assert (got, json.loads(content)["error"]["code"]) == (status, code)
    assert headers.get("accept-encoding") == ("gzip" if status == 415 else None)
    assert served.chat("hi")[0] == 200


def test_a_long_answer_is_compressed_for_who_can_read_it(served: Served) -> None:
    asked = body("good " * 200)
    _status, headers, content = served.ask("POST", CHAT, asked, Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    _status, plain_headers, plain = served.ask("POST", CHAT, asked)
    assert "content-encoding" not in plain_headers
    assert json.loads(gzip.decompress(content))["choices"] == json.loads(plain)["choices"]
    assert len(content) < len(plain)


def test_a_stream_is_never_held_back_to_be_compressed(served: Served) -> None:
    asked = body("good " * 200, stream=True)
    _status, headers, content = served.ask("POST", CHAT, asked, Accept_Encoding="gzip")
    assert "content-encoding" not in headers
    assert content.endswith(b"data: [DONE]\n\n")
