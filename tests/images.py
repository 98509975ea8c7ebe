"""Which images a test of the image is repeated on, and how one is run in the background."""

import time
from collections.abc import Callable
from typing import Any, Final

import pytest

# For the fixture `built`, which else is the slim image's.
EVERY_IMAGE = pytest.mark.parametrize(
    "built", ["llamacpp", pytest.param("itrex", marks=pytest.mark.itrex)], indirect=True
)

# The flags that README.md promises, as the SDK spells them, and a user whom nobody knows; but the
# network, which a service needs.
CONFINED: Final[dict[str, Any]] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's
    "user": "12345:54321",
}


def wait_for(condition: Callable[[], object]) -> None:
    """Return when the condition holds; fail after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
