"""Text that others wrote, as it may be shown: nothing in it steers a terminal."""

from __future__ import annotations

import sys

# Of most characters that steer, Unicode has pictures; the others (C1) are a question mark's sign.
PICTURES = {each: 0x2400 + each for each in range(0x20) if chr(each) not in "\t\n"} | {0x7F: 0x2421}
CONTROLS = PICTURES | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """Return `text` with what steers, or cannot be written as UTF-8, made visible."""
    return text.translate(CONTROLS).encode(errors="replace").decode()


def say(text: str) -> None:
    """Write a line of any origin to standard error."""
    print(visible(text), file=sys.stderr, flush=True)
