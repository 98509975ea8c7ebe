"""Columns of text that line up, Chinese included: its characters are two cells wide."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines, every column as wide as its widest cell."""
    from wcwidth import wcswidth

    widths = [max(map(wcswidth, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        GAP.join(
            cell + " " * (width - wcswidth(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )
