"""Turns, context overflow, and the file that keeps a conversation."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from entrypoint import conversation
from entrypoint.common.errors import ConfigFailure, MessageTooLong, NotUtf8, NotWritable
from entrypoint.conversation import Conversation, Turn
from entrypoint.engines import Message


def words(messages: Sequence[Message]) -> int:
    """Count a token for each word: enough to fill a context with."""
    return sum(len(message["content"].split()) for message in messages)


def turns(n: int) -> list[Turn]:
    return [Turn(f"question {i}", f"answer {i}") for i in range(n)]


def test_the_model_sees_the_system_prompt_then_the_turns_then_the_question() -> None:
    talk = Conversation("Be brief.", [Turn("Hi", "Hello")])
    assert talk.messages("Why?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]


def test_without_a_system_prompt_the_model_keeps_its_own() -> None:
    assert Conversation().messages("Why?") == [{"role": "user", "content": "Why?"}]


def test_what_fits_stays() -> None:
    talk = Conversation("Be brief.", turns(2))
    assert talk.fit("a b", words, context=16, answer=4) == 0
    assert len(talk.turns) == 2


def test_the_oldest_turns_go_first_and_the_system_prompt_never() -> None:
    talk = Conversation("Be brief.", turns(3))
    assert talk.fit("a b", words, context=15, answer=4) == 2
    assert talk.turns == turns(3)[2:]
    assert talk.forgotten == turns(3)[:2]
    assert talk.messages("a b")[0]["content"] == "Be brief."


def test_a_question_that_leaves_little_room_is_still_asked() -> None:
    assert Conversation().fit("a " * 9, words, context=10, answer=4) == 0


def test_a_question_as_long_as_the_context_is_refused_and_nothing_forgotten() -> None:
    talk = Conversation(turns=turns(2))
    with pytest.raises(MessageTooLong, match="10 tokens"):
        talk.fit("a " * 10, words, context=10, answer=4)
    assert talk.turns == turns(2)


def test_a_saved_conversation_comes_back_whole(tmp_path: Path) -> None:
    talk = Conversation("简短。", [Turn("你好", "你好！")], [Turn("old", "older")])
    talk.save(tmp_path / "talk.json")
    again = conversation.load(tmp_path / "talk.json")
    assert again == Conversation("简短。", [Turn("old", "older"), Turn("你好", "你好！")])
    assert "你好" in (tmp_path / "talk.json").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"schema": 2, "system": "", "turns": []}',
        '{"schema": 1, "system": ""}',
        '{"schema": 1, "system": 7, "turns": []}',
        '{"schema": 1, "system": "", "turns": [{"question": "a"}]}',
        '{"schema": 1, "system": "", "turns": [{"question": "a", "answer": null}]}',
        '{"schema": 1, "system": "", "turns": ["a"]}',
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigFailure, match=r"talk\.json"):
        conversation.load(path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_bytes(json.dumps({"schema": 1, "turns": "你"}, ensure_ascii=False).encode("gbk"))
    with pytest.raises(NotUtf8, match=r"talk\.json"):
        conversation.load(path)


def test_a_byte_order_mark_is_not_part_of_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    Conversation("Be brief.", turns(1)).save(path)
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert conversation.load(path) == Conversation("Be brief.", turns(1))


@pytest.mark.parametrize("where", ["system", "question", "answer"])
def test_halves_of_characters_are_refused(tmp_path: Path, where: str) -> None:
    path = tmp_path / "talk.json"
    texts = dict.fromkeys(("system", "question", "answer"), "a") | {where: "\ud83d"}
    path.write_text(json.dumps({"schema": 1, "system": texts.pop("system"), "turns": [texts]}))
    with pytest.raises(ConfigFailure, match=r"talk\.json .* incomplete characters"):
        conversation.load(path)


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ConfigFailure, match=r"talk\.json is not a saved conversation"):
        conversation.load(path)


@pytest.mark.parametrize(
    ("name", "said"), [("absent.json", r"absent\.json does not exist"), (".", "cannot be read")]
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigFailure, match=said):
        conversation.load(tmp_path / name)


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(NotWritable, match="folder"):
        Conversation().save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
