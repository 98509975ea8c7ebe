"""What is answered: OpenAI's shapes, its errors, and nothing that was not asked for."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from builder.settings import ROOT
from entrypoint.common.catalog import ENDLESS, SamplingAdvice
from entrypoint.common.errors import (
    EngineCrashed,
    MessageTooLong,
    NotEnoughMemory,
    NotEnoughMemoryLeft,
    NotSupported,
)
from entrypoint.engines import Options, Tokens, advised, require
from entrypoint.serve import metrics
from entrypoint.serve.front import Front
from entrypoint.serve.keys import Keys
from entrypoint.serve.wire import ChatRequest
from tests.served import Serve, Served, model, until


def events(content: bytes) -> list[Any]:
    """Return the events of a stream; the last is [DONE]."""
    *lines, done = [line[6:] for line in content.split(b"\n\n") if line]
    assert done == b"[DONE]"
    return [json.loads(line) for line in lines]


def test_an_answer_has_openais_shape(served: Served) -> None:
    status, headers, answer = served.chat("good morning")
    assert status == 200
    assert headers["x-request-id"]
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "good morning", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


@pytest.mark.parametrize("prefix", ["", "/api/predict/my-service"])
def test_a_stream_is_a_role_pieces_a_reason_and_the_cost_if_asked_for(
    served: Served, prefix: str
) -> None:
    body = {
        "messages": [{"role": "user", "content": "good morning"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    status, headers, content = served.ask("POST", f"{prefix}/v1/chat/completions", body)
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    first, *pieces, reason, cost = events(content)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert text == "good morning"
    assert reason["choices"][0] == {
        "index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None,
    }  # fmt: skip
    assert (cost["choices"], cost["usage"]["total_tokens"]) == ([], 12)
    assert len({event["id"] for event in (first, *pieces, reason, cost)}) == 1


def test_a_raw_text_is_gone_on_with_for_sixteen_tokens_unless_told(served: Served) -> None:
    _status, _headers, content = served.ask("POST", "/v1/completions", {"prompt": "one two"})
    answer = json.loads(content)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "one two"
    assert served.engine.asked[-1] == ("one two", Options(max_tokens=16))


def test_what_is_asked_for_reaches_the_engine(serve: Serve) -> None:
    served = serve(max_tokens=100)
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    served.chat(
        "hi",
        temperature=0.5,
        top_p=0.25,
        seed=7,
        stop="end",
        max_tokens=500,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert served.engine.asked == [
        ([{"role": "user", "content": "hi"}], Options(0.5, 0.25, 100, 7, ("end",), schema))
    ]


def test_parts_of_a_message_are_one_text_and_a_developer_is_the_system(served: Served) -> None:
    body = {
        "messages": [
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "a"},
                                         {"type": "text", "text": "b"}]},
        ]
    }  # fmt: skip
    assert served.ask("POST", "/v1/chat/completions", body)[0] == 200
    assert served.engine.asked[-1][0] == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "ab"},
    ]


WEATHER = {"type": "object", "properties": {"city": {"$ref": "#/$defs/City"}},
           "$defs": {"City": {"type": "string"}}}  # fmt: skip
TOOLS = {"tools": [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]}
OBJECT = {"response_format": {"type": "json_object"}}
HELLO = {"messages": [{"role": "user", "content": "hi"}]}
WORDS = {"enum": [f"word {n}" for n in range(2000)]}
LARGE = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": WORDS}}}


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, "invalid_value"),
        (b"\xff", 400, None, "invalid_value"),
        ({}, 400, "messages", "missing_required_parameter"),
        (HELLO | {"messages": [{"role": "user"}]}, 400, "messages[0]", "invalid_value"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        ({"messages": HELLO["messages"] * 4097}, 400, "messages", "invalid_value"),
        ({"messages": [{"role": "cat", "content": ""}]}, 400, "messages[0].role", "invalid_value"),
        (
            {"messages": [{"role": "assistant", "content": ""}]},
            400,
            "messages",
            "unsupported_value",
        ),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "messages", "unsupported_value"),
        (HELLO | {"temperature": 3}, 400, "temperature", "invalid_value"),
        (HELLO | {"n": 17}, 400, "n", "invalid_value"),
        (HELLO | {"n": 1.5}, 400, "n", "invalid_value"),
        (HELLO | {"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        (HELLO | {"stop": ["a"] * 5}, 400, "stop", "invalid_value"),
        (HELLO | {"top_logprobs": 2}, 400, "top_logprobs", "unsupported_value"),
        (HELLO | {"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "invalid_value"),
        (HELLO | {"audio": {"voice": "alloy"}}, 400, "audio", "unknown_parameter"),
        (HELLO | {"seed": 2**63}, 400, "seed", "invalid_value"),
        (HELLO | {"logit_bias": {"word": 1}}, 400, "logit_bias", "invalid_value"),
        (HELLO | {"tool_choice": "required"}, 400, "tool_choice", "unsupported_value"),
        (HELLO | {"tools": [{"type": "web_search"}]}, 400, "tools[0].type", "invalid_value"),
        (HELLO | TOOLS | OBJECT, 400, "response_format", "unsupported_value"),
        (HELLO | LARGE, 400, "response_format.json_schema", "invalid_value"),
        (HELLO | {"model": "nobody"}, 404, "model", "model_not_found"),
    ],
)
def test_a_wrong_request_is_told_and_the_next_is_answered(
    served: Served, body: Any, status: int, param: str | None, code: str
) -> None:
    got, _headers, content = served.ask("POST", "/v1/chat/completions", body)
    error = json.loads(content)["error"]
    assert (got, error["param"], error["code"]) == (status, param, code)
    assert error["type"] == "invalid_request_error"
    assert error["message"]
    assert served.chat("hi")[0] == 200


@pytest.mark.parametrize(
    "neutral",
    [
        {"tools": None}, {"tools": []}, {"tool_choice": "none"}, {"functions": None},
        {"top_logprobs": None}, {"logprobs": False}, {"parallel_tool_calls": None}, {"suffix": ""},
        {"max_tokens": None}, {"modalities": ["text"]}, {"logit_bias": {}}, {"stop": ""},
        {"stop": []}, {"top_k": None}, {"presence_penalty": 0.0}, {"frequency_penalty": 0},
        {"n": 1.0}, {"seed": -1}, {"web_search_options": {}}, {"mirostat": 0}, {"store": False},
        {"service_tier": "auto"}, {"reasoning_effort": "medium"}, {"chat_template_kwargs": {}},
        {"response_format": {"type": "text"}}, {"verbosity": "low"},
    ],
    ids=str,
)  # fmt: skip
def test_what_says_nothing_has_no_effect(served: Served, neutral: dict[str, Any]) -> None:
    assert served.chat("hi", **neutral)[0] == 200
    assert served.engine.asked[-1][1] == Options()


def test_whole_numbers_and_seeds_of_64_bits_are_taken(served: Served) -> None:
    assert served.chat("hi", max_tokens=8.0, seed=2**63 - 1, top_k=4.0, min_p=0)[0] == 200
    options = served.engine.asked[-1][1]
    assert options == Options(max_tokens=8, seed=(2**63 - 1) % (2**32 - 1), top_k=4, min_p=0)
    served.chat("hi", seed=4294967294.0)
    assert served.engine.asked[-1][1].seed == 2**32 - 2


def test_further_sampling_reaches_the_engine(served: Served) -> None:
    served.chat(
        "hi", top_k=5, min_p=0.1, repetition_penalty=1.1, presence_penalty=-1,
        frequency_penalty=0.5, logit_bias={"42": -100},
    )  # fmt: skip
    assert served.engine.asked[-1][1] == Options(
        top_k=5, min_p=0.1, repeat_penalty=1.1, presence_penalty=-1, frequency_penalty=0.5,
        logit_bias={"42": -100},
    )  # fmt: skip


ADVICE = SamplingAdvice(temperature=0.6, top_p=0.8, top_k=20, min_p=0.0, repeat_penalty=1.1)
PUBLISHED = Options(**asdict(ADVICE))


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, PUBLISHED),
        ({"temperature": None, "top_k": None}, PUBLISHED),
        ({"temperature": 1}, replace(PUBLISHED, temperature=1)),
        ({"temperature": 0}, replace(PUBLISHED, temperature=0)),
        ({"top_p": 1, "repetition_penalty": 1}, replace(PUBLISHED, top_p=1, repeat_penalty=1)),
        ({"top_k": 0, "min_p": 0.2}, replace(PUBLISHED, top_k=0, min_p=0.2)),
        ({"top_k": -1, "repeat_penalty": 1}, replace(PUBLISHED, top_k=0, repeat_penalty=1)),
    ],
    ids=str,
)
def test_each_field_that_a_request_leaves_out_is_as_published(
    serve: Serve, body: dict[str, Any], options: Options
) -> None:
    served = serve(model("polly", "llamacpp", ADVICE))
    assert served.chat("hi", **body)[0] == 200
    content = {"prompt": "hi", "max_tokens": 9, **body}
    assert served.ask("POST", "/v1/completions", content)[0] == 200
    assert [each for _prompt, each in served.engine.asked] == [
        options,
        replace(options, max_tokens=9),
    ]


def test_advice_that_an_engine_cannot_follow_is_left_out(serve: Serve) -> None:
    served = serve(model("polly", "itrex", ADVICE))
    assert served.chat("hi")[0] == 200
    assert served.engine.asked[-1][1] == Options(temperature=0.6, top_p=0.8)


def test_an_answer_goes_back_into_the_history_as_it_came(served: Served) -> None:
    told: Any = {"role": "assistant", "content": "Hello", "refusal": None, "annotations": [],
            "audio": None, "function_call": None, "tool_calls": None,
            "reasoning_content": "They greet me."}  # fmt: skip
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    body = {"messages": [HELLO["messages"][0], told, {"role": "user", "content": [part]}]}
    assert served.ask("POST", "/v1/chat/completions", body)[0] == 200
    assert served.engine.asked[-1][0] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "hi"},
    ]


def test_several_answers_have_an_index_and_chances_of_their_own(served: Served) -> None:
    _status, _headers, answer = served.chat("good morning", n=3, seed=5)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"good morning"}
    assert sorted(options.seed or 0 for _prompt, options in served.engine.asked[-3:]) == [5, 6, 7]
    assert answer["usage"]["completion_tokens"] == 6
    body = HELLO | {"n": 2, "stream": True}
    texts = ["", ""]
    ended = []
    for event in events(served.ask("POST", "/v1/chat/completions", body)[2]):
        for choice in event["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            ended += [choice["index"]] if choice["finish_reason"] else []
    assert (texts, sorted(ended)) == (["hi", "hi"], [0, 1])


def test_more_answers_than_there_is_room_for_leave_no_half(serve: Serve) -> None:
    served = serve(halted=True, parallel=1, queue=1)
    status, _headers, answer = served.chat("hi", n=3)
    assert (status, answer["error"]["code"]) == (429, "queue_full")
    served.engine.go.set()
    until(lambda: served.chat("hi", n=2)[0] == 200)  # as soon as the first has given up its place


def test_several_texts_are_gone_on_with_and_sent_back_if_asked_for(served: Served) -> None:
    body = {"prompt": ["one", "two"], "echo": True}
    answer = json.loads(served.ask("POST", "/v1/completions", body)[2])
    assert [choice["text"] for choice in answer["choices"]] == ["oneone", "twotwo"]
    streamed = events(served.ask("POST", "/v1/completions", body | {"stream": True})[2])
    texts = ["", ""]
    for event in streamed:
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == ["oneone", "twotwo"]
    status, _headers, content = served.ask("POST", "/v1/completions", {"prompt": "x", "best_of": 2})
    assert (status, json.loads(content)["error"]["param"]) == (400, "best_of")


def test_each_token_of_an_answer_has_its_score_if_asked_for(served: Served) -> None:
    _status, _headers, answer = served.chat("good day", logprobs=True, top_logprobs=1)
    likeliest = {"token": "good", "logprob": -0.5, "bytes": [103, 111, 111, 100]}
    told = answer["choices"][0]["logprobs"]["content"]
    assert told[0] == likeliest | {"top_logprobs": [likeliest]}
    assert [each["token"] for each in told] == ["good", " day"]
    assert served.engine.asked[-1][1] == Options(logprobs=1)
    body = {"messages": [{"role": "user", "content": "good day"}], "logprobs": True, "stream": True}
    streamed = events(served.ask("POST", "/v1/chat/completions", body)[2])
    told = [each["choices"][0]["logprobs"] for each in streamed]
    assert [each["token"] for one in told if one for each in one["content"]] == ["good", " day"]
    assert served.engine.asked[-1][1] == Options(logprobs=0)


def test_each_token_of_a_text_has_its_score_and_place_if_asked_for(served: Served) -> None:
    body = {"prompt": "é day", "logprobs": 1, "echo": True, "max_tokens": 0}
    (choice,) = json.loads(served.ask("POST", "/v1/completions", body)[2])["choices"]
    assert choice["text"] == "é day"  # which the engine sent back, and wrote nothing
    assert choice["logprobs"] == {
        "tokens": ["é", " day"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"é": -0.5}, {" day": -0.5}],
        "text_offset": [0, 1],
    }
    assert served.engine.asked[-1][1] == Options(max_tokens=0, logprobs=1, echo=True)
    offsets: list[int] = []
    for event in events(served.ask("POST", "/v1/completions", body | {"stream": True})[2]):
        told = event["choices"][0]["logprobs"]
        offsets += told["text_offset"] if told else []
    assert offsets == [0, 1]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ([1, 2], [(1, 2)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        (["one", "two"], ["one", "two"]),
        ("one", ["one"]),
    ],
    ids=str,
)
def test_a_prompt_is_a_text_or_tokens_or_several(
    served: Served, prompt: Any, prompts: list[Any]
) -> None:
    before = len(served.engine.asked)
    assert served.ask("POST", "/v1/completions", {"prompt": prompt})[0] == 200
    asked: list[Any] = [each for each, _options in served.engine.asked[before:]]
    assert sorted(asked) == sorted(prompts)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": []}, {"prompt": [[]]}, {"prompt": [1, "one"]}, {"prompt": [-1]},
        {"prompt": ["one"] * 17}, {"prompt": "one", "max_tokens": 0},
    ],
    ids=str,
)  # fmt: skip
def test_no_prompt_and_no_text_are_refused(served: Served, body: dict[str, Any]) -> None:
    status, _headers, content = served.ask("POST", "/v1/completions", body)
    assert status == 400
    assert json.loads(content)["error"]["param"].partition("[")[0] in body


CALL = '{"name": "weather", "arguments": {"city": "上海"}}'


def test_functions_are_told_of_and_their_calls_come_as_such(served: Served) -> None:
    _status, _headers, answer = served.chat(f"<tool_call>\n{CALL}\n</tool_call>", **TOOLS)
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "上海"}'}
    assert served.engine.asked[-1][1] == Options(tools=tuple(TOOLS["tools"]))

    body = {"messages": [{"role": "user", "content": f"Well: <tool_call>{CALL}"}], "stream": True}
    deltas = [
        choice for event in events(served.ask("POST", "/v1/chat/completions", body | TOOLS)[2])
        for choice in event["choices"]
    ]  # fmt: skip
    assert "".join(each["delta"].get("content", "") for each in deltas) == "Well: "
    (streamed,) = [each["delta"]["tool_calls"] for each in deltas if "tool_calls" in each["delta"]]
    assert [streamed[0]["index"], streamed[0]["function"]] == [0, call["function"]]
    assert deltas[-1]["finish_reason"] == "tool_calls"


def test_a_call_and_what_it_brought_are_part_of_the_history(served: Served) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    told = {"role": "assistant", "content": None, "tool_calls": [call]}
    brought = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
    body = {"messages": [*HELLO["messages"], told, brought]}
    assert served.ask("POST", "/v1/chat/completions", body | TOOLS)[0] == 200
    assert served.engine.asked[-1][0] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_call_that_has_to_be_is_made_by_a_schema(served: Served, choice: Any) -> None:
    served.chat("hi", tool_choice=choice, **TOOLS)
    assert served.engine.asked[-1][1].schema == {
        "type": "object",
        "properties": {
            "name": {"const": "weather"},
            "arguments": {"$ref": "#/$defs/0"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
        "$defs": {
            "0": {
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/0/$defs/City"}},
                "$defs": {"City": {"type": "string"}},
            }
        },
    }


def test_what_two_functions_call_the_same_stays_what_each_means(served: Served) -> None:
    at = {"type": "object", "properties": {"at": {"$ref": "#/$defs/At"}}}
    functions = [
        {"name": name, "parameters": at | {"$defs": {"At": {"type": kind}}}}
        for name, kind in (("city", "string"), ("floor", "integer"))
    ]
    tools = [{"type": "function", "function": each} for each in functions]
    said = '{"name": "city", "arguments": {"at": "Shanghai"}}'
    assert served.chat(said, tools=tools, tool_choice="required")[0] == 200
    schema: Any = served.engine.asked[-1][1].schema
    kinds = []
    for call in schema["anyOf"]:
        arguments = resolved(schema, call["properties"]["arguments"])
        kinds.append(resolved(schema, arguments["properties"]["at"])["type"])
    assert kinds == ["string", "integer"]


def resolved(schema: Any, node: Any) -> Any:
    """Return what a node's reference leads to."""
    target = schema
    for step in node["$ref"].split("/")[1:]:
        target = target[step]
    return target


def test_many_functions_together_are_vetted_too(served: Served) -> None:
    words = {"type": "object", "properties": {"word": {"enum": [f"word {n}" for n in range(40)]}}}
    tools = [
        {"type": "function", "function": {"name": f"f{n}", "parameters": words}} for n in range(40)
    ]
    said = '{"name": "f7", "arguments": {"word": "word 7"}}'
    assert served.chat(said, tools=tools, tool_choice="required")[0] == 200
    schema: Any = served.engine.asked[-1][1].schema
    assert [call["properties"]["arguments"] for call in schema["anyOf"]] == [
        {"type": "object"}
    ] * 40
    long = [{"type": "function", "function": {"name": f"{n:0128}"}} for n in range(128)]
    status, _headers, answer = served.chat("hi", tools=long, tool_choice="required")
    assert (status, answer["error"]["param"]) == (400, "tools")


def test_a_thought_is_apart_from_its_answer(served: Served) -> None:
    _status, _headers, answer = served.chat("<think>so so</think>Yes", enable_thinking=True)
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("so so", "Yes")
    assert served.engine.asked[-1][1] == Options(think=ENDLESS)
    body = {"messages": [{"role": "user", "content": "<think>so so</think>Yes"}], "stream": True,
            "reasoning_effort": "none", "chat_template_kwargs": {"style": "short"}}  # fmt: skip
    deltas = [each["choices"][0]["delta"] for each in
              events(served.ask("POST", "/v1/chat/completions", body)[2])]  # fmt: skip
    assert "".join(each.get("reasoning_content", "") for each in deltas) == "so so"
    assert "".join(each.get("content", "") for each in deltas) == "Yes"
    assert served.engine.asked[-1][1] == Options(template={"style": "short"}, think=0)


@pytest.mark.parametrize(
    ("default", "asked", "think"),
    [
        ("", {}, None),
        ("off", {}, 0),
        ("on", {}, ENDLESS),
        ("64", {}, 64),
        ("off", {"enable_thinking": True}, ENDLESS),
        ("64", {"enable_thinking": True}, 64),
        ("64", {"enable_thinking": False}, 0),
        ("on", {"chat_template_kwargs": {"enable_thinking": False}}, 0),
        ("on", {"reasoning_effort": "none"}, 0),
        ("off", {"thinking_budget": 9}, 9),
        ("on", {"thinking_budget": 9, "enable_thinking": False}, 0),
    ],
)
def test_how_long_a_model_thinks_is_as_the_catalogue_says_unless_asked_otherwise(
    default: str, asked: dict[str, Any], think: int | None
) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], **asked}
    request = msgspec.convert(body, ChatRequest)
    thinker = replace(model("polly"), engine="llamacpp", think=default)
    assert request.options(advised(thinker, Options()), None).think == think


def test_the_newer_limit_counts_thoughts_as_it_does_at_openai(served: Served) -> None:
    served.chat("Hi", max_tokens=5)
    assert served.engine.asked[-1][1] == Options(max_tokens=5)
    served.chat("Hi", max_completion_tokens=5)
    assert served.engine.asked[-1][1] == Options(max_tokens=5, counts_thought=True)


@pytest.mark.parametrize(
    ("mishap", "status", "code"),
    [
        (MessageTooLong("Too long.", next="x"), 400, "context_length_exceeded"),
        (NotSupported("No schema.", option="schema"), 400, "unsupported_value"),
        (EngineCrashed("It died.", "secret log"), 503, "engine_failed"),
        (NotEnoughMemory("It was killed.", "secret log"), 503, "engine_failed"),
        (NotEnoughMemoryLeft("It needs more.", "secret free"), 503, "not_enough_memory"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_what_the_engine_raises_becomes_an_error_without_its_details(
    served: Served, monkeypatch: pytest.MonkeyPatch, mishap: Exception, status: int, code: str
) -> None:
    monkeypatch.setattr(served.engine, "mishap", mishap)
    got, headers, answer = served.chat("hi there")
    assert (got, answer["error"]["code"]) == (status, code)
    assert "secret" not in str(answer)
    assert ("retry-after" in headers) == (code == "engine_failed")
    assert (headers.get("x-should-retry") == "false") == (code == "not_enough_memory")


@pytest.mark.parametrize(
    ("options", "prompt", "param"),
    [
        (Options(logprobs=0), "hi", "logprobs"),
        (Options(schema={"type": "object"}), "hi", "response_format"),
        (Options(), Tokens([1]), "prompt"),
    ],
    ids=str,
)
def test_what_an_engine_cannot_do_is_told_by_the_field(
    served: Served, monkeypatch: pytest.MonkeyPatch, options: Options, prompt: Any, param: str
) -> None:
    with pytest.raises(NotSupported) as refused:
        require("parrot", prompt, options)
    monkeypatch.setattr(served.engine, "mishap", refused.value)
    status, _headers, answer = served.chat("hi there")
    assert (status, answer["error"]["param"]) == (400, param)


def test_an_engine_that_fails_in_a_stream_ends_it_with_an_error(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.engine, "mishap", EngineCrashed("It died."))
    _status, _headers, content = served.ask(
        "POST", "/v1/chat/completions", HELLO | {"stream": True}
    )
    assert events(content)[-1]["error"]["code"] == "engine_failed"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405)],
)
def test_an_unknown_address_is_told_in_the_same_shape(
    served: Served, method: str, path: str, status: int
) -> None:
    got, _headers, content = served.ask(method, path)
    code = {404: "unknown_url", 405: "method_not_allowed"}[status]
    assert (got, json.loads(content)["error"]["code"]) == (status, code)


def test_only_json_is_read_so_that_no_other_site_can_ask(served: Served) -> None:
    status, _headers, _content = served.ask(
        "POST", "/v1/chat/completions", HELLO, Content_Type="text/plain"
    )
    assert status == 415


def test_models_are_listed_and_told_of(served: Served) -> None:
    _status, _headers, content = served.ask("GET", "/v1/models")
    (card,) = json.loads(content)["data"]
    assert (card["id"], card["context"], card["object"]) == ("polly", 200, "model")
    assert json.loads(served.ask("GET", "/v1/models/polly")[2]) == card
    assert served.ask("GET", "/v1/models/nobody")[0] == 404


def test_without_a_key_nothing_is_answered_where_there_are_keys(serve: Serve) -> None:
    served = serve(keys=Keys("sesame\nsimsim", None))
    for given in ("", "Bearer wrong", "sesam", "Bearer"):
        status, headers, content = served.ask("GET", "/v1/models", Authorization=given)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(content)["error"]["code"] == "invalid_api_key"
    for given in ("Bearer sesame", "bearer simsim", "sesame"):
        assert served.ask("GET", "/v1/models", Authorization=given)[0] == 200
    for path in ("/metrics", "/openapi.json"):
        assert served.ask("GET", path)[0] == 401
        assert served.ask("GET", path, Authorization="Bearer sesame")[0] == 200
    for path in ("/health", "/ready", "/", "/docs"):
        assert served.ask("GET", path)[0] == 200


def test_metrics_may_be_open_where_answers_are_not(serve: Serve) -> None:
    served = serve(keys=Keys("sesame", None), front=Front(open_metrics=True))
    assert served.ask("GET", "/metrics")[0] == 200
    assert served.ask("GET", "/openapi.json")[0] == 401


def test_the_metrics_count_requests_tokens_and_errors(served: Served) -> None:
    def figure(name: str) -> float:
        lines = served.ask("GET", "/metrics")[2].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    names = (
        'llmdeploy_requests_total{endpoint="chat",model="polly",status="200"}',
        'llmdeploy_tokens_total{kind="completion",model="polly"}',
        'llmdeploy_first_token_seconds_count{model="polly"}',
        'llmdeploy_errors_total{code="model_not_found",model=""}',
        'llmdeploy_errors_total{code="unknown_url",model=""}',
        'llmdeploy_queue_seconds_count{model="polly"}',
        'llmdeploy_token_seconds_bucket{le="0.02",model="polly"}',
        'llmdeploy_length_tokens_sum{kind="completion",model="polly"}',
        'llmdeploy_length_tokens_sum{kind="prompt",model="polly"}',
    )
    before = [figure(name) for name in names]
    served.chat("one two three")
    served.chat("one", model="nobody")
    served.ask("GET", "/nowhere")
    until(lambda: figure(names[0]) > before[0])
    assert [figure(name) - old for name, old in zip(names, before, strict=True)] == [
        1, 3, 1, 1, 1, 1, 1, 3, 10
    ]  # fmt: skip
    assert b"_created" not in served.ask("GET", "/metrics")[2]
    assert figure('llmdeploy_ready{model="polly"}') == 1


def test_an_error_of_a_model_has_its_name(served: Served) -> None:
    served.engine.mishap = EngineCrashed("It fell off its perch.")
    try:
        assert served.chat("one two")[0] == 503
    finally:
        served.engine.mishap = None
    name = b'llmdeploy_errors_total{code="engine_failed",model="polly"} '
    until(lambda: name in served.ask("GET", "/metrics")[2])


def test_the_metrics_have_the_names_of_vllm_where_told_to(serve: Serve, served: Served) -> None:
    other = serve(front=Front(metrics_alias="vllm"))
    other.chat("one two three")
    sought = b'vllm:e2e_request_latency_seconds_count{endpoint="chat",model_name="polly"} '
    until(lambda: sought in other.ask("GET", "/metrics")[2])
    told = other.ask("GET", "/metrics")[2].decode()
    families = {family.name: family for family in text_string_to_metric_families(told)}
    assert set(metrics.VLLM) <= set(families)
    for name, (own, part) in metrics.VLLM.items():
        ours = [
            (sample.name.removeprefix(own), sample.value)
            for sample in families[own].samples
            if part.items() <= sample.labels.items() and sample.labels["model"]
        ]
        theirs = families[name].samples
        assert [(each.name.removeprefix(name), each.value) for each in theirs] == ours
        assert ours
        assert all("model_name" in each.labels for each in theirs)
    assert b"vllm:" not in served.ask("GET", "/metrics")[2]


def test_the_dashboard_asks_for_figures_that_are_there(served: Served) -> None:
    served.chat("one")
    served.chat("one", model="nobody")
    until(lambda: b"model_not_found" in served.ask("GET", "/metrics")[2])
    told = served.ask("GET", "/metrics")[2].decode()
    samples = [
        sample for family in text_string_to_metric_families(told) for sample in family.samples
    ]
    known: dict[str, set[str]] = {}
    for sample in samples:
        known.setdefault(sample.name, set()).update(sample.labels)
    board = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    asked += [each["query"] for each in board["templating"]["list"] if each["type"] == "query"]
    assert len(asked) > 10
    for expression in asked:
        names = re.findall(r"llmdeploy_\w+", expression)
        assert names
        labels = re.findall(r"(\w+)=", expression) + re.findall(r"by \((.*?)\)", expression)
        labels = [label for each in labels for label in each.replace(",", " ").split()]
        assert all(set(labels) <= known[name] for name in names), expression


def test_the_log_has_an_id_and_figures_but_no_key_and_no_words(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    served = serve(keys=Keys("sesame", None))
    body = {"messages": [{"role": "user", "content": "confidential"}]}
    path = "/v1/chat/completions?confidential"
    _status, headers, _content = served.ask("POST", path, body, Authorization="Bearer sesame")
    served.ask("GET", "/confidential", Authorization="Bearer wrong-confidential")
    served.server.should_exit = True
    until(lambda: served.engine.dead)
    log = capfd.readouterr().err
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = [each for each in lines if each.get("id") == headers["x-request-id"]]
    assert (line["endpoint"], line["status"], line["completion_tokens"]) == ("chat", 200, 1)
    assert "confidential" not in log
    assert "sesame" not in log


def test_the_page_comes_with_a_policy_that_lets_nothing_else_run(served: Served) -> None:
    for path in ("/", "/docs", "/api/predict/x/", "/page/app.js"):
        status, headers, _content = served.ask("GET", path)
        assert status == 200
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
    status, headers, _content = served.ask("GET", "/api/predict/x")
    assert (status, headers["location"].endswith("/api/predict/x/")) == (307, True)
    assert served.ask("GET", "/page/../__init__.py")[0] == 404


SHOWN = {".html", ".js", ".css", ".svg"}


def test_no_address_outside_is_in_the_pages() -> None:
    from entrypoint.serve import app

    harmless = re.compile(
        r"http://www\.w3\.org/(2000/svg|1998/Math/MathML)"  # names
        r"|https://github\.com/markdown-it/markdown-it @license"  # a comment
        r"|http://\$\{"  # put before what may be an address, to take it apart
    )
    for path in (path for path in Path(app.PAGE).rglob("*.*") if path.suffix in SHOWN):
        text = harmless.sub("", path.read_text(encoding="utf-8"))
        assert "innerHTML" not in text
        assert "https://" not in text, path
        assert "http://" not in text, path
