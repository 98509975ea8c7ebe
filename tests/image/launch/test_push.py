"""Images go to a real registry, and only what it does not have goes."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.launch import push
from builder.launch.deployment import Deployment
from builder.settings import Settings
from docker import DockerClient
from entrypoint.common.errors import ConfigFailure, ImageMissing, Refused

from .conftest import Registry, forget, free_port, serve

MEGABYTE = 1_000_000


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Return settings that keep this test's receipts apart."""
    return replace(settings, dist=str(tmp_path / "dist"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """Return a registry that has nothing yet, whatever other tests have pushed."""
    with serve(tmp_path / "registry") as empty:
        yield empty


@pytest.mark.usefixtures("image")
def test_weights_are_sent_once_and_a_changed_program_alone(
    own: Settings,
    registry: Registry,
    engine: DockerClient,
    derive: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = own.image
    deployment = Deployment("chat", image=image, registry=f"{registry.host}/team")
    push.push(own, deployment)
    first = capsys.readouterr()
    reference = first.out.strip()
    assert re.fullmatch(rf"{registry.host}/team/{image}@sha256:[0-9a-f]{{64}}", reference)
    assert push.reference(own, deployment) == reference
    everything = registry.received
    assert everything > 300 * MEGABYTE
    [layers, size, known] = re.findall(r"[\d.]+(?= layers|\ MB|\ were)", first.err)
    assert (int(layers), int(known)) == (len(engine.images.get(image).attrs["RootFS"]["Layers"]), 0)
    assert float(size) * MEGABYTE >= everything * 0.9, "compression makes the real bytes fewer"

    edited = derive("COPY Dockerfile /opt/llmdeploy/edited")
    registry.received = 0
    engine.images.get(edited).tag("llmdeploy-edited")
    push.push(own, replace(deployment, image="llmdeploy-edited"))
    engine.images.remove("llmdeploy-edited")
    assert registry.received < MEGABYTE
    assert "sent 1 layers" in capsys.readouterr().err

    registry.received = 0
    push.push(own, deployment)
    assert registry.received < MEGABYTE
    assert "sent 0 layers, 0.0 MB" in capsys.readouterr().err

    engine.images.pull(reference)
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", reference, "version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("llmdeploy ")


def test_a_registry_that_takes_nothing(own: Settings, image: str, tmp_path: Path) -> None:
    with serve(tmp_path / "readonly", readonly=True) as closed:
        deployment = Deployment("chat", image=image, registry=f"{closed.host}/team")
        with pytest.raises(Refused) as caught:
            push.push(own, deployment)
    assert "docker login" in caught.value.next


def test_a_registry_that_is_not_there(own: Settings, image: str) -> None:
    host = f"127.0.0.1:{free_port()}"
    nowhere = Deployment("chat", image=image, registry=f"{host}/team")
    with pytest.raises(Refused, match="did not take"):
        push.push(own, nowhere)
    forget(host)


@pytest.mark.usefixtures("engine")
def test_an_image_that_is_not_there_or_nowhere_to_send_it(own: Settings) -> None:
    unbuilt = Deployment("chat", image="llmdeploy-never-built", registry="127.0.0.1:1/team")
    with pytest.raises(ImageMissing, match="llmdeploy-never-built"):
        push.push(own, unbuilt)
    with pytest.raises(ConfigFailure, match="no registry"):
        push.push(own, replace(unbuilt, registry=""))
