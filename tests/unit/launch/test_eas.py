"""What PAI-EAS gets."""

from dataclasses import replace

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import eas
from builder.launch.platforms.eas import Eas
from entrypoint.common.errors import ConfigFailure

PUBLIC = Eas(
    instance_type="ecs.g8i.xlarge",
    workspace="12345",
    vpc="vpc-1",
    vswitch="vsw-1",
    security_group="sg-1",
)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "either instance_type or resource"),
        ({"tables": (Eas(),)}, "either instance_type or resource"),
        ({"tables": (Eas(instance_type="a", resource="b"),)}, "either instance_type or resource"),
        ({"tables": (PUBLIC,), "port": 8080}, "EAS reserves the port 8080"),
    ],
)
def test_what_eas_would_not_take(
    deployment: Deployment, change: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigFailure) as caught:
        eas.render(replace(deployment, **change), "a@sha256:1")  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("whole", "part", "verdict"),
    [
        ({"a": 1, "b": [{"c": 2, "d": 3}]}, {"b": [{"c": 2}]}, True),
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": 1}, {"a": {"b": 1}}, False),
        ({"a": 1}, {"a": [1]}, False),
    ],
)
def test_what_a_description_contains(whole: object, part: object, verdict: bool) -> None:
    assert eas.contains(whole, part) is verdict
