"""Who is answered when, and what stops an answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from entrypoint.common.errors import DamagedModel
from tests.served import Serve, Served, until

LONG = " ".join(["word"] * 5000)


def stream(served: Served, text: str = LONG, *, stream: bool = True) -> socket.socket:
    """Ask, and return the socket that the answer comes over."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": stream})
    peer = socket.create_connection(("127.0.0.1", served.port))
    peer.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
    )
    return peer


def test_beyond_the_queue_a_request_is_told_when_to_come_again(serve: Serve) -> None:
    served = serve(parallel=1, queue=1, halted=True)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.chat, "first")
        until(lambda: len(served.engine.asked) == 1)
        second = pool.submit(served.chat, "second")
        until(lambda: b'llmdeploy_queue{model="polly"} 1.0' in served.ask("GET", "/metrics")[2])
        status, headers, answer = served.chat("third")
        assert (status, answer["error"]["code"]) == (429, "queue_full")
        assert answer["error"]["type"] == "rate_limit_error"
        assert int(headers["retry-after"]) >= 1
        served.engine.go.set()
        assert [each.result()[0] for each in (first, second)] == [200, 200]


def test_as_many_are_answered_at_once_as_there_are_places_and_the_rest_in_order(
    serve: Serve,
) -> None:
    served = serve(parallel=2, halted=True)
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for number in range(4):
            answers.append(pool.submit(served.chat, f"{number}"))
            time.sleep(0.05)
        assert len(served.engine.asked) == 2
        served.engine.go.set()
        texts = [each.result()[2]["choices"][0]["message"]["content"] for each in answers]
    assert texts == ["0", "1", "2", "3"]
    order = [prompt[0]["content"] for prompt, _options in served.engine.asked]  # type: ignore[index]
    assert sorted(order[:2]) == ["0", "1"]


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_goes_away_stops_its_answer_even_before_the_first_piece(
    serve: Serve, whole: bool
) -> None:
    served = serve(parallel=1, halted=True)
    peer = stream(served, stream=not whole)
    until(lambda: len(served.engine.asked) == 1)
    peer.close()
    until(lambda: served.engine.closed == 1)
    assert served.engine.made == 0
    served.engine.go.set()
    assert served.chat("hi")[0] == 200


def test_a_client_that_goes_away_in_mid_answer_stops_it(serve: Serve) -> None:
    served = serve(parallel=1)
    peer = stream(served, "word " * 100_000)
    peer.recv(1 << 16)
    peer.close()
    until(lambda: served.engine.closed == 1)
    assert served.engine.made < 100_000


@pytest.mark.parametrize("whole", [True, False])
def test_a_client_that_goes_away_while_it_waits_is_never_asked_for(
    serve: Serve, whole: bool
) -> None:
    served = serve(parallel=1, halted=True)
    first = stream(served, "first")
    until(lambda: len(served.engine.asked) == 1)
    second = stream(served, "second")
    until(lambda: b'llmdeploy_queue{model="polly"} 1.0' in served.ask("GET", "/metrics")[2])
    if whole:
        second.shutdown(socket.SHUT_WR)
    second.close()
    until(lambda: b'llmdeploy_queue{model="polly"} 0.0' in served.ask("GET", "/metrics")[2])
    served.engine.go.set()
    with closing(first):
        assert any(b"[DONE]" in part for part in iter(lambda: first.recv(1 << 16), b""))
    assert len(served.engine.asked) == 1


def test_an_answer_that_takes_too_long_is_ended_and_its_place_given_on(serve: Serve) -> None:
    served = serve(parallel=1, timeout=1, halted=True)
    status, headers, answer = served.chat("hi there")
    assert (status, answer["error"]["code"]) == (504, "timeout")
    assert headers["x-should-retry"] == "false", "the client would only ask again"
    served.engine.go.set()
    until(lambda: served.engine.closed == 1)
    assert served.chat("hi")[0] == 200


def test_a_slow_reader_does_not_hold_a_place(serve: Serve) -> None:
    served = serve(parallel=1)
    peer = stream(served)
    with closing(peer):
        assert served.chat("hi")[0] == 200


def test_a_server_that_leaves_ends_what_runs_and_takes_nothing_new(serve: Serve) -> None:
    served = serve(parallel=1, halted=True)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.chat, "last words")
        until(lambda: len(served.engine.asked) == 1)
        served.server.should_exit = True

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", served.port)).close()
            except ConnectionRefusedError:
                return True
            return False

        until(refused)
        served.engine.go.set()
        status, _headers, answer = running.result()
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "last words")
    until(lambda: served.engine.dead)


def test_a_server_that_leaves_does_not_wait_for_ever(serve: Serve) -> None:
    served = serve(parallel=1, drain=0, halted=True)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(served.chat, "hi there")
        until(lambda: len(served.engine.asked) == 1)
        served.server.should_exit = True
        status, _headers, answer = running.result()
    assert (status, answer["error"]["code"]) == (503, "shutting_down")


def test_an_engine_that_dies_is_loaded_again_and_those_who_wait_are_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.serve.service.PULSE", 0.01)
    served = serve(parallel=1)
    served.engine.dead = True
    until(lambda: len(served.engines) == 2)
    until(lambda: served.ask("GET", "/ready")[0] == 200)
    assert served.chat("hi")[0] == 200
    assert len(served.engines[1].asked) == 1


# The server's thread ends with the failure, which is the program's exit code.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_of_damaged_weights_no_answer_counts_and_the_server_ends(serve: Serve) -> None:
    served = serve()
    served.engine.mishap = DamagedModel("model.gguf is damaged.")
    status, _headers, answer = served.chat("hello")
    assert status == 503
    assert "choices" not in answer
    until(lambda: served.server.should_exit)


def test_wall_clock_jumps_are_not_seen(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    served = serve(timeout=5)
    monkeypatch.setattr(time, "time", lambda: now + 86_400 * 365)
    assert served.chat("hi")[0] == 200
    monkeypatch.setattr(time, "time", lambda: now - 86_400 * 365)
    assert served.chat("hi")[0] == 200


def test_answers_of_many_at_once_are_never_mixed(serve: Serve) -> None:
    before = threading.active_count()
    served = serve(parallel=8, queue=100)
    texts = [" ".join([f"{number}"] * 50) for number in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(served.chat, texts))
    assert [each[2]["choices"][0]["message"]["content"] for each in answers] == texts
    assert threading.active_count() < before + 40


def test_a_dead_engine_is_not_ready_before_anybody_has_looked_after_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.serve.service.PULSE", 60)
    served = serve()
    assert served.ask("GET", "/ready")[0] == 200
    served.engine.dead = True
    assert served.ask("GET", "/ready")[0] == 503
