"""The docs site: it builds without a warning, in both languages, and needs no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builder.settings import ROOT

LOADED = re.compile(r"""<(?:script|img|iframe)[^>]+src=["']?([^"'> ]+)|<link([^>]+)>""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", place],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


def test_every_page_is_there_in_both_languages(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        if ".zh." not in page.name:
            name = page.relative_to(ROOT / "docs").with_suffix(".html")
            assert (site / name).exists()
            assert '<html lang="zh"' in (site / "zh" / name).read_text(encoding="utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        sources = [source or link for source, link in LOADED.findall(text)]
        assert sources
        assert [source for source in sources if "//" in source] == []
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\((?:https?:)?//", sheet.read_text(encoding="utf-8"))


def test_the_pages_lead_from_file_to_file(site: Path) -> None:
    text = (site / "launch" / "compose.html").read_text(encoding="utf-8")
    assert 'href="../zh/launch/compose.html"' in text
    assert not re.search(r'href="(?!https?:)[^"#]*/"', text)
