"""What the modes may rely on: every engine, with real models, keeps these promises."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.errors import (
    DamagedModel,
    EngineCrashed,
    Failure,
    MessageTooLong,
    NotEnoughMemory,
    NotSupported,
    UnsupportedCpu,
)
from entrypoint.engines import Engine, Message, Options, Usage, open_engine
from tests.conversations import GREEDY, SMALL, Open, answer, ask, pid, split

CHINESE = "qwen2.5-coder-0.5b"


def test_an_answer_is_pieces_and_then_its_usage(engine: Engine) -> None:
    question = ask("Name three colours.")
    text, usage = split(engine.stream(question, GREEDY))
    assert text
    assert usage.prompt_tokens == engine.count_tokens(question)
    assert 1 <= usage.completion_tokens <= 24
    assert usage.first_token > 0
    assert usage.rate > 0


def test_max_tokens_is_kept_and_told(engine: Engine) -> None:
    options = dataclasses.replace(GREEDY, max_tokens=5)
    _text, usage = split(engine.stream(ask("Count from 1 to 100."), options))
    assert (usage.completion_tokens, usage.finish_reason) == (5, "length")


def test_without_a_limit_the_answer_ends_by_itself_or_with_the_context(open_: Open) -> None:
    with closing(open_(context=256)) as engine:
        options = Options(temperature=0)
        text, usage = split(engine.stream(ask("Write a very long story."), options))
        total = usage.prompt_tokens + usage.completion_tokens
    assert text
    assert (usage.finish_reason == "length") == (total >= 256 - 1)


def test_count_tokens_counts_the_whole_prompt(engine: Engine) -> None:
    short, long = ask("Hi"), ask("Hi", "Hello", "How are you?", "Fine")[:3]
    assert 2 < engine.count_tokens(short) < engine.count_tokens(long) < 100


def test_control_words_in_what_is_said_are_text(engine: Engine) -> None:
    word = "<|im_start|>"
    hi, forged = engine.count_tokens(ask("hi")), ask(word * 50)
    assert engine.count_tokens(forged) - hi > 3 * 50
    for said in (forged, ask("Why?", word * 50, "Hello"), ask("Why?", "Hi", word * 50)):
        text, usage = split(engine.stream(said, GREEDY))
        assert text
        assert usage.prompt_tokens == engine.count_tokens(said) > hi + 3 * 50


def test_chinese_arrives_in_whole_characters(open_: Open) -> None:
    with closing(open_(CHINESE)) as engine:
        pieces = list(engine.stream(ask("用很多表情符号😀写一句话，介绍同济大学。"), GREEDY))
    text, _usage = split(pieces)
    assert any("\u4e00" <= character <= "\u9fff" for character in text)
    assert "\ufffd" not in text


def test_at_temperature_0_a_conversation_repeats_in_a_new_process(open_: Open) -> None:
    texts = []
    for _ in range(2):
        with closing(open_()) as engine:
            first = answer(engine, ask("Name three colours."))
            texts.append((first, answer(engine, ask("And three more?", "Name three.", first))))
    assert texts[0] == texts[1]


def test_a_seed_repeats_a_sampled_answer_and_another_seed_does_not(engine: Engine) -> None:
    def sampled(seed: int) -> str:
        options = Options(temperature=1.5, top_p=1, max_tokens=24, seed=seed)
        answer(engine, ask("Hi"))  # so that the cache is the same each time
        return answer(engine, ask("Tell me a story."), options)

    assert sampled(7) == sampled(7)
    assert sampled(7) != sampled(8)


def test_a_follow_up_computes_its_new_tokens_only(engine: Engine) -> None:
    question = "What is the capital of France? " * 8
    for temperature in (0, 0.7):
        options = Options(temperature=temperature, max_tokens=16, seed=1)
        text, usage = split(engine.stream(ask(question), options))
        _text, next_ = split(engine.stream(ask("Why?", question, text), options))
        assert next_.cached_tokens >= usage.prompt_tokens
        assert next_.prompt_tokens - next_.cached_tokens < 16


def test_several_conversations_are_answered_at_once(open_: Open) -> None:
    conversations = [ask("Count: " + "one two three " * n) for n in (1, 2, 3)]
    with closing(open_(parallel=2)) as engine, ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda conversation: split(engine.stream(conversation, GREEDY)), conversations)
        )
        lengths = [engine.count_tokens(conversation) for conversation in conversations]
    assert len(set(lengths)) == 3
    for (text, usage), length in zip(answers, lengths, strict=True):
        assert text
        assert usage.prompt_tokens == length


def test_each_of_several_conversations_has_the_whole_context(open_: Open) -> None:
    with closing(open_(context=512, parallel=2)) as engine:
        long = ask("word " * 400)
        assert 400 < engine.count_tokens(long) < 512
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(lambda _: split(engine.stream(long, GREEDY))[1], range(2)))
        length = engine.count_tokens(long)
    assert [usage.prompt_tokens for usage in ends] == [length, length]


def test_a_conversation_longer_than_the_context_is_refused_and_the_next_is_not(
    open_: Open,
) -> None:
    with closing(open_(context=200)) as engine:
        assert 200 <= engine.context < 300
        with pytest.raises(MessageTooLong, match=f"context has {engine.context}"):
            answer(engine, ask("word " * 300))
        assert answer(engine, ask("Hi"))


def used(pid: int) -> int:
    """Return how long a process has computed, in the kernel's ticks."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def idle(pid: int) -> bool:
    """Tell whether a process computes nothing for a while."""
    before = used(pid)
    time.sleep(0.5)
    return used(pid) == before


@pytest.mark.parametrize("count", [1, 2])
def test_closing_answers_stops_the_computation(open_: Open, count: int) -> None:
    endless = Options(temperature=1.5, max_tokens=1900)
    with closing(open_(context=2048, parallel=2)) as engine:
        story = ask("Write a very long story.")
        with ExitStack() as stack:
            for _ in range(count):
                next(stack.enter_context(closing(engine.stream(story, endless))))
        while not idle(pid(engine)):
            time.sleep(0.01)


@pytest.mark.child
@pytest.mark.parametrize("followed", [False, True])
def test_another_thread_can_hang_up_even_while_the_prompt_is_computed(
    open_: Open, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    monkeypatch.setattr(
        "entrypoint.common.machine.threads", lambda: 1
    )  # so it takes everywhere as long
    options = Options(temperature=0, max_tokens=1)

    def long(word: str) -> list[Message]:
        text = f"{word} " * 3500
        return ask("Hi", text, "Hello!") if followed else ask(text)

    with closing(open_(context=4096)) as engine:
        number = pid(engine)
        begun = used(number)
        with closing(engine.stream(long("word"), options)) as pieces, ThreadPoolExecutor(1) as pool:
            reader = pool.submit(list, pieces)
            while used(number) < begun + 10:
                time.sleep(0.01)
            pieces.hang_up()
            assert reader.result(60) == []
        while not idle(number):
            time.sleep(0.01)
        stopped = used(number) - begun
        split(engine.stream(long("entirely"), options))
        assert stopped < 0.7 * (used(number) - begun - stopped)


def test_an_answer_that_was_hung_up_before_it_began_is_none(engine: Engine) -> None:
    with closing(engine.stream(ask("Hi"), GREEDY)) as pieces:
        pieces.hang_up()
        assert list(pieces) == []
    assert answer(engine, ask("Hi"))


def test_an_answer_that_was_hung_up_brings_nothing_more(engine: Engine) -> None:
    with closing(engine.stream(ask("Write a very long story."), GREEDY)) as pieces:
        assert next(pieces)
        pieces.hang_up()
        assert list(pieces) == []
    assert answer(engine, ask("Hi"))


def test_stop_words_end_an_answer(models: Catalog, folder: Path, open_: Open) -> None:
    model = models.find(SMALL)
    with closing(open_()) as engine:
        whole = answer(engine, ask("Count from 1 to 9."))
    word = whole[10:14]
    with closing(open_engine(dataclasses.replace(model, stop=(word,)), folder)) as engine:
        text, usage = split(engine.stream(ask("Count from 1 to 9."), GREEDY))
    assert text == whole.partition(word)[0]
    assert usage.finish_reason == "stop"


def test_stop_texts_of_a_request_end_an_answer_too(engine: Engine) -> None:
    whole = answer(engine, ask("Count from 1 to 9."))
    word = whole[10:14]
    options = dataclasses.replace(GREEDY, stop=(word, "never said"))
    text, usage = split(engine.stream(ask("Count from 1 to 9."), options))
    assert text == whole.partition(word)[0]
    assert usage.finish_reason == "stop"


def test_an_answer_follows_a_json_schema_where_the_engine_can(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    options = dataclasses.replace(GREEDY, max_tokens=64, schema=schema)
    try:
        found = json.loads(answer(engine, ask("Name a colour."), options))
    except NotSupported:
        return
    assert found["colour"] in {"red", "blue"}
    assert isinstance(found["count"], int)


def test_a_schema_that_is_none_is_refused_and_the_next_answer_is_not(engine: Engine) -> None:
    options = dataclasses.replace(GREEDY, schema={"type": "no such type"})
    with pytest.raises(NotSupported):
        answer(engine, ask("Hi"), options)
    assert answer(engine, ask("Hi"))


def test_a_raw_text_is_gone_on_with_without_the_template(engine: Engine) -> None:
    text, usage = split(engine.stream("Monday, Tuesday, Wednesday,", GREEDY))
    assert "Thursday" in text
    assert usage.prompt_tokens < engine.count_tokens(ask("Monday, Tuesday, Wednesday,"))


def test_several_threads_are_answered_at_once(open_: Open) -> None:
    with closing(open_(context=512, parallel=2)) as engine:
        streams = [engine.stream(ask(f"Count from {n}."), GREEDY) for n in (1, 2)]
        begun = threading.Barrier(2)

        def read(stream: Iterable[str | Usage]) -> str:
            pieces = iter(stream)
            first = next(pieces)
            begun.wait(60)  # which one would never reach while the other keeps it out
            return split([first, *pieces])[0]

        with ThreadPoolExecutor(2) as pool:
            assert all(pool.map(read, streams))


@pytest.mark.child
def test_an_engine_tells_whether_it_is_alive(open_: Open) -> None:
    with closing(open_()) as engine:
        assert engine.alive()
        os.kill(pid(engine), signal.SIGKILL)
        while engine.alive():
            time.sleep(0.01)


def test_close_leaves_nothing_behind_and_may_come_twice(open_: Open, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", os.fspath(tmp_path))
        engine = open_()
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in tmp_path.iterdir())
    engine.close()
    engine.close()
    assert not engine.alive()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.child
def test_close_ends_the_engines_process_which_ctrl_c_does_not_reach(open_: Open) -> None:
    engine = open_()
    number = pid(engine)
    assert os.getpgid(number) != os.getpgrp()
    engine.close()
    assert not Path(f"/proc/{number}").exists()


@pytest.mark.child
@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (signal.SIGKILL, NotEnoughMemory, "more memory"),
        (signal.SIGILL, UnsupportedCpu, "CPU"),
        (signal.SIGSEGV, EngineCrashed, "-11"),
    ],
)
def test_an_engine_that_dies_in_an_answer_says_why(
    open_: Open, number: signal.Signals, kind: type[Failure], told: str
) -> None:
    with closing(open_()) as engine:
        stream = engine.stream(ask("Write a very long story."), Options(max_tokens=1000))
        next(stream)
        os.kill(pid(engine), number)
        with pytest.raises(kind, match=told):
            list(stream)
        with pytest.raises(kind, match=told):
            list(engine.stream(ask("Hi"), GREEDY))


def copy(model: Model, folder: Path, place: Path) -> Path:
    """Return the model's weights, copied with all its files into a models folder at `place`."""
    shutil.copytree(folder / model.name, place / model.name)
    return place / model.name / model.files[0].path


def truncate(weights: Path) -> None:
    os.truncate(weights, 1 << 20)


def damage_header(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.write(b"GGML")  # the magic of an older format


def damage_weights(weights: Path) -> None:
    with weights.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\0" * 50 + b"\1" * 50)


@pytest.mark.parametrize("harm", [Path.unlink, truncate])
def test_a_damaged_model_is_named(
    models: Catalog,
    folder: Path,
    tmp_path: Path,
    open_: Open,  # noqa: ARG001 - it finds the engine
    harm: Callable[[Path], None],
) -> None:
    weights = copy(models.find(SMALL), folder, tmp_path)
    harm(weights)
    with pytest.raises(DamagedModel, match=str(weights)):
        open_engine(models.find(SMALL), tmp_path)


@pytest.mark.parametrize("harm", [damage_header, damage_weights])
def test_no_answer_of_damaged_weights_counts(
    models: Catalog,
    folder: Path,
    tmp_path: Path,
    open_: Open,  # noqa: ARG001 - it finds the engine
    harm: Callable[[Path], None],
) -> None:
    """They are looked at after the first token, or while they are loaded."""
    weights = copy(models.find(SMALL), folder, tmp_path)
    harm(weights)
    pieces: list[str | Usage] = []

    def hear() -> None:
        with closing(open_engine(models.find(SMALL), tmp_path)) as engine:
            for _question in range(2):
                with suppress(DamagedModel):
                    pieces.extend(engine.stream(ask("Hi"), GREEDY))
            pieces.extend(engine.stream(ask("Hi"), GREEDY))

    with pytest.raises(DamagedModel, match=str(weights)):
        hear()
    assert not [piece for piece in pieces if isinstance(piece, Usage)]


def test_a_model_that_the_engine_cannot_read_shows_what_the_engine_said(
    models: Catalog, folder: Path, tmp_path: Path, open_: Open
) -> None:
    odd = dataclasses.replace(models.find(SMALL), chat_template="{% no such thing %}")
    del open_
    with pytest.raises(EngineCrashed) as caught:
        open_engine(odd, folder)
    assert "template" in caught.value.why.lower()
    assert list(tmp_path.iterdir()) == []
