"""What a client tries at a server, one thing after the other, each told as a line of JSON.

The server is named by OPENAI_BASE_URL and OPENAI_API_KEY, as most clients want it, and MODEL.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

from pydantic import BaseModel

BASE: Final = os.environ["OPENAI_BASE_URL"]
KEY: Final = os.environ["OPENAI_API_KEY"]
MODEL: Final = os.environ["MODEL"]

QUESTION: Final = "What is the weather in Paris?"
SHORT: Final = "Say hello."


class Place(BaseModel):
    """Where something is."""

    city: str
    country: str


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"Sunny in {city}."


WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": get_weather.__doc__,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def require(*, holds: object, why: str) -> None:
    """Raise ValueError if something does not hold."""
    if not holds:
        raise ValueError(why)


def attempt(package: str, attempts: Mapping[str, Callable[[], None]]) -> None:
    """Try one after the other, each by the name of what it tries."""
    for tried, ask in attempts.items():
        error = ""
        try:
            ask()
        except Exception as raised:  # noqa: BLE001 (whatever a client raises is told)
            error = f"{type(raised).__name__}: {raised}"
        record = {"client": package, "version": version(package), "tried": tried, "error": error}
        print(json.dumps(record), flush=True)
