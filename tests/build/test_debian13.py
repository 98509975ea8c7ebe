"""Debian 13, where Python and C library are others and no network is: the same bytes come out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.environment import engine
from builder.settings import ROOT, Settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

MODEL = "smollm2-135m"
# Builds environment, weights and layers, and prints their hashes.
MADE = f"""
import json, sys
from builder import settings as configuration
from builder.environment import condaenv
from builder.image import base, layers
from builder.image.bill import Bill
from builder.models import fetch
from builder.quantizers import quantize
from builder.stage import receipt
from entrypoint.common import catalog

settings = configuration.load()
condaenv.build(settings, "debian")
fetch.fetch(settings, ["{MODEL}"])
quantize.quantize(settings, ["{MODEL}"])
environment, packed = receipt.read(settings.packed_receipt), receipt.sha256(settings.packed)
chosen = catalog.load(settings.ready_dir)
debs = base.packages(settings, environment["packages"])
stack = layers.plan(settings, debs, packed, chosen, Bill(debs, environment, chosen))
for layer in stack:
    layers.write(settings.image_dir, layer)
files = [settings.packed, *settings.ready_dir.glob("*/*.gguf"), *settings.image_dir.glob("*/*.tar")]
hashes = {{file.name: receipt.sha256(file) for file in files}}
print(json.dumps([list(sys.version_info[:2]), hashes]))
"""
# $0 is the root, and nothing but loopback's name is left of the network.
ENTER = """
for each in dev proc; do mount --rbind /$each "$0/$each"; done
exec chroot "$0" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LLMDEPLOY_CACHE=/cache \\
    PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels sh -ec 'cd /work/checkout; "$@"' sh "$@"
"""
GLIBC = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 28, 31, 34)]
OLDER = [f"--platform=manylinux{name}_x86_64" for name in (1, 2010, 2014)]


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def debian13(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a Debian 13 with Python and git."""
    if not shutil.which("mmdebstrap"):
        run("apt-get", "install", "-y", "--no-install-recommends", "mmdebstrap")
    root = tmp_path_factory.mktemp("debian") / "13"
    include = "--include=python3,python3-venv,git"
    run("mmdebstrap", "--quiet", "--variant=minbase", include, "trixie", root)
    return root


def checkout(place: Path, settings: Settings) -> None:
    """Lay out at `place` this repository's last commit, with the model as it was fetched."""
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, place)
    raw = Path("models/raw") / MODEL
    shutil.copytree(settings.dist_dir / raw, place / "dist" / raw)


def stock(root: Path, settings: Settings) -> None:
    """Give the machine at `root` what it cannot fetch: packages of Debian, wheels, the engine.

    The engine takes minutes more to compile, inside the same locked root on every machine.
    """
    compiled = engine.wheel(settings, settings.engine).parent
    shutil.copytree(compiled, root / "cache/engine" / compiled.name)
    shutil.copytree(settings.cache_dir / "debian", root / "cache/debian")
    for lock, version in (("host", "3.13"), ("runtime", "3.11")):
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"),
            *("--only-binary", ":all:", "--python-version", version, *GLIBC, *OLDER),
            *("--dest", root / "wheels", "--requirement", ROOT / f"env/{lock}.lock"),
        )


def test_environment_weights_and_layers_have_the_bytes_of_this_machine(
    debian13: Path, environment: Path, models_dir: Path, settings: Settings, tmp_path: Path
) -> None:
    del environment, models_dir  # the packages of Debian and the model are there
    stock(debian13, settings)
    for place in (debian13 / "work/checkout", tmp_path / "checkout"):
        checkout(place, settings)
    inside = ("unshare", "--mount", "--net", "sh", "-ec", ENTER, debian13)
    run(*inside, "./llmdeploy", "--help")  # makes .venv
    there: list[Any] = json.loads(run(*inside, ".venv/bin/python", "-c", MADE))
    here: list[Any] = json.loads(run(sys.executable, "-c", MADE, cwd=tmp_path / "checkout"))
    assert there[0] == [3, 13]
    assert {"runtime.tar.zst", "base.tar", "env.tar", "code.tar"} < here[1].keys()
    assert there[1] == here[1]
