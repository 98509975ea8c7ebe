"""Signatures over an image, in the form that cosign verifies offline: a key pair, no log.

The payload is cosign's "simple signing", signed with ECDSA on P-256 over SHA-256. It lies in the
registry under a tag that is the digest of what is signed.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder.launch.registry import MANIFEST, Repository, digest
from entrypoint.common.errors import Unverified, UsageFailure
from entrypoint.common.language import _

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
NOTE: Final = "dev.cosignproject.cosign/signature"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
PRIVATE: Final = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.key"
PUBLIC: Final = "openssl pkey -in sign.key -pubout -out sign.pub"


def private_key(path: Path) -> EllipticCurvePrivateKey:
    """Read a key to sign with; raise UsageFailure if it is missing, encrypted, another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _content(path, PRIVATE)
    if b"ENCRYPTED" in content.partition(b"\n")[0]:
        raise _encrypted(path)
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:  # of an encrypted key in the old form, which says so on its second line
        raise _encrypted(path) from None
    except ValueError:
        raise _unfit(path, PRIVATE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unfit(path, PRIVATE)
    return key


def public_key(path: Path) -> EllipticCurvePublicKey:
    """Read a key to verify with; raise UsageFailure if it is missing or of another kind."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_content(path, PUBLIC))
    except ValueError:
        raise _unfit(path, PUBLIC) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unfit(path, PUBLIC)
    return key


def over(content: bytes, key: EllipticCurvePrivateKey) -> str:
    """Return a signature over content in base64, as `cosign verify-blob` reads it from a file."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return base64.b64encode(key.sign(content, ec.ECDSA(hashes.SHA256()))).decode()


def sign(repository: Repository, name: str, key: EllipticCurvePrivateKey) -> None:
    """Put a signature over the manifest of the digest `name` beside it; raise Refused."""
    payload = _payload(repository, name)
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(payload)]}}).encode()
    for blob in (payload, config):
        repository.store(blob)
    repository.put(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
            "layers": [
                {
                    "mediaType": PAYLOAD,
                    "digest": digest(payload),
                    "size": len(payload),
                    "annotations": {NOTE: over(payload, key)},
                }
            ],
        },
        _tag(name),
    )


def verify(repository: Repository, name: str, key: EllipticCurvePublicKey) -> None:
    """Raise Unverified unless the manifest of the digest `name` is signed by `key`."""
    content, _kind = repository.manifest(_tag(name))
    if not content:
        raise Unverified(
            _("{name} is not signed.").format(name=f"{repository.host}/{repository.name}@{name}"),
            next=_("Whoever pushes it signs it with: ./llmdeploy push --sign KEY"),
        )
    layers = json.loads(content)["layers"]
    if not any(_signed(repository, name, layer, key) for layer in layers):
        raise Unverified(
            _("No signature of {name} is of this key.").format(
                name=f"{repository.host}/{repository.name}@{name}"
            ),
            _("It was signed with another key, or changed since."),
            _("Do not run it before you know which."),
        )


def _signed(
    repository: Repository, name: str, layer: dict[str, Any], key: EllipticCurvePublicKey
) -> bool:
    """Tell whether one signature is of this key and over this digest."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    payload = repository.blob(layer["digest"])
    try:
        signature = base64.b64decode(layer["annotations"][NOTE], validate=True)
        key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        subject = json.loads(payload)["critical"]["image"]["docker-manifest-digest"]
    except (InvalidSignature, KeyError, ValueError, TypeError):
        return False
    return bool(subject == name)


def _payload(repository: Repository, name: str) -> bytes:
    critical = {
        "identity": {"docker-reference": f"{repository.host}/{repository.name}"},
        "image": {"docker-manifest-digest": name},
        "type": "cosign container image signature",
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def _tag(name: str) -> str:
    return f"{name.replace(':', '-')}.sig"


def _content(path: Path, command: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageFailure(
            _("The key {path} cannot be read: {reason}.").format(path=path, reason=error.strerror),
            next=_("Make one with: {command}").format(command=command),
        ) from None


def _encrypted(path: Path) -> UsageFailure:
    return UsageFailure(
        _("The key {path} is encrypted, and its password cannot be typed here.").format(path=path),
        next=_("Decrypt it: openssl pkey -in {path} -out sign.key").format(path=path),
    )


def _unfit(path: Path, command: str) -> UsageFailure:
    return UsageFailure(
        _("{path} is not the kind of key that is needed here: ECDSA on P-256, as PEM.").format(
            path=path
        ),
        next=_("Make one with: {command}").format(command=command),
    )
