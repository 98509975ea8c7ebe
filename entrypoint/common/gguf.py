"""The header of a GGUF file: what a model is, and which tensors it has.

The `gguf` package makes an array of every word of the vocabulary: 7 s and 0.5 GB for a header that
takes a tenth of that here. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from entrypoint.common.errors import DamagedModel
from entrypoint.common.language import _

SHARD: Final = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")  # in the name of one part of a file
MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
UINT32, STRING, ARRAY, UINT64 = 4, 8, 9, 10
SCALARS: Final = {
    number: struct.Struct(f"<{code}")
    for number, code in [*enumerate("BbHhIif?"), *enumerate("Qqd", start=UINT64)]
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: `type` is ggml's number for it, `shape` counts elements, the row's width first.

    `offset` counts bytes from the end of the header.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The metadata by key, and the tensors in the file's order."""

    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]

    def get(self, key: str, default: Any = 0) -> Any:
        """Return the value of a key that the file writes behind its architecture's name."""
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}", default)


def read(path: Path) -> Header:
    """Read the header of `path`; raise DamagedModel if it is not a GGUF file or not a whole one."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise DamagedModel(
                _("{path} is not a GGUF file.").format(path=path),
                _("It does not begin as one does; a page or a pointer may have come in its place."),
                _("Get it again from where its model is published."),
            )
        size = path.stat().st_size
        cursor = _Cursor(stream, size)
        try:
            header = cursor.header()
            end = stream.tell() + max(each.offset for each in header.tensors)
        except (struct.error, ValueError, KeyError, RecursionError):
            end = size + 1
        if end > size:
            raise DamagedModel(
                _("{path} is truncated or damaged.").format(path=path),
                _("Its header describes more than its {size} bytes.").format(size=size),
                _("Get it again from where its model is published."),
            )
    return header


class _Cursor:
    """Reads one value after the other; raises struct.error or another error on nonsense."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def header(self) -> Header:
        if self._scalar(UINT32) not in VERSIONS:
            raise ValueError
        tensors, pairs = self._count(), self._count()
        metadata = {self._text(): self._value(self._scalar(UINT32)) for _each in range(pairs)}
        metadata["general.architecture"]  # without it the other keys have no meaning
        return Header(metadata, tuple(self._tensor() for _each in range(tensors)))

    def _tensor(self) -> Tensor:
        name = self._text()
        shape = tuple(self._scalar(UINT64) for _each in range(self._scalar(UINT32)))
        return Tensor(name, shape, type=self._scalar(UINT32), offset=self._scalar(UINT64))

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._text()
        if kind == ARRAY:
            inner = self._scalar(UINT32)
            return [self._value(inner) for _each in range(self._count())]
        return self._scalar(kind)

    def _text(self) -> str:
        return self._stream.read(self._count()).decode("utf-8", errors="replace")

    def _count(self) -> int:
        """Return how many bytes or items follow; no file has more of them than its size."""
        count: int = self._scalar(UINT64)
        if count > self._size:
            raise ValueError
        return count

    def _scalar(self, kind: int) -> Any:
        layout = SCALARS[kind]
        (value,) = layout.unpack(self._stream.read(layout.size))
        return value
