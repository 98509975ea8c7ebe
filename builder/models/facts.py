"""What the fetched files of a model say about it: a GGUF file, or a checkpoint's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder.models import intents
from builder.models.intents import Intent
from entrypoint.common import facts, gguf
from entrypoint.common.facts import Facts, sampling, text, thinking

# Our names of the sampling options, as generation_config.json has them.
CHECKPOINT_NAMES: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}


def read(intent: Intent, folder: Path) -> Facts:
    """Read the files of a model in `folder`; raise DamagedModel if they are none."""
    if intent.format == "gguf":
        return facts.of_gguf(gguf.read(folder / intents.locked()[intent.name][0].path))
    return of_checkpoint(folder)


def of_checkpoint(folder: Path) -> Facts:
    """Return what the files of a checkpoint in Hugging Face format say."""
    about, tokenizer = (
        _json(folder / "generation_config.json"),
        _json(folder / "tokenizer_config.json"),
    )
    template = folder / "chat_template.jinja"
    jinja = template.read_text(encoding="utf-8") if template.is_file() else ""
    card = folder / "README.md"
    front = _front(card.read_text(encoding="utf-8")) if card.is_file() else {}
    greedy = about.get("do_sample") is False  # then its other settings mean nothing
    advice = {} if greedy else {k: about.get(name) for k, name in CHECKPOINT_NAMES.items()}
    return Facts(
        license=front.get("license", ""),
        think=thinking(jinja or text(tokenizer.get("chat_template"))),
        sampling=sampling(advice),
    )


def _json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _front(card: str) -> Mapping[str, str]:
    """Return the plain values of the lines that a model card opens with."""
    parts = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    return dict(re.findall(r"(?m)^(\w+): *(\S.*?) *$", parts[1])) if parts else {}
