"""`fetch`: a model's files from whichever source has the right bytes, into dist/models/raw/."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from builder import disk, models, receipt, report, sources
from builder.download import display
from builder.models import Intent, Source
from builder.settings import Settings
from entrypoint.catalog import ModelFile
from entrypoint.errors import ConfigFailure, DownloadFailure, Failure, HashMismatch
from entrypoint.language import _

PARALLEL = 4  # files at once
LOOK = 0.5  # seconds between two looks at how much has come
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def fetch(
    settings: Settings,
    names: Sequence[str] | None = None,
    *,
    source: str | None = None,
    trust_on_first_use: bool = False,
) -> None:
    """Bring the models `names` (default: the default one) to dist/models/raw/<model>/.

    Only sources of the kind `source`, if given, are tried. A model without locked hashes is
    refused unless `trust_on_first_use`, which records what came. Raises UnknownModel,
    ConfigFailure, DiskFull, HashMismatch if wrong bytes came, DownloadFailure if none did.
    """
    known = models.load()
    for name in names or [known.default]:
        intent = known.find(name)
        with report.step(_("Model {name}").format(name=name)):
            _fetch(settings, intent, _chosen(intent, source), trust=trust_on_first_use)


def inputs(name: str) -> dict[str, str]:
    """Return what a fetched model's receipt must have been made from: its locked hashes."""
    return {file.path: file.sha256 for file in models.locked().get(name, ())}


def _chosen(intent: Intent, kind: str | None) -> list[Source]:
    chosen = [each for each in intent.sources if kind in (None, models.kind(each))]
    if not chosen:
        raise ConfigFailure(
            _("{model} has no source of the kind {kind}.").format(model=intent.name, kind=kind),
            _("It has: {names}.").format(names=", ".join(map(models.kind, intent.sources))),
        )
    return chosen


def _fetch(settings: Settings, intent: Intent, chosen: list[Source], *, trust: bool) -> None:
    folder = settings.dist_dir / "models" / "raw" / intent.name
    wanted = models.locked().get(intent.name, ())
    if wanted and receipt.current(folder / "receipt.json", inputs(intent.name)):
        report.say(_("nothing changed"))
        return
    if not wanted and not trust:
        raise ConfigFailure(
            _("{model} is not locked: nobody has recorded its hashes yet.").format(
                model=intent.name
            ),
            _("Without them a wrong or changed file could not be told from the right one."),
            _("To trust what comes now and record it, add --trust-on-first-use."),
        )
    part = folder.with_name(f".{folder.name}.part")
    with _alone(part), disk.guard(part), _quiet():
        delivered = _from_any(chosen, wanted, part)
        files = wanted or _record(intent.name, part)
        _settle(part, folder, files, source=models.kind(delivered))


def _from_any(chosen: list[Source], wanted: tuple[ModelFile, ...], part: Path) -> Source:
    """Let the sources fill `part` in turn; return the one that completed it."""
    failures: list[Failure] = []
    for source in chosen:
        try:
            sources.check(source)
            _from_one(source, wanted or _listed(source), part)
        except (DownloadFailure, HashMismatch) as failure:
            report.say(f"{models.kind(source)}: {' '.join(str(failure).split())}")
            failures.append(failure)
        else:
            report.say(_("{source}: complete and right").format(source=models.kind(source)))
            return source
    wrong = any(isinstance(failure, HashMismatch) for failure in failures)
    raise (HashMismatch if wrong else DownloadFailure)(
        _("No source delivered the right files."),
        "\n  ".join(failure.what for failure in failures),
        _("What is right is kept: run the same task again to go on."),
    )


def _listed(source: Source) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(path, 0, "") for path in sources.files(source))


def _from_one(source: Source, wanted: Iterable[ModelFile], part: Path) -> None:
    """Bring every file that is not there and right; raise HashMismatch naming all wrong ones."""
    missing = [file for file in wanted if not _is_right(part / file.path, file)]
    disk.require(part, sum(file.size for file in missing))
    with _progress(part, sum(file.size for file in wanted)), ThreadPoolExecutor(PARALLEL) as pool:
        tries = [pool.submit(sources.deliver, source, file, part) for file in missing]
        for attempt in tries:
            attempt.result()
    wrong = [file for file in missing if not _is_right(part / file.path, file)]
    for file in wrong:
        (part / file.path).unlink(missing_ok=True)
    if wrong:
        raise HashMismatch(
            _("These files are missing or not the locked ones: {names}.").format(
                names=", ".join(file.path for file in wrong)
            )
        )


def _is_right(path: Path, file: ModelFile) -> bool:
    """Tell whether a file is the locked one; without a hash, whether it is there at all."""
    if not path.is_file():
        return False
    if not file.sha256:
        return True
    return path.stat().st_size == file.size and receipt.sha256(path) == file.sha256


def _record(name: str, part: Path) -> tuple[ModelFile, ...]:
    """Put what came for an unlocked model into models.lock."""
    paths = (path for path in sorted(part.rglob("*")) if path.is_file())
    named = ((path, str(path.relative_to(part))) for path in paths)
    files = tuple(
        ModelFile(name, path.stat().st_size, receipt.sha256(path))
        for path, name in named
        if not name.startswith(".")
    )
    models.record(name, files)
    report.say(_("recorded {count} files in models.lock").format(count=len(files)))
    return files


def _settle(part: Path, folder: Path, files: Iterable[ModelFile], *, source: str) -> None:
    """Drop what the sources left beside the files, add the receipt, and give it its name."""
    kept = {part / file.path for file in files}
    for path in sorted(part.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()
    receipt.write(
        part / "receipt.json", {file.path: file.sha256 for file in files}, kept, source=source
    )
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Hold `part`, which survives a killed run, against a second run at the same time."""
    part.mkdir(parents=True, exist_ok=True)
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        part.mkdir(exist_ok=True)  # the run that we waited for may have finished it
        yield
    finally:
        os.close(handle)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the hubs' SDKs: their bars and warnings would spoil our one display."""
    os.environ.update(QUIET)
    loggers = [logging.getLogger(name) for name in ("modelscope", "modelscope_hub")]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield


@contextmanager
def _progress(part: Path, total: int) -> Iterator[None]:
    """Show how much has come, whoever brings it: by looking at what grows in `part`."""
    done = threading.Event()
    with display() as start:
        advance = start(_("fetching"))

        def watch() -> None:
            seen = 0
            while not done.wait(LOOK):
                now = _weight(part)
                advance(now - seen, total or None)
                seen = now

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


def _weight(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # moved to its place meanwhile
            continue
    return total
