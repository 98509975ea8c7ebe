"""What a swarm gets."""

from dataclasses import replace

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import swarm
from entrypoint.common.errors import ConfigFailure


def test_keys_are_required(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="swarm opens the service to others"):
        swarm.render(replace(deployment, keys=""), "a@sha256:1")
