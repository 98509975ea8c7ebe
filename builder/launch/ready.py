"""Waiting until a service says that it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable

from builder.stage import report
from entrypoint.common.errors import NotReady
from entrypoint.common.language import _

PAUSE = 0.5  # seconds between two questions


def answers(url: str) -> Callable[[], bool]:
    """Return a condition: that a GET of `url` is answered with 200."""
    import requests

    session = requests.Session()
    session.trust_env = False  # a proxy knows nothing of this machine's own addresses

    def met() -> bool:
        try:
            return session.get(url, timeout=5).ok
        except requests.RequestException:
            return False

    return met


def wait(name: str, met: Callable[[], bool], patience: float, why: Callable[[], str]) -> None:
    """Return when `met` is true; raise NotReady with what `why` finds after `patience` seconds."""
    report.say(_("waiting until {name} is ready").format(name=name))
    deadline = time.monotonic() + patience
    while not met():
        if time.monotonic() > deadline:
            raise NotReady(
                _("{name} was not ready within {seconds} seconds.").format(
                    name=name, seconds=patience
                ),
                why(),
                _("All changes have been undone. If it only needed more time, increase patience."),
            )
        time.sleep(PAUSE)
