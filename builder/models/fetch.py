"""`fetch`: a model's files from whichever source has the right bytes, into dist/models/raw/."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from builder.models import intents, sources
from builder.models.intents import Intent, Source
from builder.settings import Settings
from builder.stage import disk, receipt, report, scratch
from builder.stage.download import display
from builder.stage.edge import one_of
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import DownloadFailure, HashMismatch, LockDrift
from entrypoint.common.language import _

LOOK: Final = 0.2  # seconds between two looks at how much has come


def fetch(
    settings: Settings,
    names: Sequence[str] | None = None,
    *,
    source: str | None = None,
    trust_on_first_use: bool = False,
) -> None:
    """Bring the models `names` (default: the default one) to dist/models/raw/<model>/.

    Only sources of the kind `source`, if given, are tried. A model with files that models.lock
    does not have is refused unless `trust_on_first_use`, which records what came. Raises
    UnknownModel, ConfigFailure, UsageFailure, LockDrift, DiskFull, HashMismatch if wrong bytes
    came, DownloadFailure if none did.
    """
    known, own = intents.load(), intents.tables(intents.LOCAL)
    for name in names or [known.default]:
        intent = known.find(name)
        trust = trust_on_first_use or name in own  # its address was typed by a person
        with report.step(_("Fetching {model}").format(model=name)):
            _fetch(settings, intent, _chosen(intent, source), trust=trust)


def lock(name: str) -> None:
    """Record in models.lock what a hub's own list says of the model `name`; download nothing.

    Raises UnknownModel, ConfigFailure, DownloadFailure if no source lists all wanted files with
    their hashes.
    """
    intent = intents.load().find(name)

    def attempt(source: Source) -> None:
        files = _first_seen(source, intent.files)
        if unknown := [file.path for file in files if not file.sha256]:
            raise DownloadFailure(
                _("It lists no hashes of: {names}.").format(names=", ".join(unknown))
            )
        intents.record(name, files)
        report.say(_("recorded {count} files in models.lock").format(count=len(files)))

    with report.step(_("Locking {model}").format(model=name)), _quiet():
        _from_any(list(intent.sources), attempt)


def inputs(intent: Intent) -> dict[str, str]:
    """Return what a fetched model's receipt must have been made from: its locked hashes."""
    return {file.path: file.sha256 for file in _locked(intent)}


def _locked(intent: Intent) -> list[ModelFile]:
    return [file for file in intents.locked().get(intent.name, ()) if intent.wants(file.path)]


def _chosen(intent: Intent, kind: str | None) -> list[Source]:
    kinds = [intents.kind(each) for each in intent.sources]
    if kind is not None:
        one_of("--source", kind, kinds)
    return [each for each in intent.sources if kind in (None, intents.kind(each))]


def _fetch(settings: Settings, intent: Intent, candidates: list[Source], *, trust: bool) -> None:
    place = settings.dist_dir / "models" / "raw" / intent.name
    if _done(intent, place):
        report.say(_("nothing changed"))
        return
    if _unlocked(intent) and not trust:
        raise LockDrift(
            _("models.lock does not have all hashes of {model}.").format(model=intent.name),
            _("It has none for: {names}.").format(names=", ".join(_unlocked(intent))),
            _("To trust what comes now, and record it, add --trust-on-first-use."),
        )
    with scratch.kept(place.with_name(f".{place.name}")) as folder, disk.guard(folder), _quiet():
        if not _done(intent, place):  # another process may have fetched it meanwhile
            _complete(intent, candidates, folder, place)
        shutil.rmtree(folder, ignore_errors=True)  # the pip of a killed run may still write there


def _done(intent: Intent, place: Path) -> bool:
    return not _unlocked(intent) and receipt.current(place / "receipt.json", inputs(intent))


def _unlocked(intent: Intent) -> list[str]:
    """Return the wanted files, or patterns of them, that the lock has nothing for."""
    paths = [file.path for file in _locked(intent)]
    return [
        pattern for pattern in intent.files if not any(fnmatchcase(path, pattern) for path in paths)
    ]


def _complete(intent: Intent, candidates: list[Source], folder: Path, place: Path) -> None:
    """Gather all files in `folder`/model, where only right ones get, and move that to `place`."""
    right, coming = folder / "model", folder / "coming"
    for path in (right, coming):
        path.mkdir(exist_ok=True)
    locked, unlocked = _locked(intent), _unlocked(intent)
    _keep_right(locked, right, place)

    def attempt(source: Source) -> None:
        new = _first_seen(source, unlocked) if unlocked else []
        _bring(source, [*locked, *new], coming, right)
        if unlocked:
            _record(intent.name, [*locked, *new], right)

    source = _from_any(candidates, attempt)
    outputs = [right / file.path for file in _locked(intent)]
    receipt.write(right / "receipt.json", inputs(intent), outputs, source=source)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(right, place)


def _keep_right(locked: Iterable[ModelFile], right: Path, place: Path) -> None:
    """Take what an earlier run left, here or at the place itself, and throw the rest away."""
    paths = {file.path: file for file in locked}
    for path in _files(right):
        file = paths.get(path.relative_to(right).as_posix())
        if file is None or not _is(path, file):
            path.unlink()
    for file in paths.values():
        if not (right / file.path).exists() and _is(place / file.path, file):
            (right / file.path).parent.mkdir(parents=True, exist_ok=True)
            os.link(place / file.path, right / file.path)


def _from_any(candidates: list[Source], attempt: Callable[[Source], None]) -> str:
    """Try the sources in turn; return the kind of the one that completed the model."""
    failures = []
    for source in candidates:
        kind = intents.kind(source)
        report.say(_("trying {source}").format(source=kind))
        try:
            attempt(source)
        except (DownloadFailure, HashMismatch) as failure:
            report.say(f"{kind}: {failure.what}")
            failures.append((kind, failure))
        else:
            return kind
    wrong = any(isinstance(failure, HashMismatch) for _kind, failure in failures)
    raise (HashMismatch if wrong else DownloadFailure)(
        _("No source delivered the right files."),
        "\n  ".join(f"{kind}: {failure.what}" for kind, failure in failures),
        _("Correct files are kept: run the same task again to continue."),
    )


def _first_seen(source: Source, patterns: Iterable[str]) -> list[ModelFile]:
    """Return the unlocked files that a source has; each of the patterns must find one."""
    listing = [file for file in sources.listing(source) if intents.is_safe(file.path)]
    files: dict[str, ModelFile] = {}
    for pattern in patterns:
        matching = {file.path: file for file in listing if fnmatchcase(file.path, pattern)}
        if not matching:
            raise DownloadFailure(_("It has no file {pattern}.").format(pattern=pattern))
        files |= matching
    return list(files.values())


def _bring(source: Source, files: Iterable[ModelFile], coming: Path, right: Path) -> None:
    """Let one source bring the files that are not there yet; raise HashMismatch for wrong ones."""
    missing = [file for file in files if not (right / file.path).exists()]
    for file in missing:  # the hubs' SDKs believe in any file that has the right name
        if not _is(coming / file.path, file):
            (coming / file.path).unlink(missing_ok=True)
    size = sources.copies(source) * sum(file.size for file in missing)
    disk.require(coming, size - _weight(coming))
    with _progress(coming, size):
        sources.deliver(source, missing, coming)
    mismatches = []
    for file in missing:
        path = coming / file.path
        if file.sha256 and not _is(path, file):
            path.unlink()
            mismatches.append(file.path)
        else:
            (right / file.path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, right / file.path)
    if mismatches:
        raise HashMismatch(
            _("These files are not the locked ones: {names}.").format(names=", ".join(mismatches))
        )


def _is(path: Path, file: ModelFile) -> bool:
    """Tell whether a file is there with the right bytes; without a hash, nothing is."""
    return (
        path.is_file()
        and file.size in (0, path.stat().st_size)
        and receipt.sha256(path) == file.sha256
    )


def _record(name: str, files: Iterable[ModelFile], right: Path) -> None:
    """Put what came for an unlocked model into models.lock."""
    came = [(file.path, right / file.path) for file in files]
    intents.record(
        name,
        [ModelFile(path, place.stat().st_size, receipt.sha256(place)) for path, place in came],
    )
    report.say(_("recorded {count} files in models.lock").format(count=len(came)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Show nothing of the hubs' SDKs: their bars and logs would spoil our one display."""
    os.environ["TQDM_DISABLE"] = "1"  # read when the SDKs are imported
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _progress(folder: Path, total: int) -> Iterator[None]:
    """Show how much has come, whoever brings it: by looking at what grows in `folder`."""
    done = threading.Event()
    with display() as start:
        advance = start(folder.parent.name.removeprefix("."))

        def watch() -> None:
            before = 0
            while not done.wait(LOOK):
                now = _weight(folder)
                advance(now - before, total or None)
                before = now

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


def _weight(folder: Path) -> int:
    total = 0
    for path in _files(folder):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # moved to its place meanwhile
            continue
    return total
