"""What a model's own files say about it, so that nobody has to type it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.models import gguf, intents
from builder.models.intents import Intent
from entrypoint.common.catalog import NO_ADVICE, Sampling

# Our names of the sampling options, as GGUF's keys and generation_config.json have them.
GGUF_NAMES: Final = {
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "penalty_repeat",
}
CHECKPOINT_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}


@dataclass(frozen=True)
class Facts:
    """What is known from the files; whatever they do not tell is empty.

    `think` is as `catalog.Model` has it: a template that can be told not to think is, by default.
    """

    display_name: str = ""
    license: str = ""
    languages: tuple[str, ...] = ()
    think: str = ""
    sampling: Sampling = NO_ADVICE


def read(intent: Intent, folder: Path) -> Facts:
    """Read the files of a model in `folder`; raise DamagedModel if they are none."""
    if intent.format == "gguf":
        return of_gguf(gguf.read(folder / intents.locked()[intent.name][0].path))
    return of_checkpoint(folder)


def of_gguf(header: gguf.Header) -> Facts:
    """Return what the header of a GGUF file says."""
    about = header.metadata
    advice = {ours: about.get(f"general.sampling.{theirs}") for ours, theirs in GGUF_NAMES.items()}
    return Facts(
        display_name=_text(about.get("general.name")),
        license=_text(about.get("general.license")),
        languages=_texts(about.get("general.languages")),
        think=thinking(_text(about.get("tokenizer.chat_template"))),
        sampling=_sampling(advice),
    )


def of_checkpoint(folder: Path) -> Facts:
    """Return what the files of a checkpoint in Hugging Face format say."""
    about, tokenizer = (
        _json(folder / "generation_config.json"),
        _json(folder / "tokenizer_config.json"),
    )
    template = folder / "chat_template.jinja"
    written = template.read_text(encoding="utf-8") if template.is_file() else ""
    card = folder / "README.md"
    front = _front(card.read_text(encoding="utf-8")) if card.is_file() else {}
    greedy = about.get("do_sample") is False  # then its other settings mean nothing
    advice = {} if greedy else {k: about.get(name) for k, name in CHECKPOINT_NAMES.items()}
    return Facts(
        license=front.get("license", ""),
        think=thinking(written or _text(tokenizer.get("chat_template"))),
        sampling=_sampling(advice),
    )


def thinking(template: str) -> str:
    """Return whether a model with this chat template thinks: "off" if it can be told not to."""
    if "enable_thinking" in template:
        return "off"
    return "on" if "</think>" in template else ""


def _sampling(advice: Mapping[str, Any]) -> Sampling:
    """Return the options that are numbers; a temperature of 0 is no advice on how to sample."""
    numbers = {
        name: value
        for name, value in advice.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if "top_k" in numbers:
        numbers["top_k"] = int(numbers["top_k"])
    return Sampling(**{name: _short(value) for name, value in numbers.items()})  # type: ignore[arg-type]


def _short(value: float) -> float:
    """Return a 32-bit number as a person writes it: 0.7 and not 0.699999988079071."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _front(card: str) -> Mapping[str, str]:
    """Return the plain values of the lines that a model card opens with."""
    parts = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    return dict(re.findall(r"(?m)^(\w+): *(\S.*?) *$", parts[1])) if parts else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(_text, value))) if isinstance(value, list) else ()
