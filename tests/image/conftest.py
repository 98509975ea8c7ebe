"""The built image and ways to run it: real Docker, with the flags that README.md promises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from builder import image as images
from builder.image import daemon as engines
from builder.models import fetch
from builder.quantizers import quantize
from builder.settings import ROOT, Settings
from docker import DockerClient

Done: TypeAlias = "subprocess.CompletedProcess[str]"
Run: TypeAlias = Callable[..., Done]


@pytest.fixture(scope="session")
def engine(settings: Settings) -> Iterator[DockerClient]:
    """Return a running engine; one that cannot be had fails the tests.

    Images of ours that have lost their name to a later build go at the end: they are of no use,
    and a machine that runs the tests every day has no room for gigabytes of them.
    """
    client = engines.ensure(settings)
    yield client
    client.images.prune({"dangling": True, "label": images.INPUTS})


@pytest.fixture(scope="session")
def image(
    settings: Settings,
    engine: DockerClient,  # noqa: ARG001 - these three must be there
    environment: Path,  # noqa: ARG001
    models_dir: Path,  # noqa: ARG001
) -> str:
    """Return the name of the image with both small models, built if it is not current."""
    images.build(settings)
    return settings.image_name


@pytest.fixture(scope="session")
def itrex_image(
    itrex: Settings,
    engine: DockerClient,  # noqa: ARG001 - must be there
) -> str:
    """Return the name of ITREX's image with both small models, built if it is not current."""
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        fetch.fetch(itrex, [name])
        quantize.quantize(itrex, [name])
    images.build(itrex)
    return itrex.image_name


@pytest.fixture
def built(request: pytest.FixtureRequest) -> Settings:
    """Return the settings of an image that is there: that of EVERY_IMAGE, or the slim one."""
    settings, image = {
        "llamacpp": ("settings", "image"),
        "itrex": ("itrex", "itrex_image"),
    }[getattr(request, "param", "llamacpp")]
    request.getfixturevalue(image)
    found: Settings = request.getfixturevalue(settings)
    return found


@pytest.fixture
def run(built: Settings) -> Run:
    """Return a function that runs a command of the image under the promised flags."""

    def docker_run(
        *words: str, flags: Sequence[str] = (), text: str = "", name: str = built.image_name
    ) -> Done:
        return subprocess.run(
            ["docker", "run", "--rm", "-i", *images.HARDENED, *flags, name, *words],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return docker_run


@pytest.fixture
def derive(built: Settings, tmp_path: Path) -> Callable[[str], str]:
    """Return a function that builds a child of the image from one instruction."""

    def child(instruction: str) -> str:
        client = engines.building_client()
        (tmp_path / "Dockerfile").write_text(
            f"FROM {built.image_name}\n{instruction}\n", encoding="utf-8"
        )
        subprocess.run(
            [client.path, "build", "-q", f"--iidfile={tmp_path / 'id'}", tmp_path],
            env=dict(client.env),
            capture_output=True,
            check=True,
        )
        return (tmp_path / "id").read_text(encoding="utf-8")

    return child


@pytest.fixture
def checkout(
    settings: Settings,
    image: str,  # noqa: ARG001 - so that both stages before it have run
    tmp_path: Path,
) -> Path:
    """Return another checkout, which has the environment and the models but no layers yet."""
    folder = tmp_path / "我的 项目"
    unwanted = shutil.ignore_patterns(".*", "dist", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / "llmdeploy.toml").write_text('image = "llmdeploy-checkout"\n')
    (folder / "dist").mkdir()
    for name in ("env", "models"):
        (folder / "dist" / name).symlink_to(settings.dist_dir / name)
    return folder


@pytest.fixture
def task() -> Run:
    """Return a function that runs a task of a checkout as ./llmdeploy does."""

    def builder(*words: str, cwd: Path = ROOT, text: str = "", **env: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "builder", *words],
            cwd=cwd,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # so that a test can type what is not text
            check=False,
            env={**os.environ, "LLMDEPLOY_LANG": "en", **env},
            timeout=900,
        )

    return builder
