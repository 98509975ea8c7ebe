"""The engine `endpoint` with a real server on the loopback, which says what a test makes it say."""

import itertools
import json
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from entrypoint.common.errors import (
    BrokenAnswer,
    EndpointFailure,
    MessageTooLong,
    NotSupported,
    UsageFailure,
)
from entrypoint.engines import Message, Options, Usage
from entrypoint.engines import endpoint as module
from entrypoint.engines.endpoint import Endpoint
from entrypoint.serve.keys import Keys
from tests import endpoints
from tests.certificates import certify
from tests.endpoints import Server, piece
from tests.served import serving

HELLO: list[Message] = [{"role": "user", "content": "你好"}]
BEGUN = b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.delenv(module.KEY, raising=False)
    with endpoints.serving() as running:
        yield running


WHOLE = (200, BEGUN + piece("你好") + piece("！") + piece("", "stop") + USAGE + DONE)


def answer(server: Server, **settings: Any) -> tuple[str, Usage]:
    options = Options(**settings)
    *texts, usage = Endpoint(server.address + "/", "their-model").stream(HELLO, options)
    assert isinstance(usage, Usage)
    return "".join(map(str, texts)), usage


def test_an_answer_is_pieces_and_then_its_usage(server: Server) -> None:
    server.script = [WHOLE]
    text, usage = answer(server, temperature=0, seed=7, max_tokens=5, stop=("\n",))
    assert text == "你好！"
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (9, 0, 5)
    assert usage.finish_reason == "stop"
    assert usage.first_token > 0
    assert server.asked == [
        {
            "path": "/v1/chat/completions",
            "key": None,
            "model": "their-model",
            "messages": HELLO,
            "temperature": 0,
            "top_p": 0.9,
            "max_tokens": 5,
            "seed": 7,
            "stop": ["\n"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_the_key_comes_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.KEY, "sesame")
    server.script = [WHOLE]
    answer(server)
    assert server.asked[0]["key"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("days", "remedy"),
    [(0, "Name a file of certificates to trust: SSL_CERT_FILE"), (365, "This machine's clock")],
)
def test_a_certificate_that_is_not_believed_says_what_helps(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, remedy: str
) -> None:
    certificate = certify(tmp_path / "own.pem", days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    if days:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    secure = server.address.replace("http:", "https:")
    with pytest.raises(EndpointFailure) as caught:
        list(Endpoint(secure, "their-model").stream(HELLO, Options()))
    assert caught.value.next.startswith(remedy)


def test_a_server_that_counts_no_tokens_is_counted_by_pieces(server: Server) -> None:
    server.script = [(200, BEGUN + piece("你好") + piece("！", "length"))]
    _text, usage = answer(server)
    assert (usage.completion_tokens, usage.finish_reason) == (2, "length")


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_busy_server_is_asked_again(server: Server, status: int) -> None:
    server.script = [(status, b""), (status, b"{}"), WHOLE]
    assert answer(server)[0] == "你好！"
    assert len(server.asked) == 3


def test_after_a_few_tries_it_is_told(server: Server) -> None:
    server.script = [(503, b'{"error": {"message": "no GPU left"}}')] * 9
    with pytest.raises(EndpointFailure, match="did not answer") as caught:
        answer(server)
    assert caught.value.why == "It answered 503: no GPU left"
    assert len(server.asked) == module.TRIES
    assert caught.value.code == 24


@pytest.mark.parametrize(
    ("status", "told"),
    [(401, "LLMDEPLOY_API_KEY"), (403, "LLMDEPLOY_API_KEY"), (404, "/v1"), (400, "temperature?")],
)
def test_a_refusal_is_told_at_once(server: Server, status: int, told: str) -> None:
    server.script = [(status, b'{"error": "temperature?"}')]
    with pytest.raises(EndpointFailure) as caught:
        answer(server)
    assert told in str(caught.value)
    assert len(server.asked) == 1


def test_a_conversation_longer_than_the_context_is_told_as_such(server: Server) -> None:
    error = {"message": "9000 tokens are too many", "code": "context_length_exceeded"}
    server.script = [(400, json.dumps({"error": error}).encode())]
    with pytest.raises(MessageTooLong, match="9000 tokens"):
        answer(server)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (BEGUN + piece("你"), "closed in the middle"),
        (BEGUN + piece("你") + b'data: {"choices": [{"del', "does not follow OpenAI's API"),
        (b"data: nonsense\n\n", "does not follow OpenAI's API"),
        (b"data: [1]\n\n", "does not follow OpenAI's API"),
        (b"<html>Welcome</html>", "closed in the middle"),
        (b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
    ],
)
def test_an_answer_that_breaks_off_is_told_and_not_asked_again(
    server: Server, body: bytes, why: str
) -> None:
    server.script = [(200, body)]
    with pytest.raises(EndpointFailure) as caught:
        answer(server)
    assert why in caught.value.why
    assert server.address in caught.value.what
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (piece("bad \ud800 surrogate"), "does not follow OpenAI's API"),
        (piece({"text": "an object"}), "does not follow OpenAI's API"),
        (b'data: {"choices": 5}\n\n', "does not follow OpenAI's API"),
        (b'data: {"choices": [{"delta": "text"}]}\n\n', "does not follow OpenAI's API"),
        (b'data: {"usage": {"completion_tokens": -1}}\n\n', "does not follow OpenAI's API"),
        (b'data: {"error": ' + b"[" * 200_000 + b"\n\n", "does not follow OpenAI's API"),
        (b"data: " + b"[" * 200_000 + b"\n\n", "does not follow OpenAI's API"),
        (b'data: {"error": "\xff"}\n\n', "does not follow OpenAI's API"),
        (b'data: {"error": "' + b"no " * 10_000 + b'"}\n\n', "no " * 100),
        # Endless: a line, pieces, and lines that say nothing.
        (itertools.repeat(b"x" * 60_000), "does not stop"),
        (itertools.repeat(piece("x" * 60_000)), "does not stop"),
        (itertools.repeat(b": nothing yet" * 5000 + b"\n"), "does not stop"),
    ],
)
def test_a_hostile_answer_is_broken_off_and_takes_little_memory(
    server: Server, body: bytes | Iterable[bytes], why: str
) -> None:
    server.script = [(200, body)]
    tracemalloc.start()
    with pytest.raises(BrokenAnswer) as caught:
        answer(server)
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert why in caught.value.why
    assert len(caught.value.why) <= module.REASON
    assert caught.value.code == 24
    assert most < 16 << 20


def test_a_hostile_refusal_is_told_in_short(server: Server) -> None:
    server.script = [(400, b'{"error": ' + b"[" * 60_000)]
    with pytest.raises(EndpointFailure, match="It answered 400: Bad Request"):
        answer(server)
    server.script = [(400, b'{"error": "' + b"no " * 10_000 + b'"}')]
    with pytest.raises(EndpointFailure, match=r"It answered 400: (no )+no") as caught:
        answer(server)
    assert len(caught.value.why) < module.REASON + 20


def test_a_server_that_falls_silent_is_not_waited_for_forever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    server.script = [(200, BEGUN + piece("hang") + b": hang\n\n")]
    with pytest.raises(BrokenAnswer, match="broke off an answer") as caught:
        answer(server)
    assert "No data arrived for" in caught.value.why


def test_closing_it_breaks_off_what_is_being_answered(server: Server) -> None:
    server.script = [(200, BEGUN + piece("hang") + b": hang\n\n")]
    engine = Endpoint(server.address, "m")
    stream = engine.stream(HELLO, Options())
    assert next(stream) == "hang"
    assert engine.alive()
    threading.Timer(0.1, engine.close).start()
    with pytest.raises(EndpointFailure):
        next(stream)
    assert not engine.alive()
    engine.close()


def test_an_answer_that_hangs_can_be_hung_up(server: Server) -> None:
    server.script = [(200, BEGUN + piece("hang") + b": hang\n\n")]
    stream = Endpoint(server.address, "m").stream(HELLO, Options())
    assert next(stream) == "hang"
    threading.Timer(0.1, stream.hang_up).start()
    assert list(stream) == []
    assert len(server.asked) == 1


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITS", (0, 0, 0))
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(EndpointFailure, match=address) as caught:
        list(Endpoint(address, "m").stream(HELLO, Options()))
    assert caught.value.why == "Connection refused"


@pytest.mark.parametrize(
    "address",
    [
        *("host:8000", "ftp://host/", "http://", "http://h:port/v1", "", "file:///tmp"),
        *("http://[::1", "http://[::g]/v1", "http://ho st/v1", "http://a..b/v1", "http://h:0/v1"),
        *(f"http://{'l' * 70}.com/v1", "http://host/v1\n", "http://h:99999/v1", "http://:80/v1"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageFailure, match="is not the address of an endpoint"):
        Endpoint(address, "m")


def test_an_address_may_have_a_path_in_any_language(server: Server) -> None:
    server.script = [WHOLE]
    address = server.address.replace("/v1", "/模型/a%20b/v1")
    assert list(Endpoint(address, "m").stream(HELLO, Options()))
    assert server.asked[0]["path"] == f"/{quote('模型')}/a%20b/v1/chat/completions"


def test_what_changes_nothing_is_not_refused_but_a_wish_that_cannot_be_kept_is(
    server: Server,
) -> None:
    server.script = [WHOLE]
    assert answer(server, top_k=0, min_p=0.0, repeat_penalty=1.0)[0] == "你好！"
    assert not {"top_k", "min_p", "repeat_penalty"} & server.asked[0].keys()
    with pytest.raises(NotSupported, match="does not follow: top_k, repeat_penalty"):
        answer(server, top_k=20, repeat_penalty=1.1)


def test_what_the_api_cannot_do_is_said() -> None:
    engine = Endpoint("https://host/v1", "m")
    with pytest.raises(NotSupported):
        list(engine.stream("a raw text", Options()))
    with pytest.raises(NotSupported):
        engine.count_tokens(HELLO)


def test_our_own_service_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.KEY, "sesame")
    with serving(keys=Keys("sesame", None)) as served:
        engine = Endpoint(f"http://127.0.0.1:{served.port}/v1", "polly")
        *texts, usage = engine.stream(
            [{"role": "user", "content": "say it"}], Options(max_tokens=9)
        )
    assert "".join(map(str, texts)) == "say it"
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (10, 4, 2)
    assert usage.finish_reason == "length"
