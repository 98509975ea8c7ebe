"""English and Chinese: every text that a user reads passes through `_`.

English is written in the code; `zh.toml` of each side maps each English text to its Chinese one.
The language follows LLMDEPLOY_LANG, then the locale variables, as gettext would.
"""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

# The build side appends its own file.
CATALOGUES = [Path(__file__).parents[1] / "zh.toml"]


def language() -> str:
    """Return "zh" or "en", from the first of the usual variables that is set."""
    for variable in ("LLMDEPLOY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


@cache
def _chinese() -> dict[str, str]:
    return {
        english: chinese
        for path in CATALOGUES
        for english, chinese in tomllib.loads(path.read_text(encoding="utf-8")).items()
    }


def _(text: str) -> str:
    """Return `text` in the user's language; placeholders such as {name} are kept."""
    return _chinese().get(text, text) if language() == "zh" else text
