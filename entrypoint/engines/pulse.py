"""Whether an engine's process still works, which is more than that it is there."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable

from entrypoint.engines.child import Child

MOMENT = 1.0  # seconds in which a sign of life comes, unless the engine is busy or hangs


class Pulse:
    """Looks after a child: it runs, nobody stopped it, it gives signs within `patience` seconds.

    `ask` waits for a sign from what computes, for MOMENT seconds, and raises OSError or
    HTTPException if none came. An engine that hangs in an endless loop is told by that alone.
    """

    def __init__(self, child: Child, ask: Callable[[], None], patience: float) -> None:
        self._child, self._ask, self._patience = child, ask, patience
        self._heard = time.monotonic()

    def beats(self) -> bool:
        """Tell whether the engine can be expected to answer."""
        if not self._works():
            return False
        try:
            self._ask()
        except (OSError, http.client.HTTPException):
            # Whoever gave it up meanwhile is why it did not answer.
            return self._works() and time.monotonic() - self._heard < self._patience
        self._heard = time.monotonic()
        return True

    def _works(self) -> bool:
        return self._child.alive() and not self._child.halted()
