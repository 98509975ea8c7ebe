"""What a person sees while the stages run: on standard error, with times."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from entrypoint.common.language import _


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


def following(log: Path) -> AbstractContextManager[object]:
    """Show on a terminal how far a build has come that writes into `log`."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # 0.1 s, and few stages need it
    from rich.live import Live

    return Live(
        get_renderable=lambda: f"    {_steps(log)}",
        console=Console(stderr=True, highlight=False),
        refresh_per_second=1,
        transient=True,
    )


def _steps(log: Path) -> str:
    """Return the last "[3/458]" that ninja has written; "" before the first."""
    counts = re.findall(rb"\[\d+/\d+\]", log.read_bytes()) if log.exists() else []
    return counts[-1].decode() if counts else ""
