"""A thought is told from its answer wherever the pieces are cut, and nothing is lost."""

from __future__ import annotations

import pytest

from entrypoint.engines.thinking import Limit, Splitter, split

TEXTS = [
    ("<think>\nTwo and two.\n</think>\n\nFour.", "Two and two.", "Four."),
    (" \n<think>a < b </ c</think>d", "a < b </ c", "d"),
    ("<think>\n\n</think>\n\nFour.", "", "Four."),
    ("<think>never ends", "never ends", ""),
    ("<think>a</think>", "a", ""),
    ("<think>a</think>write <think>b</think>", "a", "write <think>b</think>"),
    ("<think>a</think>b\n</think>\n\nc </think>", "a", "b\n\n\nc "),
    ("<think>a</think>\n</think>\nFour </b> ", "a", "Four </b> "),
    ("\n</think>\n\nFour.", "", "Four."),
    ("</b>", "", "</b>"),
    ("An answer of <think> and </think>.\n", "", "An answer of <think> and </think>.\n"),
    ("  indented", "", "  indented"),
    ("<thin", "", "<thin"),
    ("<think>a</thin", "a</thin", ""),
    ("", "", ""),
    # As Gemma 4 writes it.
    ("<|channel>thought\nTwo and two.\n<channel|>Four.", "Two and two.", "Four."),
    ("<|channel>thought\n<channel|>Four.", "", "Four."),
    ("<|channel>thought\nof </think><channel", "of </think><channel", ""),
    ("<|channel>final", "", "<|channel>final"),
]


@pytest.mark.parametrize(("text", "thought", "answer"), TEXTS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pieces_of_any_size_give_the_same_parts(
    text: str, thought: str, answer: str, size: int
) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert split(pieces) == (thought, answer)


def test_a_part_is_told_as_soon_as_it_is_certain() -> None:
    splitter = Splitter()
    told = [
        list(splitter.feed(piece)) for piece in ("<think>", "so", " </", "b> ", "</think>", "Yes")
    ]
    assert told == [
        [],
        [("thought", "so")],
        [],
        [("thought", " </b>")],
        [],
        [("answer", "Yes")],
    ]
    assert list(splitter.end()) == []


@pytest.mark.parametrize(
    ("pieces", "opened", "count"),
    [
        (["<think>", "so", "</think>", "a", "b", "c"], "", 5),
        (["so", "</think>", "a", "b", "c"], "<think>", 4),
        (["so", "<channel|>", "a", "b", "c"], "<|channel>thought", 4),
        (["a", "b", "c"], "", 2),
        (["<th", "e", "m", "x"], "", 2),
        (["so", " long", "er"], "<think>", None),
    ],
)
def test_a_limit_counts_the_tokens_of_the_answer_only(
    pieces: list[str], opened: str, count: int | None
) -> None:
    limit = Limit(2, opened=opened)
    told = (number for number, piece in enumerate(pieces, 1) if limit.reached(piece, number))
    assert next(told, None) == count
