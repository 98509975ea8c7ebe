"""Control words in what is said, and how they are broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.engines import Message
from entrypoint.engines.controls import Controls
from entrypoint.engines.vocabulary import control_words
from tests.conversations import ask
from tests.unit.test_gguf import PAIRS, kind, number, text, whole

WORDS = ("<|im_start|>", "<|im_end|>", "[INST]", "<s>", "ab", "bc", "<think>", "[TOOL_CALLS]")


def pieces(controls: Controls, said: str) -> list[str]:
    (message,) = controls.broken(ask(said))
    return controls.pieces(message["content"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a <|im_start|> b", ["a <", "|im_start|> b"]),
        ("<s><s>", ["<", "s><", "s>"]),
        ("<|im_<|im_start|>start|>", ["<|im_<", "|im_start|>start|>"]),
        ("abc", ["a", "b", "c"]),
        ("[INST", ["[INST"]),
        ("a < b", ["a < b"]),
        ("", [""]),
    ],
)
def test_each_control_word_is_broken_even_within_another(said: str, expected: list[str]) -> None:
    assert pieces(Controls(WORDS), said) == expected


@given(st.lists(st.sampled_from([*WORDS[:-2], "<", "|", "im_start|>", "a", "b", "c"])))
def test_no_piece_has_a_control_word_and_no_character_is_lost(parts: list[str]) -> None:
    said = "".join(parts)
    found = pieces(Controls(WORDS), said)
    assert "".join(found) == said
    assert not [word for word in WORDS[:-2] for piece in found if word in piece]


def test_an_assistant_keeps_the_tags_of_its_answers_and_a_user_does_not() -> None:
    said = "<think>Hm</think>[TOOL_CALLS]"
    turn: Message = {"role": "assistant", "content": said, "reasoning_content": "<s>"}
    controls = Controls(WORDS)
    (broken,) = controls.broken([turn])
    assert broken["content"] == said
    assert controls.pieces(broken["reasoning_content"]) == ["<", "s>"]
    assert pieces(controls, said) == ["<", "think>Hm</think>[", "TOOL_CALLS]"]


def test_ordinary_messages_stay_the_same() -> None:
    said = ask("Why?", "Is 1 < 2?", "Yes, [really].")
    assert Controls(WORDS).broken(said) == said
    assert Controls([]).broken(said) == said


def test_a_file_tells_its_control_words_by_their_types(tmp_path: Path) -> None:
    words = ["a", "<unk>", "<|end|>", "<think>", "<｜User｜>", "\n\n", "<0x0A>"]
    types = [1, 2, 3, 4, 4, 4, 6]
    pairs = {
        **PAIRS,
        "tokenizer.ggml.tokens": kind(9) + kind(8) + number(7) + b"".join(map(text, words)),
        "tokenizer.ggml.token_type": kind(9) + kind(5) + number(7) + b"".join(map(kind, types)),
    }
    path = tmp_path / "model.gguf"
    path.write_bytes(whole(pairs=pairs))
    assert control_words(path) == ["<unk>", "<|end|>", "<｜User｜>"]
    path.write_bytes(whole())
    assert control_words(path) == []
