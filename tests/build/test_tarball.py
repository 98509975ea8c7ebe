"""Packed environments, ours and other people's, restored for real."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import conda_pack  # type: ignore[import-untyped]
import pytest

from builder.environment import conda, condaenv, debianpython, tarball
from builder.settings import Settings
from builder.stage import archive, receipt
from entrypoint.common.errors import (
    CommandFailed,
    DiskFull,
    DownloadFailure,
    Failure,
    HashMismatch,
    UnsafeArchive,
    UsageFailure,
)

NAME = "itrex"


@pytest.fixture(scope="module")
def foreign(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment as conda-pack itself packs it, with its own prefix in two files."""
    root = tmp_path_factory.mktemp("foreign")
    prefix = root / ("p" * 60)
    conda.link(
        conda.solve(["python"], debianpython.channel(settings)),
        prefix,
        settings.cache_dir / "conda",
    )
    (prefix / "etc").mkdir()
    (prefix / "etc" / "paths.conf").write_text(f"home = {prefix}/share\n")
    # With the prefix once, conda-pack asks for whatever Python is on PATH.
    for name, more in (("where", ""), ("also", f"# {prefix}\n")):
        text = f"#!{prefix}/bin/python\n{more}import sys; print(sys.prefix, *sys.argv[1:])\n"
        (prefix / "bin" / name).write_text(text)
        (prefix / "bin" / name).chmod(0o755)
    for name, dest in (("packed", None), ("bound", str(root / "there"))):
        output = str(root / f"{name}.tar.gz")
        conda_pack.pack(prefix=str(prefix), output=output, dest_prefix=dest, compress_level=1)
    shutil.rmtree(prefix)
    return root / "packed.tar.gz"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder of environments, as in the tutorial."""
    (tmp_path / "envs").mkdir()
    return tmp_path / "envs"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    return Settings(dist=str(tmp_path / "dist"), cache=str(tmp_path / "cache"))


def files(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def repack(packed: Path, work: Path, change: Callable[[Path], None]) -> Path:
    """Return a copy of a packed environment with a change in it."""
    archive.extract(packed, work / "changing", finish=change)
    archive.write_tar(work / "changing", work / "changed.tar")
    shutil.rmtree(work / "changing")
    return work / "changed.tar"


def test_an_environment_is_ready_where_it_was_wanted(foreign: Path, place: Path) -> None:
    dest = place / NAME
    tarball.unpack(foreign, dest)
    assert [path.name for path in place.iterdir()] == [NAME]
    assert (dest / "etc" / "paths.conf").read_text() == f"home = {dest}/share\n"
    path = {"PATH": f"{dest}/bin:/usr/bin:/bin"}
    done = subprocess.run([dest / "bin" / "where"], env=path, capture_output=True, check=True)
    assert done.stdout.decode() == f"{dest}\n"


@pytest.mark.parametrize("name", ["我的 it's 环境", "d" * 200])
def test_its_scripts_start_wherever_it_is(foreign: Path, place: Path, name: str) -> None:
    dest = place / name
    tarball.unpack(foreign, dest)
    command = [str(dest / "bin/also"), "a b", "c"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{dest} a b c\n"


def test_a_place_without_a_name_is_told(foreign: Path, place: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        tarball.unpack(foreign, place / ("长" * 85))
    assert list(place.iterdir()) == []


def test_an_environment_for_one_place_is_restored_there_and_refused_elsewhere(
    foreign: Path, place: Path, elsewhere: Settings
) -> None:
    packed, there = foreign.with_name("bound.tar.gz"), foreign.with_name("there")
    with pytest.raises(UsageFailure, match=f"was packed for {there} and works there only"):
        tarball.unpack(packed, place / NAME)
    with pytest.raises(UsageFailure, match=f"was packed for {there} and works there only"):
        tarball.restore(elsewhere, urls=[], file=packed, sha256=None)
    assert list(place.iterdir()) == []
    tarball.unpack(packed, there)
    done = subprocess.run([there / "bin" / "also"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{there}\n"


def test_it_is_what_unpacking_by_hand_and_conda_unpack_give(foreign: Path, place: Path) -> None:
    dest = place / NAME
    tarball.unpack(foreign, dest)
    ours = files(dest)
    shutil.rmtree(dest)
    dest.mkdir()
    subprocess.run(["tar", "-xzf", foreign, "-C", dest], check=True)
    subprocess.run([dest / "bin" / "python", "-B", dest / "bin" / "conda-unpack"], check=True)
    assert ours.pop(tarball.MARK)
    assert ours == files(dest)


def test_a_restored_environment_is_left_alone_and_others_are_not_touched(
    foreign: Path, environment: Path, place: Path
) -> None:
    dest = place / NAME
    dest.mkdir()
    tarball.unpack(foreign, dest, sha256=receipt.sha256(foreign).upper())
    before = dest.stat()
    tarball.unpack(foreign, dest)
    assert os.path.samestat(before, dest.stat())
    with pytest.raises(UsageFailure, match="not an empty folder"):
        tarball.unpack(environment, dest)
    moved = dest.rename(place / "moved")
    with pytest.raises(UsageFailure, match="not an empty folder"):
        tarball.unpack(foreign, moved)


def test_the_tutorials_environment_is_trusted_once_and_then_known(
    foreign: Path, place: Path, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tarball, "PREBUILT", place.parent / "prebuilt.lock")
    missing = (place / "missing.tar.gz").as_uri()
    chosen = replace(elsewhere, prebuilt=(missing, foreign.as_uri()))
    with pytest.raises(UsageFailure, match="not known") as refused:
        tarball.unpack_prebuilt(chosen, place / NAME)
    assert "--trust-on-first-use" in refused.value.next
    assert list(place.iterdir()) == []

    tarball.unpack_prebuilt(chosen, place / NAME, trust_on_first_use=True)
    assert (place / NAME / "bin" / "where").exists()
    assert receipt.sha256(foreign) in tarball.PREBUILT.read_text()
    shutil.rmtree(place / NAME)
    tarball.unpack_prebuilt(chosen, place / NAME)

    other = replace(chosen, prebuilt=(Path(__file__).as_uri(),), cache=str(place / "other"))
    with pytest.raises(HashMismatch):
        tarball.unpack_prebuilt(other, place / "second")
    with pytest.raises(HashMismatch):
        tarball.unpack_prebuilt(other, place / "second", sha256="0" * 64)
    assert not (place / "second").exists()


def test_the_tutorials_two_addresses_are_known() -> None:
    first, second = Settings().prebuilt
    assert first.endswith("/LLM/itrex.tar.gz")
    assert second.endswith("/LLM/itrex.tar.gz")


def test_our_own_environment_comes_back_byte_for_byte(
    environment: Path, elsewhere: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    urls = [(environment.parent / "missing").as_uri(), environment.as_uri()]
    sha256 = receipt.sha256(environment)
    tarball.restore(elsewhere, urls=urls, file=None, sha256=sha256)
    folder = elsewhere.dist_dir / "env"
    assert receipt.sha256(folder / "runtime.tar.zst") == sha256
    assert sorted(path.name for path in folder.iterdir()) == ["runtime.json", "runtime.tar.zst"]

    made, restored = (
        json.loads((place / "runtime.json").read_text()) for place in (environment.parent, folder)
    )
    assert restored["source"] == "tarball"
    assert restored["python"] == made["python"]
    assert {(each["name"], each["version"]) for each in restored["packages"]} == {
        (each["name"], each["version"]) for each in made["packages"]
    }

    capfd.readouterr()
    tarball.restore(elsewhere, urls=[], file=environment, sha256=None)
    assert "nothing changed" in capfd.readouterr().err


def test_building_keeps_a_restored_environment_unless_another_is_named(
    environment: Path, elsewhere: Settings
) -> None:
    tarball.restore(elsewhere, urls=[], file=environment, sha256=None)
    kept = receipt.read(elsewhere.dist_dir / "env" / "runtime.json")
    condaenv.build(elsewhere, "auto")
    assert receipt.read(elsewhere.dist_dir / "env" / "runtime.json") == kept


def test_an_environment_without_the_engine_makes_no_image(
    foreign: Path, elsewhere: Settings
) -> None:
    with pytest.raises(UsageFailure, match="without the inference engine"):
        tarball.restore(elsewhere, urls=[], file=foreign, sha256=None)
    assert list((elsewhere.dist_dir / "env").iterdir()) == []


def other_torch(folder: Path) -> None:
    (library,) = folder.glob("lib/python3.*/")
    about = library / "site-packages/torch-2.2.0+cpu.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.2.0+cpu\n")


def other_python(folder: Path) -> None:
    (library,) = folder.glob("lib/python3.*/")
    library.rename(library.with_name("python3.12"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_torch, r"torch 2\.3\.0, and this has 2\.2\.0"),
        (other_python, r"Python 3\.11, and this has 3\.12"),
    ],
)
def test_an_environment_that_does_not_fit_its_engine_is_told_before_it_is_tried(
    foreign: Path,
    elsewhere: Settings,
    tmp_path: Path,
    change: Callable[[Path], None],
    told: str,
) -> None:
    changed = repack(foreign, tmp_path, change)
    with pytest.raises(UsageFailure, match="does not fit the engine itrex") as caught:
        tarball.restore(replace(elsewhere, engine="itrex"), urls=[], file=changed, sha256=None)
    assert re.search(told, caught.value.why)
    assert list((elsewhere.dist_dir / "env").iterdir()) == []


def test_an_environment_that_fails_its_trial_replaces_nothing(
    environment: Path, elsewhere: Settings, tmp_path: Path
) -> None:
    def damage(folder: Path) -> None:
        (found,) = folder.glob("lib/python3*/site-packages/wcwidth/__init__.py")
        found.write_text("raise ImportError('damaged')")
        for cached in found.parent.glob("__pycache__/__init__*"):
            cached.unlink()

    damaged = repack(environment, tmp_path, damage)
    folder = elsewhere.dist_dir / "env"
    folder.mkdir(parents=True)
    (folder / "runtime.tar.zst").write_bytes(b"earlier")
    with pytest.raises(CommandFailed, match="python") as caught:
        tarball.restore(elsewhere, urls=[], file=damaged, sha256=None)
    assert "damaged" in caught.value.why
    assert [path.read_bytes() for path in folder.iterdir()] == [b"earlier"]


def no_python(folder: Path) -> None:
    for path in folder.glob("bin/python*"):
        path.unlink()


def other_machine(folder: Path) -> None:
    (found,) = folder.glob("bin/python3.*")
    content = bytearray(found.read_bytes())
    content[18] = 0xF3  # e_machine: RISC-V
    found.write_bytes(content)


def no_library(folder: Path) -> None:
    (found,) = folder.glob("lib/python3.*/encodings")
    shutil.rmtree(found)


def no_records(folder: Path) -> None:
    shutil.rmtree(folder / "conda-meta")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (no_python, UsageFailure),
        (no_records, UsageFailure),
        (other_machine, CommandFailed),
        (no_library, CommandFailed),
    ],
)
def test_what_cannot_run_is_not_put_in_place(
    foreign: Path,
    place: Path,
    tmp_path: Path,
    change: Callable[[Path], None],
    kind: type[Failure],
) -> None:
    changed = repack(foreign, tmp_path, change)
    with pytest.raises(kind):
        tarball.unpack(changed, place / NAME)
    assert list(place.iterdir()) == []


def test_a_wrong_hash_is_told_before_anything_is_opened(
    tmp_path: Path, place: Path, elsewhere: Settings
) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as tar:
        tar.addfile(tarfile.TarInfo("../evil"), io.BytesIO())
    wrong = "0" * 64
    with pytest.raises(HashMismatch):
        tarball.unpack(evil, place / NAME, sha256=wrong)
    with pytest.raises(HashMismatch):
        tarball.restore(elsewhere, urls=[], file=evil, sha256=wrong)
    with pytest.raises(HashMismatch):
        tarball.restore(elsewhere, urls=[evil.as_uri()], file=None, sha256=wrong)
    with pytest.raises(UnsafeArchive):
        tarball.restore(elsewhere, urls=[], file=evil, sha256=receipt.sha256(evil))
    assert list(place.iterdir()) == []
    assert list((elsewhere.dist_dir / "env").iterdir()) == []


def test_a_truncated_environment_is_told(foreign: Path, place: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.tar.gz"
    short.write_bytes(foreign.read_bytes()[:-1000])
    with pytest.raises(DownloadFailure, match="incomplete"):
        tarball.unpack(short, place / NAME)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("urls", "file", "sha256", "what"),
    [
        ([], None, None, "either --file"),
        *(
            ([url], None, "0" * 64, "is not the address of a file")
            for url in (
                "http://[::1",
                "http://ho st/a",
                f"http://{'l' * 70}/a",
                "x.tar.gz",
                "s3://a",
            )
        ),
        (["file:///usr"], None, "0" * 64, "/usr is a folder"),
        (["http://127.0.0.1:9/"], Path("x"), "0" * 64, "either --file"),
        (["http://127.0.0.1:9/"], None, None, "--sha256 is needed"),
        ([], Path("x"), "12ab", "--sha256 cannot be"),
        ([], Path("x"), None, "There is no file"),
    ],
)
def test_options_that_make_no_sense_are_told(
    elsewhere: Settings, urls: list[str], file: Path | None, sha256: str | None, what: str
) -> None:
    with pytest.raises(UsageFailure, match=what):
        tarball.restore(elsewhere, urls=urls, file=file, sha256=sha256)


def test_a_full_disk_is_told_and_nothing_stays(
    foreign: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(8 << 20)
    with pytest.raises(DiskFull):
        tarball.unpack(foreign, disk / NAME)
    assert list(disk.iterdir()) == []
    with pytest.raises(DiskFull):
        tarball.restore(Settings(dist=str(disk / "dist")), urls=[], file=foreign, sha256=None)
    assert list((disk / "dist" / "env").iterdir()) == []


UNPACK = "unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
RESTORE = "restore(Settings(dist=sys.argv[2]), urls=[], file=Path(sys.argv[1]), sha256=None)"


@pytest.mark.parametrize(
    ("call", "sight", "result"),
    [
        (UNPACK, f".{NAME}.partial/{NAME}/lib", "bin/python"),
        (RESTORE, f"{NAME}/env/.runtime/.restored.partial/restored/lib", "env/runtime.tar.zst"),
        (RESTORE, f"{NAME}/env/.runtime/.runtime.tar.zst.tmp", "env/runtime.tar.zst"),
    ],
)
def test_killed_and_started_again(
    environment: Path, place: Path, call: str, sight: str, result: str
) -> None:
    program = (
        "import sys; from pathlib import Path; from builder.settings import Settings;"
        f"from builder.environment.tarball import restore, unpack; {call}"
    )
    command = [sys.executable, "-c", program, str(environment), str(place / NAME)]
    with subprocess.Popen(command) as process:
        while not (place / sight).exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert (place / sight).exists()
    assert not (place / NAME / result).exists()
    subprocess.run(command, check=True)
    assert (place / NAME / result).exists()
    assert [path.name for path in place.iterdir()] == [NAME]
    assert not list(place.rglob("*.partial"))
    assert not (place / NAME / "env" / ".runtime").exists()
