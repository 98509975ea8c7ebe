"""What the child of the engine openvino does around the library; the library has its own tests."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from entrypoint.engines import Options
from entrypoint.engines.openvino.server import BLOCK, HALF, Call, Job, Prefixes
from entrypoint.engines.text import cut


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", ("one two", "", False)),
        ("one <", ("one ", "<", False)),
        ("one <end", ("one ", "<end", False)),
        ("one <end> two", ("one ", "", True)),
        ("one < two", ("one < two", "", False)),
        ("STOP", ("", "", True)),
        ("a <end> STOP", ("a ", "", True)),
        ("", ("", "", False)),
    ],
)
def test_nothing_of_a_stop_word_is_shown(text: str, expected: tuple[str, str, bool]) -> None:
    assert cut(text, ("STOP", "<end>")) == expected


def test_the_longest_beginning_of_a_stop_word_is_held_back() -> None:
    assert cut("xaba", ("abac", "ac")) == ("x", "aba", False)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Call]]:
    """Return the asker's end of a call, and the call."""
    asker, connection = socket.socketpair()
    with asker, connection:
        asker.sendall(b"{}\n")
        yield asker, Call(connection)


def shown(asker: socket.socket) -> list[str]:
    asker.settimeout(0.1)
    try:
        return [json.loads(line) for line in asker.recv(1 << 16).splitlines()]
    except TimeoutError:
        return []


def test_half_a_character_waits_for_its_other_half(ends: tuple[socket.socket, Call]) -> None:
    asker, call = ends
    job = Job(call, None, Options())
    job.undecoded = [1]
    job.show("你" + HALF, (), last=False)
    assert shown(asker) == []
    assert job.undecoded == [1]
    job.undecoded += [2]
    job.show("你好", (), last=False)
    assert shown(asker) == ["你好"]
    assert job.undecoded == []


def test_what_was_held_back_is_shown_at_the_end(ends: tuple[socket.socket, Call]) -> None:
    asker, call = ends
    job = Job(call, None, Options(stop=("<end>",)))
    job.show("a <e", (), last=False)
    job.show("n", (), last=False)
    job.show("", (), last=True)
    assert "".join(shown(asker)) == "a <en"
    assert not job.stopped


def test_a_stop_word_in_two_pieces_ends_an_answer(ends: tuple[socket.socket, Call]) -> None:
    asker, call = ends
    job = Job(call, None, Options())
    job.show("a <e", ("<end>",), last=False)
    job.show("nd> b", ("<end>",), last=False)
    assert shown(asker) == ["a "]
    assert job.stopped


def test_one_who_does_not_read_holds_up_nobody_and_misses_nothing(
    ends: tuple[socket.socket, Call],
) -> None:
    asker, call = ends
    for number in range(5000):
        call.reply(str(number))
    assert not call.flush()
    read = b""
    while read.count(b"\n") < 5000:
        read += asker.recv(1 << 16)
        call.flush()
    assert [json.loads(line) for line in read.splitlines()] == [str(n) for n in range(5000)]


def test_a_request_that_was_cut_short_asks_nothing() -> None:
    asker, connection = socket.socketpair()
    with asker, connection:
        asker.sendall(b'{"prompt": "Hi')
        asker.close()
        assert Call(connection).request == {}


def test_a_follow_up_is_computed_from_where_the_last_answer_ended() -> None:
    first = list(range(100))
    prefixes = Prefixes(1000)
    assert prefixes.longest(first) == 0
    prefixes.add(first)
    assert prefixes.longest([*first, 7, 8, 9]) == 100
    assert prefixes.longest([*first[:70], 7, 8, 9]) == 2 * BLOCK
    assert prefixes.longest([7, *first]) == 0


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    prefixes = Prefixes(1000)
    prefixes.add(list(range(64)))
    assert prefixes.longest(list(range(64))) == 63


def test_what_may_have_been_pushed_out_is_not_counted_on() -> None:
    prefixes = Prefixes(4)
    prefixes.add(list(range(64)))
    prefixes.add(list(range(1000, 1096)))
    assert prefixes.longest(list(range(64))) == 0
    assert prefixes.longest(list(range(1000, 1096))) == 95
