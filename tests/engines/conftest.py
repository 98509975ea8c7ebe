"""An engine with both small models, one engine after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from builder.environment import condaenv, tarball
from builder.models import fetch
from builder.quantizers import quantize
from builder.settings import Settings
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog
from entrypoint.engines import Engine, open_engine
from tests.conversations import SMALL, Open


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try every engine in turn, or the one named by --engine."""
    if "folder" in metafunc.fixturenames:
        named = metafunc.config.getoption("--engine")
        slow = pytest.param("ik", marks=pytest.mark.slow)
        engines = [named] if named else ["llamacpp", "openvino", slow]
        metafunc.parametrize("folder", engines, indirect=True, scope="module")


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """Return the models folder of the engine under test; this process finds the engine."""
    found: Path = request.getfixturevalue(f"{request.param}_found")
    return found


@pytest.fixture(scope="module")
def llamacpp_found(models_dir: Path, unpacked: Path) -> Iterator[Path]:
    (packages,) = unpacked.glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, os.fspath(packages)])
        yield models_dir


@pytest.fixture(scope="module")
def openvino_found(for_openvino: Settings, openvino_models_dir: Path) -> Iterator[Path]:
    python = tarball.unpacked(for_openvino) / "bin" / "python3"
    (packages,) = python.parents[1].glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, os.fspath(packages)])
        patch.setattr(sys, "executable", os.fspath(python))  # what the library was made for
        yield openvino_models_dir


@pytest.fixture(scope="module")
def ik_found(settings: Settings) -> Iterator[Path]:
    """Return its models. It takes long to compile, so only --engine ik asks for it."""
    chosen = replace(settings, engine="ik")
    condaenv.build(chosen, "auto")
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        fetch.fetch(chosen, [name])
        quantize.quantize(chosen, [name])
    (packages,) = tarball.unpacked(chosen).glob("lib/python3*/site-packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, os.fspath(packages)])
        yield chosen.ready_dir


@pytest.fixture(scope="module")
def itrex_found() -> Path:
    """Return what tests/build/test_itrex.py names, which runs these tests beside the engine."""
    return Path(os.environ["LLMDEPLOY_MODELS"])


@pytest.fixture(scope="module")
def models(folder: Path) -> Catalog:
    return catalog.load(folder)


@pytest.fixture(scope="module")
def open_(models: Catalog, folder: Path) -> Open:
    """Return a function that opens a model with the engine under test."""

    def open_(name: str = SMALL, **settings: int) -> Engine:
        return open_engine(models.find(name), folder, **settings)

    return open_


@pytest.fixture(scope="module")
def engine(open_: Open) -> Iterator[Engine]:
    with closing(open_()) as engine:
        yield engine
