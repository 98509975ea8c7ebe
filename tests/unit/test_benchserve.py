from collections.abc import Sequence
from typing import Any

from builder.bench import engines, serve

CALM = {
    "right": 900, "wrong": 0, "aborted": 180, "hostile": 240, "refused": 0,
    "interrupted": 30, "unanswered": 0, "blows": [["SIGSTOP", 6.5], ["SIGKILL", 4.5]],
    "seconds": 600.0, "settled": 700.0, "memory": 705.0,
}  # fmt: skip


def server(rate: float, token: float) -> dict[str, Sequence[float]]:
    figures = {
        f"{figure}-{clients}": [value] * 3
        for clients in serve.LEVELS
        for figure, value in (
            ("rate", rate), ("requests", 1.0), ("first", 0.1), ("first99", 0.2), ("token", token),
        )
    }  # fmt: skip
    return {**figures, "memory": [600.0]}


def found(*, rate: float = 100, token: float = 10, **busy: float) -> dict[str, Any]:
    servers = {"llmdeploy": server(rate, token), engines.NATIVE: server(100, 10)}
    return {"servers": servers, "soak": {**CALM, **busy}}


def broken(measured: dict[str, Any]) -> list[str]:
    return [each.title for each in serve.promises(measured) if not each.held]


def test_a_server_as_fast_as_llamas_own_holds_every_promise() -> None:
    assert broken(found(rate=95, token=11)) == []


def test_a_slower_one_breaks_a_promise_at_each_level() -> None:
    assert len(broken(found(rate=94))) == len(serve.LEVELS)


def test_a_millisecond_more_for_each_token_is_told() -> None:
    (title,) = broken(found(token=11.1))
    assert "latency" in title


def test_memory_that_grows_and_answers_that_are_wrong_are_told() -> None:
    assert len(broken(found(memory=740.0))) == 1
    assert len(broken(found(wrong=1))) == 1
    assert len(broken(found(refused=1))) == 1
    assert len(broken(found(unanswered=1))) == 1


def test_an_engine_that_stays_away_is_told() -> None:
    away: Any = {"blows": [["SIGSTOP", 6.5], ["SIGKILL", 15.5]]}
    (title,) = broken(found(**away))
    assert "stopped or killed" in title


def test_the_page_has_both_servers_and_the_busy_time() -> None:
    table = serve.table(found(rate=98))
    assert "| 16 at once: tokens/s | 0.98 | 98.0 | 100.0 |" in table
    told = serve.soak(CALM)
    assert "10 minutes with 16 clients: 900 right answers" in told
    assert "SIGSTOP 6.5 s, SIGKILL 4.5 s" in told
