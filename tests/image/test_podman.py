"""The image under Podman: the same flags, another engine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import image as images
from tests.image.launch.conftest import install

# What a machine without systemd and without the right to raise limits needs; others need no file.
CONFIG = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
"""


@pytest.fixture(scope="module")
def podman(
    image: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command of the image in Podman under the promised flags."""
    install("podman", "podman")
    folder = tmp_path_factory.mktemp("podman")
    config = folder / "containers.conf"
    config.write_text(CONFIG)
    place = ["podman", f"--root={folder}/data", f"--runroot={folder}/run"]
    env = {**os.environ, "CONTAINERS_CONF": str(config)}

    def run(*words: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*place, *words], input=text, env=env, capture_output=True, text=True, check=False
        )

    archive = folder / "image.tar"
    # With its tag: a bare name saves every tag that it has, of all engines.
    subprocess.run(["docker", "save", "-o", archive, f"{image}:latest"], check=True)
    loaded = run("load", "--input", archive)
    assert loaded.returncode == 0, loaded.stderr
    archive.unlink()

    def confined(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        flags = ["--rm", "-i", "--no-healthcheck", *images.HARDENED]
        return run("run", *flags, f"localhost/{image}", *words, text=text)

    return confined


def test_it_answers(podman: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = podman("chat", "--model", "smollm2-135m", "--max-tokens", "16", text="Say hello.\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3, done.stdout


def test_the_doctor_finds_nothing(podman: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = podman("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "smollm2-135m" in done.stdout
