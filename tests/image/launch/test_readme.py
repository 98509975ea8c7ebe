"""The commands of the docs on launching, run as they stand there.

Those that need a cluster or a cloud account say so behind a #, and are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.settings import ROOT, Settings
from docker import DockerClient

from .conftest import Registry, free_port, install

PLATFORMS = ("compose", "registry", "swarm", "k8s", "ecs", "eas", "dsw")
PAGES = ("launch", *(f"launch/{name}" for name in PLATFORMS))
SWARM = "docker swarm init"


def commands() -> list[str]:
    """Return the command lines that this machine can run."""
    texts = [(ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in PAGES]
    blocks = re.findall(r"```sh\n(.*?)```", "".join(texts), flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if "#" not in line]


@pytest.fixture
def checkout(
    settings: Settings,
    image: str,  # noqa: ARG001 - what is launched
    registry: Registry,
    engine: DockerClient,
    tmp_path: Path,
) -> Iterator[Path]:
    """Return a checkout whose example describes what may run beside other things here."""
    install("docker-compose", "docker-compose")
    folder = tmp_path / "checkout"
    unwanted = shutil.ignore_patterns(".*", "dist", "__pycache__", "tests", "deploy.toml")
    shutil.copytree(ROOT, folder, ignore=unwanted)
    (folder / "dist").symlink_to(settings.dist_dir)
    example = folder / "deploy.example.toml"
    text = example.read_text(encoding="utf-8")
    for standing, own in {
        'name = "llmdeploy"': f'name = "llmdeploy-readme-{os.getpid()}"',
        'registry = "registry.cn-shanghai.aliyuncs.com/NAMESPACE"': (
            f'registry = "{registry.host}/team"'
        ),
        '# model = ""': 'model = "smollm2-135m"',
        "# parallel = 4": "parallel = 1",
        "# port = 8000": f"port = {free_port()}",
        '# keys = ""': 'keys = "deploy.keys"',
        '# secret = ""': 'secret = "chat-keys"',
        "# published = true": "published = false",  # a routing mesh takes IPVS
    }.items():
        assert standing in text
        text = text.replace(standing, own, 1)
    example.write_text(text, encoding="utf-8")
    yield folder
    if engine.info()["Swarm"]["LocalNodeState"] == "active":
        engine.swarm.leave(force=True)


def test_every_command_works(checkout: Path) -> None:
    lines = commands()
    assert len(lines) >= 14
    here = f"--advertise-addr=127.0.0.1 --listen-addr=127.0.0.1:{free_port()}"
    for line in lines:
        typed = line.replace("./llmdeploy", f"{shlex.quote(sys.executable)} -m builder")
        typed = typed.replace(SWARM, f"{SWARM} {here}")
        done = subprocess.run(
            ["sh", "-c", typed], cwd=checkout, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (checkout / "deploy-k8s/kustomization.yaml").exists()
