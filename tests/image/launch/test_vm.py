"""The user data on a virtual machine that really boots, from nothing to an answer and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from builder.image import daemon as engines
from builder.launch import push
from builder.launch.alibaba import userdata
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage.run import run as run_program
from docker import DockerClient

from . import machine as machines
from .conftest import Registry, answers, wait_for
from .machine import HOST, SECONDS, Machine

KEY = "k" * 32

pytestmark = pytest.mark.slow


@pytest.fixture
def small(settings: Settings, image: str, engine: DockerClient) -> Iterator[str]:
    """Return the image without its larger model, which would be pulled for minutes."""
    recipe = (settings.image_dir / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in recipe.splitlines() if "model-qwen" not in line]
    file = settings.image_dir / "Dockerfile.small"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    client, name = engines.building_client(), f"{image}-small"
    run_program(
        [client.path, "build", "--quiet", "-t", name, "-f", file, settings.image_dir / "layers"],
        env=client.env,
    )
    yield name
    file.unlink()
    engine.images.remove(name)


@pytest.fixture
def machine(
    settings: Settings, small: str, registry: Registry, tmp_path: Path
) -> Iterator[Machine]:
    """Return a machine that was given the user data of a deployment."""
    deployment = Deployment(
        "chat",
        image=small,
        registry=f"{registry.host}/team",
        model="smollm2-135m",
        parallel=1,
        memory=1024,
    )
    push.push(settings, deployment)
    here = push.reference(settings, deployment)
    there = here.replace("127.0.0.1", HOST)
    described = replace(deployment, image=there)
    data = userdata.render(described, there)
    disk = machines.disk(settings)
    with machines.boot(disk, data, KEY, deployment.port, tmp_path) as running:
        yield running


def ask(machine: Machine, key: str) -> requests.Response:
    return requests.post(
        f"{machine.url}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1},
        headers={"Authorization": f"Bearer {key}"},
        timeout=SECONDS,
        proxies={"no": "127.0.0.1"},
    )


def test_a_machine_starts_answers_and_heals(machine: Machine) -> None:
    try:
        wait_for(lambda: answers(f"{machine.url}/ready"), SECONDS)
    except AssertionError:
        print(machine.log.read_text(errors="replace")[-5000:])
        raise
    assert ask(machine, "wrong").status_code == 401
    assert ask(machine, KEY).json()["choices"][0]["message"]["content"]
    assert "Valid cloud-config" in machine.run("cloud-init schema --system")

    machine.run("docker kill llmdeploy")
    wait_for(lambda: not answers(f"{machine.url}/ready"), SECONDS)
    wait_for(lambda: answers(f"{machine.url}/ready"), SECONDS)
