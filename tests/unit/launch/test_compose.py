"""What Docker Compose gets."""

from dataclasses import replace

import pytest
import yaml

from builder.launch.deployment import Deployment
from builder.launch.platforms import compose
from builder.launch.platforms.compose import Compose
from entrypoint.common.errors import ConfigFailure


def test_without_keys_it_stays_on_this_machine(deployment: Deployment) -> None:
    keyless = replace(deployment, keys="")
    project = yaml.safe_load(compose.render(keyless, "llmdeploy")[compose.FILE])
    assert "--insecure" in project["services"]["chat"]["command"]
    assert "secrets" not in project
    with pytest.raises(ConfigFailure, match="names no API keys"):
        compose.render(replace(keyless, tables=(Compose(bind="0.0.0.0"),)), "llmdeploy")


def test_more_than_one_replica_needs_another_platform(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="one replica") as caught:
        compose.render(replace(deployment, replicas=3), "llmdeploy")
    assert "swarm" in caught.value.next


def test_an_address_that_is_none(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="localhost"):
        compose.render(replace(deployment, tables=(Compose(bind="localhost"),)), "llmdeploy")


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_the_address_to_ask(deployment: Deployment, bind: str, url: str) -> None:
    assert compose.url(replace(deployment, tables=(Compose(bind=bind),))) == url
