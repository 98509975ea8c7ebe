"""The control words of a GGUF file: what llama.cpp's tokenizer takes for a token of its own.

Only their places are followed, which takes some hundredths of a second for a vocabulary of 150,000.
The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Final

# What stands before a text with a gap, before what is behind the gap, and before what fills it.
INFILLING: Final = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
)
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # types of tokens
# Some files call the marks of their turns user-defined, as they do tags and runs of spaces, which
# are text.
TURN: Final = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)
WORDS, TYPES = b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"
NUMBER, KIND = struct.Struct("<Q"), struct.Struct("<I")
STRING, ARRAY = 8, 9
SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of values
PAIRS = 16  # where their number stands
HEAD = KIND.size + NUMBER.size  # of an array


def control_words(path: Path) -> list[str]:
    """Return the control words of a whole GGUF file, [] if it tells of none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        arrays = _arrays(data)
        if arrays.keys() != {WORDS, TYPES}:
            return []
        (count,) = NUMBER.unpack_from(data, arrays[TYPES] + KIND.size)
        types = struct.unpack_from(f"<{count}i", data, arrays[TYPES] + HEAD)
        words = []
        place = arrays[WORDS] + HEAD
        for kind in types:
            end = _after(data, place, STRING)
            if kind in {UNKNOWN, CONTROL, USER_DEFINED}:
                word = data[place + NUMBER.size : end].decode("utf-8", errors="replace")
                if kind != USER_DEFINED or TURN.fullmatch(word):
                    words.append(word)
            place = end
    return words


def infilling(words: Collection[str]) -> tuple[str, str, str] | None:
    """Return those of INFILLING that are among the control words of a model."""
    return next((each for each in INFILLING if {*each} <= {*words}), None)


def _arrays(data: mmap.mmap) -> dict[bytes, int]:
    """Return where the vocabulary's words and their types begin."""
    arrays: dict[bytes, int] = {}
    (pairs,) = NUMBER.unpack_from(data, PAIRS)
    place = PAIRS + NUMBER.size
    for _each in range(pairs):
        end = _after(data, place, STRING)
        key = data[place + NUMBER.size : end]
        (kind,) = KIND.unpack_from(data, end)
        place = end + KIND.size
        if key in {WORDS, TYPES}:
            arrays[key] = place
            if len(arrays) == 2:  # noqa: PLR2004 - the words and their types
                break
        place = _after(data, place, kind)
    return arrays


def _after(data: mmap.mmap, place: int, kind: int) -> int:
    """Return where a value of this kind ends that begins at `place`."""
    if kind == STRING:
        return place + NUMBER.size + int(NUMBER.unpack_from(data, place)[0])
    if kind != ARRAY:
        return place + SIZES[kind]
    (inner,) = KIND.unpack_from(data, place)
    (count,) = NUMBER.unpack_from(data, place + KIND.size)
    place += HEAD
    if inner in SIZES:
        return place + int(count) * SIZES[inner]
    for _each in range(count):
        place = _after(data, place, inner)
    return place
