"""One machine builds, another that reaches nothing has the same bytes from a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docker import DockerClient

from .conftest import install

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AS_ROOT = () if os.geteuid() == 0 else ("sudo", "--non-interactive")
MODEL = "smollm2-135m"
Task = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(checkout: Path, task: Task, tmp_path: Path) -> Path:
    """Return what a checkout has exported, and recorded in its lock."""
    (checkout / "deploy.toml").write_text('name = "chat"\n')
    target = tmp_path / "a folder"
    for words in (
        ("build-image", MODEL, "--no-deps"),
        ("lock", "--built"),
        ("export", "--mirror", "--output", str(target)),
    ):
        done = task(*words, cwd=checkout)
        assert done.returncode == 0, done.stderr
    return target


def test_a_machine_without_a_network_builds_the_same_from_a_folder(
    checkout: Path, folder: Path, engine: DockerClient, tmp_path: Path
) -> None:
    install("unshare", "util-linux")
    second = tmp_path / "second"
    shutil.copytree(checkout, second, ignore=shutil.ignore_patterns("dist"))
    (second / "llmdeploy.toml").write_text('image = "llmdeploy-second"\n')
    done = subprocess.run(
        [
            *(*AS_ROOT, "unshare", "--net", "env", "LLMDEPLOY_LANG=en"),
            f"PYTHON={sys.executable}",
            *(f"LLMDEPLOY_CACHE={tmp_path / 'cache'}", f"LLMDEPLOY_MIRROR=../{folder.name}"),
            *("./llmdeploy", "up", MODEL),
        ],
        cwd=second,
        input="Hi\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    told = done.stderr
    assert "From a mirror: env/runtime\n" in told
    assert f"From a mirror: models/ready/{MODEL}\n" in told
    assert "Fetching" not in told
    built, copied = (engine.images.get(f"llmdeploy-{name}") for name in ("checkout", "second"))
    assert copied.attrs["RootFS"]["Layers"] == built.attrs["RootFS"]["Layers"]
    engine.images.remove("llmdeploy-second", force=True)
