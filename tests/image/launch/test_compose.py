"""The service under Docker Compose: started, updated, undone, ended, with the real engine."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from builder.launch import targets
from builder.launch.deployment import Deployment
from builder.launch.platforms import compose
from builder.settings import Settings
from docker import DockerClient
from entrypoint.common.errors import NotReady

from .conftest import download, free_port, install

KEY = "k" * 64


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    (tmp_path / "keys").write_text(KEY + "\n")
    return Deployment(
        name=f"llmdeploy-test-{os.getpid()}",
        model="smollm2-135m",
        parallel=1,
        memory=1024,
        port=free_port(),
        keys=str(tmp_path / "keys"),
    )


@pytest.fixture(params=["v1", "v2"])
def launched(
    request: pytest.FixtureRequest,
    settings: Settings,
    image: str,  # noqa: ARG001 - what is launched
    deployment: Deployment,
) -> Iterator[Deployment]:
    """Return a deployment that runs, launched by the old program or by the docker command's plugin.

    The plugin takes precedence, so a person who has both gets the newer one.
    """
    install("docker-compose", "docker-compose")
    if request.param == "v2":
        request.getfixturevalue("plugin")
    targets.apply(settings, deployment, "compose")
    yield deployment
    compose.teardown(settings, deployment)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the docker command Compose v2 as a plugin, out of Debian 13's package."""
    [deb] = download(tmp_path / "apt", "trixie", "docker-compose")
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path / "compose"], check=True)
    plugins = tmp_path / "docker/cli-plugins"
    plugins.parent.mkdir()
    plugins.symlink_to(tmp_path / "compose/usr/libexec/docker/cli-plugins")
    monkeypatch.setenv("DOCKER_CONFIG", str(plugins.parent))
    told = subprocess.check_output(["docker", "compose", "version", "--short"], text=True)
    assert told.startswith("2."), told


def ask(deployment: Deployment, key: str = KEY) -> requests.Response:
    return requests.post(
        f"{compose.url(deployment)}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        proxies={"no": "127.0.0.1"},
    )


def container(engine: DockerClient, deployment: Deployment) -> Any:
    label = f"{compose.PROJECT}={deployment.name}"
    [found] = engine.containers.list(all=True, filters={"label": label})
    return found


def test_the_service_from_its_launch_to_its_end(
    settings: Settings,
    launched: Deployment,
    engine: DockerClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ask(launched).json()["choices"][0]["message"]["content"]
    assert ask(launched, "wrong").status_code == 401
    first = container(engine, launched)
    assert first.attrs["HostConfig"]["ReadonlyRootfs"]
    assert first.attrs["HostConfig"]["CapDrop"] == ["ALL"]

    targets.apply(settings, launched, "compose")
    assert container(engine, launched).id == first.id, "a second launch made another"

    compose.status(settings, launched)
    assert settings.image_name in capsys.readouterr().out

    slow = replace(launched, memory=1100)
    targets.apply(settings, slow, "compose")
    second = container(engine, launched)
    assert second.id != first.id

    with pytest.raises(NotReady, match="was not ready within 3 seconds") as caught:
        compose.apply(
            settings, replace(slow, model="no-such-model", patience=3), settings.image_name
        )
    assert "no-such-model" in caught.value.why
    assert "--model', 'smollm2-135m" in str(container(engine, launched).attrs["Args"])
    compose.Project(slow).wait()
    assert ask(launched).ok


@pytest.mark.usefixtures("image")
def test_a_first_launch_that_fails_leaves_nothing(
    settings: Settings, deployment: Deployment, engine: DockerClient
) -> None:
    install("docker-compose", "docker-compose")
    wrong = replace(deployment, model="no-such-model", patience=3)
    with pytest.raises(NotReady):
        compose.apply(settings, wrong, settings.image_name)
    label = f"{compose.PROJECT}={deployment.name}"
    assert engine.containers.list(all=True, filters={"label": label}) == []
    assert engine.networks.list(filters={"label": label}) == []
    assert not (settings.dist_dir / "launch/compose" / deployment.name).exists()
