"""Whether a text goes round in circles: a model that is stuck says the same again and again."""

from __future__ import annotations

import re

WINDOW = 12  # characters: shorter ones recur in any text
MOST = 0.5  # the share of a text's windows that may have been there before
LINES = re.compile(r"[\s\-_=*|#]+")  # blanks, and the lines of tables, recur


def share(text: str) -> float:
    """Return the share of a text that was there before in it; 0 for one too short to tell."""
    plain = LINES.sub("", text)
    windows = [plain[start : start + WINDOW] for start in range(len(plain) - WINDOW + 1)]
    return 1 - len(set(windows)) / len(windows) if len(windows) > 2 * WINDOW else 0.0
