"""A registry's own API, as OCI's distribution specification has it: manifests, blobs, referrers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from entrypoint.common.errors import HashMismatch, Refused, UsageFailure
from entrypoint.common.language import _

if TYPE_CHECKING:
    import requests

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
ACCEPTED: Final = (MANIFEST, INDEX, "application/vnd.docker.distribution.manifest.v2+json")
EMPTY: Final = b"{}"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
LOOPBACK: Final = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?")  # Docker's rule for http
CHALLENGE: Final = re.compile(r'(\w+)="([^"]*)"')
REFERENCE: Final = re.compile(
    r"(?P<host>[^/@]+)/(?P<name>[a-z0-9._/-]+)(?:@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>[\w.-]+))"
)
PIECE: Final = 1 << 20
SECONDS: Final = 60

Document = dict[str, Any]


def digest(content: bytes) -> str:
    """Return how registries name content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Repository:
    """One repository of a registry; each method raises Refused with what the registry said."""

    host: str
    name: str
    _tokens: dict[str, str] = field(default_factory=dict, compare=False)

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """Return the bytes and the media type of a manifest by tag or digest, empty if none is.

        Raises HashMismatch if they are not what the digest says.
        """
        answer = self._ask("GET", f"manifests/{reference}", headers={"Accept": ", ".join(ACCEPTED)})
        if answer.status_code == 404:  # noqa: PLR2004 - not found
            return b"", ""
        content = self._fine(answer).content
        if reference.startswith("sha256:"):
            self.check(reference, digest(content))
        return content, answer.headers["Content-Type"]

    def blob(self, name: str) -> bytes:
        """Return a small blob; raise HashMismatch if it is not what its digest says."""
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a blob piece by piece; raise HashMismatch at its end if it is another."""
        hasher = hashlib.sha256()
        with self._fine(self._ask("GET", f"blobs/{name}", stream=True)) as answer:
            for piece in answer.iter_content(PIECE):
                hasher.update(piece)
                yield piece
        self.check(name, f"sha256:{hasher.hexdigest()}")

    def check(self, name: str, real: str) -> None:
        """Raise HashMismatch if content that was asked for by its digest has another one."""
        if name != real:
            raise HashMismatch(
                _("The registry delivers other bytes than {name}.").format(name=name),
                _("The digest received is {digest}.").format(digest=real),
                _("Do not use this image; push it again."),
            )

    def store(self, content: bytes) -> None:
        """Upload a blob unless it is there."""
        name = digest(content)
        if self._ask("HEAD", f"blobs/{name}").ok:
            return
        place = self._fine(self._ask("POST", "blobs/uploads/")).headers["Location"]
        target = urljoin(self._url(""), place)
        self._fine(
            self._ask(
                "PUT", f"{target}{'&' if '?' in target else '?'}digest={name}", data=content,
                headers={"Content-Type": "application/octet-stream"},
            )
        )  # fmt: skip

    def put(self, document: Document, reference: str = "") -> Document:
        """Upload a manifest, by its digest unless a tag is named; return its descriptor."""
        content = json.dumps(document, separators=(",", ":")).encode()
        kind = document["mediaType"]
        self._fine(
            self._ask(
                "PUT", f"manifests/{reference or digest(content)}", data=content,
                headers={"Content-Type": kind},
            )
        )  # fmt: skip
        return {"mediaType": kind, "digest": digest(content), "size": len(content)}

    def attach(self, subject: Document, kind: str, content: bytes) -> Document:
        """Attach content of a media type to the manifest with the descriptor `subject`.

        A registry without the referrers API gets the index that the specification has for it.
        """
        for blob in (content, EMPTY):
            self.store(blob)
        descriptor = self.put(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": kind,
                "config": {"mediaType": EMPTY_TYPE, "digest": digest(EMPTY), "size": len(EMPTY)},
                "layers": [{"mediaType": kind, "digest": digest(content), "size": len(content)}],
                "subject": subject,
            }
        ) | {"artifactType": kind}
        if not self._has_referrers(subject["digest"]):
            others = [each for each in self.referrers(subject["digest"]) if each != descriptor]
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, descriptor]}
            self.put(index, _fallback(subject["digest"]))
        return descriptor

    def referrers(self, name: str) -> list[Document]:
        """Return the descriptors of what is attached to a manifest."""
        answer = self._ask("GET", f"referrers/{name}")
        content = answer.content if answer.ok else self.manifest(_fallback(name))[0]
        return list(json.loads(content)["manifests"]) if content else []

    def _has_referrers(self, name: str) -> bool:
        return self._ask("GET", f"referrers/{name}").ok

    @cached_property
    def _session(self) -> requests.Session:
        import requests

        return requests.Session()

    def _url(self, path: str) -> str:
        scheme = "http" if LOOPBACK.fullmatch(self.host) else "https"
        return f"{scheme}://{self.host}/v2/{self.name}/{path}"

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request and, if the registry wants to know who asks, once more with a token."""
        import requests

        url = path if "://" in path else self._url(path)
        headers = {**options.pop("headers", {}), **self._tokens}
        try:
            answer = self._session.request(method, url, headers=headers, timeout=SECONDS, **options)
            if answer.status_code == 401 and not self._tokens:  # noqa: PLR2004 - unauthorized
                self._tokens.update(self._login(answer.headers.get("WWW-Authenticate", "")))
                return self._ask(method, url, headers=headers, **options)
        except requests.RequestException as error:
            raise Refused(
                _("The registry {host} does not answer.").format(host=self.host), str(error)
            ) from None
        return answer

    def _login(self, challenge: str) -> Mapping[str, str]:
        """Return the header that says who asks, by what `docker login` has kept."""
        import requests
        from docker.auth import load_config

        login = load_config().resolve_authconfig(self.host) or {}
        user = (login["username"], login["password"]) if login.get("username") else None
        if challenge.lower().startswith("basic") and user:
            request = requests.Request("GET", self._url(""), auth=user).prepare()
            return {"Authorization": request.headers["Authorization"]}
        parameters = dict(CHALLENGE.findall(challenge))
        realm = parameters.pop("realm", "")
        answer = self._session.get(realm, params=parameters, auth=user, timeout=SECONDS)
        content = self._fine(answer).json()
        return {"Authorization": f"Bearer {content.get('token') or content['access_token']}"}

    def _fine(self, answer: requests.Response) -> requests.Response:
        if not answer.ok:
            raise Refused(
                _("The registry {host} refused a request.").format(host=self.host),
                f"{answer.status_code} {answer.text[:200]}".strip(),
                _("Log in with: docker login HOST; then check the name of the registry."),
            )
        return answer


def parse(reference: str) -> tuple[Repository, str]:
    """Return repository and tag or digest of an image's name; raise UsageFailure if it has none."""
    match = REFERENCE.fullmatch(reference)
    if not match:
        raise UsageFailure(
            _("{reference} is not the name of an image in a registry.").format(reference=reference),
            next=_("Write it as ./llmdeploy push prints it: HOST/NAME@sha256:..."),
        )
    return Repository(match["host"], match["name"]), match["digest"] or match["tag"]


def _fallback(name: str) -> str:
    """Return the tag of what is attached to a manifest, where there is no API for it."""
    return name.replace(":", "-")
