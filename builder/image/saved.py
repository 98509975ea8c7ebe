"""An image as one compressed file that a container engine loads, be it with its new layers only."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import zstandard

from builder.stage import archive, disk

if TYPE_CHECKING:
    from docker.models.images import Image


def write(image: Image, names: Sequence[str], target: Path, known: Collection[str]) -> None:
    """Write an image as `target`, a tar under zstd, without the layers whose digests are `known`.

    An engine that has those takes the file as if it were whole, and gives the image these `names`.
    Meanwhile the image lies uncompressed on the same disk. Raises DiskFull.
    """
    with disk.guard(target), tempfile.TemporaryFile(dir=target.parent) as content:
        for piece in image.save():
            content.write(piece)
        content.seek(0)
        with tarfile.open(fileobj=content) as source, _writing(target) as sink:
            _copy(source, sink, names, known)


def _copy(
    source: tarfile.TarFile, sink: tarfile.TarFile, names: Sequence[str], known: Collection[str]
) -> None:
    """Write again what an engine saved, in an order and under names that repeat."""
    [about] = json.load(_member(source, "manifest.json"))
    config = _member(source, about["Config"]).read()
    digests = json.loads(config)["rootfs"]["diff_ids"]
    files = {digest: f"{digest.partition(':')[2]}.tar" for digest in digests}
    for digest, layer in zip(digests, about["Layers"], strict=True):
        if digest not in known:
            stream = _member(source, layer)
            _add(sink, files[digest], stream, stream.seek(0, os.SEEK_END))
    identity = f"{Path(about['Config']).stem}.json"
    manifest = [{"Config": identity, "RepoTags": [*names], "Layers": [*files.values()]}]
    for name, text in ((identity, config), ("manifest.json", json.dumps(manifest).encode())):
        _add(sink, name, io.BytesIO(text), len(text))


def _member(source: tarfile.TarFile, name: str) -> IO[bytes]:
    """Return a file of the archive, whatever link it lies behind."""
    stream = source.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream


def _add(sink: tarfile.TarFile, name: str, stream: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = size, archive.EPOCH
    stream.seek(0)
    sink.addfile(member, stream)


@contextmanager
def _writing(target: Path) -> Iterator[Any]:
    with target.open("wb") as raw:
        compressor = zstandard.ZstdCompressor(archive.LEVEL, threads=-1, write_checksum=True)
        with (
            compressor.stream_writer(raw, closefd=False) as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as sink,
        ):
            yield sink
