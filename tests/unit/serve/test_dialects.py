"""OpenAI's Responses and Anthropic's Messages: other words for a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from entrypoint.common.errors import EngineCrashed
from entrypoint.engines import Options
from entrypoint.serve.keys import Keys
from tests.served import Serve, Served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL = '{"name": "weather", "arguments": {"city": "上海"}}'
CALLED = f"Well: <tool_call>{CALL}</tool_call>"


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    address = f"http://127.0.0.1:{served.port}/v1"
    with openai.OpenAI(base_url=address, api_key="x", max_retries=0) as opened:
        yield opened


def post(served: Served, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    status, _headers, content = served.ask("POST", path, body, **headers)
    return status, json.loads(content)


def events(content: bytes) -> list[Any]:
    """Return the events of a stream, each of which is called what its type is."""
    told = []
    for text in content.decode().removesuffix("\n\n").split("\n\n"):
        name, data = text.split("\n")
        told.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {told[-1]['type']}"
    return told


def test_a_response_has_openais_shape(served: Served, client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="polly", instructions="be short", input="good morning", max_output_tokens=9
    )
    assert (response.status, response.output_text) == ("incomplete", "good morning")
    assert response.usage
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 2)
    assert served.engine.asked[-1] == (
        [{"role": "system", "content": "be short"}, {"role": "user", "content": "good morning"}],
        Options(max_tokens=9, counts_thought=True),
    )


def test_a_response_goes_back_into_the_input_as_it_came(
    served: Served, client: openai.OpenAI
) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
    asked: list[Any] = [{"role": "user", "content": f"<think>so so</think>{CALLED}"}]
    response = client.responses.create(model="polly", input=asked, tools=[tool])
    thought, words, call = response.output
    assert thought.type == "reasoning"
    assert words.type == "message"
    assert call.type == "function_call"
    assert (response.output_text, call.arguments) == ("Well: ", '{"city": "上海"}')
    asked += [each.model_dump() for each in response.output]
    asked += [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    client.responses.create(model="polly", input=asked, tools=[tool])
    history: Any = served.engine.asked[-1][0]
    _question, said, brought = history
    function = {"name": "weather", "arguments": call.arguments}
    assert said == {
        "role": "assistant",
        "content": "Well: ",
        "tool_calls": [{"id": call.call_id, "type": "function", "function": function}],
    }
    assert brought == {"role": "tool", "content": "rain", "tool_call_id": call.call_id}


def test_a_streamed_response_is_put_together_by_openais_own_client(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}
    said = f"<think>so so</think>{CALLED}"
    with client.responses.stream(model="polly", input=said, tools=[tool]) as stream:
        told = list(stream)
        whole = stream.get_final_response()
    assert [each.sequence_number for each in told] == list(range(len(told)))
    assert [each.type for each in told][:2] == ["response.created", "response.in_progress"]
    assert told[-1].type == "response.completed"
    assert whole.output_text == "Well: "
    assert [each.type for each in whole.output] == ["reasoning", "message", "function_call"]


def test_each_token_of_a_response_has_its_score_if_asked_for(
    served: Served, client: openai.OpenAI
) -> None:
    wish: Any = {"include": ["message.output_text.logprobs"]}
    response = client.responses.create(model="polly", input="é day", top_logprobs=1, **wish)
    assert served.engine.asked[-1][1] == Options(logprobs=1)
    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    likeliest = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}
    assert part.logprobs
    assert part.logprobs[0].model_dump() == likeliest | {"top_logprobs": [likeliest]}
    assert [each.token for each in part.logprobs] == ["é", " day"]
    assert response.top_logprobs == 1
    client.responses.create(model="polly", input="hi", **wish)
    assert served.engine.asked[-1][1] == Options(logprobs=0)


def test_each_piece_of_a_streamed_response_has_its_scores_and_the_end_has_all(
    client: openai.OpenAI,
) -> None:
    said = "<think>so so</think> good day"
    with client.responses.stream(model="polly", input=said, top_logprobs=1) as stream:
        told = list(stream)
        whole = stream.get_final_response()
    pieces = [each for each in told if each.type == "response.output_text.delta"]
    tokens = [" good", " day"]  # not those of the thought and its marks
    assert [score.token for piece in pieces for score in piece.logprobs] == tokens
    (done,) = (each for each in told if each.type == "response.output_text.done")
    assert [score.token for score in done.logprobs] == tokens
    assert [each.token for each in done.logprobs[0].top_logprobs or ()] == tokens[:1]
    for response in (whole, client.responses.create(model="polly", input=said, top_logprobs=1)):
        thought, message = response.output
        assert thought.type == "reasoning"
        assert message.type == "message"
        (part,) = message.content
        assert part.type == "output_text"
        assert [score.token for score in part.logprobs or ()] == tokens


def test_a_mark_that_has_a_tokens_letters_is_not_taken_for_it(client: openai.OpenAI) -> None:
    said = "<think> so </think> k k"
    response = client.responses.create(model="polly", input=said, top_logprobs=1)
    message = response.output[-1]
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert [score.token.strip() for score in part.logprobs or ()] == ["k", "k"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": "hi", "previous_response_id": "resp_1"}, "previous_response_id",
         "unsupported_value"),
        ({"input": "hi", "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"input": "hi", "background": True}, "background", "unknown_parameter"),
        ({"input": "hi", "tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "messages[0].content[0].type", "invalid_value"),
    ],
    ids=str,
)  # fmt: skip
def test_a_response_that_cannot_be_is_refused(
    served: Served, body: Any, param: str, code: str
) -> None:
    status, answer = post(served, "/v1/responses", body)
    assert (status, answer["error"]["code"]) == (400, code)
    assert answer["error"]["param"].removeprefix("$.") == param


def test_what_only_tells_does_not_change_a_response(served: Served) -> None:
    neutral = {"store": True, "metadata": {"a": "b"}, "truncation": "disabled",
               "include": ["reasoning.encrypted_content"],
               "background": False, "text": {"format": {"type": "text"}}, "user": "me"}  # fmt: skip
    assert post(served, "/v1/responses", {"input": "hi", **neutral})[0] == 200
    assert served.engine.asked[-1][1] == Options()


HELLO = {"model": "polly", "max_tokens": 9, "messages": [{"role": "user", "content": "good day"}]}
TOOLS = {"tools": [{"name": "weather", "input_schema": PARAMETERS}]}


def test_a_message_has_anthropics_shape(served: Served) -> None:
    orders = [{"type": "text", "text": "be short", "cache_control": {"type": "ephemeral"}}]
    more = {"system": orders, "stop_sequences": ["x"], "top_k": 5, "metadata": {"user_id": "me"}}
    status, answer = post(served, "/v1/messages", HELLO | more)
    assert status == 200
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "polly",
        "content": [{"type": "text", "text": "good day"}],
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "output_tokens": 2,
        },
    }
    assert served.engine.asked[-1] == (
        [{"role": "system", "content": "be short"}, {"role": "user", "content": "good day"}],
        Options(max_tokens=9, stop=("x",), top_k=5, counts_thought=True),
    )


def test_a_field_that_says_nothing_is_no_error_and_one_of_a_block_has_its_kind(
    served: Served,
) -> None:
    block: dict[str, Any] = {
        "type": "text",
        "text": "hello",
        "citations": None,
        "extra": None,
        "more": [],
    }
    turn = {"role": "user", "content": [block], "annotations": None}
    body = {"model": "polly", "max_tokens": 4, "messages": [turn], "extra": False}
    assert post(served, "/v1/messages", body)[0] == 200
    block["input"] = None
    status, answer = post(served, "/v1/messages", body)
    assert status == 400
    assert "messages[0].content[0].input" in answer["error"]["message"]


def test_a_tool_is_used_and_its_result_goes_back(served: Served) -> None:
    asked: list[Any] = [{"role": "user", "content": f"<think>so so</think>{CALLED}"}]
    _status, answer = post(served, "/v1/messages", HELLO | TOOLS | {"messages": asked})
    thought, words, use = answer["content"]
    assert (thought["thinking"], words["text"]) == ("so so", "Well: ")
    assert (use["name"], use["input"], answer["stop_reason"]) == (
        "weather", {"city": "上海"}, "tool_use",
    )  # fmt: skip
    result = {"type": "tool_result", "tool_use_id": use["id"], "is_error": False,
              "content": [{"type": "text", "text": "rain"}]}  # fmt: skip
    asked += [{"role": "assistant", "content": answer["content"]},
              {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]}]  # fmt: skip
    choice = {"tool_choice": {"type": "any"}, "messages": asked}
    assert post(served, "/v1/messages", HELLO | TOOLS | choice)[0] == 200
    history: Any = served.engine.asked[-1][0]
    _question, said, brought, again = history
    assert said["tool_calls"][0]["id"] == brought["tool_call_id"] == use["id"]
    assert (said["content"], brought["content"], again["content"]) == ("Well: ", "rain", "Well?")
    assert served.engine.asked[-1][1].schema


def test_a_streamed_message_begins_grows_and_ends_block_by_block(served: Served) -> None:
    asked = {"messages": [{"role": "user", "content": f"<think>so so</think>{CALLED}"}]}
    body = HELLO | TOOLS | asked | {"stream": True}
    told = events(served.ask("POST", "/v1/messages", body)[2])
    kinds = [each["type"] for each in told if each["type"] != "content_block_delta"]
    block = ["content_block_start", "content_block_stop"]
    assert kinds == ["message_start", *block * 3, "message_delta", "message_stop"]
    grown: dict[int, str] = {}
    for each in told:
        if each["type"] == "content_block_delta":
            _kind, text = each["delta"].values()
            grown[each["index"]] = grown.get(each["index"], "") + text
    assert grown == {0: "so so", 1: "Well: ", 2: '{"city": "上海"}'}
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    assert told[-2]["usage"]["output_tokens"]


def test_a_prompt_is_counted_with_its_tools(served: Served) -> None:
    body = {"messages": HELLO["messages"], **TOOLS}
    assert post(served, "/v1/messages/count_tokens", body) == (200, {"input_tokens": 10})
    assert served.engine.asked[-1][1].max_tokens == 1
    assert served.engine.asked[-1][1].tools


def test_a_key_may_be_shown_as_anthropics_clients_do(serve: Serve) -> None:
    served = serve(keys=Keys("sesame", None))
    assert post(served, "/v1/messages", HELLO)[0] == 401
    assert post(served, "/v1/messages", HELLO, x_api_key="wrong")[0] == 401
    assert post(served, "/v1/messages", HELLO, x_api_key="sesame")[0] == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_an_engine_that_fails_in_a_stream_is_told_of(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(served.engine, "mishap", EngineCrashed("It died."))
    body = HELLO if path == "/v1/messages" else {"input": "good day"}
    told = events(served.ask("POST", path, body | {"stream": True})[2])
    assert told[-1]["type"] == "error"
    assert "It died." in str(told[-1])


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/messages", {"messages": []}, 400, "invalid_request_error"),
        ("/v1/messages/count_tokens", {}, 400, "invalid_request_error"),
        ("/v1/messages",
         {"model": "no", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
         404, "not_found_error"),
    ],
    ids=range(3),
)  # fmt: skip
def test_what_is_wrong_with_a_message_is_told_in_anthropics_shape(
    served: Served, path: str, body: Any, status: int, kind: str
) -> None:
    code, answer = post(served, path, body)
    assert (code, answer["type"], answer["error"]["type"]) == (status, "error", kind)
    assert answer["error"]["message"]
