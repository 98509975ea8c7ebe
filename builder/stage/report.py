"""What a person sees while the stages run: on standard error, with times."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from entrypoint.common.language import _

INTERVAL = 60.0  # seconds between the lines that a build leaves in a log


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


@contextmanager
def following(log: Path) -> Iterator[None]:
    """Show how far a build has come that writes into `log`: live on a terminal, else by lines."""
    if not sys.stderr.isatty():
        with _lines(log):
            yield
        return
    from rich.console import Console  # 0.1 s, and few stages need it
    from rich.live import Live

    with Live(
        get_renderable=lambda: f"    {_steps(log)}",
        console=Console(stderr=True, highlight=False),
        refresh_per_second=1,
        transient=True,
    ):
        yield


@contextmanager
def _lines(log: Path) -> Iterator[None]:
    """Say every INTERVAL how far the build has come, so that a log shows that it goes on."""
    ended = Event()

    def tell() -> None:
        while not ended.wait(INTERVAL):
            if steps := _steps(log):
                say(steps)

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _steps(log: Path) -> str:
    """Return the last "[3/458]" that ninja has written; "" before the first."""
    counts = re.findall(rb"\[\d+/\d+\]", log.read_bytes()) if log.exists() else []
    return counts[-1].decode() if counts else ""
