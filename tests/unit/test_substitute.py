"""What a recipe makes, from whoever has it by hash: nobody is fooled, and building goes on."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tenacity

from builder import substitute
from builder.settings import Settings
from builder.stage import download, receipt
from entrypoint.common.errors import ConfigFailure

CONTENT = b"what everybody makes of it" * 1000
RECIPE = {"recipe": "today"}
FACTS = {"source": "lock", "packages": [{"name": "python", "locked": True}]}
Mirror = Callable[..., str]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitute, "LOCK", tmp_path / "built.lock")
    monkeypatch.setattr(download, "WAIT", tenacity.wait_none())


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Return a receipt on the machine that builds, which the lock knows."""
    machine = Settings(dist=str(tmp_path / "builds"))
    folder = machine.dist_dir / "ready/small"
    (folder / "tokenizer").mkdir(parents=True)
    files = [folder / "model.gguf", folder / "tokenizer/words"]
    for path, content in zip(files, (CONTENT, b"words"), strict=True):
        path.write_bytes(content)
    receipt.write(folder / "receipt.json", RECIPE, files, **FACTS)
    substitute.record(machine, [(folder / "receipt.json", [RECIPE])])
    return folder / "receipt.json"


@pytest.fixture
def mirror(built: Path, tmp_path: Path) -> Iterator[Mirror]:
    """Return what starts a mirror of the built, in which one file may be replaced."""
    servers: list[ThreadingHTTPServer] = []

    def start(name: str = "", content: bytes | None = None) -> str:
        folder = tmp_path / f"mirror{len(servers)}"
        substitute.publish(built, folder)
        if name:
            wrong = folder / "sha256" / hashlib.sha256(of(built, name)).hexdigest()
            wrong.unlink() if content is None else wrong.write_bytes(content)
        servers.append(
            ThreadingHTTPServer(
                ("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder))
            )
        )
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,)).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def of(built: Path, name: str) -> bytes:
    """Return the bytes of a file of the work, or of its statement."""
    return (
        substitute.statement(built) if name == "statement" else (built.parent / name).read_bytes()
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where the receipt will be on the machine that downloads."""
    return tmp_path / "downloads/ready/small/receipt.json"


def machine(tmp_path: Path, *mirrors: str) -> Settings:
    return Settings(dist=str(tmp_path / "downloads"), mirrors=mirrors)


def test_who_downloads_has_what_who_builds_has(
    built: Path, mirror: Mirror, place: Path, tmp_path: Path
) -> None:
    assert substitute.deliver(machine(tmp_path, mirror()), place, RECIPE)
    assert receipt.current(place, RECIPE)
    assert substitute.statement(place) == substitute.statement(built)
    read = receipt.read(place)
    assert read
    assert {key: read[key] for key in FACTS} == FACTS
    assert sorted(each.name for each in place.parent.rglob("*") if each.is_file()) == [
        *("model.gguf", "receipt.json", "words"),
    ]
    assert [each.name for each in (tmp_path / "downloads").iterdir()] == ["ready"]


def test_what_an_earlier_recipe_made_goes(mirror: Mirror, place: Path, tmp_path: Path) -> None:
    place.parent.mkdir(parents=True)
    (place.parent / "old.gguf").write_bytes(b"old")
    receipt.write(place, {"recipe": "yesterday"}, [place.parent / "old.gguf"])
    assert substitute.deliver(machine(tmp_path, mirror()), place, RECIPE)
    assert not (place.parent / "old.gguf").exists()


@pytest.mark.parametrize("name", ["statement", "model.gguf"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda right: right[:-1] + b"?", "It sends other bytes than the expected ones."),
        (lambda right: right[: len(right) // 2], " bytes instead of "),
        (lambda _right: b"<html>Please log in</html>", "It has 26 bytes instead of "),
        (lambda _right: b"", "It has 0 bytes instead of "),
        (lambda _right: None, "HTTP 404"),
    ],
    ids=["other bytes", "half a file", "a page", "nothing", "no such file"],
)
def test_what_a_mirror_does_wrong_is_said_and_another_is_asked(
    *,
    name: str,
    wrong: Callable[[bytes], bytes | None],
    said: str,
    built: Path,
    mirror: Mirror,
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.parent.mkdir(parents=True)
    (place.parent / "old.gguf").write_bytes(b"old")
    receipt.write(place, {"recipe": "yesterday"}, [place.parent / "old.gguf"])
    before = place.read_bytes()
    bad = mirror(name, wrong(of(built, name)))
    assert not substitute.deliver(machine(tmp_path, bad), place, RECIPE)
    told = [line for line in capsys.readouterr().err.splitlines() if bad in line]
    assert [said in line for line in told] == [True]
    assert place.read_bytes() == before
    assert (place.parent / "old.gguf").read_bytes() == b"old"
    assert [each.name for each in (tmp_path / "downloads").iterdir()] == ["ready"]

    assert substitute.deliver(machine(tmp_path, bad, mirror()), place, RECIPE)
    assert receipt.current(place, RECIPE)


def test_a_download_goes_on_where_a_kill_ended_it(
    built: Path, mirror: Mirror, place: Path, tmp_path: Path
) -> None:
    known = substitute.locked(RECIPE)
    assert known
    arriving = tmp_path / "downloads" / f".{known.sha256[:16]}" / "files"
    arriving.mkdir(parents=True)
    (arriving / "model.gguf").write_bytes(CONTENT)
    without = mirror("model.gguf", None)
    assert substitute.deliver(machine(tmp_path, without), place, RECIPE)
    assert substitute.statement(place) == substitute.statement(built)


def test_nobody_is_asked_for_what_the_lock_does_not_know(
    mirror: Mirror, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert not substitute.deliver(machine(tmp_path, mirror()), place, {"recipe": "tomorrow"})
    assert not substitute.deliver(machine(tmp_path), place, RECIPE)
    substitute.LOCK.unlink()
    assert not substitute.deliver(machine(tmp_path, mirror()), place, RECIPE)
    assert capsys.readouterr().err == ""
    assert not place.exists()


def test_the_lock_forgets_what_no_recipe_of_today_makes(built: Path, tmp_path: Path) -> None:
    machine = Settings(dist=str(tmp_path / "builds"))
    other = {"recipe": "of a conda channel"}
    kept = substitute.LOCK.read_text()
    for possible, left in (([RECIPE, other], 2), ([other], 1)):
        receipt.write(built, other, [built.parent / "model.gguf"])
        substitute.LOCK.write_text(kept)
        substitute.record(machine, [(built, possible)])
        assert substitute.LOCK.read_text().count("[[built]]") == left
        assert substitute.locked(other)


def test_a_malformed_lock_is_told() -> None:
    substitute.LOCK.write_text("[[built]]\nname = 1\n")
    with pytest.raises(ConfigFailure, match=r"built\.lock"):
        substitute.locked(RECIPE)


def test_a_statement_is_the_same_on_every_machine(built: Path) -> None:
    told = json.loads(substitute.statement(built))
    assert told == {
        **FACTS,
        "outputs": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for name, content in (("model.gguf", CONTENT), ("tokenizer/words", b"words"))
        },
    }
