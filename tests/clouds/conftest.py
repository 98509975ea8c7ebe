"""A cloud on loopback, and the real SDKs told to ask it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from builder.launch import alibaba, ready
from tests.clouds import loopback
from tests.clouds.loopback import Actions, Cloud


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Actions], Cloud]]:
    """Return a function that runs a cloud which knows some actions, until the test ends."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", loopback.KEY_ID)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", loopback.SECRET)
    monkeypatch.setattr(alibaba, "PAUSE", 0.01)
    monkeypatch.setattr(ready, "PAUSE", 0.05)
    with ExitStack() as stack:
        yield lambda actions: stack.enter_context(loopback.serve(actions))


@pytest.fixture
def _ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C pressed as soon as somebody waits for a service to be ready."""

    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ready, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))
