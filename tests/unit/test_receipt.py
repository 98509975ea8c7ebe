import os
from pathlib import Path

import pytest

from builder.stage import receipt

INPUTS = {"lock": "abc"}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "out.bin").write_bytes(b"content")
    receipt.write(tmp_path / "receipt.json", INPUTS, [tmp_path / "out.bin"])
    return tmp_path


def test_an_untouched_result_is_current(made: Path) -> None:
    assert receipt.current(made / "receipt.json", INPUTS)


def test_other_inputs_make_it_stale(made: Path) -> None:
    assert not receipt.current(made / "receipt.json", {"lock": "abd"})


def test_a_copy_with_another_time_is_still_current(made: Path) -> None:
    os.utime(made / "out.bin", (1, 1))
    assert receipt.current(made / "receipt.json", INPUTS)


@pytest.mark.parametrize("content", [b"contenT", b"conten", b"content+"])
def test_a_changed_output_makes_it_stale(made: Path, content: bytes) -> None:
    (made / "out.bin").write_bytes(content)
    os.utime(made / "out.bin", (1, 1))
    assert not receipt.current(made / "receipt.json", INPUTS)


def test_a_missing_output_makes_it_stale(made: Path) -> None:
    (made / "out.bin").unlink()
    assert not receipt.current(made / "receipt.json", INPUTS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"inputs": {}}'])
def test_a_damaged_receipt_counts_as_none(made: Path, content: str) -> None:
    (made / "receipt.json").write_text(content)
    assert not receipt.current(made / "receipt.json", INPUTS)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert receipt.digest({"a": 1, "b": 2}) == receipt.digest({"b": 2, "a": 1})
