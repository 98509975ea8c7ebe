"""How much memory a model needs, told from the files that OpenVINO opens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from builder.models.intents import Intent
from builder.quantizers import Need

MODEL: Final = "openvino_model.bin"
TOKENIZER: Final = "tokenizer/openvino_tokenizer.xml"
PROGRAM: Final = 210 << 20  # the library, a prompt and an answer
VOCABULARY: Final = 14  # bytes that it takes for each of the tokenizer's files


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the model in `folder` takes, and the bytes of memory."""
    [trained] = re.findall(r'<context_length value="(\d+)"', _read(folder / TOKENIZER))
    context = min(intent.context, int(trained))
    cache = int(_cached(_read((folder / MODEL).with_suffix(".xml"))) * context)
    weights = (folder / MODEL).stat().st_size
    words = sum(path.stat().st_size for path in (folder / TOKENIZER).parent.glob("*.bin"))
    # The file is mapped; what counts is the copy that the kernels of this CPU make of it.
    return Need(context, weights + cache + PROGRAM + VOCABULARY * words, cache)


def _cached(model: str) -> float:
    """Return the bytes that the cache has for a token: 8-bit numbers, and how they are scaled.

    A scale and a zero, in 32 bits each, belong to a token's values of one head; or, of the keys,
    to one channel of a block of 32 tokens.
    """
    variables = re.findall(
        r'variable_id="[^"]*?(key|value)present[^"]*".*?"\?,(\d+),\?,(\d+)"', model
    )
    return sum(
        int(heads) * (int(size) * 1.25 if kind == "key" else int(size) + 8)
        for kind, heads, size in variables
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
