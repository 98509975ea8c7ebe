"""Where things lie and what they are called; `llmdeploy.toml` may change it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from entrypoint import tomlfile

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """One table of `llmdeploy.toml`; every key is optional.

    `channel` is the conda channel or mirror to read packages from, as conda would name it. Paths
    are relative to the repository.
    """

    dist: str = "dist"
    cache: str = "~/.cache/llmdeploy"
    channel: str = "conda-forge"
    image: str = "llmdeploy"
    base: str = ""  # name@sha256:... of a base image; empty: built from Debian's packages

    @property
    def dist_dir(self) -> Path:
        """Everything that the stages generate."""
        return ROOT / self.dist

    @property
    def cache_dir(self) -> Path:
        """Downloads and the engine's wheel: outside the repository, shared by its clones."""
        return Path(os.environ.get("LLMDEPLOY_CACHE") or self.cache).expanduser()

    @property
    def ready_dir(self) -> Path:
        """Models ready for the image, with their catalogue."""
        return self.dist_dir / "models" / "ready"


def load(path: Path = ROOT / "llmdeploy.toml") -> Settings:
    """Read the settings; without a file, the defaults. Raises ConfigFailure."""
    if not path.exists():
        return Settings()
    return tomlfile.record(Settings, tomlfile.read(path), path.name)
