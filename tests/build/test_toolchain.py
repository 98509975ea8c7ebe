"""The locked toolchain's root, for real: whoever compiles in it gets the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from builder.debian import root, store
from builder.environment import engine, wheelhouse, workshop
from builder.settings import ROOT, Settings
from builder.stage import receipt
from builder.stage.run import run
from builder.variants import DEFAULT

SOURCE = "#include <string>\nint main() { return std::string(__FILE__).empty(); }\n"
COMPILE = """
import json, sys
from pathlib import Path
from builder.debian import root
from builder.stage.run import run
place = Path(sys.argv[1])
words = root.enter(place)
run([*words, "g++-12", "-O2", "/tmp/small.cpp", "-o", "/tmp/small"])
run([*words, "/tmp/small"])
print(json.dumps([str(word) for word in words[: words.index(place)]]))
"""
NO_MOUNT = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
NO_NAMESPACE = (
    *("unshare", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"',
    "sh",
)
RIGHTS = {
    "root": (),
    "root of a container": NO_MOUNT,
    "root of a strict container": (*NO_NAMESPACE, *NO_MOUNT),
}


@pytest.fixture(scope="module")
def place(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of the locked toolchain, with a small program to compile."""
    place = tmp_path_factory.mktemp("toolchain")
    root.lay_out(store.debs(settings, workshop.TOOLCHAIN), place)
    (place / "tmp/small.cpp").write_text(SOURCE)
    return place


def test_with_whatever_rights_the_same_bytes_are_compiled(place: Path) -> None:
    ways, hashes = [], set()
    for rights in RIGHTS.values():
        ways.append(json.loads(run([*rights, sys.executable, "-c", COMPILE, place], cwd=ROOT)))
        hashes.add(receipt.sha256(place / "tmp/small"))
        (place / "tmp/small").unlink()
    assert len(hashes) == 1
    assert [tuple(way) for way in ways] == list(root.WAYS)


def test_what_a_person_has_set_does_not_get_in(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CXXFLAGS", "CPATH", "PYTHONPATH", "LANG", "SOURCE_DATE_EPOCH"):
        monkeypatch.setenv(name, "/nowhere")
    said = run([*root.enter(place), "/usr/bin/env"])
    assert {line.partition("=")[0] for line in said.splitlines()} == {"PATH", "HOME", "LC_ALL"}


KILLED = """
import sys
from pathlib import Path
from builder.environment import engine, wheelhouse
from builder.settings import Settings
wheelhouse.RECIPES = Path(sys.argv[1])
engine.wheel(Settings(cache=sys.argv[2]), "llamacpp")
"""


@pytest.fixture
def cache(tmp_path: Path, settings: Settings) -> Settings:
    """Return settings with a cache that has Debian's packages and nothing else."""
    store.debs(settings, workshop.TOOLCHAIN)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/debian").symlink_to(settings.cache_dir / "debian")
    return Settings(cache=str(tmp_path / "cache"))


def test_a_root_half_unpacked_by_a_kill_is_not_used_and_the_bytes_repeat(
    cache: Settings, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One small library of it, which must be the one in the whole engine's wheel.
    recipe = Path(shutil.copytree(wheelhouse.RECIPES / DEFAULT, tmp_path / "env" / DEFAULT))
    project = (recipe / "pyproject.toml").read_text()
    whole = 'build.targets = ["llama-server", "llama-quantize"]'
    assert whole in project
    (recipe / "pyproject.toml").write_text(project.replace(whole, 'build.targets = ["ggml-base"]'))
    library = "llmdeploy_llamacpp/libggml-base.so"
    with zipfile.ZipFile(engine.wheel(settings, DEFAULT)) as wheel:
        expected = wheel.read(library)
    argv = [sys.executable, "-c", KILLED, str(recipe.parent), cache.cache]
    with subprocess.Popen(argv, cwd=ROOT, start_new_session=True) as process:
        while not list(cache.cache_dir.glob("engine/.*/root/usr/bin/*")):
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
    monkeypatch.setattr(wheelhouse, "RECIPES", recipe.parent)
    made = engine.wheel(cache, DEFAULT)
    with zipfile.ZipFile(made) as wheel:
        assert wheel.read(library) == expected
    record = receipt.read(made.with_name("receipt.json"))
    assert record
    assert record["locked"]
    # Now it is kept: neither a compiler nor a root is needed.
    monkeypatch.setenv("PATH", str(tmp_path))
    assert engine.wheel(cache, DEFAULT) == made
    assert sorted(path.name for path in (cache.cache_dir / "engine").iterdir()) == [
        made.parent.name,
        f"{made.parent.name}.log",
    ]


TINY = """
cmake_minimum_required(VERSION 3.21)
project(tiny C)
file(WRITE "${CMAKE_BINARY_DIR}/tiny.c" "int tiny(void) { return 1; }")
add_library(tiny SHARED "${CMAKE_BINARY_DIR}/tiny.c")
install(TARGETS tiny LIBRARY DESTINATION llmdeploy_llamacpp)
"""


def test_where_no_root_can_be_entered_this_machines_compiler_stands_in_and_is_named(
    cache: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = Path(shutil.copytree(wheelhouse.RECIPES / DEFAULT, tmp_path / "env" / DEFAULT))
    (recipe / "CMakeLists.txt").write_text(TINY)
    project = (recipe / "pyproject.toml").read_text().splitlines()
    kept = [line for line in project if not line.startswith("build.targets")]
    (recipe / "pyproject.toml").write_text("\n".join(kept))
    monkeypatch.setattr(wheelhouse, "RECIPES", recipe.parent)
    monkeypatch.setattr(root, "WAYS", (("false",),))
    made = engine.wheel(cache, DEFAULT)
    with zipfile.ZipFile(made) as wheel:
        assert "llmdeploy_llamacpp/libtiny.so" in wheel.namelist()
    record = receipt.read(made.with_name("receipt.json"))
    assert record
    assert (record["locked"], "g++" in record["compiler"]) == (False, True)
    told = capsys.readouterr().err
    assert "Nothing can run inside the locked toolchain's root here" in told
    assert "not compiled as locked" in told
