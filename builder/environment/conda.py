"""Conda packages through rattler: solve, write to and read from the lock, link into a prefix.

The lock names each package by its path below a channel and by its hash, never by a host: any
mirror may deliver it.
"""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import rattler
import requests
import yaml
from rattler import PackageCache, RepoDataRecord, ValidationMode
from rattler.exceptions import GatewayError, InstallerError, InvalidMatchSpecError, SolverError

from builder.stage import disk
from entrypoint.common.errors import (
    CommandFailed,
    ConfigFailure,
    DiskFull,
    DownloadFailure,
    Failure,
    HashMismatch,
)
from entrypoint.common.language import _

PLATFORMS: Final = ("linux-64", "noarch")
# What the image's machine promises, whatever machine the lock is made on.
VIRTUAL = {"__unix": "0", "__linux": "4.18", "__glibc": "2.31"}
ANSWER_SECONDS = 10


def specs(intent: Path) -> list[str]:
    """Return the packages that an environment.yml asks for; raise ConfigFailure if it has none."""
    try:
        names = yaml.safe_load(intent.read_text("utf-8"))["dependencies"]
        return [str(rattler.MatchSpec(spec, strict=True)) for spec in names]
    except (yaml.YAMLError, KeyError, TypeError, InvalidMatchSpecError) as error:
        raise ConfigFailure(
            _("{path} has no list of conda packages under dependencies.").format(path=intent),
            str(error),
        ) from None


def solve(specs: Sequence[str], channel: str) -> list[RepoDataRecord]:
    """Return the records that `specs` need, sorted by name.

    Raises DownloadFailure if the channel does not answer, CommandFailed if it has no answer.
    """
    _knock(channel)
    virtual = [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), rattler.BuildString("0")
        )
        for name, version in VIRTUAL.items()
    ]
    work = rattler.solve([channel], specs, platforms=PLATFORMS, virtual_packages=virtual)
    try:
        return sorted(asyncio.run(work), key=lambda record: record.name.normalized)
    except GatewayError as error:
        raise _unreachable(channel, str(error)) from None
    except SolverError as error:
        raise CommandFailed(
            _("The channel {channel} has no packages that fit together.").format(channel=channel),
            str(error),
        ) from None


def dump(records: Sequence[RepoDataRecord]) -> str:
    """Return the lock's text for `records`."""
    tables = (
        "".join(f"{key} = {_toml(value)}\n" for key, value in _fields(record).items() if value)
        for record in records
    )
    return "".join(f"\n[[package]]\n{table}" for table in tables)


def load(lock: Path, channel: str) -> list[RepoDataRecord]:
    """Return the records of a lock, to be fetched from `channel`."""
    base = rattler.Channel(channel).base_url
    tables = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
    return [_record(table, base) for table in tables]


def link(records: Sequence[RepoDataRecord], prefix: Path, cache: Path) -> None:
    """Fetch `records` into `cache`, check their hashes and link them into `prefix`.

    Raises DownloadFailure, HashMismatch or DiskFull.
    """
    _knock(records[0].channel)
    # What was unpacked in an earlier run is not trusted either: every file is hashed again.
    packages = PackageCache.new_layered([cache], validation_mode=ValidationMode.full())
    work = rattler.install(list(records), prefix, package_cache=packages, show_progress=False)
    try:
        asyncio.run(work)
    except InstallerError as error:
        raise _explain(records[0].channel, str(error)) from None


def _fields(record: RepoDataRecord) -> dict[str, Any]:
    return {
        "path": f"{record.subdir}/{record.file_name}",
        "name": record.name.normalized,
        "version": str(record.version),
        "build": str(record.build),
        "build_number": record.build_number,
        "noarch": "python" if record.noarch.python else "generic" if record.noarch.generic else "",
        "sha256": record.sha256.hex() if record.sha256 else "",
        "md5": record.md5.hex() if record.md5 else "",
        "size": record.size,
        "license": record.license,
        "depends": record.depends,
        "constrains": record.constrains,
    }


def _record(table: dict[str, Any], base: str) -> RepoDataRecord:
    subdir, __, file_name = table["path"].partition("/")
    package = rattler.PackageRecord(
        table["name"],
        table["version"],
        rattler.BuildString(table["build"]),
        table.get("build_number", 0),
        subdir,
        noarch=table.get("noarch"),
        depends=table.get("depends", []),
        constrains=table.get("constrains", []),
        sha256=bytes.fromhex(table["sha256"]),
        md5=bytes.fromhex(table["md5"]) if "md5" in table else None,
        size=table["size"],
        license=table.get("license"),
    )
    return RepoDataRecord(package, file_name, base + table["path"], base)


def _toml(value: str | int | list[str]) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    lines = "".join(f"    {json.dumps(each)},\n" for each in sorted(value))
    return f"[\n{lines}]"


def _knock(channel: str) -> None:
    """Raise DownloadFailure at once where rattler would try a dead host again and again."""
    base = rattler.Channel(channel).base_url
    if base.startswith("http"):
        try:
            requests.head(base, timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            raise _unreachable(channel, str(error)) from None


def _explain(channel: str, error: str) -> Failure:
    if "hash mismatch" in error:
        return HashMismatch(
            _("A conda package is not the locked one."),
            error,
            _("Do not trust the channel {channel}; set another one in llmdeploy.toml.").format(
                channel=channel
            ),
        )
    if disk.is_full(error):
        return DiskFull(
            _("The disk is full."), error, _("Free some space and run the same task again.")
        )
    return _unreachable(channel, error)


def _unreachable(channel: str, error: str) -> Failure:
    return DownloadFailure(
        _("The conda channel {channel} does not deliver.").format(channel=channel),
        error,
        _("Check the network, or set another channel in llmdeploy.toml."),
    )
