"""What an environment leaves behind when it is packed: the patterns of env/trim*.txt."""

from __future__ import annotations

from fnmatch import fnmatch
from functools import cache
from typing import Literal

from builder.settings import ROOT

FOLDER = ROOT / "env"


@cache
def filters(environment: str) -> list[tuple[Literal["exclude", "include"], str]]:
    """Return the patterns of env/trim.txt, then of env/trim-ENVIRONMENT.txt if there is one.

    They are as conda-pack takes them: the last one that fits decides.
    """
    files = [FOLDER / "trim.txt", FOLDER / f"trim-{environment}.txt"]
    texts = [path.read_text(encoding="utf-8") for path in files if path.exists()]
    lines = [line for text in texts for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [
        ("include", pattern[1:]) if pattern.startswith("!") else ("exclude", pattern)
        for pattern in patterns
    ]


def kept(path: str, environment: str) -> bool:
    """Tell whether the file at `path` below the prefix is packed."""
    verdict = "include"
    for kind, pattern in filters(environment):
        if fnmatch(path, pattern):
            verdict = kind
    return verdict == "include"
