"""The service in a real swarm of one node, under load, while things go wrong and change.

Kernels without IPVS have no routing mesh, so the clients sit in the stack's own network.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.image.layers import PREFIX
from builder.launch import push
from builder.launch.deployment import Deployment
from builder.launch.platforms import swarm
from builder.launch.platforms.swarm import Swarm
from builder.settings import Settings
from docker import DockerClient
from entrypoint.common.errors import NotReady, Refused

from .conftest import Registry, free_port, wait_for

KEY = "k" * 64
LOAD = Path(__file__).with_name("load.py").read_text(encoding="utf-8")
CLIENTS = 3


@pytest.fixture(scope="module")
def manager(engine: DockerClient) -> Iterator[DockerClient]:
    """Return the engine as the manager of a swarm that ends with these tests."""
    engine.swarm.init(advertise_addr="127.0.0.1", listen_addr=f"127.0.0.1:{free_port()}")
    yield engine
    engine.swarm.leave(force=True)


def described(folder: Path, registry: str = "") -> Deployment:
    """Return three replicas of the small model; `folder` gets their keys."""
    (folder / "keys").write_text(KEY + "\n")
    return Deployment(
        name=f"llmdeploy-test-{os.getpid()}",
        registry=registry,
        model="smollm2-135m",
        parallel=2,
        replicas=3,
        cpus=0.6,
        memory=1024,
        keys=str(folder / "keys"),
        patience=120,
        tables=(Swarm(published=False),),
    )


@pytest.fixture
def deployment(tmp_path: Path, registry: Registry) -> Deployment:
    return described(tmp_path, f"{registry.host}/team")


@dataclass(frozen=True)
class Load:
    """Clients in a container."""

    container: Any

    def ends(self) -> Counter[str]:
        """Return how many requests ended in which way so far."""
        return Counter(self.container.logs().decode().splitlines())

    def go_on(self) -> None:
        """Return when each client has had an answer, or some, since now."""
        before = self.ends()["whole"]
        wait_for(lambda: self.ends()["whole"] >= before + CLIENTS)


@contextmanager
def load(manager: DockerClient, deployment: Deployment, image: str) -> Iterator[Load]:
    container = manager.containers.run(
        image,
        ["-c", LOAD, swarm.url(deployment), KEY, str(CLIENTS)],
        entrypoint=f"/{PREFIX}/bin/python3",
        network=f"{deployment.name}_closed",
        detach=True,
    )
    try:
        yield Load(container)
    finally:
        container.remove(force=True)


def test_an_engine_that_manages_no_swarm(
    settings: Settings, deployment: Deployment, engine: DockerClient
) -> None:
    assert engine.info()["Swarm"]["LocalNodeState"] == "inactive"
    for action in (
        partial(swarm.apply, settings, deployment, "a@sha256:1"),
        partial(swarm.status, settings, deployment),
        partial(swarm.teardown, settings, deployment),
    ):
        with pytest.raises(Refused, match="not a manager") as caught:
            action()
        assert "docker swarm init" in caught.value.next


@pytest.mark.usefixtures("image")
def test_a_first_launch_that_fails_leaves_nothing(
    settings: Settings, deployment: Deployment, manager: DockerClient
) -> None:
    wrong = replace(deployment, model="no-such-model", patience=3)
    with pytest.raises(NotReady, match="was not ready within 3 seconds"):
        swarm.apply(settings, wrong, settings.image_name)
    label = {"label": f"{swarm.STACK}={deployment.name}"}
    for kept in (manager.services, manager.networks, manager.secrets):
        assert kept.list(filters=label) == []
    assert not (settings.dist_dir / "launch/swarm" / deployment.name).exists()


@pytest.mark.usefixtures("image")
def test_no_request_fails_but_those_of_a_killed_replica(
    settings: Settings,
    deployment: Deployment,
    manager: DockerClient,
    derive: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    push.push(settings, deployment)
    first = push.reference(settings, deployment)
    edited = replace(deployment, image=f"{settings.image}-swarm")
    manager.images.get(derive("COPY Dockerfile /edited")).tag(edited.image)
    stack = swarm.Stack(deployment)
    try:
        swarm.apply(settings, deployment, first)
        replicas = [task["ID"] for task in stack.tasks()]
        swarm.apply(settings, deployment, first)
        assert [task["ID"] for task in stack.tasks()] == replicas, "a second launch replaced some"
        with load(manager, deployment, first) as clients:
            clients.go_on()
            victim = stack.tasks()[0]["Status"]["ContainerStatus"]["ContainerID"]
            manager.containers.get(victim).kill()
            wait_for(lambda: victim not in str(stack.tasks()))
            stack.wait()
            clients.go_on()
            lost = clients.ends()
            assert lost["unanswered"] + lost["cut"] <= CLIENTS, lost
            assert set(lost) <= {"whole", "unanswered", "cut"}, lost

            push.push(settings, edited)
            capsys.readouterr()
            swarm.apply(settings, edited, push.reference(settings, edited))
            swarm.status(settings, edited)
            assert capsys.readouterr().out.count(push.reference(settings, edited)) == 3
            clients.go_on()
            assert set(clients.ends() - lost) == {"whole"}

            with pytest.raises(NotReady, match="went back to the old ones"):
                swarm.apply(settings, replace(edited, model="no-such-model"), first)
            clients.go_on()
            assert set(clients.ends() - lost) == {"whole"}
    finally:
        swarm.teardown(settings, deployment)
        manager.images.remove(edited.image)
    label = f"{swarm.STACK}={deployment.name}"
    assert manager.secrets.list(filters={"label": label}) == []
