"""Which sources have a model at this moment: asked within seconds, before one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

import requests

from builder.environment import wheelhouse
from builder.models import intents, sources
from builder.models.intents import HuggingFace, Intent, ModelScope, Source, Url, Wheel
from builder.stage.run import run
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import CommandFailed, DownloadFailure

PATIENCE: Final = 3  # seconds that each has to answer: others may have the model too
SILENT: Final = 0


class Probe:
    """Asks sources whether they have a model; a machine that was silent once is not asked again."""

    def __init__(self) -> None:
        self._silent: set[str] = set()

    def source(self, intent: Intent, files: Sequence[ModelFile]) -> str:
        """Return the kind of the first source that says it has the locked `files`; "" if none."""
        having = (intents.kind(each) for each in intent.sources if self._has(each, files))
        return next(having, "")

    def _has(self, source: Source, files: Sequence[ModelFile]) -> bool:
        match source:
            case Wheel(packages):
                return _indexed(packages[0])  # whoever has one part has them all
            case Url(address):
                file = f"{address.rstrip('/')}/{quote(files[0].path)}"
                return self._status(file) == HTTPStatus.OK
            case ModelScope() | HuggingFace():
                return self._status(sources.endpoint(source)) != SILENT and _lists(source, files)
            case _:
                return _lists(source, files)

    def _status(self, address: str) -> int:
        """Return the status that an address answers with, SILENT if it does not."""
        machine = urlsplit(address).netloc
        if machine in self._silent:
            return SILENT
        try:
            return requests.head(address, timeout=PATIENCE, allow_redirects=True).status_code
        except requests.RequestException:
            self._silent.add(machine)
            return SILENT


def _lists(source: Source, files: Sequence[ModelFile]) -> bool:
    """Tell whether a source lists all `files`, and says nothing of them that is not the lock's."""
    try:
        hashes = {file.path: file.sha256 for file in sources.listing(source)}
    except DownloadFailure:
        return False
    return all(hashes.get(file.path) in ("", file.sha256) for file in files)


def _indexed(requirement: str) -> bool:
    """Tell whether pip's index has the version of a pinned requirement."""
    name, version = requirement.partition(" ")[0].split("==")
    quick = ("--timeout", str(PATIENCE), "--retries", "0")
    try:
        listing = run(
            [*wheelhouse.PIP, "index", "versions", *quick, "--pre", name], env=wheelhouse.PIP_ENV
        )
    except CommandFailed:
        return False
    return version in listing.replace(",", " ").split()
