"""How much memory a model needs, told from its header: refusing early needs the number early."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from builder.models import gguf
from builder.models.gguf import Header
from builder.models.intents import Intent
from builder.quantizers import Need

WEIGHTS: Final = "model.gguf"
F16, F32 = 2, 4  # bytes
BATCH: Final = 512  # tokens that llama-server computes at once, its --ubatch-size
PROGRAM: Final = 26 << 20  # the server itself, a prompt and an answer
WORD: Final = 280  # what it keeps for each word of the vocabulary, on average


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


# What a file calls its type, by number: of files that are kept as they are published.
NAMES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the weights in `folder` take, and the bytes of memory."""
    weights = folder / WEIGHTS
    header = gguf.read(weights)
    context = min(intent.context, header.get("context_length", intent.context))
    memory = needed(header, weights.stat().st_size, context)
    written = NAMES.get(header.metadata.get("general.file_type", -1), "")
    return Need(context, memory, each(header, context), written)


def size(header: Header, type: str) -> int:
    """Return about how many bytes the weights take in a type."""
    return int(sum(tensor.elements for tensor in header.tensors) * BITS[type] / 8)


def needed(header: Header, size: int, context: int) -> int:
    """Return the bytes that llama-server takes for one conversation of `context` tokens.

    `size` is that of the weights. They are read, not mapped, so there is one copy of them, whether
    the CPU's kernels want them repacked or not.
    """
    words = len(header.metadata.get("tokenizer.ggml.tokens", ()))
    weights = size + _second_embedding(header, size)
    return weights + _cache(header, context) + _scratch(header, context) + PROGRAM + WORD * words


def each(header: Header, context: int) -> int:
    """Return the bytes that a further conversation takes, computed beside the others."""
    return _cache(header, context)


def _second_embedding(header: Header, size: int) -> int:
    """Return the size of the tensor that is loaded twice if a model reads and writes with one."""
    elements = {tensor.name: tensor.elements for tensor in header.tensors}
    if "output.weight" in elements:
        return 0
    return size * elements.get("token_embd.weight", 0) // sum(elements.values())


def _cache(header: Header, context: int) -> int:
    """Return the size of the keys and values of every layer, which are 16-bit numbers."""
    width, heads = header.get("embedding_length"), _largest(header.get("attention.head_count"))
    each = width // heads
    key, value = (
        header.get("attention.key_length", each),
        header.get("attention.value_length", each),
    )
    layers, groups = header.get("block_count"), header.get("attention.head_count_kv", heads)
    total = sum(groups) if isinstance(groups, list) else groups * layers
    return int(total * (key + value) * F16 * context)


def _scratch(header: Header, context: int) -> int:
    """Return the size of one batch: the attention mask, and what two layers hand each other."""
    width, hidden = header.get("embedding_length"), _largest(header.get("feed_forward_length"))
    return int(BATCH * (F16 * context + F32 * (4 * width + 3 * hidden)))


def _largest(value: Any) -> int:
    """Return a number that some models state once and others for each layer."""
    return max(value) if isinstance(value, list) else int(value)
