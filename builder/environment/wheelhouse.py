"""Wheels: those of an environment's lock, and the engine's, which is compiled once and kept."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder.settings import ROOT, Settings
from builder.stage import archive, receipt, report, scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, DownloadFailure, HashMismatch
from entrypoint.common.language import _

RECIPE = ROOT / "env" / "llamacpp"
INGREDIENTS = ("CMakeLists.txt", "pyproject.toml", "source.lock", "build.lock")

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
    version = run([python, "-c", "import sys; print(sys.implementation.cache_tag)"]).strip()
    with _requirements(settings) as wanted:
        place = settings.cache_dir / "wheels" / f"{version}-{receipt.sha256(wanted)[:16]}"
        if not place.is_dir():
            with scratch.folder(place.with_name(f".{place.name}")) as folder:
                wheels = folder / "wheels"
                pip(python, "download", *LOCKED, "--dest", wheels, "--requirement", wanted)
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
    with _requirements(settings, built) as wanted:
        try:
            pip(
                python,
                *("install", *LOCKED, "--no-index", "--no-compile"),
                *(
                    word
                    for place in (wheels, *(each.parent for each in built))
                    for word in ("--find-links", place)
                ),
                *("--requirement", wanted),
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
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(text)
        wanted.flush()
        yield Path(wanted.name)


def recipe() -> dict[str, str]:
    """Return the hashes of the files that say how the engine is compiled."""
    return {name: receipt.sha256(RECIPE / name) for name in INGREDIENTS}


def engine_wheel(settings: Settings) -> Path:
    """Return the engine's wheel, compiled with the recipe in env/llamacpp if there is none yet.

    Without a compiler, a kept wheel of the same recipe is as good. Raises CommandFailed,
    HashMismatch or DownloadFailure.
    """
    store = settings.cache_dir / "engine"
    if _compiler() is None and (kept := _any_kept(store)):
        return kept
    inputs = recipe() | {"compiler": require_compiler()}
    place = store / receipt.digest(inputs)[:16]
    with scratch.folder(place.with_name(f".{place.name}")) as folder:
        if not receipt.current(place / "receipt.json", inputs):
            log = place.with_suffix(".log")
            report.say(
                _("building the engine, about 8 minutes on 2 cores, once; log: {log}").format(
                    log=log
                )
            )
            wheel = _build(folder, log)
            receipt.write(folder / "wheel" / "receipt.json", inputs, [wheel])
            shutil.rmtree(place, ignore_errors=True)
            wheel.parent.rename(place)
    return _kept(place)


def sources(folder: Path) -> tuple[Path, Path]:
    """Fetch the locked build tools and sources into `folder`; return its Python, llama.cpp's tree.

    Raises HashMismatch or DownloadFailure.
    """
    python = folder / "tools" / "bin" / "python"
    run([sys.executable, "-m", "venv", "--without-pip", folder / "tools"])
    pip(python, "install", *LOCKED, "--requirement", RECIPE / "build.lock")
    # With the build tools at hand pip has no reason to fetch others just to read the metadata.
    pip(
        python,
        *("download", "--require-hashes", "--no-deps", "--no-binary", ":all:"),
        *("--no-build-isolation", "--dest", folder, "--requirement", RECIPE / "source.lock"),
    )
    (sdist,) = folder.glob("*.tar.gz")
    archive.extract(sdist, folder / "source")
    (source,) = (folder / "source").iterdir()
    return python, source / "vendor" / "llama.cpp"


def _build(folder: Path, log: Path) -> Path:
    """Compile the engine in `folder` and return its wheel."""
    python, source = sources(folder)
    with report.following(log):
        pip(
            python,
            *("wheel", "--verbose", "--no-index", "--no-deps", "--no-build-isolation"),
            *("--config-settings", f"cmake.define.LLAMA_CPP_SOURCE={source}"),
            *("--config-settings", f"build-dir={folder / 'build'}"),
            *("--wheel-dir", folder / "wheel", RECIPE),
            env={
                "SOURCE_DATE_EPOCH": str(archive.EPOCH),
                "CMAKE_GENERATOR": "Ninja",
                "CMAKE_BUILD_PARALLEL_LEVEL": str(len(os.sched_getaffinity(0))),
            },
            log=log,
        )
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def pip(
    python: Path, *words: str | Path, env: Mapping[str, str] | None = None, log: Path | None = None
) -> None:
    """Run this environment's pip for another interpreter, which so needs none of its own.

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


def _kept(place: Path) -> Path:
    (wheel,) = place.glob("*.whl")
    return wheel


def _any_kept(store: Path) -> Path | None:
    for path in sorted(store.glob("*/receipt.json")):
        inputs = json.loads(path.read_text())["inputs"]
        if recipe().items() <= inputs.items() and receipt.current(path, inputs):
            return _kept(path.parent)
    return None


def _compiler() -> str | None:
    """Return the C++ compiler's full name, or None without one."""
    return run(["g++", "--version"]).splitlines()[0] if shutil.which("g++") else None


def require_compiler() -> str:
    """Return the C++ compiler's full name, installed now if need be; raise CommandFailed."""
    return _compiler() or _install_compiler()


def _install_compiler() -> str:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        report.say(_("installing {names}").format(names="g++"))
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], env=quiet)
        run(["apt-get", "install", "-y", "--no-install-recommends", "g++"], env=quiet)
    compiler = _compiler()
    if compiler is None:
        raise CommandFailed(
            _("The engine has to be compiled once, and there is no C++ compiler."),
            next=_("Install g++ with this system's package manager and run the same task again."),
        )
    return compiler
