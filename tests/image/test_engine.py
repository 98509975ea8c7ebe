"""What is said when the engine is not there, refuses, or has no image."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from builder import image
from builder.settings import ROOT, Settings
from docker import DockerClient
from entrypoint.common.errors import EnginePermission, ImageMissing

NOWHERE = "unix:///nowhere/docker.sock"

AS_NOBODY = """
import os, sys
import docker, builder.image.daemon  # while these files can still be read
from entrypoint.common.errors import Failure
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    builder.image.daemon.connect()
except Failure as failure:
    print(failure)
    sys.exit(failure.code)
"""


@pytest.mark.usefixtures("environment", "models_dir")
def test_no_engine(task: Callable[..., CompletedProcess[str]]) -> None:
    done = task("build-image", DOCKER_HOST=NOWHERE)
    assert done.returncode == 9
    assert "No container engine answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_refuses_this_user(tmp_path: Path) -> None:
    place = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        place.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY],
            cwd=ROOT,
            env={**os.environ, "DOCKER_HOST": f"unix://{place}", "LLMDEPLOY_LANG": "en"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == EnginePermission.code, done.stderr
    assert "group docker" in done.stdout


@pytest.mark.usefixtures("engine")
def test_an_image_that_was_not_built(settings: Settings) -> None:
    with pytest.raises(ImageMissing, match="llmdeploy-never-built"):
        image.require(replace(settings, image="llmdeploy-never-built"))


def test_the_engine_is_found_once_and_shared(engine: DockerClient, settings: Settings) -> None:
    from builder.image import daemon as engines

    assert engines.ensure(settings).info()["ID"] == engine.info()["ID"]
