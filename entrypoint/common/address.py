"""Addresses on the web as people type them, checked before anything is asked of them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

STRANGE: Final = re.compile(r"[\s\x00-\x1f\x7f\\<>\"{}|^`]")  # in no part of an address


def parse(text: str) -> SplitResult | None:
    """Return the parts of an http or https address, None if `text` is none that could be asked."""
    if STRANGE.search(text):
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        if parts.scheme not in {"http", "https"} or parts.port == 0:
            return None
        if ":" not in host:  # else a number of version 6, which has been checked
            host.encode("idna")  # no empty label, and none above 63 bytes
    except ValueError:  # UnicodeError is one
        return None
    return parts if host else None
