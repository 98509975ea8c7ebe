"""The service in a swarm of three hosts, each an engine in a network of its own; one is cut off."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import docker
from builder.launch.platforms import swarm
from builder.settings import Settings

from .conftest import wait_for
from .test_swarm import CLIENTS, described, load

pytestmark = pytest.mark.slow

HUB = f"hub-{os.getpid()}"
PATIENCE = 65  # seconds after which each client has given up what the lost host answered
NOTICED = 90  # seconds after which a swarm certainly runs elsewhere what a lost host ran


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass(frozen=True)
class Host:
    """A container engine in a network namespace, whose only way out is a port of the hub."""

    number: int
    folder: Path

    @property
    def name(self) -> str:
        return f"host-{os.getpid()}-{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number}"

    @property
    def port(self) -> str:
        return f"port{self.number}"

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def engine(self) -> docker.DockerClient:
        return docker.DockerClient(self.url, version="auto", timeout=120)

    def wire(self) -> None:
        """Make the namespace and its cable."""
        ip("netns", "add", self.name)
        ip("link", "add", "eth0", "netns", self.name, "type", "veth",
           "peer", "name", self.port, "netns", HUB)  # fmt: skip
        ip("-n", HUB, "link", "set", self.port, "master", "bridge", "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")

    def plug(self, *, into: bool) -> None:
        """Put the cable into the hub, or pull it out."""
        ip("-n", HUB, "link", "set", self.port, "up" if into else "down")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the engine; end it with all that it runs."""
        words = [
            # Only the network and the name are the host's own: /sys has to stay as it is.
            "nsenter", f"--net=/run/netns/{self.name}", "unshare", "--uts", "--mount", "sh", "-c",
            'hostname "$0" && exec dockerd "$@"', self.name,
            f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec",
            f"--host={self.url}", f"--pidfile={self.folder}/pid",
        ]  # fmt: skip
        self.folder.mkdir()
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(words, stdout=log, stderr=log) as daemon,
        ):
            try:
                wait_for((self.folder / "docker.sock").exists)
                yield
            finally:
                daemon.terminate()


@pytest.fixture
def hosts(image: str, tmp_path: Path) -> Iterator[list[Host]]:
    """Return three hosts of one swarm, all of which have the image; the first one manages it."""
    hosts = [Host(number, tmp_path / str(number)) for number in (1, 2, 3)]
    archive = tmp_path / "image.tar"
    # With its tag: a bare name saves every tag that it has, of all engines.
    subprocess.run(["docker", "save", "-o", archive, f"{image}:latest"], check=True)
    with ExitStack() as stack:
        ip("netns", "add", HUB)
        stack.callback(ip, "netns", "del", HUB)
        ip("-n", HUB, "link", "add", "bridge", "type", "bridge")
        ip("-n", HUB, "link", "set", "bridge", "up")
        for host in hosts:
            host.wire()
            stack.callback(ip, "netns", "del", host.name)
            stack.enter_context(host.running())
            subprocess.run(["docker", "-H", host.url, "load", "-q", "-i", archive], check=True)
        archive.unlink()
        manager = hosts[0].engine
        manager.swarm.init(advertise_addr=hosts[0].address)
        token = manager.swarm.attrs["JoinTokens"]["Worker"]
        for host in hosts[1:]:
            host.engine.swarm.join([hosts[0].address], token, advertise_addr=host.address)
        yield hosts


def test_a_host_that_is_cut_off_takes_only_its_own_answers_along(
    settings: Settings, hosts: list[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = described(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", hosts[0].url)
    stack = swarm.Stack(deployment)
    swarm.apply(settings, deployment, settings.image_name)
    assert len({task["NodeID"] for task in stack.tasks()}) == 3, "one replica for each host"
    lost = hosts[2].engine.info()["Swarm"]["NodeID"]
    with load(hosts[0].engine, deployment, settings.image_name) as clients:
        clients.go_on()
        hosts[2].plug(into=False)
        cut = time.monotonic()
        wait_for(lambda: lost not in {task["NodeID"] for task in stack.tasks()}, NOTICED)
        stack.wait()
        print(f"three replicas on two hosts {time.monotonic() - cut:.0f} s after the cut")
        clients.go_on()

        hosts[2].plug(into=True)
        wait_for(lambda: not hosts[2].engine.containers.list(), NOTICED)
        wait_for(lambda: time.monotonic() > cut + PATIENCE, PATIENCE)
        clients.go_on()
        ends = clients.ends()
    print(dict(ends))
    assert set(ends) <= {"whole", "unanswered", "cut"}, ends
    assert ends["unanswered"] + ends["cut"] <= CLIENTS, ends
    swarm.teardown(settings, deployment)
