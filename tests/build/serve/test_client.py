"""OpenAI's own Python client, unchanged, against a real model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Literal, cast

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import (
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolParam,
    ChatCompletionUserMessageParam,
)
from pydantic import BaseModel

from tests.build.serve.conftest import KEY, Process, Start
from tests.served import until

MODEL = "smollm2-135m"
QUESTION: list[ChatCompletionUserMessageParam] = [
    {"role": "user", "content": "Count from 1 to 9, like this: 1, 2, 3."}
]


@pytest.fixture(scope="module")
def client(api: Process) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
        yield client


def test_a_whole_answer_and_a_streamed_one_are_the_same(client: OpenAI) -> None:
    whole = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=24, seed=1
    )
    text = whole.choices[0].message.content
    assert text
    assert whole.usage
    assert 1 < whole.usage.completion_tokens <= 24

    pieces, costs = [], []
    for chunk in client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=24, seed=1, stream=True,
        stream_options={"include_usage": True},
    ):  # fmt: skip
        if chunk.choices:
            pieces.append(chunk.choices[0].delta.content or "")
        costs.append(chunk.usage)
    assert "".join(pieces) == text
    assert len(pieces) > 5
    assert costs[-1]
    assert costs[-1].completion_tokens == whole.usage.completion_tokens
    assert costs[:-1] == [None] * (len(costs) - 1)


def test_a_response_is_what_a_chat_answers(client: OpenAI) -> None:
    question = QUESTION[0]["content"]
    assert isinstance(question, str)
    chat = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=24
    )
    whole = client.responses.create(
        model=MODEL, input=question, temperature=0, max_output_tokens=24
    )
    assert whole.output_text == chat.choices[0].message.content
    events = client.responses.create(
        model=MODEL, input=question, temperature=0, max_output_tokens=24, stream=True
    )
    pieces = [each.delta for each in events if each.type == "response.output_text.delta"]
    assert "".join(pieces) == whole.output_text
    assert len(pieces) > 5


def test_a_stop_text_ends_an_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=48, stop=["3"]
    )
    assert "3" not in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"


def test_an_answer_follows_a_schema_where_the_engine_can(
    client: OpenAI, request: pytest.FixtureRequest
) -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"city": {"enum": ["Shanghai", "Beijing"]}},
        "required": ["city"],
    }

    def ask() -> str:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Where is Tongji University?"}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "place", "schema": schema, "strict": True},
            },
            max_tokens=32,
        )
        return answer.choices[0].message.content or ""

    if request.node.callspec.id == "openvino":
        with pytest.raises(openai.BadRequestError, match="openvino does not follow"):
            ask()
    else:
        assert json.loads(ask())["city"] in {"Shanghai", "Beijing"}


def test_a_raw_text_is_gone_on_with(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="Monday, Tuesday, Wednesday,", temperature=0, max_tokens=8
    )
    assert "Thursday" in answer.choices[0].text
    streamed = client.completions.create(
        model=MODEL, prompt="Monday, Tuesday, Wednesday,", temperature=0, max_tokens=8, stream=True
    )
    assert "".join(event.choices[0].text for event in streamed) == answer.choices[0].text


def test_the_same_client_works_below_the_prefix_of_pai_eas(api: Process) -> None:
    url = f"{api.url}/api/predict/my_service/v1"
    with OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=120) as client:
        assert client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4).choices


def test_models_are_listed(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_are_those_of_the_client(client: OpenAI) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="nobody", messages=QUESTION)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        create(model=MODEL, messages=QUESTION, temperature=9)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        create(model=MODEL, messages=[{"role": "user", "content": "word " * 2000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        create(
            model=MODEL,
            messages=QUESTION,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "none such"}},
            },
        )
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_a_stream_that_is_closed_stops_its_answer(client: OpenAI, api: Process) -> None:
    with client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Write a very long story."}],
        temperature=1.5,
        stream=True,
    ) as stream:
        next(iter(stream))
    until(lambda: any("model" in entry and "finish_reason" not in entry for entry in api.log[2:]))
    assert client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4).choices


class Place(BaseModel):
    """Where something is."""

    city: Literal["Shanghai", "Beijing"]


CODER = "qwen2.5-coder-0.5b"  # its template knows tools
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


@pytest.fixture(scope="module")
def coder(start: Start) -> Iterator[OpenAI]:
    words = ("serve", "--model", CODER, "--port", "0", "--parallel", "1", "--context", "1024")
    with start(*words) as program:
        process = Process(program)
        process.wait_for("model loaded")
        try:
            url = f"{process.url}/v1"
            with OpenAI(base_url=url, api_key="-", max_retries=0, timeout=120) as client:
                yield client
        finally:
            program.terminate()


def test_a_tool_is_called_and_its_answer_told(coder: OpenAI) -> None:
    history: list[ChatCompletionMessageParam] = [
        {"role": "user", "content": "What is the weather in Paris?"}
    ]
    for choice in ("auto", "required"):
        answer = coder.chat.completions.create(
            model=CODER, messages=history, tools=[WEATHER], tool_choice=choice, temperature=0,
            max_tokens=48,
        )  # fmt: skip
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.tool_calls
        (call,) = message.tool_calls
        assert isinstance(call, ChatCompletionMessageFunctionToolCall)
        assert json.loads(call.function.arguments) == {"city": "Paris"}
    history.append(cast("ChatCompletionMessageParam", message.model_dump()))
    history.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny."})
    told = coder.chat.completions.create(
        model=CODER, messages=history, tools=[WEATHER], tool_choice="none", max_tokens=16
    )
    assert told.choices[0].message.content
    assert told.choices[0].message.tool_calls is None


def test_the_stream_helper_gathers_a_call(coder: OpenAI) -> None:
    with coder.chat.completions.stream(
        model=CODER,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0,
        max_tokens=48,
    ) as stream:
        kinds = {event.type for event in stream}
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert calls
    assert "tool_calls.function.arguments.done" in kinds
    assert calls[0].function.parsed_arguments == {"city": "Paris"}


def test_parse_and_the_asynchronous_client(coder: OpenAI) -> None:
    async def ask() -> Place | None:
        async with AsyncOpenAI(base_url=str(coder.base_url), api_key="-", timeout=120) as client:
            answer = await client.chat.completions.parse(
                model=CODER,
                messages=[{"role": "user", "content": "Where is Tongji University?"}],
                response_format=Place,
                max_tokens=32,
            )
            return answer.choices[0].message.parsed

    place = asyncio.run(ask())
    assert place
    assert place.city in {"Shanghai", "Beijing"}
