"""Instructor."""

from __future__ import annotations

import instructor
from attempts import MODEL, QUESTION, Place, attempt, require
from openai import OpenAI


def _ask(mode: instructor.Mode) -> None:
    client = instructor.from_openai(OpenAI(max_retries=0), mode=mode)
    place = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Place,
        max_retries=0,
        max_tokens=128,
    )
    require(holds=isinstance(place, Place), why=f"got {place!r}")


def _by_function() -> None:
    _ask(instructor.Mode.TOOLS)


def _by_schema() -> None:
    _ask(instructor.Mode.JSON_SCHEMA)


attempt(
    "instructor",
    {
        "Mode.TOOLS": _by_function,
        "Mode.JSON_SCHEMA": _by_schema,
    },
)
