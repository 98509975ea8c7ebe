"""What an environment leaves behind when it is packed: the patterns of env/trim.txt."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache
from typing import Literal

from builder.settings import ROOT

FILE = ROOT / "env" / "trim.txt"


@cache
def filters() -> list[tuple[Literal["exclude", "include"], str]]:
    """Return the patterns in the file's order, as conda-pack takes them."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [
        ("include", pattern[1:]) if pattern.startswith("!") else ("exclude", pattern)
        for pattern in patterns
    ]


def kept(path: str) -> bool:
    """Tell whether the file at `path` below the prefix is packed."""
    verdict = "include"
    for kind, pattern in filters():
        if fnmatch(path, pattern):
            verdict = kind
    return verdict == "include"
