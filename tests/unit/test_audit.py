"""The image's parts against a database in OSV's form; what it does not cover is said."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from builder.environment import lock
from builder.image import audit
from builder.settings import Settings
from builder.stage import receipt
from entrypoint.common.errors import StageMissing, UsageFailure, Vulnerable

PURLS = (
    "pkg:pypi/jinja2@3.1.5",
    "pkg:deb/debian/libssl3@3.0.15-1~deb12u1?arch=amd64&distro=bookworm&upstream=openssl",
    "pkg:github/ggml-org/llama.cpp@0c1e57098",
)


def record(name: str, ecosystem: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    package = {"ecosystem": ecosystem, "name": name}
    return {
        "id": f"{ecosystem}-{name}",
        "summary": "bad",
        "affected": [{"package": package, "ranges": ranges, **more}],
    }


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of an image with three parts; Debian is not asked."""
    monkeypatch.setattr(lock, "tell_replaced", lambda: None)
    found = Settings(dist=str(tmp_path / "dist"))
    found.image_dir.mkdir(parents=True)
    bill = found.image_dir / "sbom.json"
    bill.write_text(json.dumps({"components": [{"purl": purl} for purl in PURLS]}))
    receipt.write(found.image_dir / "receipt.json", {}, [bill])
    return found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "all.zip"


def fill(database: Path, *records: dict[str, Any]) -> None:
    with zipfile.ZipFile(database, "w") as content:
        for each in records:
            content.writestr(f"{each['id']}.json", json.dumps(each))


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([{"introduced": "0"}], True),
        ([{"introduced": "0"}, {"fixed": "3.1.6"}], True),
        ([{"introduced": "0"}, {"fixed": "3.1.5"}], False),
        ([{"introduced": "3.1.10"}], False),
        ([{"introduced": "0"}, {"last_affected": "3.1.5"}], True),
        ([{"introduced": "0"}, {"last_affected": "3.1.4"}], False),
        ([{"introduced": "0"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "3.2"}], True),
    ],
)
def test_a_version_is_affected_between_its_introduction_and_its_fix(
    settings: Settings, database: Path, events: list[dict[str, str]], affected: bool
) -> None:
    fill(database, record("Jinja2", "PyPI", *events))
    if affected:
        with pytest.raises(Vulnerable, match="Known vulnerabilities: 1"):
            audit.audit(settings, database)
    else:
        audit.audit(settings, database)


def test_a_library_is_looked_up_by_its_source_and_release(
    settings: Settings, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = {"fixed": "3.0.15-1~deb12u2"}
    fill(
        database,
        record("openssl", "Debian:12", {"introduced": "0"}, fixed),
        record("openssl", "Debian:13", {"introduced": "0"}),
        record("libssl3", "Debian:12", {"introduced": "0"}),
    )
    with pytest.raises(Vulnerable) as caught:
        audit.audit(settings, database)
    told = capsys.readouterr()
    assert told.out == "Debian:12-openssl  openssl 3.0.15-1~deb12u1  bad\n"
    assert "not checked, as the database does not cover them: jinja2, llama.cpp" in told.err
    assert caught.value.code == 33


def test_a_version_that_is_listed(settings: Settings, tmp_path: Path) -> None:
    single = tmp_path / "one.json"
    single.write_text(json.dumps([record("jinja2", "PyPI", versions=["3.1.5"])]))
    with pytest.raises(Vulnerable):
        audit.audit(settings, single)


def test_without_a_database_it_says_that_nothing_was_checked(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    audit.audit(settings, None)
    assert "not checked, as the database does not cover them: jinja2, openssl, llama.cpp" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("content", [None, b"", b"no JSON", b"[1]", b"{}", b"PK\x05\x06broken"])
def test_what_is_no_database(settings: Settings, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageFailure, match="OSV format") as caught:
        audit.audit(settings, path)
    assert "all.zip" in caught.value.next


def test_without_an_image(tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="build-image"):
        audit.audit(Settings(dist=str(tmp_path)), None)
