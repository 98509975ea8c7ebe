"""What tells a process that works from one that is only there."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrypoint.common.errors import EngineCrashed, NotEnoughMemory
from entrypoint.engines.child import Child
from entrypoint.engines.pulse import Pulse
from tests.served import until


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child([sys.executable, "-c", "import time; time.sleep(600)"])
    yield child
    child.stop()


def deaf() -> None:
    raise TimeoutError


def test_a_child_that_answers_works(child: Child) -> None:
    assert Pulse(child, lambda: None, 0).beats()


def test_one_that_was_stopped_does_not_and_its_end_is_told_as_ours(child: Child) -> None:
    pulse = Pulse(child, lambda: None, 600)
    os.kill(child.pid, signal.SIGSTOP)
    until(lambda: not pulse.beats())
    assert child.alive()
    child.stop()
    assert not Path(f"/proc/{child.pid}").exists()
    assert isinstance(child.death(), EngineCrashed)


def test_one_that_gives_no_sign_has_some_time(child: Child) -> None:
    pulse = Pulse(child, deaf, 1)
    assert pulse.beats()
    time.sleep(1.1)
    assert not pulse.beats()


def test_a_sign_gives_new_time(child: Child) -> None:
    signs = iter([True, False, True, False])

    def ask() -> None:
        if not next(signs):
            raise TimeoutError

    pulse = Pulse(child, ask, 2)
    for _beat in range(4):
        time.sleep(0.7)
        assert pulse.beats()


def test_one_that_is_given_up_while_it_is_asked_does_not(child: Child) -> None:
    def ask() -> None:
        child.stop()
        raise ConnectionResetError

    assert not Pulse(child, ask, 600).beats()


def test_one_that_is_gone_does_not_and_the_kernel_is_blamed(child: Child) -> None:
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not child.alive())
    assert not Pulse(child, lambda: None, 600).beats()
    child.stop()
    assert isinstance(child.death(), NotEnoughMemory)
