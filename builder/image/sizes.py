"""`image-size`: what each layer takes, in the image and as a registry would store it."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from builder import image
from builder.settings import Settings
from entrypoint.common.language import _


def show(settings: Settings) -> None:
    """Print the size of each layer, in the image and as a registry would store it.

    Raises ImageMissing if there is no image, StageMissing if another checkout made it.
    """
    image.require(settings)
    folder = settings.image_dir
    image.finished(folder / "receipt.json", settings.task("build-image"))
    recipe = (folder / "Dockerfile").read_text(encoding="utf-8")
    names = [line.split()[1] for line in recipe.splitlines() if line.startswith("ADD ")]
    with ThreadPoolExecutor() as pool:  # zlib lets other threads run
        sizes = pool.map(measure, (folder / "layers" / name for name in names))
    Console().print(table(dict(zip(names, sizes, strict=True)), settings.variant.bounds))


def table(sizes: Mapping[str, tuple[int, int]], bounds: tuple[int, int]) -> Table:
    """Return what `show` prints of the layers' two sizes in bytes and their `bounds` in MB."""
    rest = [size for name, size in sizes.items() if not name.startswith("model-")]
    shown = Table(box=None, pad_edge=False)  # it knows that Chinese takes two cells
    shown.add_column(_("layer"), no_wrap=True)
    for title in (_("MB unpacked"), _("MB compressed")):
        shown.add_column(title, justify="right", no_wrap=True)
    for name, size in sizes.items():
        shown.add_row(Path(name).stem, *(f"{each / 1e6:.1f}" for each in size))
    totals = map(sum, zip(*rest, strict=True))
    shown.add_row(_("all but the weights"), *(f"{each / 1e6:.1f}" for each in totals))
    shown.add_row(_("promised at most"), *map(str, bounds))
    return shown


def measure(tar: Path, level: int = 6) -> tuple[int, int]:
    """Return the bytes of a layer's files, and of the layer compressed as a registry does it.

    With a lower level than a registry's, what is compressed is more, and sooner known.
    """
    with tarfile.open(tar) as content:
        unpacked = sum(member.size for member in content)
    sink = _Counter()
    with (
        tar.open("rb") as source,
        gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=level) as out,
    ):
        shutil.copyfileobj(source, out, 1 << 20)
    return unpacked, sink.count


class _Counter(io.RawIOBase):
    """A file that only counts what is written to it."""

    count = 0

    def write(self, data: Any, /) -> int:
        self.count += len(data)
        return len(data)
