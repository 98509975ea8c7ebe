"""Files from the network: mirrors in turn, resumed, and checked before they get their name."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from requests import codes
from rich import progress as bars
from rich.console import Console
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from builder.stage import disk, receipt, report
from entrypoint.common import address, certificates, files
from entrypoint.common.errors import DownloadFailure, HashMismatch
from entrypoint.common.language import _

ATTEMPTS: Final = 4  # in a row, before a mirror that brings nothing new is given up
WAIT = wait_exponential_jitter(multiplier=0.5, max=20, jitter=0.5)  # seconds between them
PATIENCE: Final = 120  # seconds that a server may ask us to wait; beyond, another mirror is better
TIMEOUT: Final = (10, 60)  # seconds: to connect, and between two pieces
CHUNK: Final = 1 << 17  # of a slow line a kill should not cost much
PASSING: Final = {408, 425, 429, 500, 502, 503, 504}  # answers that may be better next time
NO_ENTRY: Final = {codes.unauthorized, codes.forbidden}
HOPELESS: Final = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
)


class Advance(Protocol):
    """Called with `count` more bytes (negative: a part was thrown away) of `total`, if known."""

    def __call__(self, count: int, total: int | None) -> object:
        """Count some bytes."""


def ignore(count: int, total: int | None) -> None:
    """Show nothing."""


@contextmanager
def display() -> Iterator[Callable[[str], Advance]]:
    """Yield a function that makes an `Advance` for a name: one display, any number of downloads.

    It is drawn on standard error, and only on a terminal.
    """
    columns = (
        "    {task.description}",
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    shown = bars.Progress(
        *columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    )

    def start(name: str) -> Advance:
        task = shown.add_task(name, total=None)
        return lambda count, total: shown.update(task, advance=count, total=total)

    with shown:
        yield start


def download(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    token: str | None = None,
    progress: Advance = ignore,
) -> None:
    """Fetch `target` from the first of `urls` (http, https, file) that delivers `size` right bytes.

    Goes on where an earlier run or mirror ended, in `target`.part; a right `target` is left alone.
    Without `sha256` nothing tells right from wrong: all is fetched anew, from one mirror.
    `token` tells the mirrors' own hosts who asks; it does not follow a redirect to another.
    Raises HashMismatch if a mirror sent other bytes, DownloadFailure if none sent all, DiskFull.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with disk.guard(target), _Part(target.with_name(f"{target.name}.part")) as part:
        if sha256 and target.is_file() and receipt.sha256(target) == sha256:
            return
        part.expect(sha256, size, progress)
        part.token = token
        failures: list[HashMismatch | DownloadFailure] = []
        for url in urls:
            try:
                _deliver(url, part)
            except (HashMismatch, DownloadFailure) as failure:
                failures.append(failure)
                if len(failures) < len(urls):
                    report.say(f"{url}: {failure.what}")
            else:
                os.replace(part.path, target)
                return
    raise _summary(target, urls, failures)


def offered(
    mirrors: Sequence[str],
    path: str,
    target: Path,
    *,
    sha256: str,
    size: int,
    progress: Advance = ignore,
) -> bool:
    """Fetch `target` from below the mirrors, if one has it; say what keeps one from that.

    Raises DiskFull.
    """
    if not mirrors:
        return False
    urls = [f"{mirror.rstrip('/')}/{path}" for mirror in mirrors]
    try:
        download(urls, target, sha256=sha256, size=size, progress=progress)
    except (DownloadFailure, HashMismatch) as failure:
        report.say(f"{failure.what} {failure.why}")
        return False
    return True


class _Part:
    """The file that a download grows in, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256: str | None = None
        self.size: int | None = None
        self.progress: Advance = ignore
        self.token: str | None = None
        self.version: dict[str, str] = {}  # per mirror: what it calls the content that it sends

    def __enter__(self) -> Self:
        while True:
            # Unbuffered, so that a full disk is noticed at the write and not when closing.
            self.stream = self.path.open("ab", buffering=0)
            files.lock(self.stream, self.path)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self.stream.fileno()), self.path.stat()):
                    return self
            self.stream.close()  # the process that we waited for has finished it

    def __exit__(self, *_: object) -> None:
        if self.length == 0:
            self.path.unlink(missing_ok=True)
        self.stream.close()

    @property
    def length(self) -> int:
        """The number of bytes downloaded so far."""
        return os.fstat(self.stream.fileno()).st_size

    @property
    def right(self) -> bool:
        """Whether this is all, and what was asked for."""
        if self.size not in (None, self.length):
            return False
        return self.sha256 is None or receipt.sha256(self.path) == self.sha256

    def expect(self, sha256: str | None, size: int | None, progress: Advance) -> None:
        """Set what the whole must be; keep earlier bytes if they can be checked in the end.

        Raises DiskFull if there is no room for the rest.
        """
        self.sha256, self.size, self.progress = sha256, size, progress
        progress(self.length, size)
        if sha256 is None or (size is not None and self.length > size):
            self.clear()
        if size is not None:
            disk.require(self.path.parent, size - self.length)

    def clear(self) -> None:
        """Discard what was downloaded so far."""
        self.progress(-self.length, self.size)
        self.stream.truncate(0)

    def fill(self, pieces: Iterable[bytes], total: int | None) -> None:
        """Append `pieces`, which complete a content of `total` bytes."""
        if total is not None:
            disk.require(self.path.parent, total - self.length)
        for piece in pieces:
            if self.size is not None and self.length + len(piece) > self.size:
                self.clear()
                raise HashMismatch(_("It sends more than {size} bytes.").format(size=self.size))
            rest = memoryview(piece)
            while rest:
                rest = rest[self.stream.write(rest) :]
            self.progress(len(piece), total)
        whole = self.size if total is None else total
        if whole is not None and self.length < whole:
            raise _Cut(
                _("It ended after {count} of {total} bytes.").format(count=self.length, total=whole)
            )

    def check_total(self, total: int | None) -> None:
        """Raise HashMismatch if a mirror announces another size than the expected one."""
        if None not in (total, self.size) and total != self.size:
            raise HashMismatch(
                _("It has {total} bytes instead of {size}.").format(total=total, size=self.size)
            )


class _Cut(Exception):
    """A transfer ended too early; trying again may help, `after` so many seconds."""

    def __init__(self, why: str, after: float = 0) -> None:
        super().__init__(why)
        self.after = after


def _deliver(url: str, part: _Part) -> None:
    """Complete the part from one mirror; if the whole is wrong, throw it away."""
    if url.startswith(("http:", "https:")) and address.parse(url) is None:
        raise DownloadFailure(_("This is no address that can be asked."))
    inherited = part.length > 0
    _persist(url, part)
    if part.right:
        return
    part.clear()
    if not inherited:
        raise HashMismatch(_("It sends other bytes than the expected ones."))
    _deliver(url, part)  # the fault may lie in what was there before


def _persist(url: str, part: _Part) -> None:
    """Ask a mirror until the file is complete or a request brings nothing new."""
    fetch = _copy if urlsplit(url).scheme == "file" else _request
    while part.length != part.size:
        before = part.length
        try:
            Retrying(
                retry=retry_if_exception_type(_Cut),
                stop=stop_after_attempt(ATTEMPTS),
                wait=_wait,
                reraise=True,
            )(fetch, url, part)
        except _Cut as cut:
            if part.length <= before:
                raise DownloadFailure(str(cut)) from None
        else:
            return


def _wait(state: RetryCallState) -> float:
    """Return how long to wait: longer each time, and not less than the server asks for."""
    cut = state.outcome and state.outcome.exception()
    return max(WAIT(state), cut.after if isinstance(cut, _Cut) else 0)


def _copy(url: str, part: _Part) -> None:
    path = Path(url2pathname(urlsplit(url).path))
    try:
        with path.open("rb") as source:
            total = os.fstat(source.fileno()).st_size
            part.check_total(total)
            part.clear()
            part.fill(iter(lambda: source.read(CHUNK), b""), total)
    except FileNotFoundError:
        raise DownloadFailure(_("There is no such file.")) from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise DownloadFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None


def _request(url: str, part: _Part) -> None:
    """Ask for what is missing, once; raise _Cut if not all of it came."""
    if not (part.sha256 or url in part.version):
        part.clear()  # nothing would tell whether the rest fits
    offset = part.length
    # A proxy that compresses would change the length, and what a Range means.
    headers = {"Accept-Encoding": "identity"}
    if part.token:
        headers["Authorization"] = f"Bearer {part.token}"  # requests drops it at another host
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if url in part.version:
            headers["If-Range"] = part.version[url]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            _receive(url, part, answer)
    except HOPELESS as error:
        raise DownloadFailure(_reason(error)) from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Cut(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """Return the innermost cause: the libraries wrap it several times over."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}. {certificates.remedy(error, 'REQUESTS_CA_BUNDLE')}"
    return str(error) or type(error).__name__


def _receive(url: str, part: _Part, answer: requests.Response) -> None:
    status = f"HTTP {answer.status_code} {answer.reason}"
    if answer.status_code in PASSING:
        after = urllib3.Retry().get_retry_after(answer.raw) or 0
        raise _Cut(status, after) if after <= PATIENCE else DownloadFailure(status)
    if answer.status_code in NO_ENTRY:
        raise DownloadFailure(no_entry(answer.status_code))
    if not answer.ok and answer.status_code != codes.range_not_satisfiable:
        raise DownloadFailure(status)
    if part.sha256 is None:
        _require_plain(url, answer)
    start, total = _extent(answer)
    part.check_total(total)
    if start is None and total == part.length:
        return  # nothing was missing
    if start not in (0, part.length):
        part.clear()
        raise _Cut(status)
    if start == 0:
        part.clear()
    etag = answer.headers.get("ETag", "")
    version = answer.headers.get("Last-Modified") if etag.startswith("W/") else etag
    if version:
        part.version[url] = version
    part.fill(answer.raw.stream(CHUNK, decode_content=False), total)


def _require_plain(url: str, answer: requests.Response) -> None:
    """Raise DownloadFailure if bytes come that only a hash could tell from the right ones."""
    hops = [urlsplit(each.url).scheme for each in (*answer.history, answer)]
    if hops[0] == "https" and "http" in hops:
        raise DownloadFailure(_("It redirects from https to http, where content can be changed."))
    path = urlsplit(url).path
    encoding = answer.headers.get("Content-Encoding", "identity")
    # Many servers call the compression that a file has by itself an encoding.
    if encoding != "identity" and not path.endswith((".gz", ".tgz")):
        raise DownloadFailure(
            _("It sends the file compressed ({encoding}), which was not asked for.").format(
                encoding=encoding
            )
        )
    kind = answer.headers.get("Content-Type", "")
    if kind.startswith("text/html") and not path.endswith((".html", ".htm")):
        raise DownloadFailure(_("It sends a web page; a proxy or a login may be in between."))


def no_entry(status: int) -> str:
    """Say why a server refuses this user: `status` is one of NO_ENTRY."""
    if status == codes.unauthorized:
        advice = _(
            "a token is missing (HF_TOKEN, MODELSCOPE_API_TOKEN, ~/.netrc), or it does not exist"
        )
    else:
        advice = _("this account may not have it; its licence may have to be accepted there first")
    return f"HTTP {status} {HTTPStatus(status).phrase}: {advice}"


def _extent(answer: requests.Response) -> tuple[int | None, int | None]:
    """Return where the bytes that come begin (None: none come), and the size of the whole."""
    if answer.status_code == codes.ok:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = re.fullmatch(
        r"bytes (?:\*|(?P<start>\d+)-\d+)/(?:\*|(?P<total>\d+))",
        answer.headers.get("Content-Range", ""),
    )
    start, total = match.group("start", "total") if match else (None, None)
    return int(start) if start else None, int(total) if total else None


def _summary(
    target: Path, urls: Sequence[str], failures: Sequence[HashMismatch | DownloadFailure]
) -> HashMismatch | DownloadFailure:
    wrong = any(isinstance(failure, HashMismatch) for failure in failures)
    why = "\n  ".join(f"{url}: {failure.what}" for url, failure in zip(urls, failures, strict=True))
    if wrong:
        return HashMismatch(
            _("What was downloaded for {name} is not what was requested.").format(name=target.name),
            why,
            _("Check the expected hash, or name another mirror."),
        )
    return DownloadFailure(
        _("{name} cannot be downloaded.").format(name=target.name),
        why,
        _("Check the network and run the same task again; it goes on where it was."),
    )
