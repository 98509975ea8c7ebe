"""What the engine tells while it pushes, and which image is launched."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from builder.launch import push
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage import receipt
from entrypoint.common.errors import ConfigFailure, Refused, StageMissing

REPOSITORY = "registry.example.com/team/llmdeploy"
REFERENCE = REPOSITORY + "@sha256:" + "a" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(dist=str(tmp_path))


def pushed(settings: Settings, image: str) -> None:
    (settings.dist_dir / "push").mkdir()
    receipt.write(
        settings.dist_dir / "push/llamacpp.json",
        {"repository": REPOSITORY},
        [],
        image=image,
        reference=REFERENCE,
    )


def built(settings: Settings, image: str) -> None:
    settings.image_dir.mkdir(parents=True)
    receipt.write(settings.image_dir / "receipt.json", {}, [], image=image)


def test_bytes_are_counted_per_layer() -> None:
    events = [
        json.loads(line)
        for line in (
            '{"status": "Pushing", "id": "a", "progressDetail": {"current": 512, "total": 2048}}',
            '{"status": "Pushing", "id": "b", "progressDetail": {"current": 7, "total": 7}}',
            '{"status": "Pushing", "id": "a", "progressDetail": {"current": 2048}}',
            '{"status": "Pushed", "id": "a", "progressDetail": {}}',
            '{"status": "Layer already exists", "id": "c"}',
            '{"status": "Mounted from library/x", "id": "d"}',
            '{"progressDetail": {}, "aux": {"Tag": "t", "Digest": "sha256:1", "Size": 3}}',
        )
    ]
    assert push.account(events) == push.Sent("sha256:1", layers=2, size=2055, known=2)


def test_a_registry_that_refuses_is_quoted() -> None:
    with pytest.raises(Refused, match="did not take") as caught:
        push.account([{"error": "denied: requested access to the resource is denied"}])
    assert "denied" in caught.value.why
    assert "docker login" in caught.value.next


def test_a_reference_with_a_digest_is_taken_as_it_is(
    settings: Settings, deployment: Deployment
) -> None:
    assert push.reference(settings, replace(deployment, image=REFERENCE)) == REFERENCE


def test_what_was_pushed_is_launched(settings: Settings, deployment: Deployment) -> None:
    pushed(settings, "sha256:1")
    built(settings, "sha256:1")
    assert push.reference(settings, deployment) == REFERENCE


def test_what_was_not_pushed_cannot_be_launched(settings: Settings, deployment: Deployment) -> None:
    with pytest.raises(StageMissing, match="has not been pushed") as caught:
        push.reference(settings, deployment)
    assert "./llmdeploy push" in caught.value.next
    pushed(settings, "sha256:1")
    with pytest.raises(StageMissing, match="has not been pushed"):
        push.reference(settings, replace(deployment, registry="elsewhere.example.com/team"))


def test_an_image_that_changed_since_is_not_launched(
    settings: Settings, deployment: Deployment
) -> None:
    pushed(settings, "sha256:1")
    built(settings, "sha256:2")
    with pytest.raises(StageMissing, match="built anew"):
        push.reference(settings, deployment)


@pytest.mark.parametrize("registry", ["registry.example.com/NAMESPACE", "registry.example.com/a b"])
def test_a_registry_that_can_be_none_is_told_before_anything_is_sent(
    settings: Settings, deployment: Deployment, registry: str
) -> None:
    for ask in (push.push, push.reference):
        with pytest.raises(ConfigFailure, match=f"{registry}/llmdeploy cannot be") as caught:
            ask(settings, replace(deployment, registry=registry))
        assert "deploy.toml" in caught.value.next


def test_no_registry(settings: Settings, deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="names no registry"):
        push.reference(settings, replace(deployment, registry=""))
