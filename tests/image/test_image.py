"""What the image is made of, and that the same recipe makes the same image."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import engine as engines
from builder import image as images
from builder.settings import ROOT, Settings
from docker import DockerClient

MEGABYTE = 1_000_000


@pytest.fixture
def checkout(
    settings: Settings,
    image: str,  # noqa: ARG001 - so that both stages before it have run
    tmp_path: Path,
) -> Path:
    """Return another checkout, which has the environment and the models but no layers yet."""
    folder = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns(".*", "dist", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / "llmdeploy.toml").write_text('image = "llmdeploy-checkout"\n')
    (folder / "dist").mkdir()
    for name in ("env", "models"):
        (folder / "dist" / name).symlink_to(settings.dist_dir / name)
    return folder


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


@pytest.mark.usefixtures("image")
def test_building_again_does_nothing(
    task: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = task("build-image")
    assert done.returncode == 0
    assert "nothing changed" in done.stderr


def test_history_shows_a_layer_for_each_model(engine: DockerClient, image: str) -> None:
    added = [
        row["CreatedBy"].split()[1]
        for row in engine.images.get(image).history()
        if row["CreatedBy"].startswith("ADD")
    ]
    assert sorted(added[1:3]) == ["model-qwen2.5-coder-0.5b.tar", "model-smollm2-135m.tar"]
    assert (added[0], added[3:]) == ("code.tar", ["env.tar", "base.tar"])


def test_the_labels_are_those_of_the_oci_specification(engine: DockerClient, image: str) -> None:
    labels = engine.images.get(image).labels
    assert labels["org.opencontainers.image.title"] == "llmdeploy"
    assert labels["org.opencontainers.image.version"]
    assert labels["org.opencontainers.image.revision"]
    assert "Apache-2.0" in labels["org.opencontainers.image.licenses"]
    models = labels["io.llmdeploy.models"].split(",")
    assert sorted(models) == ["qwen2.5-coder-0.5b", "smollm2-135m"]


def test_the_configuration_is_that_of_a_single_unprivileged_program(
    engine: DockerClient, image: str
) -> None:
    config = engine.images.get(image).attrs["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/opt/llmdeploy/bin/llmdeploy"]
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"][0] == "CMD", "a shell would be needed"


@pytest.mark.usefixtures("image")
def test_the_program_has_the_images_own_engine_only(settings: Settings) -> None:
    with tarfile.open(settings.image_dir / "layers/code.tar") as layer:
        names = {Path(member.name).stem for member in layer}
    assert "llamacpp" in names
    assert not {name for name in names if name.startswith(("openvino", "itrex"))}


@pytest.mark.usefixtures("image")
def test_everything_but_the_weights_is_small(settings: Settings) -> None:
    tars = (settings.image_dir / "layers").glob("*.tar")
    sizes = [images.measure(tar) for tar in tars if not tar.name.startswith("model-")]
    assert len(sizes) == 3
    assert sum(unpacked for unpacked, _ in sizes) <= 200 * MEGABYTE
    assert sum(compressed for _, compressed in sizes) <= 80 * MEGABYTE


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
        "layer", "base", "env", *sorted(first_words[3:5]), "code", "all", "promised",
    ]  # fmt: skip


@pytest.mark.usefixtures("image")
def test_the_bill_of_materials_lists_libraries_and_models(settings: Settings) -> None:
    parts = json.loads((settings.image_dir / "sbom.json").read_text())["components"]
    names = {part["name"] for part in parts}
    assert {"libc6", "python", "llmdeploy_llamacpp", "qwen2.5-coder-0.5b", "llmdeploy"} <= names
