"""Calls are found however a model writes them and wherever pieces are cut; the rest stays text."""

from __future__ import annotations

import pytest

from entrypoint.serve.speech import FunctionCall, Speech, Words

CALL = '{"name": "add", "arguments": {"a": 1}}'
ONE = [("add", '{"a": 1}')]
TEXTS = [
    (CALL, "", ONE),
    (f"<tool_call>\n{CALL}\n</tool_call>", "", ONE),
    (f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>", "", ONE * 2),
    (f"[TOOL_CALLS][{CALL}, {CALL}]", "", ONE * 2),
    (f"```json\n{CALL}\n```", "", ONE),
    ('<|python_tag|>{"name": "add", "parameters": {"a": 1}}', "", ONE),
    ('{"type": "function", "function": {"name": "add", "arguments": "{\\"a\\": 1}"}}', "", ONE),
    (f"I will add. <tool_call>{CALL}</tool_call>", "I will add. ", ONE),
    (f"{CALL}\nThat is it.", "That is it.", ONE),
    ("A < b, and <tool is no mark", "A < b, and <tool is no mark", []),
    ('{"name": "nobody", "arguments": {}}', '{"name": "nobody", "arguments": {}}', []),
    ('{"a": 1}', '{"a": 1}', []),
    ("```python\nprint(1)\n```", "```python\nprint(1)\n```", []),
    ("<tool_call>{", "<tool_call>{", []),
    ("[" * 5000, "[" * 5000, []),
    ("[]", "[]", []),
    ("", "", []),
]


@pytest.mark.parametrize(("text", "words", "calls"), TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_calls_are_told_from_words(
    text: str, words: str, calls: list[tuple[str, str]], size: int
) -> None:
    speech = Speech(["add"])
    parts = [part for at in range(0, len(text), size) for part in speech.feed(text[at : at + size])]
    parts += speech.end()
    assert "".join(part.text for part in parts if isinstance(part, Words)) == words
    assert [
        (each.name, each.arguments) for each in parts if isinstance(each, FunctionCall)
    ] == calls


def test_without_functions_every_text_is_an_answer() -> None:
    speech = Speech()
    assert list(speech.feed(CALL)) == [Words(CALL)]
    assert list(speech.end()) == []


def test_no_more_calls_than_wanted() -> None:
    speech = Speech(["add"], most=1)
    parts = [*speech.feed(f"[{CALL}, {CALL}]"), *speech.end()]
    assert [(each.name, each.arguments) for each in parts if isinstance(each, FunctionCall)] == ONE
