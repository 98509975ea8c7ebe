"""Wheels of an environment's lock, and what pip fetches to build others."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder.settings import ROOT, Settings
from builder.stage import archive, receipt, scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, DownloadFailure, HashMismatch
from entrypoint.common.language import _

RECIPES = ROOT / "env"  # with a folder for each engine that is compiled
TOOLS = "llamacpp/build.lock"  # what compiles all of them

# pip asks its own configuration for the index and the proxy, but answers no questions.
PIP = (sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check")
# What a person may have set for the pip that is typed by hand.
PIP_ENV = {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0"}
PIP_MISMATCH = "DO NOT MATCH THE HASHES"
TORCH = re.compile(r"^torch==\S+ \\\n", re.MULTILINE)
LOCKED = ("--require-hashes", "--no-deps", "--only-binary", ":all:")


def lock(settings: Settings) -> Path:
    """Return the lock of the wheels that the environment has."""
    return ROOT / "env" / f"{settings.variant.environment}.lock"


def locked(settings: Settings, python: Path) -> Path:
    """Return a folder with the wheels of the lock that fit the interpreter `python`.

    Raises HashMismatch or DownloadFailure.
    """
    # To the last number: a lock may have one wheel for 3.11.2 and another for 3.11.15.
    version = run([python, "-c", "import platform; print(platform.python_version())"]).strip()
    with _requirements(settings) as requirements:
        place = settings.cache_dir / "wheels" / f"{version}-{receipt.sha256(requirements)[:16]}"
        if not place.is_dir():
            with scratch.folder(place.with_name(f".{place.name}")) as folder:
                wheels = folder / "wheels"
                pip(python, "download", *LOCKED, "--dest", wheels, "--requirement", requirements)
                wheels.rename(place)
    return place


def of_sources(settings: Settings, name: str) -> list[Path]:
    """Return the wheels made here of env/NAME/source.lock: pure Python that has none of its own.

    Raises HashMismatch or DownloadFailure.
    """
    sources = ROOT / "env" / name / "source.lock"
    if not sources.exists():
        return []
    place = settings.cache_dir / "wheels" / f"sources-{receipt.sha256(sources)[:16]}"
    if not place.is_dir():
        with scratch.folder(place.with_name(f".{place.name}")) as folder:
            pip(
                Path(sys.executable),  # the build side has setuptools
                *("wheel", "--require-hashes", "--no-deps", "--no-binary", ":all:"),
                *("--no-build-isolation", "--wheel-dir", folder / "wheels"),
                *("--requirement", sources),
                env={"SOURCE_DATE_EPOCH": str(archive.EPOCH)},
            )
            (folder / "wheels").rename(place)
    return sorted(place.glob("*.whl"))


def install(settings: Settings, python: Path, wheels: Path, built: Sequence[Path]) -> None:
    """Install the locked `wheels`, and those `built` here, beside the interpreter `python`.

    Nothing but these places is asked. Raises HashMismatch if a kept wheel was changed; it is
    thrown away, so that the next run fetches it again.
    """
    with _requirements(settings, built) as requirements:
        try:
            pip(
                python,
                *("install", *LOCKED, "--no-index", "--no-compile"),
                *(
                    word
                    for place in (wheels, *(each.parent for each in built))
                    for word in ("--find-links", place)
                ),
                *("--requirement", requirements),
            )
        except HashMismatch:
            shutil.rmtree(wheels)
            raise


def venv(place: Path, lock: Path, built: Sequence[Path] = ()) -> None:
    """Make a virtual environment at `place` with the wheels of `lock`, and those `built` here.

    It cannot be renamed, so whoever makes it writes a receipt last, which tells a whole one.
    Raises HashMismatch or CommandFailed.
    """
    shutil.rmtree(place, ignore_errors=True)
    run([sys.executable, "-m", "venv", "--without-pip", place])
    python = place / "bin" / "python"
    pip(python, "install", *LOCKED, "--requirement", lock)
    if built:
        pip(python, "install", "--no-deps", "--no-index", *built)


@contextmanager
def _requirements(settings: Settings, built: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a file that pins the locked wheels and the `built` ones.

    pip prefers PyTorch's CPU build, a later version of torch to it, where an index has that and
    the settings have its hash.
    """
    text = lock(settings).read_text(encoding="utf-8")
    if settings.torch_cpu:
        text = TORCH.sub(rf"\g<0>    --hash=sha256:{settings.torch_cpu} \\\n", text)
    for wheel in built:
        name, version, *__ = wheel.name.split("-")
        text += f"{name}=={version} --hash=sha256:{receipt.sha256(wheel)}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        yield Path(file.name)


def sources(folder: Path, engine: str) -> tuple[Path, Path]:
    """Fetch the locked build tools and sources into `folder`; return its Python, the engine's tree.

    Raises HashMismatch or DownloadFailure.
    """
    python = folder / "tools" / "bin" / "python"
    run([sys.executable, "-m", "venv", "--without-pip", folder / "tools"])
    pip(python, "install", *LOCKED, "--requirement", RECIPES / TOOLS)
    # With the build tools at hand pip has no reason to fetch others just to read the metadata.
    lock = RECIPES / engine / "source.lock"
    pip(
        python,
        *("download", "--require-hashes", "--no-deps", "--no-binary", ":all:"),
        *("--no-build-isolation", "--dest", folder, "--requirement", lock),
    )
    (sdist,) = folder.glob("*.tar.gz")
    archive.extract(sdist, folder / "source")
    (source,) = (folder / "source").glob("*/vendor/*")
    return python, source


def pip(
    python: Path, *words: str | Path, env: Mapping[str, str] | None = None, log: Path | None = None
) -> None:
    """Run this environment's pip for another interpreter, which then needs none of its own.

    Raises HashMismatch, DownloadFailure or CommandFailed.
    """
    try:
        run([*PIP, "--python", python, *words], env={**PIP_ENV, **(env or {})}, log=log)
    except CommandFailed as failure:
        if PIP_MISMATCH in failure.why:
            raise HashMismatch(
                _("A Python package is not the locked one."),
                failure.why,
                _("Run the same task again; if it stays, do not trust that package index."),
            ) from None
        if words[0] == "download":
            raise DownloadFailure(
                _("pip cannot download the locked Python packages."),
                failure.why,
                _("Check the network and pip's index settings (pip config list)."),
            ) from None
        raise
