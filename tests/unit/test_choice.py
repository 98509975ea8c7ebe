"""Which model a machine is told to take."""

from pathlib import Path

import pytest

from builder.models import choice, intents


def names(bandwidth: float, memory: int) -> list[str]:
    found = choice.candidates(intents.load(), bandwidth)
    return [each.intent.name for each in choice.fitting(found, memory)]


def test_memory_and_bandwidth_decide() -> None:
    large, small = names(60e9, 32 << 30), names(12e9, 2 << 30)
    assert large[0] == "qwen3.6-35b-a3b", "of its weights a token reads few"
    assert "qwen3-8b" in large
    assert small[0] == "qwen2.5-coder-1.5b"


def test_what_answers_slower_than_people_read_is_left_out() -> None:
    assert "qwen3-8b" not in names(12e9, 32 << 30)


def test_an_embedding_model_is_nobody_to_chat_with() -> None:
    assert "qwen3-embedding-0.6b" not in names(60e9, 32 << 30)


def test_nothing_fits_a_machine_without_memory() -> None:
    assert names(60e9, 100 << 20) == []


def test_the_bandwidth_of_this_machine_is_measured() -> None:
    assert 1e8 < choice.bandwidth() < 1e12


@pytest.mark.parametrize("page", ["models.md", "models.zh.md"])
def test_the_table_of_the_docs_has_every_locked_model(page: str) -> None:
    text = Path("docs", page).read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in intents.locked())
