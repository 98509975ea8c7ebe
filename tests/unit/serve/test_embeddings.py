"""Vectors of texts, as OpenAI's own client asks for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from entrypoint.engines import Texts, Tokens
from entrypoint.engines.vocabulary import infilling
from entrypoint.serve.limits import INPUTS
from tests.served import Parrot, Served


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    address = f"http://127.0.0.1:{served.port}/v1"
    with openai.OpenAI(base_url=address, api_key="x", max_retries=0) as opened:
        yield opened


def test_each_text_has_its_vector_whichever_way_it_travels(
    served: Served, client: openai.OpenAI
) -> None:
    texts = ["hi", "good morning"]
    answer = client.embeddings.create(model="polly", input=texts)  # as base64, unless told
    numbers = client.embeddings.create(model="polly", input=texts, encoding_format="float")
    for one, other in zip(answer.data, numbers.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
    assert [each.index for each in answer.data] == [0, 1]
    assert [each.embedding[0] for each in answer.data] == pytest.approx([1 / 3, 1 / 13])
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("polly", 6, 6)
    assert served.engine.texts == Texts(texts)


def test_a_vector_is_no_answer_in_the_metrics(served: Served, client: openai.OpenAI) -> None:
    def counts() -> list[str]:
        _status, _headers, text = served.ask("GET", "/metrics")
        return [line for line in text.decode().splitlines() if "_count{" in line]

    before = counts()
    client.embeddings.create(model="polly", input=["hi", "good morning"])
    changed = set(counts()) - set(before)
    assert any('kind="prompt"' in line for line in changed)
    assert not any('kind="completion"' in line or "first_token" in line for line in changed)


@pytest.mark.parametrize(
    ("given", "texts"),
    [("hi", ["hi"]), ([1, 2], [Tokens([1, 2])]), ([[1, 2], [3]], [Tokens([1, 2]), Tokens([3])])],
)
def test_an_input_is_a_text_or_tokens_or_a_list_of_either(
    served: Served, client: openai.OpenAI, given: Any, texts: list[Any]
) -> None:
    client.embeddings.create(model="polly", input=given, user="me")
    assert served.engine.texts == Texts(texts)


def test_a_shortened_vector_has_the_length_1(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="polly", input="hi", dimensions=1)
    assert answer.data[0].embedding == pytest.approx([1])


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": ["hi", 5]}, "unsupported_value", "input"),
        ({"input": ["hi"] * (INPUTS + 1)}, "unsupported_value", "input"),
        ({"input": "hi", "dimensions": 4}, "unsupported_value", "dimensions"),
        ({"input": "hi", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "hi", "stream": True}, "unknown_parameter", "stream"),
    ],
    ids=range(7),
)
def test_what_cannot_be_is_refused_by_its_field(
    served: Served, body: Any, code: str, param: str
) -> None:
    status, _headers, content = served.ask("POST", "/v1/embeddings", body)
    error = json.loads(content)["error"]
    assert (status, error["code"], error["param"]) == (400, code, param)


def test_an_engine_that_makes_none_is_told_of(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.engine, "__class__", type("Mute", (Parrot,), {"vectors": None}))
    status, _headers, content = served.ask("POST", "/v1/embeddings", {"input": "hi"})
    error = json.loads(content)["error"]
    assert (status, error["code"], error["param"]) == (400, "unsupported_value", "model")


def test_a_suffix_reaches_the_engine_and_needs_a_text(served: Served) -> None:
    body: Any = {"prompt": "def f():", "suffix": "return 1"}
    assert served.ask("POST", "/v1/completions", body)[0] == 200
    assert served.engine.asked[-1][1].suffix == "return 1"
    for more in ({"prompt": [1, 2]}, {"logprobs": 1}, {"echo": True, "max_tokens": 0}):
        status, _headers, content = served.ask("POST", "/v1/completions", body | more)
        assert (status, json.loads(content)["error"]["param"]) == (400, "suffix")


def test_only_all_three_words_fill_a_gap() -> None:
    words = ["<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>"]
    assert infilling(words) is None
    assert infilling([*words, "<|fim_suffix|>"]) is not None
