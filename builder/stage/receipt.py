"""Receipts: what a stage read, what it wrote, with which tools.

A stage whose receipt still matches does nothing. The time is information and is never compared.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from entrypoint.common import files


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: object) -> str:
    """Return the hex SHA-256 of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def current(path: Path, inputs: Mapping[str, str]) -> bool:
    """Tell whether the receipt at `path` has these `inputs` and its outputs still stand.

    An output stands if its size and its time of change are the recorded ones, or else if its
    SHA-256 is: copying a folder does not make its content suspect, editing a file does.
    """
    data = read(path)
    return (
        data is not None
        and data["inputs"] == dict(inputs)
        and all(_stands(path.parent / name, entry) for name, entry in data["outputs"].items())
    )


def read(path: Path) -> dict[str, Any] | None:
    """Return a receipt's content, or None if there is none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(data, dict) and {"inputs", "outputs"} <= data.keys()
    return data if whole else None


def write(
    path: Path,
    inputs: Mapping[str, str],
    outputs: Iterable[Path],
    **facts: Any,
) -> None:
    """Write the receipt at `path` in one step; `outputs` lie in or below its folder.

    `facts` are whatever else is worth knowing: tool versions, package lists, sizes.
    """
    data = {
        "inputs": dict(inputs),
        "outputs": {str(output.relative_to(path.parent)): _entry(output) for output in outputs},
        **facts,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    files.write(path, text.encode())


def _entry(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"sha256": sha256(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _stands(path: Path, entry: Mapping[str, Any]) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_size != entry["size"]:
        return False
    same_time: bool = status.st_mtime_ns == entry["mtime_ns"]
    return same_time or sha256(path) == entry["sha256"]
