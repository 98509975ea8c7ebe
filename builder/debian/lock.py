"""env/debian-ARCHITECTURE.lock: every Debian package that goes into anything, by path and hash.

A path begins below an archive's own folder on any mirror: whoever delivers, the hash decides.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.settings import ROOT
from entrypoint.common import tomlfile
from entrypoint.common.errors import NotSupported
from entrypoint.common.language import _

ENV: Final = ROOT / "env"
INTENT: Final = "debian.in"
# How Debian calls what the kernel calls otherwise.
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Package:
    """One .deb: `path` begins with its archive, debian/ or debian-security/; `size` is in bytes.

    `groups` are those of the intent that have it.
    """

    name: str
    version: str
    groups: tuple[str, ...]
    path: str
    size: int
    sha256: str

    @property
    def upstream(self) -> str:
        """The version without Debian's own counts before and behind it."""
        return self.version.partition(":")[2].rpartition("-")[0] or self.version.rpartition("-")[0]


@dataclass(frozen=True)
class DebianIntent:
    """env/debian.in: by group, packages `alone`, and `whole` with all that they depend on."""

    suite: str
    alone: dict[str, list[str]]
    whole: dict[str, list[str]]


@dataclass(frozen=True)
class _Lock:
    package: tuple[Package, ...]


def intent(env: Path = ENV) -> DebianIntent:
    """Read env/debian.in; raise ConfigFailure if it is malformed."""
    return tomlfile.record(DebianIntent, tomlfile.read(env / INTENT), INTENT)


def file(architecture: str, env: Path = ENV) -> Path:
    """Return the lock of an architecture, as Debian calls it."""
    return env / f"debian-{architecture}.lock"


def architecture() -> str:
    """Return what Debian calls this machine; raise NotSupported if nothing is locked for it."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise NotSupported(
            _("There are no locked packages for this architecture: {name}.").format(name=machine)
        )
    return ARCHITECTURES[machine]


def read(architecture: str, env: Path = ENV) -> tuple[Package, ...]:
    """Return all packages of a lock; raise ConfigFailure if it is malformed."""
    path = file(architecture, env)
    return tomlfile.record(_Lock, tomlfile.read(path), path.name).package


def packages(group: str) -> list[Package]:
    """Return the locked packages of a group for this machine, by name."""
    return [package for package in read(architecture()) if group in package.groups]


def dump(packages: Iterable[Package]) -> str:
    """Return the lock's text for `packages`."""
    return tables("package", sorted(packages, key=lambda each: each.name))


def tables(name: str, records: Iterable[Any]) -> str:
    """Return dataclasses as an array of TOML's tables."""
    return "".join(
        f"\n[[{name}]]\n"
        + "".join(f"{key} = {_toml(value)}\n" for key, value in dataclasses.asdict(each).items())
        for each in records
    )


def _toml(value: str | int | Sequence[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
