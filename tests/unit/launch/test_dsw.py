"""What PAI-DSW gets."""

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import dsw
from entrypoint.common.errors import ConfigFailure


def test_no_table(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match=r"no table \[dsw\]"):
        dsw.render(deployment, "a@sha256:1")
