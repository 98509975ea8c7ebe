"""Provenance: what an image was built of, and by whom, as an in-toto statement of SLSA's form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from builder.settings import ROOT
from builder.stage import receipt

TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
BUILD: Final = "urn:llmdeploy:build-image:1"
LOCAL: Final = "urn:llmdeploy:a-person"
LOCKS: Final = ("env/*.lock", "env/*/*.lock", "models/models.lock")
LABEL: Final = "org.opencontainers.image."


def locks() -> dict[str, str]:
    """Return the SHA-256 of every lock of this checkout, by its path."""
    paths = sorted(path for pattern in LOCKS for path in ROOT.glob(pattern))
    return {str(path.relative_to(ROOT)): receipt.sha256(path) for path in paths}


def statement(name: str, digest: str, labels: Mapping[str, str], engine: str) -> dict[str, Any]:
    """Return what is said of the image with this manifest `digest` and these labels."""
    revision, dirty, _rest = labels.get(f"{LABEL}revision", "").partition("-")
    source = {
        "uri": labels.get(f"{LABEL}source") or "urn:llmdeploy:recipe",
        "digest": {"gitCommit": revision},
        "annotations": {"edited": bool(dirty)},
    }
    dependencies = [
        {"uri": f"urn:llmdeploy:lock:{path}", "digest": {"sha256": sha256}}
        for path, sha256 in locks().items()
    ]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {
                    "engine": engine,
                    "models": labels.get("io.llmdeploy.models", "").split(","),
                },
                "resolvedDependencies": [source, *dependencies],
            },
            "runDetails": {
                "builder": {
                    "id": _workflow() or LOCAL,
                    "version": {"llmdeploy": labels.get(f"{LABEL}version", "")},
                }
            },
        },
    }


def differences(statement: Mapping[str, Any]) -> list[str]:
    """Return the locks of a statement that are others than this checkout's."""
    known = {f"urn:llmdeploy:lock:{path}": sha256 for path, sha256 in locks().items()}
    told = {
        each["uri"]: each.get("digest", {}).get("sha256", "")
        for each in statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        if each["uri"].startswith("urn:llmdeploy:lock:")
    }
    return sorted(
        uri.rpartition(":")[2] for uri in {*known, *told} if known.get(uri) != told.get(uri)
    )


def commit(statement: Mapping[str, Any]) -> str:
    """Return the commit of the recipe that a statement names."""
    source = statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]
    return str(source["digest"]["gitCommit"])


def _workflow() -> str:
    """Return the address of the workflow of GitHub that this runs in, "" elsewhere."""
    server, path = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_WORKFLOW_REF")
    return f"{server}/{path}" if server and path else ""
