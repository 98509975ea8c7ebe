"""Downloads from real servers on loopback: good ones, and each kind of bad one."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tenacity

from builder.stage import download
from entrypoint.common.errors import DiskFull, DownloadFailure, HashMismatch
from tests.certificates import certify

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<html>Please log in</html>"


@dataclass
class Server:
    """What a server does; `asked` is the Range header of every request that came."""

    content: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    announce: int | None = None  # a Content-Length that is not true
    silent: bool = False  # sends no Content-Length at all
    shift: int = 0  # bytes that an answer to a Range begins too late
    cuts: list[int] = field(default_factory=list)  # bytes to send before hanging up, per request
    etag: str = ""
    encoding: str = ""
    kind: str = ""
    location: str = ""
    certificate: Path | None = None
    endless: bool = False
    retry_after: str = ""
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    asked: list[str | None] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.plan = server
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        plan, start, total = self.plan, 0, len(self.plan.content)
        wanted = self.headers.get("Range")
        plan.asked.append(wanted)
        if wanted and plan.ranges and self.headers.get("If-Range") in (None, plan.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + plan.shift
        headers = {
            "ETag": plan.etag,
            "Content-Encoding": plan.encoding,
            "Content-Type": plan.kind,
            "Location": plan.location,
            "Retry-After": plan.retry_after,
        }
        if not (plan.endless or plan.silent):
            headers["Content-Length"] = str(plan.announce or max(total - start, 0))
        if start:
            extent = f"{start}-{total - 1}" if start < total else "*"
            headers["Content-Range"] = f"bytes {extent}/{total}"
        self.send_response(plan.status if not start else 206 if start < total else 416)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client may have heard enough
            self.send(plan.content[start:])

    def send(self, body: bytes) -> None:
        while self.plan.endless:
            self.wfile.write(PAGE * 1000)
        if self.plan.cuts:
            body = body[: self.plan.cuts.pop(0)]
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.plan.go_on.wait(timeout=60)
        self.wfile.write(body[half:])

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def serve() -> Iterator[Callable[[Server], Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(plan: Server) -> Server:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, plan))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        plan.go_on.set()
        if plan.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(plan.certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https" if plan.certificate else "http"
        plan.url = f"{scheme}://127.0.0.1:{server.server_port}/file.bin"
        return plan

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "WAIT", tenacity.wait_none())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


def get(target: Path, *servers: Server) -> None:
    urls = [server.url for server in servers]
    download.download(urls, target, sha256=SHA256, size=len(CONTENT))


def part(target: Path) -> Path:
    return target.with_name("file.bin.part")


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole_and_alone(serve: Callable[[Server], Server], target: Path) -> None:
    get(target, serve(Server()))
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.bin"]


def test_a_right_file_is_not_asked_for_again(
    serve: Callable[[Server], Server], target: Path
) -> None:
    target.write_bytes(CONTENT)
    server = serve(Server())
    get(target, server)
    assert server.asked == []
    assert left(target) == ["file.bin"]


def test_a_wrong_file_is_replaced(serve: Callable[[Server], Server], target: Path) -> None:
    target.write_bytes(b"other")
    get(target, serve(Server()))
    assert target.read_bytes() == CONTENT


def test_a_part_of_an_earlier_run_is_completed(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(CONTENT[:123_456])
    server = serve(Server())
    get(target, server)
    assert server.asked == ["bytes=123456-"]
    assert target.read_bytes() == CONTENT


def test_a_complete_part_needs_no_server(target: Path) -> None:
    part(target).write_bytes(CONTENT)
    get(target, Server(url="http://127.0.0.1:9/nobody"))
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(CONTENT[:1000])
    get(target, serve(Server(ranges=False)))
    assert target.read_bytes() == CONTENT


def test_a_foreign_part_is_thrown_away_and_the_same_server_asked_again(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(PAGE)
    server = serve(Server())
    get(target, server)
    assert server.asked == [f"bytes={len(PAGE)}-", None]
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(CONTENT + b"x")
    get(target, serve(Server()))
    assert target.read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_where_it_ended(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(cuts=[100_000, 0, 50_000]))
    get(target, server)
    assert server.asked == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]
    assert target.read_bytes() == CONTENT


def test_a_slow_line_that_is_cut_very_often_gets_there(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(cuts=[20_000] * 14))
    get(target, server)
    assert len(server.asked) == 15
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_hangs_up_is_given_up_and_the_part_kept(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(cuts=[1000, *[0] * 100]))
    with pytest.raises(DownloadFailure) as caught:
        get(target, server)
    assert server.url in caught.value.why
    assert left(target) == ["file.bin.part"]
    assert part(target).read_bytes() == CONTENT[:1000]


def test_the_next_mirror_goes_on_where_the_first_ended(
    serve: Callable[[Server], Server], target: Path
) -> None:
    first, second = serve(Server(cuts=[100_000, *[0] * 100])), serve(Server())
    get(target, first, second)
    assert second.asked == ["bytes=100000-"]
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(serve: Callable[[Server], Server], target: Path) -> None:
    server = serve(Server(status=503))
    with pytest.raises(DownloadFailure, match="cannot be downloaded"):
        get(target, server)
    assert len(server.asked) == download.ATTEMPTS


def test_a_server_that_asks_for_time_gets_it(
    serve: Callable[[Server], Server], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(DownloadFailure, match="cannot be downloaded"):
        get(target, serve(Server(status=429, retry_after="7")))
    assert waits == [7, 7, 7]


def test_a_server_that_asks_for_an_hour_is_left_for_the_next_mirror(
    serve: Callable[[Server], Server], target: Path
) -> None:
    busy, good = serve(Server(status=503, retry_after="3600")), serve(Server())
    get(target, busy, good)
    assert len(busy.asked) == 1
    assert target.read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_again(
    serve: Callable[[Server], Server], target: Path
) -> None:
    missing, good = serve(Server(status=404)), serve(Server())
    get(target, missing, good)
    assert len(missing.asked) == 1
    assert target.read_bytes() == CONTENT


def test_an_error_page_with_status_200_is_not_taken_for_the_file(
    serve: Callable[[Server], Server], target: Path
) -> None:
    with pytest.raises(HashMismatch) as caught:
        get(target, serve(Server(content=PAGE)))
    assert f"{len(PAGE)} bytes instead of {len(CONTENT)}" in caught.value.why
    assert left(target) == []


def test_an_error_page_does_not_cost_the_part_that_is_there(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(CONTENT[:1000])
    good = serve(Server())
    get(target, serve(Server(content=PAGE, ranges=False)), good)
    assert good.asked == ["bytes=1000-"]


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_other_bytes_of_the_same_length_are_refused(
    serve: Callable[[Server], Server], target: Path, size: int | None
) -> None:
    forged = serve(Server(content=CONTENT[::-1]))
    with pytest.raises(HashMismatch):
        download.download([forged.url], target, sha256=SHA256, size=size)
    assert left(target) == []
    assert len(forged.asked) == 1


def test_a_forged_mirror_is_passed_over(serve: Callable[[Server], Server], target: Path) -> None:
    get(target, serve(Server(content=CONTENT[::-1])), serve(Server()))
    assert target.read_bytes() == CONTENT


def test_a_length_that_is_not_true_is_noticed(
    serve: Callable[[Server], Server], target: Path
) -> None:
    short = serve(Server(content=CONTENT[:-1], announce=len(CONTENT), ranges=False))
    with pytest.raises(DownloadFailure):
        get(target, short)
    assert not target.exists()


def test_a_server_that_tells_no_length_may_be_cut_too(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(silent=True, cuts=[1000]))
    get(target, server)
    assert server.asked == [None, "bytes=1000-"]
    assert target.read_bytes() == CONTENT


def test_an_answer_that_begins_elsewhere_is_not_appended(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(shift=10, cuts=[1000], etag='"one"'))
    download.download([server.url], target, sha256=None, size=None)
    assert server.asked == [None, "bytes=1000-", None]
    assert target.read_bytes() == CONTENT


def test_an_endless_answer_is_not_written_to_the_disk(
    serve: Callable[[Server], Server], target: Path
) -> None:
    with pytest.raises(HashMismatch) as caught:
        get(target, serve(Server(endless=True)))
    assert f"more than {len(CONTENT)} bytes" in caught.value.why
    assert left(target) == []


def test_a_compressed_archive_stays_compressed(
    serve: Callable[[Server], Server], target: Path
) -> None:
    """Many servers say Content-Encoding: gzip of a .tar.gz, and clients then unpack it."""
    get(target, serve(Server(encoding="gzip")))
    assert target.read_bytes() == CONTENT


def test_without_a_hash_nothing_that_was_compressed_on_the_way_is_taken(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(content=gzip.compress(CONTENT), encoding="gzip"))
    with pytest.raises(DownloadFailure, match=r"cannot be downloaded") as caught:
        download.download([server.url], target, sha256=None, size=None)
    assert "compressed (gzip), which was not asked for" in caught.value.why
    archive = server.url.replace(".bin", ".tar.gz")  # it is one by itself
    download.download([archive], target, sha256=None, size=None)
    assert gzip.decompress(target.read_bytes()) == CONTENT


def test_without_a_hash_a_page_instead_of_a_file_is_refused(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(content=PAGE, kind="text/html; charset=utf-8"))
    with pytest.raises(DownloadFailure) as caught:
        download.download([server.url], target, sha256=None, size=None)
    assert "It sends a web page; a proxy or a login may be in between." in caught.value.why
    assert left(target) == []


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a key and a certificate of this machine, which requests trusts from now on."""
    path = certify(tmp_path / "both.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


@pytest.mark.parametrize(("days", "reason"), [(365, "not yet valid"), (-365, "has expired")])
def test_a_clock_that_is_a_year_off_is_named(
    serve: Callable[[Server], Server],
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    reason: str,
) -> None:
    other = certify(target.with_name("other.pem"), days)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with pytest.raises(DownloadFailure) as caught:
        get(target, serve(Server(certificate=other)))
    assert reason in caught.value.why
    assert f"This machine's clock says {time.strftime('%Y-%m-%d')}: set it" in caught.value.why
    assert left(target) == [other.name]


def test_a_certificate_that_nobody_trusts_names_the_file_to_give(
    serve: Callable[[Server], Server], target: Path
) -> None:
    with pytest.raises(DownloadFailure) as caught:
        get(target, serve(Server(certificate=certify(target.with_name("own.pem")))))
    assert "Name a file of certificates to trust: REQUESTS_CA_BUNDLE" in caught.value.why


def test_without_a_hash_a_way_from_https_to_http_is_refused(
    serve: Callable[[Server], Server], target: Path, certificate: Path
) -> None:
    plain = serve(Server())
    secure = serve(Server(status=302, location=plain.url, certificate=certificate))
    with pytest.raises(DownloadFailure) as caught:
        download.download([secure.url], target, sha256=None, size=None)
    assert "It redirects from https to http, where content can be changed." in caught.value.why
    get(target, secure)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "told"), [(401, "a token is missing"), (403, "its licence")])
def test_who_is_not_let_in_is_told_what_to_do(
    serve: Callable[[Server], Server], target: Path, status: int, told: str
) -> None:
    server = serve(Server(status=status))
    with pytest.raises(DownloadFailure) as caught:
        get(target, server)
    assert f"HTTP {status}" in caught.value.why
    assert told in caught.value.why
    assert len(server.asked) == 1


def test_without_a_hash_nothing_of_an_earlier_run_is_trusted(
    serve: Callable[[Server], Server], target: Path
) -> None:
    part(target).write_bytes(PAGE)
    server = serve(Server())
    download.download([server.url], target, sha256=None, size=None)
    assert server.asked == [None]
    assert target.read_bytes() == CONTENT


def test_without_a_hash_only_the_same_version_is_resumed(
    serve: Callable[[Server], Server], target: Path
) -> None:
    plain = serve(Server(cuts=[1000]))
    download.download([plain.url], target, sha256=None, size=None)
    assert plain.asked == [None, None]

    tagged = serve(Server(cuts=[1000], etag='"one"'))
    download.download([tagged.url], target, sha256=None, size=None)
    assert tagged.asked == [None, "bytes=1000-"]
    assert target.read_bytes() == CONTENT


def test_a_file_that_changes_on_the_server_is_fetched_from_its_beginning(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server(content=PAGE * 100, cuts=[1000], etag='"old"'))

    def change(count: int, total: int | None) -> None:  # noqa: ARG001
        if count > 0:
            server.content, server.etag = CONTENT, '"new"'

    download.download([server.url], target, sha256=None, size=None, progress=change)
    assert target.read_bytes() == CONTENT


def test_a_file_on_this_disk_is_copied(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "with a space"
    source.write_bytes(CONTENT)
    missing = Server(url=(tmp_path / "missing").as_uri())
    get(target, missing, Server(url=source.as_uri()))
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://127.0.0.1/file", "No connection adapters were found"),
        ("file.bin", "No scheme supplied"),
        ("http://127.0.0.1:9/", "Connection refused"),
        ("http://[::1", "no address that can be asked"),
        ("http://ho st/a", "no address that can be asked"),
        ("file:///usr", "/usr cannot be read: Is a directory"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(target: Path, url: str, why: str) -> None:
    with pytest.raises(DownloadFailure) as caught:
        get(target, Server(url=url))
    assert caught.value.why.startswith(f"{url}: ")
    assert why in caught.value.why
    assert "Max retries" not in caught.value.why
    assert left(target) == []


def test_progress_adds_up_to_the_whole(serve: Callable[[Server], Server], target: Path) -> None:
    part(target).write_bytes(PAGE)
    seen: list[int] = []
    server = serve(Server(cuts=[100_000]))
    download.download(
        [server.url],
        target,
        sha256=SHA256,
        size=len(CONTENT),
        progress=lambda count, _: seen.append(count),
    )
    assert sum(seen) == len(CONTENT)
    assert min(seen) == -len(CONTENT)


def test_no_room_is_told_before_the_first_byte_is_asked_for(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server())
    with pytest.raises(DiskFull):
        download.download([server.url], target, sha256=SHA256, size=1 << 60)
    assert server.asked == []
    assert left(target) == []


def test_killed_and_started_again_it_goes_on(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server())
    server.go_on.clear()  # it stops half way
    program = (
        "import sys; from pathlib import Path; from builder.stage.download import download;"
        "download([sys.argv[1]], Path(sys.argv[2]), sha256=sys.argv[3], size=int(sys.argv[4]))"
    )
    arguments = [server.url, str(target), SHA256, str(len(CONTENT))]
    with subprocess.Popen([sys.executable, "-c", program, *arguments]) as process:
        while not (part(target).exists() and part(target).stat().st_size):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    server.go_on.set()
    had = part(target).stat().st_size
    get(target, server)
    assert server.asked == [None, f"bytes={had}-"]
    assert target.read_bytes() == CONTENT


def test_two_processes_that_want_the_same_file_share_one_transfer(
    serve: Callable[[Server], Server], target: Path
) -> None:
    server = serve(Server())
    server.go_on.clear()
    threads = [threading.Thread(target=get, args=(target, server)) for __ in range(2)]
    for thread in threads:
        thread.start()
    while not server.asked:
        time.sleep(0.01)
    server.go_on.set()
    for thread in threads:
        thread.join(timeout=60)
    assert server.asked == [None]
    assert left(target) == ["file.bin"]
