"""llmdeploy.toml, as a person may have written it."""

from pathlib import Path

import pytest

from builder import settings
from entrypoint.common.errors import ConfigFailure

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llmdeploy.toml"


def test_without_a_file_there_are_defaults(path: Path) -> None:
    assert settings.load(path=path) == settings.Settings()


def test_an_unknown_key_gets_a_suggestion(path: Path) -> None:
    path.write_text('chanel = "mirror"\n')
    with pytest.raises(ConfigFailure, match=r"'chanel' in llmdeploy\.toml") as caught:
        settings.load(path=path)
    assert "channel" in caught.value.next


def test_a_base_is_named_by_its_digest(path: Path) -> None:
    path.write_text(f'base = "host:5000/debian@{DIGEST}"\n')
    assert settings.load(path=path).base.endswith(DIGEST)


@pytest.mark.parametrize("base", ["debian", "debian:bookworm-slim", "debian@sha256:12ab"])
def test_a_base_that_may_change_is_refused(path: Path, base: str) -> None:
    path.write_text(f'base = "{base}"\n')
    with pytest.raises(ConfigFailure, match="is not pinned"):
        settings.load(path=path)


def test_a_cache_in_the_home_of_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMDEPLOY_CACHE", raising=False)
    with pytest.raises(ConfigFailure, match="no home folder for ~nobodyhere/cache") as caught:
        _ = settings.Settings(cache="~nobodyhere/cache").cache_dir
    assert "LLMDEPLOY_CACHE" in caught.value.next


@pytest.mark.parametrize("named", ["https://m/x", "folder"])
def test_the_mirror_that_the_environment_names_is_asked_first(
    named: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "folder").mkdir()
    path.write_text('mirrors = ["https://own"]\n')
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("LLMDEPLOY_MIRROR", named)
    address = named if "://" in named else (path.parent / named).as_uri()
    assert settings.load(path=path).mirrors == (address, "https://own")


def test_a_mirror_that_is_no_folder_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDEPLOY_MIRROR", str(path.parent / "missing"))
    with pytest.raises(ConfigFailure, match="there is no such folder") as caught:
        settings.load(path=path)
    assert "export --mirror" in caught.value.next
