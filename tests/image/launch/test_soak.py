"""A deployment for half an hour: killed and updated, with clients that ask on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import requests

from builder.launch import targets
from builder.launch.deployment import Deployment
from builder.launch.platforms import compose
from builder.settings import Settings
from docker import DockerClient

from .conftest import install, wait_for
from .test_compose import KEY, container, deployment

__all__ = ["deployment"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

SECONDS = 1800
RETRY = 10  # seconds after which a client asks again, once
CLIENTS = 2
QUESTION = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": 48}


@dataclass
class Clients:
    """Clients that ask again and again, each answer once more if it was not whole."""

    url: str
    ends: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask while the block runs."""
        threads = [threading.Thread(target=self._ask_on) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def _ask_on(self) -> None:
        while not self.over.wait(1):
            if self._whole():
                self.ends["at once"] += 1
                continue
            time.sleep(RETRY)
            self.ends["at the second try" if self._whole() else "lost"] += 1

    def _whole(self) -> bool:
        try:
            response = requests.post(
                f"{self.url}/v1/chat/completions",
                json=QUESTION,
                headers={"Authorization": f"Bearer {KEY}"},
                timeout=120,
                proxies={"no": "127.0.0.1"},
            )
            return bool(response.ok and response.json()["choices"][0]["message"]["content"])
        except (requests.RequestException, ValueError):
            return False


@pytest.mark.usefixtures("image")
def test_a_client_that_asks_twice_loses_no_answer(
    settings: Settings, deployment: Deployment, engine: DockerClient
) -> None:
    install("docker-compose", "docker-compose")
    deployment = replace(deployment, parallel=CLIENTS, cpus=0.5)
    targets.apply(settings, deployment, "compose")
    try:
        clients = Clients(compose.url(deployment))
        with clients.asking():
            time.sleep(SECONDS / 3)
            before = container(engine, deployment)
            # From outside, as the kernel does: what Docker itself kills it does not start again.
            os.kill(before.attrs["State"]["Pid"], signal.SIGKILL)
            wait_for(lambda: container(engine, deployment).attrs["RestartCount"] == 1)
            time.sleep(SECONDS / 3)
            targets.apply(settings, replace(deployment, memory=1100), "compose")
            assert container(engine, deployment).id != before.id
            time.sleep(SECONDS / 3)
        print(f"{SECONDS / 60:.0f} minutes, answered {dict(clients.ends)}")
        assert clients.ends["lost"] == 0, clients.ends
        assert clients.ends["at the second try"] > 0, "nothing was interrupted"
        assert container(engine, deployment).attrs["RestartCount"] == 0
    finally:
        compose.teardown(settings, deployment)
