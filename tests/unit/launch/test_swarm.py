"""What a swarm gets."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.launch import swarm
from builder.launch.deployment import Deployment, Swarm
from entrypoint.common.errors import ConfigFailure


def test_the_rendered_file(
    deployment: Deployment, golden: Callable[[str, Deployment], None]
) -> None:
    golden(
        "swarm",
        replace(deployment, replicas=3, swarm=Swarm(constraints=("node.labels.cpu==amx",))),
    )


def test_keys_are_required(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="swarm opens the service to others"):
        swarm.render(replace(deployment, keys=""), "a@sha256:1")
