"""The .deb files of a group: from the cache, this machine's apt or a mirror, checked by hash.

Debian's mirrors drop a version when a fix replaces it. If nobody has the locked bytes any more,
the version of today stands in for it, and whoever uses it is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.debian import apt, deb, lock
from builder.debian.lock import Package
from builder.settings import Settings
from builder.stage import disk, download, receipt, report, scratch
from entrypoint.common.errors import CommandFailed, DownloadFailure, HashMismatch
from entrypoint.common.language import _


@dataclass(frozen=True)
class Deb:
    """A package's file on this disk; `locked` unless another version stands in for the locked."""

    name: str
    version: str
    sha256: str
    file: Path
    locked: bool


def debs(settings: Settings, group: str) -> list[Deb]:
    """Return the files of a group's packages, fetched if they are not kept yet.

    Raises DownloadFailure if nobody delivers, HashMismatch if the settings insist on the locked
    bytes and nobody has them, DiskFull.
    """
    packages = lock.packages(group)
    store = settings.cache_dir / "debian"
    with scratch.folder(store / ".fetching") as work, disk.guard(store):
        missing = [each for each in packages if not _place(store, each).is_dir()]
        if missing:
            size = sum(each.size for each in missing) / 1e6
            report.say(
                _("fetching Debian packages: {count} ({size:.1f} MB)").format(
                    count=len(missing), size=size
                )
            )
            _fetch(settings, missing, store, work)
    debs = [_kept(store, package) for package in packages]
    _tell(settings, [each for each in debs if not each.locked])
    return debs


def _place(store: Path, package: Package) -> Path:
    """Return the folder that has the file of a package, or what stands in for it."""
    return store / package.sha256[:16]


def _kept(store: Path, package: Package) -> Deb:
    (file,) = _place(store, package).iterdir()
    sha256 = receipt.sha256(file)
    if sha256 == package.sha256:
        return Deb(package.name, package.version, sha256, file, locked=True)
    return Deb(package.name, deb.fields(file)["Version"], sha256, file, locked=False)


def _fetch(settings: Settings, missing: Sequence[Package], store: Path, work: Path) -> None:
    """Give every missing package a folder in the store, with its file or a stand-in."""
    files = {package: work / package.name / Path(package.path).name for package in missing}
    for file in files.values():
        file.parent.mkdir()
    apt.fetch({file: package for package, file in files.items()})
    unavailable = []
    for package, file in files.items():
        if not file.exists() or receipt.sha256(file) != package.sha256:
            file.unlink(missing_ok=True)
            if not download.offered(
                settings.mirrors,
                package.path,
                file,
                sha256=package.sha256,
                size=package.size,
            ):
                unavailable.append(package)
    if unavailable:
        _download_today(unavailable, work)
        for package in unavailable:
            (stand_in,) = work.glob(f"{package.name}_*.deb")
            stand_in.rename(files[package].with_name(stand_in.name))
    for package, file in files.items():
        file.parent.rename(_place(store, package))


def _download_today(unavailable: Sequence[Package], folder: Path) -> None:
    """Fetch today's versions of packages into `folder`; raise DownloadFailure."""
    try:
        with apt.suite(lock.intent().suite, lock.architecture()) as suite:
            suite.current([package.name for package in unavailable], folder)
    except CommandFailed as failure:
        raise DownloadFailure(
            _("No mirror delivers the locked Debian packages: {names}.").format(
                names=", ".join(f"{each.name} {each.version}" for each in unavailable)
            ),
            f"{failure.what} {failure.why}".strip(),
            _('Name a mirror of Debian in llmdeploy.toml: mirrors = ["https://..."]'),
        ) from None


def _tell(settings: Settings, strangers: Sequence[Deb]) -> None:
    """Say which packages are not the locked ones; raise HashMismatch if they have to be."""
    if not strangers:
        return
    what = _("Not the locked Debian packages, which no mirror has any more: {names}.").format(
        names=", ".join(f"{each.name} {each.version}" for each in strangers)
    )
    if settings.locked:
        raise HashMismatch(
            what,
            next=_("Renew the lock (./llmdeploy lock), or name a mirror that keeps old versions."),
        )
    report.say(what)
