"""What lies beside an image in a registry: its bill of materials, its provenance, signatures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builder.launch import provenance, signature
from builder.launch.registry import Repository
from builder.settings import Settings
from builder.stage import receipt, report
from entrypoint.common.language import _

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

BILL = "application/vnd.cyclonedx+json"


def attach(
    settings: Settings, name: str, digest: str, image: Any, key: EllipticCurvePrivateKey | None
) -> None:
    """Attach bill and provenance to a pushed image, and sign all three if there is a `key`.

    An image that was not built here has neither. Raises Refused.
    """
    host, _slash, path = name.partition("/")
    repository = Repository(host, path)
    manifest, kind = repository.manifest(digest)
    subject = {"mediaType": kind, "digest": digest, "size": len(manifest)}
    digests = [digest]
    built = receipt.read(settings.image_dir / "receipt.json")
    if built and built["image"] == image.id:
        bill = (settings.image_dir / "sbom.json").read_bytes()
        statement = provenance.statement(name, digest, image.labels, settings.engine)
        for media, content in ((BILL, bill), (provenance.TYPE, json.dumps(statement).encode())):
            digests.append(repository.attach(subject, media, content)["digest"])
        report.say(_("attached bill of materials and provenance"))
    else:
        report.say(_("not built here, so without bill of materials and provenance"))
    if key:
        for each in digests:
            signature.sign(repository, each, key)
        report.say(_("signed"))
