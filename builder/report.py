"""What a person sees while the stages run: on standard error, with times."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from entrypoint.language import _


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"    {text}", file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a stage and, at its end, how long it took."""
    print(f"==> {title}", file=sys.stderr, flush=True)
    start = time.monotonic()
    yield
    say(_("took {seconds:.1f} s").format(seconds=time.monotonic() - start))
