#!/usr/bin/env python3
"""Measure the battery's questions one after the other ("alone") and at once ("together").

Run with the environment's Python, and with the ways to measure after PLAN. Prints one JSON object:
for each way the seconds for each token of the answers.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing

from entrypoint.answers import questions
from entrypoint.arguments import models_folder
from entrypoint.common import catalog
from entrypoint.engines import Engine, Message, Options, Usage, open_engine

PLAN = json.loads(sys.argv[1])  # builder.bench.PLAN
OPTIONS = Options(temperature=0, max_tokens=PLAN["decode"])


def main() -> None:
    """Ask the ten questions in each way, each time of an engine that was just loaded."""
    # Told to be long, so that nearly all answers have as many tokens as they may.
    system: Message = {"role": "system", "content": PLAN["verbose"]}
    talks: list[list[Message]] = [
        [system, {"role": "user", "content": question.text}] for question in questions.load()
    ]
    parallel = {"alone": 1, "together": len(talks)}
    print(json.dumps({way: _measure(talks, parallel[way]) for way in sys.argv[2:]}))


def _measure(talks: list[list[Message]], parallel: int) -> float:
    """Return the seconds for each token of all answers, so many of them at once."""
    models = models_folder()
    model = catalog.load(models).find(None)
    with closing(open_engine(model, models, parallel=parallel)) as engine:
        _tokens(engine, [[{"role": "user", "content": PLAN["question"]}]])
        begun = time.monotonic()
        tokens = _tokens(engine, talks)
        return (time.monotonic() - begun) / tokens


def _tokens(engine: Engine, talks: list[list[Message]]) -> int:
    """Answer all, as many at once as the engine was opened for; return how many tokens came."""
    pieces = engine.stream_many(talks, OPTIONS)
    return sum(each.completion_tokens for _number, each in pieces if isinstance(each, Usage))


if __name__ == "__main__":
    main()
