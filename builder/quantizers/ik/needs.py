"""How much memory a model takes: no more than by llama.cpp, which repacks what is mapped here."""

from __future__ import annotations

from pathlib import Path

from builder.models.intents import Intent
from builder.quantizers import Need, llamacpp


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the weights in `folder` take, and the bytes of memory."""
    return llamacpp.measure(folder, intent)
