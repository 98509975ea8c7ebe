"""How much memory and disk a model needs: refusing early needs the numbers early."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from builder.models.intents import Intent
from builder.quantizers import Need
from entrypoint.common import footprint, gguf
from entrypoint.common.gguf import Header

WEIGHTS: Final = "model.gguf"

# Bits for one weight; of the mixtures, on average.
BITS: Final = {
    "F32": 32.0,
    "F16": 16.0,
    "BF16": 16.0,
    "Q4_0": 4.5,
    "Q4_1": 5.0,
    "Q5_0": 5.5,
    "Q5_1": 6.0,
    "Q8_0": 8.5,
    "Q6_K": 6.6,
    "IQ4_NL": 4.5,
    "Q2_K": 3.4,
    "Q3_K_S": 3.6,
    "Q3_K_M": 4.1,
    "Q3_K_L": 4.4,
    "Q4_K_S": 4.7,
    "Q4_K_M": 5.0,
    "Q5_K_S": 5.6,
    "Q5_K_M": 5.8,
}


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the weights in `folder` take, and the bytes of memory."""
    weights = folder / WEIGHTS
    header = gguf.read(weights)
    context = footprint.context(header, intent.context)
    memory = footprint.whole(header, weights.stat().st_size, context)
    return Need(context, memory, footprint.each(header, context), footprint.type_name(header))


def size(header: Header, type: str) -> int:
    """Return about how many bytes the weights take in a type."""
    return int(sum(tensor.elements for tensor in header.tensors) * BITS[type] / 8)
