"""What a virtual machine and RunInstances get."""

import shlex
from dataclasses import replace

import pytest
import yaml

from builder.launch.alibaba import userdata
from builder.launch.deployment import Deployment
from builder.launch.platforms import ecs
from entrypoint.common.errors import ConfigFailure
from tests.deployments import ECS

IMAGE = "registry.example.com/team/llmdeploy@sha256:" + "0123456789abcdef" * 4


@pytest.fixture
def described(deployment: Deployment) -> Deployment:
    table = replace(ECS, registry_instance="cri-1", secret="chat-keys")  # noqa: S106 - a name
    return replace(deployment, tables=(table,))


def test_user_data_is_small_and_says_no_secret(described: Deployment) -> None:
    text = ecs.render(described, IMAGE)["user-data.yaml"]
    assert text.startswith("#cloud-config\n")
    assert len(text.encode()) < userdata.LARGEST
    assert "/deploy.keys" not in text
    files = {each["path"]: each for each in yaml.safe_load(text)["write_files"]}
    assert "SECRET=chat-keys" in files["/etc/llmdeploy/service.env"]["content"]


def test_user_data_that_is_too_large(described: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="a cloud takes 16384"):
        ecs.render(replace(described, model="m" * 16_000), IMAGE)


def test_words_with_quotes_arrive_whole(described: Deployment) -> None:
    system = 'You\'re 一个 "helpful" *'
    user_data = ecs.render(replace(described, system=system, alias=("*",)), IMAGE)["user-data.yaml"]
    (settings,) = [
        file["content"]
        for file in yaml.safe_load(user_data)["write_files"]
        if file["path"].endswith("service.env")
    ]
    (line,) = [line for line in settings.splitlines() if line.startswith("WORDS=")]
    # As systemd reads it: the file's quotes, then those of the words.
    words = shlex.split(shlex.split(line.removeprefix("WORDS="))[0])
    assert words[words.index("--system") + 1] == system
    assert words[words.index("--alias") + 1] == "*"


def test_no_table(deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match=r"no table \[ecs\]"):
        ecs.render(deployment, IMAGE)
