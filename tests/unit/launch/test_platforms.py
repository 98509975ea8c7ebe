"""What each platform makes of a deploy.toml: the files of golden/NAME, its input among them."""

import os
from pathlib import Path

import pytest

from builder.launch import description, platforms

GOLDEN = Path(__file__).with_name("golden")
INPUT = "deploy.toml"
IMAGE = "registry.example.com/team/llmdeploy@sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize("name", platforms.names())
def test_the_rendered_files(name: str) -> None:
    """With the variable GOLDEN=write they are written instead; look at the difference in git."""
    folder = GOLDEN / name
    rendered = platforms.find(name).render(description.load(folder / INPUT, name), IMAGE)
    if os.environ.get("GOLDEN") == "write":
        for file, text in rendered.items():
            (folder / file).write_text(text, encoding="utf-8")
    kept = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    del kept[INPUT]
    assert rendered == kept


def test_platforms_are_found_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy.py").write_text("from builder.launch.deployment import Table\nTABLE = Table\n")
    monkeypatch.setattr(platforms, "__path__", [*platforms.__path__, str(tmp_path)])
    assert "toy" in platforms.names()
    assert platforms.find("toy").TABLE.pulls
