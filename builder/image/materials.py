"""What an image says of itself: its labels, and what of others the page in it carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from builder.settings import ROOT
from builder.stage.run import run
from entrypoint import __version__
from entrypoint.common import tomlfile
from entrypoint.common.catalog import Catalog
from entrypoint.common.errors import CommandFailed

# What all images carry: llmdeploy and OpenSSL; llama.cpp, libffi; Python and its wheels; its other
# libraries; the C library, the compiler's, and Debian's own few files. Texts lie beside each.
LICENSES = (
    *("Apache-2.0", "MIT", "PSF-2.0", "BSD-2-Clause", "BSD-3-Clause"),
    *("0BSD", "X11", "Zlib", "blessing", "bzip2-1.0.6"),
    *(
        "LGPL-2.1-or-later",
        "LGPL-3.0-or-later",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "GPL-2.0-or-later",
    ),
)
MODELS = "io.llmdeploy.models"  # the label that names its models
UNLOCKED = "io.llmdeploy.unlocked"  # the label that names Debian packages that are not the locked
VENDORED: Final = ROOT / "entrypoint/serve/page/vendor/packages.toml"


@dataclass(frozen=True)
class VendoredPackage:
    """A package of npm of which one file, its `member`, lies beside the page as `file`."""

    name: str
    version: str
    license: str
    member: str
    file: str
    sha256: str


@dataclass(frozen=True)
class _Vendored:
    packages: tuple[VendoredPackage, ...]


def labels(catalogue: Catalog, unlocked: str, base: str) -> dict[str, str]:
    """Return what the image says about itself, in the words of the OCI image specification.

    `unlocked` names the Debian packages in it that are not the locked ones, `base` the image that
    it stands on, by digest, "" for none. All of it repeats: an image is as old as the commit that
    it was built of.
    """
    base_name, _at, base_digest = base.partition("@")
    licenses = {*LICENSES, *(model.license for model in catalogue.models)}
    known = {
        "title": "llmdeploy",
        "description": "An INT4 language model that chats on a CPU, offline",
        "version": __version__,
        "licenses": " AND ".join(sorted(licenses)),
        "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "created": _git("log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ"),
        "base.name": base_name or "scratch",
        "base.digest": base_digest,
        "source": public(_git("config", "--get", "remote.origin.url")),
    }
    return {
        **{f"org.opencontainers.image.{key}": value for key, value in known.items() if value},
        MODELS: ",".join(model.name for model in catalogue.models),
        UNLOCKED: unlocked,
    }


def public(remote: str) -> str:
    """Return a repository's address without user and password; "" if it is not on the web."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def vendored() -> tuple[VendoredPackage, ...]:
    """Return the packages of which the chat page has a copy."""
    return tomlfile.record(_Vendored, tomlfile.read(VENDORED), VENDORED.name).packages


def _git(*words: str) -> str:
    """Return what git says, "" outside a checkout."""
    try:
        return run(["git", "-C", ROOT, *words], env={"TZ": "UTC"}).strip()
    except CommandFailed:
        return ""
