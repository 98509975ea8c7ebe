"""deploy.toml, read and looked at. deploy.example.toml explains it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Final

from builder.launch import platforms
from builder.launch.deployment import Deployment, Description, Table
from builder.settings import ROOT
from entrypoint.common import tomlfile
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILE: Final = ROOT / "deploy.toml"
STAND_IN: Final = re.compile("NAMESPACE|EXAMPLE")  # in the values of deploy.example.toml


def load(path: Path = FILE, target: str = "") -> Deployment:
    """Read a description; raise ConfigFailure where it is missing, malformed or cannot be meant.

    Of the platforms' tables, the values of `target`'s are looked at only.
    """
    if not path.exists():
        raise ConfigFailure(
            _("{path} does not exist.").format(path=path),
            next=_("Copy deploy.example.toml to deploy.toml and edit it."),
        )
    keys = tomlfile.read(path)
    names = platforms.names()
    description = tomlfile.record(Description, keys, path.name, apart=names)
    tables = {
        name: tomlfile.convert(keys[name], platforms.find(name).TABLE, name, path.name)
        for name in names
        if name in keys
    }
    _check(description, path.name)
    if target in tables:
        _check(tables[target], path.name, f"{target}.")
    if description.keys:
        description = replace(description, keys=str(path.parent / description.keys))
    return Deployment(**vars(description), tables=tuple(tables.values()))


def own() -> Deployment:
    """Return what deploy.toml describes, or the defaults where nobody has written one."""
    return load() if FILE.exists() else Deployment("llmdeploy")


def stand_ins(deployment: Deployment, target: str) -> list[str]:
    """Return the keys that still have what the example says, as far as `target` reads them."""
    table = deployment.table(platforms.find(target).TABLE)
    values = {f"{target}.{key}": value for key, value in asdict(table).items()}
    if table.pulls:
        values["registry"] = deployment.registry
    return [key for key, value in values.items() if STAND_IN.search(str(value))]


def _check(part: Description | Table, where: str, prefix: str = "") -> None:
    for key, reason in part.misfits():
        raise ConfigFailure(
            _("{key} in {where} cannot be {value}.").format(
                key=repr(prefix + key), where=where, value=repr(attrgetter(key)(part))
            ),
            reason,
        )
