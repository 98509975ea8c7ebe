"""`verify`: whether an image in a registry is signed, and is what this recipe gives."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

from builder import image as images
from builder.launch import provenance, registry, signature
from builder.launch.registry import Repository
from builder.settings import Settings
from builder.stage import report
from entrypoint.common.errors import HashMismatch, Refused, Unverified
from entrypoint.common.language import _

GZIP = 16 + zlib.MAX_WBITS


def verify(settings: Settings, reference: str, key: Path) -> None:
    """Check signatures, provenance and every byte of an image; print its reference by digest.

    Raises UsageFailure for a wrong name or key, Unverified, HashMismatch, Refused, and StageMissing
    where nothing was built here that it could be compared with.
    """
    public = signature.public_key(key)
    repository, name = registry.parse(reference)
    record = settings.image_dir / "receipt.json"
    layers = images.finished(record, settings.task("build-image"))["layers"]
    with report.step(_("Verifying {name}").format(name=reference)):
        content, _kind = repository.manifest(name)
        if not content:
            raise Refused(_("{name} is not in the registry.").format(name=reference))
        digest = registry.digest(content)
        signature.verify(repository, digest, public)
        report.say(_("the signature is of this key"))
        attached = repository.referrers(digest)
        for each in attached:
            signature.verify(repository, each["digest"], public)
        _compare(_statement(repository, digest, attached))
        report.say(_("it was built of the locks of this recipe"))
        _check_layers(repository, json.loads(content), layers)
        report.say(_("all {count} layers are those of this recipe").format(count=len(layers)))
    print(f"{repository.host}/{repository.name}@{digest}")


def _statement(repository: Repository, name: str, attached: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the provenance that is attached to a manifest; raise Unverified without one."""
    for each in attached:
        manifest = json.loads(repository.manifest(each["digest"])[0])
        if manifest.get("artifactType") != provenance.TYPE:
            continue
        statement: dict[str, Any] = json.loads(repository.blob(manifest["layers"][0]["digest"]))
        if statement["subject"][0]["digest"]["sha256"] == name.partition(":")[2]:
            return statement
    raise Unverified(
        _("Nothing tells what the image was built of."),
        _("No provenance is attached to it."),
        _("Push it again with: ./llmdeploy push --sign KEY"),
    )


def _compare(statement: dict[str, Any]) -> None:
    if others := provenance.differences(statement):
        raise Unverified(
            _("The image was built of another recipe."),
            _("These differ from here: {names}.").format(names=", ".join(others)),
            _("Check out the commit that it was built of: {commit}").format(
                commit=provenance.commit(statement)
            ),
        )


def _check_layers(repository: Repository, manifest: dict[str, Any], layers: list[str]) -> None:
    """Raise HashMismatch unless every layer, unpacked, has the digest that was built here."""
    config = json.loads(repository.blob(manifest["config"]["digest"]))
    diff_ids = config["rootfs"]["diff_ids"]
    if diff_ids != layers:
        raise HashMismatch(
            _("The image has other layers than this recipe gives."),
            _("These differ from here: {names}.").format(
                names=", ".join(each for each in diff_ids if each not in layers) or "-"
            ),
            _("Build it here from the same commit and models, and compare again."),
        )
    for layer, digest in zip(manifest["layers"], layers, strict=True):
        unpacked, hasher = zlib.decompressobj(GZIP), hashlib.sha256()
        pieces = repository.pieces(layer["digest"])
        try:
            for piece in pieces:
                hasher.update(unpacked.decompress(piece))
        except zlib.error:
            for _rest in pieces:  # at their end is told that they are others
                pass
        repository.check(digest, f"sha256:{hasher.hexdigest()}")
