"""Which images a test of the image is repeated on."""

import pytest

# For the fixture `built`, which else is the slim image's.
EVERY_IMAGE = pytest.mark.parametrize(
    "built", ["llamacpp", pytest.param("itrex", marks=pytest.mark.itrex)], indirect=True
)
