"""Inspect, which evaluates models."""

from __future__ import annotations

import os
import tempfile

from attempts import BASE, KEY, MODEL, QUESTION, attempt, require

os.environ |= {"SERVED_BASE_URL": BASE, "SERVED_API_KEY": KEY}

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool


@tool
def weather() -> Tool:
    """Return the tool."""

    async def execute(city: str) -> str:
        """Tell the weather of a city.

        Args:
            city: its name

        """
        return f"Sunny in {city}."

    return execute


def _evaluate(*solvers: object) -> None:
    task = Task(dataset=[Sample(QUESTION, target="Sunny")], solver=solvers, scorer=includes())
    model = get_model(f"openai-api/served/{MODEL}", config=GenerateConfig(max_tokens=64))
    with tempfile.TemporaryDirectory() as folder:
        (log,) = evaluate(
            task, model=model, display="none", log_dir=folder, max_retries=0, message_limit=4
        )
    require(holds=log.status == "success", why=str(log.error and log.error.message))


def _plain() -> None:
    _evaluate(generate())


def _with_tools() -> None:
    _evaluate(use_tools(weather()), generate())


attempt(
    "inspect-ai",
    {
        "eval, generate": _plain,
        "use_tools": _with_tools,
    },
)
