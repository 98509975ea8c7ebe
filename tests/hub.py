"""Both model hubs on loopback, as far as their own SDKs look at them, with faults on demand.

Git LFS is imitated: the bytes come from another path, after a redirect, and take a Range. Texts are
served without one, as the hubs do.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

PIECE = 1 << 14
REPOSITORY = "owner/model"
REVISION = "v1"


@dataclass
class Hub:
    """One repository: `files` by path, and what goes wrong with each.

    `cut` breaks the connection after so many bytes, `errors` are the statuses of the next answers,
    `wrong` is what is sent instead, `unlisted` files are there but not in the listing, `listed` is
    in the listing only, which tells `sizes` that are not the files' own; `gate` stops a transfer
    (of `gated`, or any) in its middle until it is set.
    """

    files: dict[str, bytes]
    cut: dict[str, int] = field(default_factory=dict)
    errors: dict[str, list[int]] = field(default_factory=dict)
    wrong: dict[str, bytes] = field(default_factory=dict)  # of "listing" too
    unlisted: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: bool = True  # does the listing have them
    gate: threading.Event | None = None
    gated: str = ""
    halfway: threading.Event = field(default_factory=threading.Event)
    sent: Counter[str] = field(default_factory=Counter)  # bytes of each file
    asked: list[str] = field(default_factory=list)  # "GET path", "GET path from 123"
    token: str = ""  # without it, everything but /lfs/ answers 401
    credentials: dict[str, str | None] = field(default_factory=dict)  # by path, as they came
    url: str = ""

    def entries(self) -> Iterator[tuple[str, int, str]]:
        for path, content in sorted(self.files.items()):
            if path not in self.unlisted:
                size = self.sizes.get(path, len(content))
                yield path, size, hashlib.sha256(content).hexdigest()
        for path in self.listed:
            yield path, 1000, "0" * 64


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub until the end of the block; its address is in `hub.url`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        if hub.gate:
            hub.gate.set()
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Be quiet about clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        self.hub.credentials[path] = self.headers.get("Authorization")
        authorized = self.hub.token in (self.headers.get("Authorization") or "")
        huggingface = f"/{REPOSITORY}/resolve/{REVISION}/"
        modelscope = f"/api/v1/models/{REPOSITORY}/repo"
        if path == "/":
            self._json({})
        elif not (authorized or path.startswith("/lfs/")):
            self._fail(401)
        elif path == f"/api/models/{REPOSITORY}/revision/{REVISION}":
            self._listing(path, self._siblings())
        elif path == f"{modelscope}/files" and query["Revision"] == [REVISION]:
            self._listing(path, self._tree())
        elif path == modelscope and query["Revision"] == [REVISION]:
            self._file(query["FilePath"][0])
        elif path.startswith(huggingface):
            self._file(path.removeprefix(huggingface))
        elif path.startswith("/simple/"):
            self._package(path.split("/")[2])
        elif path.startswith("/lfs/"):
            self._bytes(path.removeprefix("/lfs/"))
        else:
            self._fail(404)

    def _package(self, name: str) -> None:
        """Send a package index's page of one package."""
        wheels = (path for path in self.hub.files if path.startswith(name.replace("-", "_")))
        page = "".join(f'<a href="/lfs/{path}">{path}</a>' for path in wheels).encode()
        self._head(200, {"Content-Type": "text/html", "Content-Length": str(len(page))})
        self.wfile.write(page)

    def _siblings(self) -> dict[str, Any]:
        siblings = []
        for path, size, sha256 in self.hub.entries():
            lfs = {"sha256": sha256, "size": size, "pointerSize": 130}
            siblings.append({"rfilename": path, "size": size, "blobId": sha256[:40], "lfs": lfs})
            if not (self.hub.hashes and _is_lfs(path)):
                del siblings[-1]["lfs"]
        return {"id": REPOSITORY, "sha": "a" * 40, "siblings": siblings}

    def _tree(self) -> dict[str, Any]:
        files: list[dict[str, Any]] = [{"Path": "folder", "Type": "tree", "Size": 0}]
        for path, size, sha256 in self.hub.entries():
            known = sha256 if self.hub.hashes else ""
            files.append({"Path": path, "Type": "blob", "Size": size, "Sha256": known})
        return {"Code": 200, "Success": True, "Data": {"Files": files}}

    def _listing(self, path: str, content: dict[str, Any]) -> None:
        self.hub.asked.append(f"{self.command} {path}")
        if self.hub.errors.get("listing"):
            self._fail(self.hub.errors["listing"].pop(0))
        elif page := self.hub.wrong.get("listing"):
            self._head(200, {"Content-Type": "text/html", "Content-Length": str(len(page))})
            self.wfile.write(page)
        else:
            self._json(content)

    def _file(self, path: str) -> None:
        if path not in self.hub.files:
            self._fail(404)
        elif _is_lfs(path):
            # By another name, as the hubs' stores are other machines.
            store = self.hub.url.replace("127.0.0.1", "localhost")
            self._head(302, {"Location": f"{store}/lfs/{quote(path)}", "Content-Length": "0"})
        else:
            self._bytes(path, ranges=False)

    def _bytes(self, path: str, *, ranges: bool = True) -> None:
        hub, content = self.hub, self.hub.wrong.get(path, self.hub.files[path])
        start = 0
        wanted = self.headers.get("Range")
        if wanted and ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
        hub.asked.append(f"{self.command} {path}" + (f" from {start}" if start else ""))
        if hub.errors.get(path):
            self._fail(hub.errors[path].pop(0))
            return
        headers = {"Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers)
        if self.command == "HEAD":
            return
        stop = hub.cut.pop(path, len(content))
        middle = len(content) // 2
        for at in range(start, len(content), PIECE):
            piece = content[at : min(at + PIECE, stop)]
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return
            hub.sent[path] += len(piece)
            if at + PIECE >= stop:
                self.close_connection = stop < len(content)
                return
            if at >= middle and hub.gate and hub.gated in ("", path):
                hub.halfway.set()
                hub.gate.wait(timeout=60)

    def _json(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _fail(self, status: int) -> None:
        self._head(status, {"Retry-After": "1", "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def _is_lfs(path: str) -> bool:
    return path.endswith((".gguf", ".bin"))
