"""What an image says of itself: its labels, and the bill of what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from builder.debian.store import Deb
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


def labels(chosen: Catalog, debs: Sequence[Deb]) -> dict[str, str]:
    """Return what the image says about itself, in the words of the OCI image specification."""
    licenses = {*LICENSES, *(model.license for model in chosen.models)}
    known = {
        "title": "llmdeploy",
        "description": "An INT4 language model that chats on a CPU, offline",
        "version": __version__,
        "licenses": " AND ".join(sorted(licenses)),
        "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "source": public(_git("config", "--get", "remote.origin.url")),
    }
    return {
        **{f"org.opencontainers.image.{key}": value for key, value in known.items() if value},
        MODELS: ",".join(model.name for model in chosen.models),
        UNLOCKED: unlocked(debs),
    }


def unlocked(debs: Sequence[Deb]) -> str:
    """Return the names and versions of the packages that are not the locked ones."""
    return " ".join(f"{each.name}={each.version}" for each in debs if not each.locked)


def public(remote: str) -> str:
    """Return a repository's address without user and password; "" if it is not on the web."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def vendored() -> tuple[VendoredPackage, ...]:
    """Return the packages of which the chat page has a copy."""
    return tomlfile.record(_Vendored, tomlfile.read(VENDORED), VENDORED.name).packages


def bill(debs: Sequence[Deb], environment: Mapping[str, Any], chosen: Catalog) -> dict[str, Any]:
    """Return a bill of materials as CycloneDX 1.5 spells it."""
    components = [
        *(
            {
                "type": "library",
                "name": deb.name,
                "version": deb.version,
                "purl": f"pkg:deb/{deb.name}@{deb.version}",
                "hashes": _hashes(deb.sha256),
            }
            for deb in debs
        ),
        *(
            {
                "type": "library",
                "name": package["name"],
                "version": package["version"],
                "hashes": _hashes(package.get("sha256")),
            }
            for package in environment["packages"]
        ),
        *(
            {
                "type": "library",
                "name": package.name,
                "version": package.version,
                "licenses": [{"license": {"id": package.license}}],
                "purl": f"pkg:npm/{package.name}@{package.version}",
                "hashes": _hashes(package.sha256),
            }
            for package in vendored()
        ),
        *(
            {
                "type": "machine-learning-model",
                "name": model.name,
                "version": model.revision,
                "licenses": [{"license": {"id": model.license}}],
                "hashes": _hashes(*(file.sha256 for file in model.files)),
            }
            for model in chosen.models
        ),
        {"type": "application", "name": "llmdeploy", "version": __version__},
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def _hashes(*known: str | None) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": each} for each in known if each]


def _git(*words: str) -> str:
    """Return what git says, "" outside a checkout."""
    try:
        return run(["git", "-C", ROOT, *words]).strip()
    except CommandFailed:
        return ""
