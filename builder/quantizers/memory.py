"""How much memory a model needs, told from its header: refusing early needs the number early."""

from __future__ import annotations

from typing import Any, Final

from builder.models.gguf import Header

F16, F32 = 2, 4  # bytes
BATCH: Final = 512  # tokens that llama-server computes at once, its --ubatch-size
PROGRAM: Final = 26 << 20  # the server itself, a prompt and an answer
WORD: Final = 280  # what it keeps for each word of the vocabulary, on average


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
