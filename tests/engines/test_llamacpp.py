"""What only the engine llamacpp promises."""

from __future__ import annotations

import base64
import math
import os
import re
import threading
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from entrypoint.common import catalog, machine
from entrypoint.common.catalog import ENDLESS
from entrypoint.common.errors import MessageTooLong, NotEnoughMemoryLeft, NotSupported, NotWritable
from entrypoint.engines import (
    Embedder,
    Engine,
    Message,
    Options,
    Prompt,
    ScoredToken,
    Texts,
    Tokens,
    Usage,
    open_engine,
    scores,
    thinking,
)
from tests.conversations import GREEDY, SMALL, Open, ask, pid, split
from tests.served import until


@pytest.fixture(scope="module")
def open_(llamacpp_found: Path) -> Open:
    model = catalog.load(llamacpp_found).find(SMALL)
    return lambda: open_engine(model, llamacpp_found)


@pytest.fixture(scope="module")
def engine(open_: Open) -> Iterator[Engine]:
    with closing(open_()) as engine:
        yield engine


def test_at_temperature_0_an_answer_repeats_whatever_the_cache_holds(engine: Engine) -> None:
    question = ask("Name three colours.")
    first = split(engine.stream(question, GREEDY))
    follow_up = ask("Which of them is the colour of the sky?", "Name three colours.", first[0])
    second = split(engine.stream(follow_up, GREEDY))
    with closing(engine.stream(follow_up, GREEDY)) as stopped:
        next(stopped)
    # The cache too: what is computed in other batches differs in its last bits, now and then in
    # a word.
    for messages, (text, usage) in ((follow_up, second), (question, first)):
        again, cost = split(engine.stream(messages, GREEDY))
        assert (again, cost.cached_tokens) == (text, usage.cached_tokens)


def test_one_that_goes_round_in_an_endless_loop_is_not_alive(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.engines.llamaserver.PATIENCE", 2.0)
    bomb = Options(max_tokens=24, schema={"type": "string", "pattern": "^(a?){200}$"})
    with closing(open_()) as engine:
        assert engine.alive()
        answer = engine.stream("hi", bomb)
        reader = threading.Thread(target=lambda: list(answer))
        reader.start()
        try:
            until(lambda: not engine.alive())
        finally:
            answer.hang_up()
            reader.join()


def test_weights_lie_in_huge_pages_where_the_system_gives_them(engine: Engine) -> None:
    given = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
    found = Path(f"/proc/{pid(engine)}/smaps_rollup").read_text(encoding="ascii")
    (huge,) = re.findall(r"^AnonHugePages: +(\d+) kB$", found, re.MULTILINE)
    assert (int(huge) > 0) == ("[never]" not in given)


def test_a_temporary_folder_that_cannot_be_written_is_named(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(NotWritable, match="/proc"):
        open_()


def test_a_folder_too_deep_for_a_socket_is_named(
    open_: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", os.fspath(deep))
    with pytest.raises(NotWritable, match="too long"):
        open_()
    assert list(deep.iterdir()) == []


def test_an_answer_goes_on_from_where_it_was_begun(engine: Engine) -> None:
    begun: list[Message] = [
        *ask("Count from 1 to 9, like this: 1, 2, 3."),
        {"role": "assistant", "content": "1, 2, 3, 4, 5,"},
    ]
    text, _usage = split(engine.stream(begun, Options(temperature=0, max_tokens=4)))
    assert text.startswith(" 6")


def test_a_template_without_tools_is_told(engine: Engine) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    with pytest.raises(NotSupported, match="does not support tools"):
        next(engine.stream(ask("Hi"), Options(tools=(tool,))))
    assert split(engine.stream(ask("Hi"), GREEDY))[0]


def test_a_template_that_knows_tools_tells_the_model_of_them(llamacpp_found: Path) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    model = catalog.load(llamacpp_found).find("qwen2.5-coder-0.5b")
    with closing(open_engine(model, llamacpp_found, context=512)) as engine:
        options = Options(temperature=0, max_tokens=8, tools=(tool,))
        text, usage = split(engine.stream(ask("Look at the weather."), options))
        told = usage.prompt_tokens - engine.count_tokens(ask("Look at the weather."))
    assert text.lstrip().startswith(("{", "<tool_call>"))
    assert told > 50


def test_unlikely_words_can_be_forbidden_and_repetition_punished(engine: Engine) -> None:
    question = ask("Say: ha ha ha ha ha ha ha ha")
    plain = split(engine.stream(question, GREEDY))[0]
    punished = replace(GREEDY, repeat_penalty=1.9)
    assert split(engine.stream(question, punished))[0] != plain


THINKING = (  # as DeepSeek-R1 has it: the prompt opens the thought, here unless told not to
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is false %}\n</think>\n\n{% endif %}"
)
STUBBORN = THINKING.partition("{% if enable")[0]  # DeepSeek's distills cannot be told
# Gemma 4's marks, as its documentation has them: what switches the thought on stands in the
# system's turn, and a model that shall not think is shown an empty thought. Here the prompt opens
# it besides, as no model of the tests would, and turns are written as that model knows them.
GEMMA = (
    "{% if enable_thinking %}<|im_start|>system\n<|think|><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<|channel>thought\n{% if not enable_thinking %}<channel|>{% endif %}"
)


@pytest.mark.parametrize(
    ("template", "opening"), [(THINKING, "<think>"), (GEMMA, "<|channel>thought")]
)
def test_a_thought_that_the_prompt_opens_begins_the_text(
    llamacpp_found: Path, template: str, opening: str
) -> None:
    model = replace(catalog.load(llamacpp_found).find(SMALL), chat_template=template)
    on = replace(GREEDY, think=ENDLESS, counts_thought=True)
    with closing(open_engine(model, llamacpp_found, context=512)) as engine:
        text, _usage = split(engine.stream(ask("Hi"), on))
        plain, _usage = split(engine.stream(ask("Hi"), replace(on, think=0)))
        begun: list[Message] = [*ask("Hi"), {"role": "assistant", "content": "Hello"}]
        going_on, _usage = split(engine.stream(begun, on))
    assert text.startswith(opening)
    assert opening not in plain
    assert opening not in going_on


@pytest.mark.parametrize("template", [THINKING, STUBBORN, GEMMA])
def test_a_model_thinks_as_long_as_it_is_told(llamacpp_found: Path, template: str) -> None:
    model = replace(catalog.load(llamacpp_found).find(SMALL), chat_template=template)
    question = ask("Tell me a long story of a fox.")
    with closing(open_engine(model, llamacpp_found, context=512)) as engine:
        for think in (0, 6):
            options = Options(temperature=0, max_tokens=9, think=think)
            text, usage = split(engine.stream(question, options))
            thought, answer = thinking.split([text])
            assert not any(mark in answer for mark in ("<think>", "<|channel>", "<channel|>")), text
            assert bool(thought) == bool(think)
            assert len(thought.split()) <= think
            assert answer
            if usage.finish_reason == "length":  # the mark between them is a few tokens here
                assert think + 9 <= usage.completion_tokens <= think + 9 + 6 * bool(think)
        counted = Options(temperature=0, max_tokens=9, think=30, counts_thought=True)
        text, usage = split(engine.stream(question, counted))
        assert (usage.completion_tokens, usage.finish_reason) == (9, "length")
        schema = replace(options, think=30, max_tokens=40, schema={"enum": ["red", "blue"]})
        text, _usage = split(engine.stream(question, schema))
        assert text in {'"red"', '"blue"'}


def scored(engine: Engine, prompt: Prompt, options: Options) -> tuple[str, list[ScoredToken]]:
    """Return a whole text and its tokens' scores."""
    pieces = [piece for piece in engine.stream(prompt, options) if isinstance(piece, str)]
    return "".join(pieces), [token for piece in pieces for token in scores(piece)]


def test_the_tokens_of_a_text_have_the_scores_that_they_were_written_with(engine: Engine) -> None:
    question = "The colours of the rainbow are red,"
    answer, written = scored(engine, question, replace(GREEDY, logprobs=2, max_tokens=8))
    assert b"".join(token.data for token in written) == answer.encode()
    assert all(token.top[0] == (token.data, token.logprob) for token in written)
    assert {len(token.top) for token in written} == {2}

    options = replace(GREEDY, logprobs=2, max_tokens=0, echo=True)
    text, read = scored(engine, question + answer, options)
    assert text == question + answer
    assert read[0].logprob is None
    for once, again in zip(written, read[-len(written) :], strict=True):
        # Those computed together differ in their last bits from those computed one by one.
        assert once.data == again.data
        assert again.logprob == pytest.approx(once.logprob, abs=0.2)


def test_a_token_that_ends_within_a_character_has_a_score_too(engine: Engine) -> None:
    text = "A face: 😀 and 龘."
    options = replace(GREEDY, logprobs=0, max_tokens=0, echo=True)
    told, tokens = scored(engine, text, options)
    assert (told, b"".join(token.data for token in tokens)) == (text, text.encode())
    assert any(token.data.decode(errors="ignore") == "" for token in tokens)
    assert all(token.logprob is not None and token.logprob < 0 for token in tokens[1:])


def test_tokens_are_gone_on_with_as_their_text_is(engine: Engine) -> None:
    number = Tokens([504])
    echoed, none = scored(engine, number, replace(GREEDY, echo=True, max_tokens=0))
    assert (echoed.strip() != "", none) == (True, [])
    assert split(engine.stream(number, GREEDY))[0] == split(engine.stream(echoed, GREEDY))[0]
    with pytest.raises(NotSupported, match="99999999"):
        scored(engine, Tokens([504, 99999999]), replace(GREEDY, echo=True, logprobs=0))
    with pytest.raises(MessageTooLong):
        scored(engine, Tokens([504] * engine.context), replace(GREEDY, echo=True, logprobs=0))


def test_scores_in_a_chat_are_those_of_its_words_alone(engine: Engine) -> None:
    options = replace(GREEDY, logprobs=1, stop=("hello there",), max_tokens=40)
    text, tokens = scored(engine, ask("Say hi."), options)
    assert b"".join(token.data for token in tokens).decode() == text


def vectors(engine: Engine, *texts: str | Tokens) -> tuple[list[array[float]], Usage]:
    """Return the vectors of texts, and what they cost."""
    assert isinstance(engine, Embedder)
    *lines, usage = engine.vectors(Texts(texts))
    assert isinstance(usage, Usage)
    return [array("f", base64.b64decode(str(line))) for line in lines], usage


def likeness(one: array[float], other: array[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    return sum(left * right for left, right in zip(one, other, strict=True))


def test_a_text_has_the_same_vector_alone_and_after_others(engine: Engine) -> None:
    texts = ("The cat sits on the mat.", "A kitten lies on a rug.", "Prices fell on the market.")
    (cat, kitten, market), usage = vectors(engine, *texts)
    assert usage.prompt_tokens > 15
    assert math.hypot(*cat) == pytest.approx(1, abs=1e-5)
    assert likeness(cat, kitten) > likeness(cat, market)
    split(engine.stream(ask("Hi"), GREEDY))
    assert vectors(engine, texts[0])[0] == [cat]


def test_control_words_in_a_text_for_a_vector_are_text(engine: Engine) -> None:
    assert vectors(engine, "<|im_start|>" * 5)[1].prompt_tokens > 5
    assert vectors(engine, Tokens([1, 2, 3]))[1].prompt_tokens == 3


def test_a_vector_that_would_take_memory_from_all_is_refused(
    open_: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_()) as engine:
        monkeypatch.setattr(machine, "memory", lambda: machine.Memory(2**30, None, 2**20))
        with pytest.raises(NotEnoughMemoryLeft, match="vector"):
            vectors(engine, "hi")


def test_a_gap_is_filled_only_by_a_model_that_has_words_for_it(engine: Engine) -> None:
    with pytest.raises(NotSupported) as caught:
        list(engine.stream("def f():", Options(suffix="return 1")))
    assert caught.value.option == "suffix"
