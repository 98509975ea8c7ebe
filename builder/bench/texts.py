"""What weights are judged by: Debian's reference in Chinese and English, locked by hash.

What weights are calibrated with are other chapters than those that they are measured with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import Final

from builder.debian import deb, store
from builder.settings import Settings

GROUP: Final = "texts"  # of env/debian.in
PLACE: Final = "usr/share/debian-reference"
# Chapters 1 to 9 calibrate, the others measure.
CALIBRATION: Final = ("ch0*.zh-cn.html", "ch0*.en.html")
CHINESE: Final = "ch1*.zh-cn.html"
ENGLISH: Final = "ch1*.en.html"
SHORT: Final = 20  # characters; what is shorter is a caption more often than prose


@dataclass(frozen=True)
class Passages:
    """Files of prose: `calibration` in both languages in turn, the other two in one each."""

    calibration: Path
    chinese: Path
    english: Path


def prepare(settings: Settings, folder: Path) -> Passages:
    """Write the texts into `folder`; raise DownloadFailure, HashMismatch or DiskFull."""
    for each in store.debs(settings, GROUP):
        deb.extract(each.file, folder / "root")
    book = folder / "root" / PLACE
    passages = Passages(folder / "calibration.txt", folder / "chinese.txt", folder / "english.txt")
    in_turn = zip(*(_prose(book, each) for each in CALIBRATION), strict=False)
    _write(passages.calibration, chain.from_iterable(in_turn))
    _write(passages.chinese, _prose(book, CHINESE))
    _write(passages.english, _prose(book, ENGLISH))
    return passages


def paragraphs(page: str) -> list[str]:
    """Return the paragraphs of an HTML page that are long enough to be prose, without markup."""
    reader = _Page()
    reader.feed(page)
    lines = (" ".join(text.split()) for text in reader.paragraphs)
    return [line for line in lines if len(line) >= SHORT]


def _prose(book: Path, pattern: str) -> list[str]:
    pages = [page.read_text(encoding="utf-8") for page in sorted(book.glob(pattern))]
    return [line for page in pages for line in paragraphs(page)]


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class _Page(HTMLParser):
    """Collects the text of every <p>."""

    def __init__(self) -> None:
        super().__init__()
        self.paragraphs: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - HTMLParser's
        if tag == "p":
            self.paragraphs.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "p"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.paragraphs[-1] += data
