"""Headers of GGUF files, whole and broken."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypoint.common import gguf
from entrypoint.common.errors import DamagedModel
from entrypoint.common.gguf import Tensor


def number(value: int) -> bytes:
    return struct.pack("<Q", value)


def kind(value: int) -> bytes:
    return struct.pack("<I", value)


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


PAIRS = {
    "general.architecture": kind(8) + text("tiny"),
    "tiny.context_length": kind(4) + kind(512),
    "tiny.small": kind(0) + b"\xff",
    "tiny.signed": kind(1) + b"\xff",
    "tiny.half": kind(3) + struct.pack("<h", -2),
    "tiny.real": kind(6) + struct.pack("<f", 0.5),
    "tiny.yes": kind(7) + b"\x01",
    "tiny.long": kind(11) + struct.pack("<q", -3),
    "tiny.double": kind(12) + struct.pack("<d", 0.25),
    "tiny.words": kind(9) + kind(8) + number(2) + text("a") + text("你"),
    "tiny.lists": kind(9) + kind(9) + number(1) + kind(5) + number(2) + struct.pack("<ii", 1, -1),
}
TENSORS = [
    text("a.weight") + kind(2) + number(64) + number(2) + kind(2) + number(0),
    text("a.bias") + kind(1) + number(64) + kind(0) + number(96),
]


def whole(*, pairs: dict[str, bytes] = PAIRS, tensors: Sequence[bytes] = TENSORS) -> bytes:
    body = b"".join(text(key) + value for key, value in pairs.items())
    return (
        b"GGUF"
        + kind(3)
        + number(len(tensors))
        + number(len(pairs))
        + body
        + b"".join(tensors)
        + bytes(400)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


def test_every_kind_of_value_is_read(file: Path) -> None:
    file.write_bytes(whole())
    header = gguf.read(file)
    assert header.metadata == {
        "general.architecture": "tiny",
        "tiny.context_length": 512,
        "tiny.small": 255,
        "tiny.signed": -1,
        "tiny.half": -2,
        "tiny.real": 0.5,
        "tiny.yes": True,
        "tiny.long": -3,
        "tiny.double": 0.25,
        "tiny.words": ["a", "你"],
        "tiny.lists": [[1, -1]],
    }
    assert header.tensors == (
        Tensor("a.weight", (64, 2), type=2, offset=0),
        Tensor("a.bias", (64,), type=0, offset=96),
    )
    assert header.tensors[0].elements == 128


def test_keys_are_found_behind_the_architecture(file: Path) -> None:
    file.write_bytes(whole())
    header = gguf.read(file)
    assert header.get("context_length") == 512
    assert header.get("expert_count") == 0
    assert header.get("expert_count", 7) == 7


def test_a_file_that_ends_anywhere_in_its_header_is_damaged(file: Path) -> None:
    content = whole()
    for end in range(len(content) - 400 + 95):
        file.write_bytes(content[:end])
        with pytest.raises(DamagedModel):
            gguf.read(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>Please log in</html>",
        b"GGUF" + kind(1) + bytes(64),  # a version that nobody writes any more
        b"GGUF" + kind(3) + number(1 << 60) + number(1 << 60),
        whole(pairs={"general.name": kind(8) + number(1 << 60)}),
        whole(pairs={"general.name": kind(9) + kind(8) + number(1 << 60)}),
        whole(pairs={"general.name": kind(99) + bytes(64)}),
        whole(pairs={"general.name": kind(8) + text("no architecture")}),
        whole(pairs={**PAIRS, "tiny.deep": kind(9) + (kind(9) + number(1)) * 100_000}),
        whole(tensors=[]),
    ],
)
def test_nonsense_is_damaged_and_takes_no_memory(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DamagedModel) as caught:
        gguf.read(file)
    assert str(file) in caught.value.what


@given(st.data())
def test_whatever_is_changed_in_a_header_it_is_read_or_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(whole()[:-400])
    for _change in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    file = tmp_path_factory.getbasetemp() / "changed.gguf"
    file.write_bytes(content + bytes(400))
    try:
        header = gguf.read(file)
    except DamagedModel:
        return
    assert header.tensors
    assert header.get("context_length") is not None
