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


def test_a_file_of_keys_may_come_from_windows(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbfalpha\r\nbeta\r\n")
    keys = Keys("", file)
    assert keys.allow("Bearer alpha")
    assert keys.allow("Bearer beta")
    assert not keys.allow("Bearer ")


def test_without_any_key_everybody_may_ask() -> None:
    keys = Keys("", None)
    assert not keys
    assert keys.allow("")


def test_a_changed_file_is_read_again_and_one_without_keys_takes_them_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    replace(file, "old", 1)
    keys = Keys("", file)
    replace(file, "new", 2)
    assert keys.allow("new")
    assert not keys.allow("old")
    replace(file, "", 3)
    assert not keys.allow("new")
    assert not keys.allow("")
    replace(file, "newer", 4)
    assert keys.allow("newer")
    file.unlink()
    assert not keys.allow("newer")
    assert not keys.allow("")
    log = capfd.readouterr().err
    assert log.count("keys revoked") == 2
    assert "newer" not in log


def test_a_key_in_the_variable_outlives_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    replace(file, "alpha", 1)
    keys = Keys("gamma", file)
    file.unlink()
    assert [keys.allow(key) for key in ("alpha", "gamma", "")] == [False, True, False]


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_every_user_can_read_is_told_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], mode: int, told: bool
) -> None:
    file = tmp_path / "keys"
    file.write_text("alpha")
    file.chmod(mode)
    Keys("", file)
    assert (f"chmod o= {file}" in capfd.readouterr().err) == told


@pytest.mark.parametrize("content", [None, b"", b"# only words\n", b"\xff\xfe"])
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigFailure, match=str(file)):
        Keys("", file)
