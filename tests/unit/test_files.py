"""How files are written and locked, on file systems of all kinds."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from entrypoint.common import files
from entrypoint.common.errors import NotWritable

PYTHON = sys.executable
FORBIDDEN = Path(__file__).parents[1] / "forbidden.py"
LOCKLESS = Path(__file__).parents[1] / "lockless.py"


def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "new", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o666, 0o600, 0o444])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    path.chmod(mode)
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_one_and_its_target_is_written(tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "elsewhere/target", tmp_path / "link", tmp_path / "dangling"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    dangling.symlink_to("elsewhere/later")
    for path in (link, dangling):
        files.write(path, b"new")
        assert path.is_symlink()
        assert path.resolve().read_bytes() == b"new"
    assert sorted(path.name for path in target.parent.iterdir()) == ["later", "target"]


def test_links_in_a_circle_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(NotWritable, match="Too many levels of symbolic links"):
        files.write(tmp_path / "a", b"new")


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    files.write(Path(os.devnull), b"new")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(NotWritable, match="Is a directory"):
        files.write(tmp_path, b"new")
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    files.write(path, b"new")
    files.write(path, b"newer")
    assert path.read_bytes() == b"newer"


MOUNTED = """
mount --bind "$1/outside" "$1/inside/talk.json" && cd "$1/inside" &&
"$2" -c 'from entrypoint.common import files
from pathlib import Path
files.write(Path("talk.json"), b"new")' && ls -A
"""


def test_a_file_mounted_by_itself_is_written_in_place(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/talk.json").touch()
    (tmp_path / "outside").write_bytes(b"old and longer")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", str(tmp_path), PYTHON],
        env={**os.environ, "PYTHONPATH": str(LOCKLESS.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("talk.json\n", "", 0)
    assert (tmp_path / "outside").read_bytes() == b"new"


HOLD = """
import sys, time
from pathlib import Path
from entrypoint.common import files
for name in ("one", "two"):
    path = Path(sys.argv[1], name)
    with path.open("wb") as file:
        files.lock(file, path, wait=False)
print("went on")
"""


@pytest.mark.parametrize("word", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EBADF"])
def test_without_locks_work_goes_on_and_it_is_said_once(tmp_path: Path, word: str) -> None:
    done = subprocess.run(
        [PYTHON, LOCKLESS, PYTHON, "-c", HOLD, tmp_path],
        env={**os.environ, "ERROR": word},
        capture_output=True,
        text=True,
        check=True,
        cwd=LOCKLESS.parents[1],
    )
    assert done.stdout == "went on\n"
    expected = f"{tmp_path} has no file locks: let only one llmdeploy at a time write there.\n"
    assert done.stderr == expected


def test_a_lock_that_another_has_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "held"
    with path.open("wb") as first, path.open("wb") as second:
        files.lock(first, path)
        with pytest.raises(BlockingIOError) as caught:
            files.lock(second, path, wait=False)
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("content", [None, b"old"])
def test_who_may_write_by_mode_and_is_forbidden_to_is_told_by_whom(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "answers"
    if content:
        path.write_bytes(content)
    write = (
        "import pathlib; from entrypoint.common import files; "
        f"files.write(pathlib.Path({str(path)!r}), b'new')"
    )
    done = subprocess.run(
        [PYTHON, FORBIDDEN, PYTHON, "-c", write], capture_output=True, text=True, check=False
    )
    assert "answers cannot be written: Permission denied." in done.stderr
    assert "SELinux or AppArmor forbids it" in done.stderr
    assert (path.read_bytes() if content else None) == content
