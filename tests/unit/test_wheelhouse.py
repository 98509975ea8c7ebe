"""pip, as the stages call it, whatever a person has told it for other work."""

import sys
from pathlib import Path

import pytest

from builder.environment import wheelhouse


@pytest.mark.parametrize("prefix", [sys.prefix, sys.base_prefix], ids=["venv", "prefix"])
def test_where_pip_may_install_is_ours_to_say(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    monkeypatch.setenv("PIP_USER", "1")
    nothing = tmp_path / "nothing.txt"
    nothing.touch()
    words = ("install", "--dry-run", "--no-index", "--requirement", nothing)
    wheelhouse.pip(Path(prefix, "bin", "python3"), *words)
