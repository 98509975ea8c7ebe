"""How much memory llama.cpp takes for a GGUF file, told from its header."""

from __future__ import annotations

from typing import Any, Final

from entrypoint.common.gguf import Header

F16, F32 = 2, 4  # bytes
BATCH: Final = 512  # tokens that llama-server computes at once, its --ubatch-size
PROGRAM: Final = 26 << 20  # the server itself, a prompt and an answer
WORD: Final = 280  # what it keeps for each word of the vocabulary, on average
# What a file calls its type, by number: of files that are kept as they are published.
NAMES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16",
}  # fmt: skip


def context(header: Header, most: int) -> int:
    """Return how many tokens a conversation may have: `most`, or what the model was trained for."""
    return int(min(most, header.get("context_length") or most))


def type_name(header: Header) -> str:
    """Return the name of the weights' type; "" if it is none that is known here."""
    return NAMES.get(header.metadata.get("general.file_type", -1), "")


def whole(header: Header, size: int, context: int) -> int:
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
    each = width // heads if heads else 0  # without attention there is nothing to keep
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
