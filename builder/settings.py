"""Where things lie and what they are called; `llmdeploy.toml` may change it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from builder import variants
from builder.variants import Variant
from entrypoint.common import tomlfile
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

ROOT = Path(__file__).resolve().parent.parent
PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Settings:
    """One table of `llmdeploy.toml`; every key is optional.

    `engine` is what answers: it decides about environment, weights and image. `channel` is the
    conda channel or mirror to read packages from, as conda would name it. Paths are relative to
    the repository.
    """

    dist: str = "dist"
    cache: str = "~/.cache/llmdeploy"
    channel: str = "conda-forge"
    # Where the tutorial's environment lies, packed by its authors.
    prebuilt: tuple[str, ...] = (
        "https://idz-ai.oss-cn-hangzhou.aliyuncs.com/LLM/itrex.tar.gz",
        "https://filerepo.idzcn.com/LLM/itrex.tar.gz",
    )
    torch_cpu: str = ""  # SHA-256 of the torch wheel +cpu, for where pip knows PyTorch's index
    engine: str = variants.DEFAULT
    image: str = "llmdeploy"
    base: str = ""  # name@sha256:... of a base image; empty: built from Debian's packages
    # Where Debian's archives lie as debian/ and debian-security/, for what apt cannot deliver, and
    # what this recipe makes as sha256/HASH. LLMDEPLOY_MIRROR names one more, which is asked first.
    mirrors: tuple[str, ...] = ()
    locked: bool = False  # whether nothing may stand in for a locked package, or the compiler

    @property
    def dist_dir(self) -> Path:
        """Everything that the stages generate."""
        return ROOT / self.dist

    @property
    def cache_dir(self) -> Path:
        """Downloads and the engine's wheel: outside the repository, shared by its clones.

        Raises ConfigFailure if it is to be in the home of somebody who has none.
        """
        path = Path(os.environ.get("LLMDEPLOY_CACHE") or self.cache)
        try:
            return path.expanduser()
        except RuntimeError:
            raise ConfigFailure(
                _("There is no home folder for {path}.").format(path=path),
                next=_("Set HOME, or name another folder with LLMDEPLOY_CACHE."),
            ) from None

    @property
    def variant(self) -> Variant:
        """What is built for the engine; raise UsageFailure if there is no such engine."""
        return variants.find(self.engine)

    @property
    def packed(self) -> Path:
        """The packed environment; its receipt lies beside it."""
        return self.dist_dir / "env" / f"{self.variant.environment}.tar.zst"

    @property
    def packed_receipt(self) -> Path:
        """What the packed environment was made of."""
        return self.packed.with_name(f"{self.variant.environment}.json")

    @property
    def ready_dir(self) -> Path:
        """Models ready for the image, with their catalogue."""
        suffix = "" if self.engine == variants.DEFAULT else f"-{self.engine}"
        return self.dist_dir / "models" / f"ready{suffix}"

    @property
    def image_dir(self) -> Path:
        """The layers of the image, and what else it is made of."""
        return self.dist_dir / "image" / self.engine

    @property
    def image_name(self) -> str:
        """The image as Docker names it; an engine other than the default one is its tag."""
        return self.image if self.engine == variants.DEFAULT else f"{self.image}:{self.engine}"

    def task(self, words: str) -> str:
        """Return how a person types a task for the engine: messages name the next command."""
        return words if self.engine == variants.DEFAULT else f"{words} --engine {self.engine}"


def load(engine: str = "", path: Path = ROOT / "llmdeploy.toml") -> Settings:
    """Read the settings; without a file, the defaults. `engine` replaces the file's.

    Raises ConfigFailure, also for a base that is not pinned or a mirror that is not there, or
    UsageFailure if there is no such engine.
    """
    recorded = tomlfile.record(Settings, tomlfile.read(path), path.name) if path.exists() else None
    chosen = recorded or Settings()
    chosen = replace(chosen, engine=engine or chosen.engine, mirrors=(*_named(), *chosen.mirrors))
    variants.find(chosen.engine)
    if chosen.base and not PINNED.fullmatch(chosen.base):
        raise ConfigFailure(
            _("{package} in {where} is not pinned.").format(
                package=repr(chosen.base), where=path.name
            ),
            _("Another image could take its place, and nobody would notice."),
            _("Write it as: name@sha256:..."),
        )
    return chosen


def _named() -> tuple[str, ...]:
    """Return the address of the mirror that the environment names: a folder, or an address."""
    named = os.environ.get("LLMDEPLOY_MIRROR", "")
    if not named or "://" in named:
        return (named,) if named else ()
    folder = Path(named).absolute()
    if not folder.is_dir():
        raise ConfigFailure(
            _("LLMDEPLOY_MIRROR names {path}, and there is no such folder.").format(path=folder),
            next=_("Name one that ./llmdeploy export --mirror has written, or an address."),
        )
    return (folder.as_uri(),)
