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
    width, hidden = header.get("embedding_length"), _largest(header.get("feed_forward_length"))
    words = len(header.metadata.get("tokenizer.ggml.tokens", ()))
    fixed = working(context, width=width, hidden=hidden, words=words)
    return size + _second_embedding(header, size) + each(header, context) + fixed


def each(header: Header, context: int) -> int:
    """Return the bytes that a further conversation takes, computed beside the others."""
    return _cache(header, context) + _state(header)


def working(context: int, *, width: int, hidden: int, words: int) -> int:
    """Return the bytes that it takes besides weights and conversations.

    That is the server, what it keeps of a vocabulary of so many `words`, and one batch: the
    attention mask, and what two layers hand each other. `hidden` is the feed-forward's width.
    """
    batch = BATCH * (F16 * context + F32 * (4 * width + 3 * hidden))
    return int(PROGRAM + WORD * words + batch)


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
    layers, groups = _attending(header), header.get("attention.head_count_kv", heads)
    total = sum(groups) if isinstance(groups, list) else groups * layers
    return int(total * (key + value) * F16 * context)


def _attending(header: Header) -> int:
    """Return how many layers keep keys and values: of some models one in so many, the last."""
    return int(header.get("block_count") // max(1, header.get("full_attention_interval", 1)))


def _state(header: Header) -> int:
    """Return what the other layers keep of a conversation, however long it is, in 32 bits."""
    inner, state = header.get("ssm.inner_size"), header.get("ssm.state_size")
    past = (header.get("ssm.conv_kernel") - 1) * (inner + 2 * header.get("ssm.group_count") * state)
    layers = header.get("block_count") - _attending(header)
    return int(F32 * layers * (inner * state + past))


def _largest(value: Any) -> int:
    """Return a number that some models state once and others for each layer."""
    return max(value) if isinstance(value, list) else int(value)
