"""LiteLLM."""

from __future__ import annotations

import asyncio
import json

import litellm
from attempts import BASE, KEY, MODEL, QUESTION, SHORT, WEATHER, attempt, require

MESSAGES = [{"role": "user", "content": SHORT}]
SERVER = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": KEY, "max_retries": 0}


def _whole() -> None:
    answer = litellm.completion(**SERVER, messages=MESSAGES, max_tokens=16)
    require(holds=answer.choices[0].message.content, why="no content")
    later = litellm.acompletion(**SERVER, messages=MESSAGES, max_tokens=16)
    require(holds=asyncio.run(later).choices[0].message.content, why="no content")


def _streamed() -> None:
    chunks = litellm.completion(**SERVER, messages=MESSAGES, max_tokens=16, stream=True)
    require(holds="".join(c.choices[0].delta.content or "" for c in chunks), why="no content")


def _tools() -> None:
    answer = litellm.completion(
        **SERVER, messages=[{"role": "user", "content": QUESTION}], tools=[WEATHER],
        tool_choice="required", max_tokens=64,
    )  # fmt: skip
    call = answer.choices[0].message.tool_calls[0]
    require(holds="city" in json.loads(call.function.arguments), why="no argument city")


def _text() -> None:
    server = {**SERVER, "model": f"text-completion-openai/{MODEL}"}
    answer = litellm.text_completion(**server, prompt="The sea is", max_tokens=4)
    require(holds=answer.choices[0].text, why="no text")


def _embeddings() -> None:
    require(holds=litellm.embedding(**SERVER, input=[SHORT]).data, why="no vector")


attempt(
    "litellm",
    {
        "completion, acompletion": _whole,
        "completion(stream=True)": _streamed,
        "completion(tools=...)": _tools,
        "text_completion": _text,
        "embedding": _embeddings,
    },
)
