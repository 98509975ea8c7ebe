"""Alibaba Cloud on loopback, as far as its own SDKs look at it: signatures, state, faults.

It keeps what was made, so that a test can tell what is left. A fault is taken from `faults` by the
next request for its action: "throttled", "broken" (500), "silent" (no answer), "late" (the work is
done and then the answer is 500), or any other word, which becomes the error's code.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlsplit

KEY_ID, SECRET = "test-id", "test-secret"
Parameters: TypeAlias = dict[str, Any]
Actions: TypeAlias = "dict[tuple[str, str], Callable[[Cloud, Parameters], Parameters]]"


@dataclass
class Refusal(Exception):
    """An error as the cloud answers it."""

    code: str
    status: int = 400


@dataclass
class Cloud:
    """What is there, what was asked for, and what is going to go wrong."""

    actions: Actions
    url: str = ""
    faults: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, Parameters] = field(default_factory=dict)
    ready: bool = True
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return what is there of one kind."""
        return [thing for thing in self.made.values() if thing["kind"] == kind]

    def make(self, kind: str, **facts: Any) -> str:
        """Make a thing and return its id."""
        identity = f"{kind}-{next(self.numbers)}"
        self.made[identity] = {"kind": kind, "id": identity, **facts}
        return identity


@contextmanager
def serve(actions: Actions) -> Iterator[Cloud]:
    """Run a cloud that knows these actions, by version and name."""
    cloud = Cloud(actions)
    handler = type("Handler", (_Handler,), {"cloud": cloud})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield cloud
        finally:
            server.shutdown()
            thread.join()


def signature(method: str, target: str, headers: dict[str, str], secret: str) -> str:
    """Return the Authorization that a request should have.

    https://help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature
    """
    path, _separator, query = target.partition("?")
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    canonical_query = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    claimed = re.search("SignedHeaders=([^,]+)", headers["authorization"])
    names = claimed[1] if claimed else ""
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names.split(";"))
    parts = [method, path, canonical_query, lines, names, headers["x-acs-content-sha256"]]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    text = f"ACS3-HMAC-SHA256\n{digest}".encode()
    right = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return f"ACS3-HMAC-SHA256 Credential={KEY_ID},SignedHeaders={names},Signature={right}"


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def nested(flat: dict[str, str]) -> Parameters:
    """Return parameters such as Tag.1.Key as lists and tables."""
    found: Parameters = {}
    for name, value in flat.items():
        place: Any = found
        *parents, last = name.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(each) for name, each in value.items()}
    if all(name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/ready":
            self._answer(200 if self.cloud.ready else 503, {})
            return
        if self.path.startswith("/latest/"):
            self._metadata()
            return
        try:
            self._answer(200, self._act(body))
        except Refusal as refusal:
            self._answer(refusal.status, {"Code": refusal.code, "Message": f"no: {refusal.code}"})
        except TimeoutError:
            self.close_connection = True

    def _metadata(self) -> None:
        """Answer what an ECS instance asks its own metadata service, in its guarded mode."""
        if self.command == "PUT":
            self._send(200, "text/plain", b"metadata-token")
        elif self.headers["X-aliyun-ecs-metadata-token"] != "metadata-token":
            self._send(403, "text/plain", b"")
        else:
            keys = {"AccessKeyId": KEY_ID, "AccessKeySecret": SECRET, "SecurityToken": "session"}
            self._answer(200, keys)

    def _act(self, body: bytes) -> Parameters:
        headers = {name.lower(): value for name, value in self.headers.items()}
        if hashlib.sha256(body).hexdigest() != headers["x-acs-content-sha256"]:
            raise Refusal("ContentDoesNotMatch")
        if headers["authorization"] != signature(self.command, self.path, headers, SECRET):
            raise Refusal("SignatureDoesNotMatch")
        action = headers["x-acs-action"]
        self.cloud.asked.append(action)
        perform = self.cloud.actions[headers["x-acs-version"], action]
        parameters = nested(dict(parse_qsl(urlsplit(self.path).query)))
        parameters |= {"path": unquote(urlsplit(self.path).path), "method": self.command}
        if body and "json" in headers.get("content-type", ""):
            parameters["body"] = json.loads(body)
        elif body:
            parameters |= nested(dict(parse_qsl(body.decode())))
        waiting = self.cloud.faults.get(action, [])
        fault = waiting.pop(0) if waiting else ""
        if fault == "throttled":
            raise Refusal("Throttling.User", 429)
        if fault == "broken":
            raise Refusal("InternalError", 500)
        if fault == "silent":
            raise TimeoutError
        if fault and fault != "late":
            raise Refusal(fault)
        answer = perform(self.cloud, parameters)
        if fault == "late":
            raise Refusal("ServiceUnavailable", 503)
        return answer

    def _answer(self, status: int, content: Parameters) -> None:
        self._send(status, "application/json", json.dumps({"RequestId": "r", **content}).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - as the base class calls them

    def log_message(self, *_: object) -> None:
        """Be quiet."""
