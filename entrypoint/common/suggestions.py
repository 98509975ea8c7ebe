"""What a person may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from entrypoint.common.language import _


def did_you_mean(known: Iterable[str], *typed: str) -> str:
    """Return a question that names the known word nearest to the first typed one that has such.

    Without any it is "". Words that are known themselves suggest nothing.
    """
    names = list(known)
    for word in typed:
        if word not in names and (near := difflib.get_close_matches(word, names, n=1)):
            return _("Did you mean {name}?").format(name=near[0])
    return ""
