"""What PAI-DSW gets."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.launch.alibaba import dsw
from builder.launch.deployment import Deployment, Dsw
from entrypoint.common.errors import ConfigFailure


def test_the_rendered_file(
    deployment: Deployment, golden: Callable[[str, Deployment], None]
) -> None:
    workplace = Dsw("ecs.g8i.2xlarge", "12345", "vpc-1", "vsw-1", "sg-1")
    golden("dsw", replace(deployment, name="my-lab", dsw=workplace))


def test_no_table(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match=r"no table \[dsw\]"):
        dsw.render(deployment, "a@sha256:1")
