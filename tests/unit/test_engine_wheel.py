"""The engine's wheel: from whoever has the locked bytes, else compiled; and nobody is fooled."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tenacity

from builder.debian import lock
from builder.environment import engine, wheelhouse, workshop
from builder.settings import Settings
from builder.stage import download, receipt
from builder.variants import DEFAULT, VARIANTS
from entrypoint.common.errors import CommandFailed, DownloadFailure, HashMismatch

CONTENT = b"what everybody's compiler makes" * 1000
OWN = b"what this machine's compiler makes"
NAME = "llmdeploy_llamacpp-0.5.0-py3-none-linux_x86_64.whl"
Serve = Callable[[bytes | None, int], str]


class _Mirror(SimpleHTTPRequestHandler):
    """Announces a length, and may hang up before."""

    def __init__(self, length: int, *args: object, directory: str) -> None:
        self.length = length
        super().__init__(*args, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            return self.send_error(404)
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(self.length))
        if content.startswith(b"<html>"):
            self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(content)
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> engine.LockedWheel:
    """Return the locked wheel of today's recipe."""
    (tmp_path / "content").write_bytes(CONTENT)
    made = engine.LockedWheel(
        lock.architecture(),
        receipt.digest(engine.ingredients(DEFAULT)),
        NAME,
        len(CONTENT),
        receipt.sha256(tmp_path / "content"),
    )
    recipe = shutil.copytree(wheelhouse.RECIPES / DEFAULT, tmp_path / "env" / DEFAULT)
    monkeypatch.setattr(wheelhouse, "RECIPES", tmp_path / "env")
    (recipe / engine.LOCK).write_text(lock.tables("wheel", [made]))
    assert engine.locked(DEFAULT) == made
    return made


@pytest.fixture
def serve(known: engine.LockedWheel, tmp_path: Path) -> Iterator[Serve]:
    """Return what starts a mirror that has this content where the wheel would be, or nothing."""
    servers: list[ThreadingHTTPServer] = []

    def start(content: bytes | None, length: int) -> str:
        folder = tmp_path / f"mirror{len(servers)}"
        (folder / "sha256").mkdir(parents=True)
        if content is not None:
            (folder / "sha256" / known.sha256).write_bytes(content)
        handler = functools.partial(_Mirror, length, directory=str(folder))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return where the engine was compiled, which a small file stands in for."""
    places = []

    def compiled(_settings: Settings, _engine: str, work: Path, place: Path) -> Mapping[str, Any]:
        places.append(place)
        (work / "wheel").mkdir()
        (work / "wheel" / NAME).write_bytes(OWN)
        return {"compiler": "g++ of this machine", "locked": False}

    monkeypatch.setattr(engine, "_compiled", compiled)
    monkeypatch.setattr(download, "WAIT", tenacity.wait_none())
    return places


def test_a_mirror_that_has_the_bytes_saves_compiling(
    serve: Serve, compiled: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(cache=str(tmp_path), mirrors=(serve(None, 0), serve(CONTENT, len(CONTENT))))
    wheel = engine.wheel(settings, DEFAULT)
    assert (wheel.name, wheel.read_bytes(), compiled) == (NAME, CONTENT, [])
    made = receipt.read(wheel.with_name("receipt.json"))
    assert made
    assert made["locked"]
    assert made["compiler"].startswith("g++-12 ")
    capsys.readouterr()
    assert engine.wheel(Settings(cache=str(tmp_path)), DEFAULT) == wheel
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in wheel.parent.iterdir()) == [NAME, "receipt.json"]


@pytest.mark.parametrize(
    "wrong",
    [
        (CONTENT[:-1] + b"?", len(CONTENT), "It sends other bytes than the expected ones."),
        (CONTENT[:9000], len(CONTENT), "9000 bytes read"),
        (b"<html>Please log in</html>", 26, f"26 bytes instead of {len(CONTENT)}"),
        (b"", 0, f"0 bytes instead of {len(CONTENT)}"),
        (None, 0, "HTTP 404"),
    ],
    ids=["other bytes", "half a file", "a page", "nothing", "no such file"],
)
def test_what_a_mirror_does_wrong_is_said_once_and_the_engine_is_compiled(
    wrong: tuple[bytes | None, int, str],
    serve: Serve,
    compiled: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, length, said = wrong
    address = serve(content, length)
    wheel = engine.wheel(Settings(cache=str(tmp_path), mirrors=(address,)), DEFAULT)
    assert (wheel.read_bytes(), len(compiled)) == (OWN, 1)
    told = [line for line in capsys.readouterr().err.splitlines() if address in line]
    assert len(told) == 1
    assert said in told[0]
    assert sorted(path.name for path in wheel.parent.iterdir()) == [NAME, "receipt.json"]


def test_without_mirrors_nobody_is_asked(compiled: list[Path], tmp_path: Path) -> None:
    engine.wheel(Settings(cache=str(tmp_path)), DEFAULT)
    assert len(compiled) == 1


def test_a_wheel_of_another_recipe_is_not_asked_for(
    known: engine.LockedWheel, serve: Serve, compiled: list[Path], tmp_path: Path
) -> None:
    path = wheelhouse.RECIPES / DEFAULT / engine.LOCK
    path.write_text(path.read_text().replace(known.recipe, "0" * 64))
    settings = Settings(cache=str(tmp_path), mirrors=(serve(CONTENT, len(CONTENT)),))
    assert engine.wheel(settings, DEFAULT).read_bytes() == OWN
    assert len(compiled) == 1


def test_what_was_not_compiled_as_locked_is_said_each_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _time in range(2):
        engine.wheel(Settings(cache=str(tmp_path)), DEFAULT)
        assert "not compiled as locked" in capsys.readouterr().err


def test_who_insists_on_locked_bytes_gets_no_others(
    serve: Serve, compiled: list[Path], tmp_path: Path
) -> None:
    engine.wheel(Settings(cache=str(tmp_path)), DEFAULT)
    address = serve(CONTENT, len(CONTENT))
    insisting = Settings(cache=str(tmp_path), mirrors=(address,), locked=True)
    assert engine.wheel(insisting, DEFAULT).read_bytes() == CONTENT
    assert len(compiled) == 1


def unavailable(*_: object) -> None:
    raise DownloadFailure("Nobody delivers the locked Debian packages.")


def test_without_the_locked_toolchain_this_machines_compiler_is_named_or_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(workshop.store, "debs", unavailable)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandFailed, match=r"no C\+\+ compiler") as failure:
        engine.wheel(Settings(cache=str(tmp_path)), DEFAULT)
    assert "g++" in failure.value.next
    assert "Taking this machine's own compiler instead" in capsys.readouterr().err
    with pytest.raises(HashMismatch, match="locked compiler"):
        engine.wheel(Settings(cache=str(tmp_path), locked=True), DEFAULT)
    assert list((tmp_path / "engine").iterdir()) == []


@pytest.mark.parametrize("name", [each.engine for each in VARIANTS.values() if each.compiled])
def test_the_locked_wheel_is_what_todays_recipe_makes(name: str) -> None:
    assert engine.locked(name), f"compile it and write it down: ./llmdeploy lock --engine {name}"
