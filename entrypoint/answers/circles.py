"""Whether a text goes round in circles: a model that is stuck says the same again and again."""

from __future__ import annotations

import re
from collections import Counter

WINDOW = 12  # characters: shorter ones recur in any text
MOST = 0.5  # the share of a text's windows that may have been there before
# An answer is stopped for so many windows in a row that were there so often before: no labelled
# answer of the tests has them whose share is small, and no file of this project.
SURE, OFTEN = 300, 2
LINES = re.compile(r"[\s\-_=*|#]+")  # blanks, and the lines of tables, recur


def share(text: str) -> float:
    """Return the share of a text that was there before in it; 0 for one too short to tell."""
    plain = LINES.sub("", text)
    windows = [plain[start : start + WINDOW] for start in range(len(plain) - WINDOW + 1)]
    return 1 - len(set(windows)) / len(windows) if len(windows) > 2 * WINDOW else 0.0


class Watch:
    """Reads a text as it comes, and tells for sure that it goes round in circles.

    It is surer than a share can be: a list, a table or a program that is written twice is none.
    """

    def __init__(self) -> None:
        self._rest = ""  # what was read last, shorter than a window
        self._seen: Counter[str] = Counter()
        self._old = 0  # windows in a row that say nothing new

    def stuck(self, piece: str) -> bool:
        """Read on; tell whether the text says nothing new any more."""
        self._rest += LINES.sub("", piece)
        while len(self._rest) >= WINDOW:
            window, self._rest = self._rest[:WINDOW], self._rest[1:]
            self._old = self._old + 1 if self._seen[window] >= OFTEN else 0
            self._seen[window] += 1
        return self._old >= SURE
