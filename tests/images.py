"""Which images a test of the image is repeated on, and how a service of one is run."""

from typing import Any, Final

import pytest

# For the fixture `built`, which else is the slim image's.
EVERY_IMAGE = pytest.mark.parametrize(
    "built", ["llamacpp", pytest.param("itrex", marks=pytest.mark.itrex)], indirect=True
)

# The flags that README.md promises, as the SDK spells them, and a user whom nobody knows; with a
# network, over which such a service is asked.
HARDENED: Final[dict[str, Any]] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": ""},  # noqa: S108 - the container's
    "user": "12345:54321",
}
