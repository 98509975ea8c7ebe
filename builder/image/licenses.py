"""The licence texts that lie in an image, as one text for people who only look at a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"licen[cs]e|copying|copyright|notice", re.IGNORECASE)
TEXT: Final = ("", ".txt", ".md", ".rst", ".license")
RULE: Final = "=" * 78


def collect(roots: Path) -> str:
    """Return the licence texts of the layers laid out below `roots`; each once, with its places."""
    places: dict[str, list[str]] = {}
    for root in sorted(roots.iterdir()):
        for path in _texts(root):
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            places.setdefault(text, []).append(f"/{path.relative_to(root)}")
    return "\n".join(
        "\n".join((RULE, *where, RULE, "", text, "")) for text, where in places.items()
    )


def _texts(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        plain = path.is_file() and not path.is_symlink()
        if plain and NAME.search(path.name) and path.suffix.lower() in TEXT:
            yield path
