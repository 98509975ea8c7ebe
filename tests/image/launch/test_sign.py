"""What is pushed is told of, signed and verified; Debian's registry has no referrers API."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from builder.image import daemon as engines
from builder.launch import provenance, push, registry, signature, verify
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage import receipt
from docker import DockerClient
from entrypoint.common.errors import (
    HashMismatch,
    Refused,
    StageMissing,
    Unverified,
    UsageFailure,
)

from .conftest import Registry, free_port, openssl, serve

NAME = "llmdeploy-signed"
COMMIT = "a" * 40


@pytest.fixture
def small(settings: Settings, engine: DockerClient, tmp_path: Path) -> Iterator[Settings]:
    """Return the settings of a small image, with the receipt of its build."""
    place = tmp_path / "context"
    place.mkdir()
    (place / "file").write_text("content\n" * 1000)
    (place / "Dockerfile").write_text('FROM scratch\nCOPY file /\nCMD ["/file"]\n')
    client = engines.building_client()
    label = f"--label=org.opencontainers.image.revision={COMMIT}"
    subprocess.run(
        [client.path, "build", "-q", "-t", NAME, label, place],
        env=dict(client.env), check=True, capture_output=True,
    )  # fmt: skip
    own = replace(settings, dist=str(tmp_path / "dist"), image=NAME)
    own.image_dir.mkdir(parents=True)
    image = engine.images.get(NAME)
    (own.image_dir / "sbom.json").write_text('{"bomFormat": "CycloneDX"}')
    receipt.write(
        own.image_dir / "receipt.json", {}, [own.image_dir / "sbom.json"],
        image=image.id, layers=image.attrs["RootFS"]["Layers"],
    )  # fmt: skip
    yield own
    engine.images.remove(NAME, force=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Registry]:
    with serve(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def pushed(
    small: Settings, running: Registry, keys: Path, capsys: pytest.CaptureFixture[str]
) -> str:
    """Return the reference of the small image, pushed and signed."""
    push.push(small, deployment(running), keys / "sign.key")
    return capsys.readouterr().out.strip()


def deployment(registry: Registry) -> Deployment:
    return Deployment("chat", image=NAME, registry=f"{registry.host}/team")


def stored(tmp_path: Path, digest: str) -> Path:
    """Return the file in which the registry keeps a blob."""
    name = digest.partition(":")[2]
    return tmp_path / "registry/blobs/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_what_was_pushed_and_signed_is_verified(
    small: Settings, pushed: str, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verify.verify(small, pushed, keys / "sign.pub")
    assert capsys.readouterr().out.strip() == pushed

    repository, digest = registry.parse(pushed)
    attached = repository.referrers(digest)
    assert {each["artifactType"] for each in attached} == {
        "application/vnd.cyclonedx+json", "application/vnd.in-toto+json",
    }  # fmt: skip
    for each in attached:
        manifest = json.loads(repository.manifest(each["digest"])[0])
        assert manifest["subject"]["digest"] == digest

    # Another program than ours verifies it, too.
    manifest = json.loads(repository.manifest(digest.replace(":", "-") + ".sig")[0])
    [layer] = manifest["layers"]
    (tmp_path / "payload").write_bytes(repository.blob(layer["digest"]))
    signed = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    (tmp_path / "signature").write_bytes(signed)
    openssl(
        "dgst", "-sha256", "-verify", keys / "sign.pub", "-signature", tmp_path / "signature",
        tmp_path / "payload",
    )  # fmt: skip


def test_the_provenance_names_commit_locks_and_builder(pushed: str) -> None:
    repository, digest = registry.parse(pushed)
    [found] = [
        each for each in repository.referrers(digest) if each["artifactType"] == provenance.TYPE
    ]
    manifest = json.loads(repository.manifest(found["digest"])[0])
    said = json.loads(repository.blob(manifest["layers"][0]["digest"]))
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"][0]["digest"]["sha256"] == digest.partition(":")[2]
    assert provenance.commit(said) == COMMIT
    dependencies = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"urn:llmdeploy:lock:env/runtime.lock", "urn:llmdeploy:lock:models/models.lock"} < {
        each["uri"] for each in dependencies
    }
    assert said["predicate"]["runDetails"]["builder"]["id"]


def test_a_flipped_byte_of_a_layer(
    small: Settings, pushed: str, keys: Path, tmp_path: Path
) -> None:
    repository, digest = registry.parse(pushed)
    [layer] = json.loads(repository.manifest(digest)[0])["layers"]
    flip(stored(tmp_path, layer["digest"]))
    with pytest.raises(HashMismatch, match=layer["digest"]):
        verify.verify(small, pushed, keys / "sign.pub")


def test_a_flipped_byte_of_the_provenance(
    small: Settings, pushed: str, keys: Path, tmp_path: Path
) -> None:
    repository, digest = registry.parse(pushed)
    for each in repository.referrers(digest):
        manifest = json.loads(repository.manifest(each["digest"])[0])
        flip(stored(tmp_path, manifest["layers"][0]["digest"]))
    with pytest.raises(HashMismatch, match="other bytes"):
        verify.verify(small, pushed, keys / "sign.pub")


def test_another_key(small: Settings, pushed: str, keys: Path) -> None:
    with pytest.raises(Unverified, match="No signature of"):
        verify.verify(small, pushed, keys / "other.pub")


def test_no_signature(
    small: Settings, running: Registry, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push.push(small, deployment(running), None)
    with pytest.raises(Unverified, match="is not signed") as caught:
        verify.verify(small, capsys.readouterr().out.strip(), keys / "sign.pub")
    assert "push --sign" in caught.value.next
    assert caught.value.code == 32


def test_another_recipe(
    small: Settings, pushed: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "LOCKS", ("env/host.lock",))
    with pytest.raises(Unverified, match="another recipe") as caught:
        verify.verify(small, pushed, keys / "sign.pub")
    assert "models/models.lock" in caught.value.why
    assert COMMIT in caught.value.next


def test_other_layers_than_were_built_here(small: Settings, pushed: str, keys: Path) -> None:
    record = small.image_dir / "receipt.json"
    other = "sha256:" + "0" * 64
    receipt.write(record, {}, [small.image_dir / "sbom.json"], image="", layers=[other])
    with pytest.raises(HashMismatch, match="other layers"):
        verify.verify(small, pushed, keys / "sign.pub")
    record.unlink()
    with pytest.raises(StageMissing, match="build-image"):
        verify.verify(small, pushed, keys / "sign.pub")


def test_pushing_again_attaches_nothing_twice(
    small: Settings, running: Registry, pushed: str, keys: Path
) -> None:
    push.push(small, deployment(running), keys / "sign.key")
    repository, digest = registry.parse(pushed)
    assert len(repository.referrers(digest)) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.key", "cannot be read"),
        ("encrypted.key", "is encrypted"),
        ("old.key", "is encrypted"),
        ("p384.key", "is not the kind of key"),
        ("ed25519.key", "is not the kind of key"),
        ("sign.pub", "is not the kind of key"),
        ("text.key", "is not the kind of key"),
    ],
)
def test_a_key_that_cannot_sign_is_told_before_anything_is_sent(
    keys: Path, name: str, message: str
) -> None:
    with pytest.raises(UsageFailure, match=message) as caught:
        signature.private_key(keys / name)
    assert "openssl" in caught.value.next


@pytest.mark.parametrize("name", ["missing.pub", "sign.key", "p384.pub", "text.key"])
def test_a_key_that_cannot_verify(keys: Path, name: str) -> None:
    with pytest.raises(UsageFailure, match=name):
        signature.public_key(keys / name)


def test_names_that_are_none_and_registries_that_are_not_there(small: Settings, keys: Path) -> None:
    with pytest.raises(UsageFailure, match="is not the name of an image"):
        verify.verify(small, "llmdeploy", keys / "sign.pub")
    with pytest.raises(Refused, match="does not answer"):
        verify.verify(small, f"127.0.0.1:{free_port()}/team/x:1", keys / "sign.pub")
