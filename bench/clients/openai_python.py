"""OpenAI's own client for Python."""

from __future__ import annotations

import asyncio
import json

from attempts import MODEL, QUESTION, SHORT, WEATHER, Place, attempt, require
from openai import AsyncOpenAI, OpenAI

client = OpenAI(max_retries=0)
MESSAGES = [{"role": "user", "content": SHORT}]
WEATHER_NOW = [{"role": "user", "content": QUESTION}]
FORCED = {"type": "function", "function": {"name": "get_weather"}}


def _whole() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16)
    require(holds=answer.choices[0].message.content, why="no content")
    history = [*MESSAGES, answer.choices[0].message.model_dump(), *MESSAGES]
    client.chat.completions.create(model=MODEL, messages=history, max_tokens=4)


def _streamed() -> None:
    with client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=16, stream=True,
        stream_options={"include_usage": True},
    ) as stream:  # fmt: skip
        chunks = list(stream)
    require(holds=chunks[-1].usage, why="no usage")
    require(holds=any(c.choices and c.choices[0].delta.content for c in chunks), why="no content")


def _asynchronous() -> None:
    async def ask() -> str | None:
        async with AsyncOpenAI(max_retries=0) as other:
            answer = await other.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=16
            )
            return answer.choices[0].message.content

    require(holds=asyncio.run(ask()), why="no content")


def _helper() -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=WEATHER_NOW, tools=[WEATHER], tool_choice=FORCED, max_tokens=64
    ) as stream:
        kinds = {event.type for event in stream}
    require(holds="tool_calls.function.arguments.done" in kinds, why=f"only {sorted(kinds)}")


def _parsed() -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=WEATHER_NOW, response_format=Place, max_tokens=64
    )
    require(holds=answer.choices[0].message.parsed, why="nothing parsed")


def _tools() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=WEATHER_NOW, tools=[WEATHER], tool_choice="required", max_tokens=64
    )
    message = answer.choices[0].message
    call = message.tool_calls[0]
    require(holds="city" in json.loads(call.function.arguments), why="no argument city")
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    history = [*WEATHER_NOW, message.model_dump(), result]
    answer = client.chat.completions.create(
        model=MODEL, messages=history, tools=[WEATHER], tool_choice="none", max_tokens=16
    )
    require(holds=answer.choices[0].message.content, why="no content")


def _choices() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, n=2, seed=7, stop=["zzz"], logit_bias={"0": -100},
        max_tokens=8,
    )  # fmt: skip
    require(holds=len(answer.choices) == 2, why="not two choices")  # noqa: PLR2004


def _scores() -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2, max_tokens=4
    )
    tokens = answer.choices[0].logprobs.content
    require(holds=len(tokens[0].top_logprobs) == 2, why="not two scores")  # noqa: PLR2004


def _text() -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["The sea is", "The sky is"], max_tokens=4
    )
    require(holds=len(answer.choices) == 2, why="not two choices")  # noqa: PLR2004


def _responses() -> None:
    answer = client.responses.create(model=MODEL, input=SHORT, max_output_tokens=16)
    require(holds=answer.output_text, why="no text")


def _responses_streamed() -> None:
    with client.responses.stream(model=MODEL, input=SHORT, max_output_tokens=16) as stream:
        kinds = [event.type for event in stream]
    require(holds="response.output_text.delta" in kinds, why=f"only {sorted({*kinds})}")


def _embeddings() -> None:
    answer = client.embeddings.create(model=MODEL, input=[SHORT, QUESTION])
    require(holds=len(answer.data) == 2, why="not two vectors")  # noqa: PLR2004


def _models() -> None:
    require(holds=MODEL in {model.id for model in client.models.list()}, why="not listed")
    client.models.retrieve(MODEL)


attempt(
    "openai",
    {
        "chat.completions.create": _whole,
        "chat.completions.create(stream=True)": _streamed,
        "AsyncOpenAI": _asynchronous,
        "chat.completions.stream": _helper,
        "chat.completions.parse": _parsed,
        "tools, tool_choice, a turn of role tool": _tools,
        "n=2, seed, stop, logit_bias": _choices,
        "logprobs, top_logprobs": _scores,
        "completions.create": _text,
        "responses.create": _responses,
        "responses.stream": _responses_streamed,
        "embeddings.create": _embeddings,
        "models.list, models.retrieve": _models,
    },
)
