"""The keys: where they come from, that they can be changed, and what is no file of keys."""

import os
from pathlib import Path

import pytest

from entrypoint.common.errors import ConfigFailure
from entrypoint.serve.keys import Keys


def replace(path: Path, text: str, age: int) -> None:
    """Write a file anew, as `age` nanoseconds after the epoch."""
    path.write_text(text)
    os.utime(path, ns=(age, age))


def test_keys_come_from_the_variable_and_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the team\nalpha\n\n  beta  \n")
    keys = Keys("gamma", file)
    assert [keys.allow(f"Bearer {key}") for key in ("alpha", "beta", "gamma")] == [True] * 3
    assert not keys.allow("Bearer # of the team")
    assert not keys.allow("")


def test_without_any_key_everybody_may_ask() -> None:
    keys = Keys("", None)
    assert not keys
    assert keys.allow("")


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    replace(file, "old", 1)
    keys = Keys("", file)
    replace(file, "new", 2)
    assert keys.allow("new")
    assert not keys.allow("old")
    replace(file, "", 3)
    assert keys.allow("new")
    assert not keys.allow("")
    file.unlink()
    assert keys.allow("new")
    log = capfd.readouterr().err
    assert log.count("keys kept") == 2
    assert "new" not in log


@pytest.mark.parametrize("content", [None, b"", b"# only words\n", b"\xff\xfe"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigFailure, match=str(file)):
        Keys("", file)
