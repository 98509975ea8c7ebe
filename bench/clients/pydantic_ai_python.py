"""Pydantic AI."""

from __future__ import annotations

import asyncio

from attempts import BASE, KEY, MODEL, QUESTION, SHORT, Place, attempt, require
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import NativeOutput
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=BASE, api_key=KEY))
LIMIT = {"max_tokens": 128, "temperature": 0}


def _text() -> None:
    require(holds=Agent(model, model_settings=LIMIT).run_sync(SHORT).output, why="no text")


def _streamed() -> None:
    async def ask() -> str:
        async with Agent(model, model_settings=LIMIT).run_stream(SHORT) as run:
            return "".join([piece async for piece in run.stream_text(delta=True)])

    require(holds=asyncio.run(ask()), why="no text")


def _by_default() -> None:
    agent = Agent(model, output_type=Place, model_settings=LIMIT)
    require(holds=isinstance(agent.run_sync(QUESTION).output, Place), why="no place")


def _native() -> None:
    agent = Agent(model, output_type=NativeOutput(Place), model_settings=LIMIT)
    require(holds=isinstance(agent.run_sync(QUESTION).output, Place), why="no place")


attempt(
    "pydantic-ai-slim",
    {
        "Agent.run_sync": _text,
        "Agent.run_stream": _streamed,
        "output_type": _by_default,
        "NativeOutput": _native,
    },
)
