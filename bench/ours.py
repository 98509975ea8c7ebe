#!/usr/bin/env python3
"""Measure the program's own engine; run with the environment's Python. Prints one JSON object.

Everything passes through `open_engine`, as in a chat: the figures include the child process, its
socket and the chat template.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import closing
from pathlib import Path

from entrypoint.arguments import models_folder
from entrypoint.common import catalog, machine
from entrypoint.engines import Engine, Message, Options, Usage, open_engine

PLAN = json.loads(sys.argv[1])  # builder.bench.PLAN
SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}


def main() -> None:
    """Ask two questions of one chat, then measure long prompts and long answers."""
    text = Path(PLAN["text"]).read_text(encoding="utf-8")
    models = models_folder()
    model = catalog.load(models).find(None)
    with closing(open_engine(model, models)) as engine:
        figures = {
            "threads": machine.threads(),
            **_chat(engine),
            "prefill": [_prefill(engine, text[600 * n :]) for n in range(PLAN["repeats"])],
            "decode": [_decode(engine) for _n in range(PLAN["repeats"])],
        }
        helpers = _peak(resource.RUSAGE_CHILDREN)  # such as lscpu: they were gone before the peak
    ended = _peak(resource.RUSAGE_CHILDREN)  # the engine too, if it is a process of its own
    figures["memory"] = _peak(resource.RUSAGE_SELF) + (ended if ended > helpers else 0)
    print(json.dumps(figures))


def _peak(who: int) -> float:
    """Return the most memory that this process, or the largest of its ended children, had: MiB."""
    return resource.getrusage(who).ru_maxrss / 1024


def _chat(engine: Engine) -> dict[str, int]:
    """Return how many tokens the second question of a chat has and how many were computed."""
    chat: list[Message] = [SYSTEM, {"role": "user", "content": PLAN["question"]}]
    text, first = _ask(engine, chat, 256)
    chat += [{"role": "assistant", "content": text}, {"role": "user", "content": PLAN["second"]}]
    _text, second = _ask(engine, chat, 1)
    return {
        "prompt": first.prompt_tokens,
        "new": second.prompt_tokens - first.prompt_tokens - first.completion_tokens,
        "computed": second.prompt_tokens - second.cached_tokens,
    }


def _prefill(engine: Engine, text: str) -> float:
    """Return tokens per second of a new prompt of about 512 tokens, to its first answer."""
    length = PLAN["prefill"]
    while (
        engine.count_tokens([SYSTEM, {"role": "user", "content": text[:length]}]) < PLAN["prefill"]
    ):
        length += 16
    _text, usage = _ask(engine, [SYSTEM, {"role": "user", "content": text[:length]}], 1)
    return (usage.prompt_tokens - usage.cached_tokens) / usage.first_token


def _decode(engine: Engine) -> float:
    """Return tokens per second of an answer of 128 tokens."""
    messages: list[Message] = [SYSTEM, {"role": "user", "content": PLAN["story"]}]
    _text, usage = _ask(engine, messages, PLAN["decode"])
    if usage.completion_tokens != PLAN["decode"]:
        sys.exit(f"the answer ended after {usage.completion_tokens} tokens")
    return usage.rate


def _ask(engine: Engine, messages: list[Message], tokens: int) -> tuple[str, Usage]:
    pieces: list[str] = []
    for piece in engine.stream(messages, Options(temperature=0, max_tokens=tokens)):
        if isinstance(piece, Usage):
            return "".join(pieces), piece
        pieces.append(piece)
    sys.exit("the engine ended an answer without its figures")


if __name__ == "__main__":
    main()
