"""The service in its container, with the flags that README.md promises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import requests
from docker.models.containers import Container
from openai import OpenAI

from builder.settings import Settings
from docker import DockerClient
from tests.images import CONFINED, EVERY_IMAGE, wait_for

KEY = "sesame"
Start = Callable[..., Container]


@pytest.fixture
def start(engine: DockerClient, built: Settings) -> Iterator[Start]:
    """Return a function that starts a hardened service; all end with the test."""
    started: list[Container] = []

    def start(*words: str, env: Sequence[str] = ()) -> Container:
        container = engine.containers.run(
            built.image_name,
            ["serve", "--model", "smollm2-135m", *words],
            detach=True,
            environment=list(env),
            ports={"8000/tcp": ("127.0.0.1", 0)},
            healthcheck={"interval": 1_000_000_000},
            **CONFINED,
        )
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove(force=True)


def url(container: Container) -> str:
    container.reload()
    (port,) = container.ports["8000/tcp"] or []
    return f"http://127.0.0.1:{port['HostPort']}"


def ready(container: Container) -> bool:
    try:
        return requests.get(f"{url(container)}/ready", timeout=5).ok
    except requests.RequestException:
        return False


def state(container: Container) -> Any:
    container.reload()
    return container.attrs["State"]


@EVERY_IMAGE
def test_a_hardened_service_answers_is_healthy_and_stops_with_success(start: Start) -> None:
    container = start(env=[f"LLMDEPLOY_API_KEY={KEY}"])
    wait_for(lambda: ready(container))
    with OpenAI(base_url=f"{url(container)}/v1", api_key=KEY, timeout=120) as client:
        answer = client.chat.completions.create(
            model="smollm2-135m", messages=[{"role": "user", "content": "Hi"}], max_tokens=8
        )
    assert answer.choices[0].message.content
    assert requests.get(url(container), timeout=5).ok
    assert requests.get(f"{url(container)}/v1/models", timeout=5).status_code == 401
    wait_for(lambda: state(container)["Health"]["Status"] == "healthy")
    container.stop(timeout=10)
    assert container.wait()["StatusCode"] == 0
    log = container.logs(stdout=False).decode()
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "leaving"
    assert KEY not in log
    assert container.logs(stderr=False) == b""


def test_without_a_key_only_the_container_itself_is_served_and_told_so(start: Start) -> None:
    container = start()
    wait_for(lambda: b"model loaded" in container.logs())
    assert b"--insecure" in container.logs()
    assert not ready(container)


def test_its_health_is_also_that_of_the_server(start: Start) -> None:
    container = start("--insecure")
    wait_for(lambda: state(container)["Health"]["Status"] == "healthy")
    container.kill("SIGSTOP")
    wait_for(lambda: state(container)["Health"]["Status"] == "unhealthy")
    container.kill("SIGCONT")
