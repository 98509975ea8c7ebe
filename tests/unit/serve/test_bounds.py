"""Floods, and those who keep a connection and say nothing."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import ExitStack, closing, suppress

import pytest

from entrypoint.serve.limits import BODY
from tests.served import Serve, Served, until

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def connect(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=20)


def flood(peer: socket.socket, chunk: bytes, most: int) -> int:
    """Send until the other side has enough; return how many bytes went."""
    sent = 0
    with suppress(OSError):  # hung up, which the caller sees by how little went
        while sent < most:
            sent += peer.send(chunk)
    return sent


def test_a_head_without_an_end_is_cut_off(served: Served) -> None:
    with closing(connect(served)) as peer:
        peer.sendall(HEAD)
        assert flood(peer, b"X-Flood: " + b"x" * 8000 + b"\r\n", 64 << 20) < 32 << 20
    assert served.chat("hi")[0] == 200


def test_one_header_without_an_end_is_cut_off(served: Served) -> None:
    with closing(connect(served)) as peer:
        peer.sendall(HEAD + b"X-Flood: ")
        assert flood(peer, b"x" * 8000, 64 << 20) < 32 << 20
    assert served.chat("hi")[0] == 200


@pytest.mark.parametrize("announced", [True, False])
def test_too_long_a_body_is_told_and_a_flood_cut_off(served: Served, announced: bool) -> None:
    chunk = b"x" * 65536
    length = b"Content-Length: %d\r\n" % (BODY + len(chunk))
    how = length if announced else b"Transfer-Encoding: chunked\r\n"
    with closing(connect(served)) as peer:
        peer.sendall(HEAD + how + b"\r\n")
        for _part in range(BODY // len(chunk) + 1):
            peer.sendall(chunk if announced else b"10000\r\n" + chunk + b"\r\n")
        if not announced:
            peer.sendall(b"0\r\n\r\n")
        answer = b""
        while b"too_long" not in answer and (more := peer.recv(65536)):
            answer += more
    assert b"413" in answer.split(b"\r\n")[0]
    assert b"too_long" in answer
    with closing(connect(served)) as peer:
        peer.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = flood(peer, b"10000\r\n" + chunk + b"\r\n", 20 * BODY)
        assert sent < 20 * BODY
    assert served.chat("hi")[0] == 200


def test_who_announces_too_much_is_told_before_sending_it(served: Served) -> None:
    with closing(connect(served)) as peer:
        peer.sendall(HEAD + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
        assert b"413" in peer.recv(65536).split(b"\r\n")[0]


def test_what_is_not_http_is_told_and_cut_off(served: Served) -> None:
    with closing(connect(served)) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert b"400" in peer.recv(65536)
    assert served.chat("hi")[0] == 200


def test_a_request_that_comes_too_slowly_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.serve.server.PATIENCE", 0.3)
    monkeypatch.setattr("entrypoint.serve.app.PATIENCE", 0.3)
    served = serve()
    with closing(connect(served)) as silent, closing(connect(served)) as half:
        half.sendall(HEAD)
        assert silent.recv(1) == b""
        assert half.recv(1) == b""
    with closing(connect(served)) as body:
        body.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        assert b"408" in body.recv(65536).split(b"\r\n")[0]


def test_who_takes_nothing_of_an_answer_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.serve.server.STALL", 0.5)
    served = serve()
    words = "x" * (BODY // 2)
    body = json.dumps({"messages": [{"role": "user", "content": words}]}).encode()
    with closing(socket.socket()) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", served.port))
        until(lambda: bool(served.server.server_state.connections))
        (connection,) = served.server.server_state.connections
        ours = connection.transport.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # else it takes the whole answer
        peer.sendall(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        until(lambda: bool(served.engine.asked))
        until(lambda: not served.server.server_state.connections)
    assert served.chat("hi")[0] == 200


def test_a_thousand_who_say_nothing_do_not_keep_others_out(served: Served) -> None:
    threads = threading.active_count()
    with ExitStack() as stack:
        for _number in range(1000):
            stack.enter_context(closing(connect(served)))
        assert served.chat("hi")[0] == 200
        assert threading.active_count() <= threads + 4
    until(lambda: not served.server.server_state.connections)


def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(served: Served) -> None:
    body = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with closing(connect(served)) as peer:
        peer.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error_of_ours(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    log = ""
    with closing(connect(served)) as peer:
        peer.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")

    def told() -> bool:
        nonlocal log
        log += capfd.readouterr().err
        return '"status"' in log

    until(told)
    assert '"status":499' in log
    assert "Traceback" not in log
    assert served.chat("hi")[0] == 200


@pytest.mark.parametrize("depth", [1000, 2500, 100_000])
def test_a_deep_schema_is_refused(served: Served, depth: int) -> None:
    schema = b'{"a":' * depth + b"1" + b"}" * depth
    form = b'{"type":"json_schema","json_schema":{"name":"a","schema":%b}}' % schema
    body = b'{"messages":[{"role":"user","content":"hi"}],"response_format":%b}' % form
    status, _headers, content = served.ask("POST", "/v1/chat/completions", body)
    assert status == 400, content


def test_a_media_type_is_compared_without_case(served: Served) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    kind = {"Content_Type": "Application/JSON; charset=UTF-8"}
    assert served.ask("POST", "/v1/chat/completions", asked, **kind)[0] == 200


def test_deep_json_is_refused(served: Served) -> None:
    status, _headers, content = served.ask("POST", "/v1/chat/completions", b"[" * 100_000)
    assert (status, json.loads(content)["error"]["code"]) == (400, "invalid_value")


@pytest.mark.parametrize(
    ("encoding", "offset", "value"), [("gbk", 43, "0xc4"), ("utf-16", 0, "0xff")]
)
def test_a_body_that_is_not_utf_8_is_told_with_its_first_wrong_byte(
    served: Served, encoding: str, offset: int, value: str
) -> None:
    body = '{"messages": [{"role": "user", "content": "你好"}]}'.encode(encoding)
    status, _headers, content = served.ask("POST", "/v1/chat/completions", body)
    error = json.loads(content)["error"]
    assert (status, error["code"]) == (400, "invalid_value")
    assert error["message"] == (
        f"The body is not UTF-8: byte {offset}, counted from 0, is {value}."
    )
