"""What a model's own files say about it, so that nobody has to type it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from entrypoint.common.catalog import NO_ADVICE, SamplingAdvice
from entrypoint.common.gguf import Header

# Our names of the sampling options, as GGUF's keys have them.
GGUF_NAMES: Final = {
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "penalty_repeat",
}


# What opens a thought, and what then ends it: most models have the first pair, Gemma 4 the other.
THOUGHT_MARKS: Final = {"<think>": "</think>", "<|channel>thought": "<channel|>"}


@dataclass(frozen=True)
class Facts:
    """What is known from the files; whatever they do not tell is empty.

    `think` is as `catalog.Model` has it: a template that can be told not to think is, by default.
    """

    display_name: str = ""
    license: str = ""
    languages: tuple[str, ...] = ()
    think: str = ""
    sampling: SamplingAdvice = NO_ADVICE


def of_gguf(header: Header) -> Facts:
    """Return what the header of a GGUF file says."""
    about = header.metadata
    advice = {ours: about.get(f"general.sampling.{theirs}") for ours, theirs in GGUF_NAMES.items()}
    return Facts(
        display_name=text(about.get("general.name")),
        license=text(about.get("general.license")),
        languages=_texts(about.get("general.languages")),
        think=thinking(text(about.get("tokenizer.chat_template"))),
        sampling=sampling(advice),
    )


def thinking(template: str) -> str:
    """Return whether a model with this chat template thinks: "off" if it can be told not to."""
    if "enable_thinking" in template:
        return "off"
    return "on" if any(mark in template for mark in THOUGHT_MARKS.values()) else ""


def opening(template: str) -> str:
    """Return what opens a thought of a model with this chat template; most have the same."""
    ways = [mark for mark, closing in THOUGHT_MARKS.items() if closing in template]
    return ways[0] if ways else next(iter(THOUGHT_MARKS))


def sampling(advice: Mapping[str, Any]) -> SamplingAdvice:
    """Return the options that are numbers; a temperature of 0 is no advice on how to sample."""
    numbers = {
        name: value
        for name, value in advice.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if "top_k" in numbers:
        numbers["top_k"] = int(numbers["top_k"])
    return SamplingAdvice(**{name: _short(value) for name, value in numbers.items()})  # type: ignore[arg-type]


def _short(value: float) -> float:
    """Return a 32-bit number as a person writes it: 0.7 and not 0.699999988079071."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def text(value: Any) -> str:
    """Return a value that is a text, "" for any other."""
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(text, value))) if isinstance(value, list) else ()
