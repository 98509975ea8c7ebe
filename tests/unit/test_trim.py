"""What stays out of the packed environment."""

from pathlib import Path

import pytest

from builder.environment import trim


@pytest.mark.parametrize(
    "path",
    [
        "bin/python",
        "bin/python3",
        "bin/python3.11",
        "lib/libssl.so.3",
        "lib/python3.11/ssl.py",
        "lib/python3.11/importlib/_bootstrap.py",
        "lib/python3.11/site-packages/llmdeploy_llamacpp/llama-server",
        "lib/python3.11/site-packages/prompt_toolkit/__init__.py",
        "lib64/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so",
    ],
)
def test_what_the_program_runs_on_is_kept(path: str) -> None:
    assert trim.kept(path, "runtime")


@pytest.mark.parametrize(
    "path",
    [
        "bin/pip",
        "bin/python3.11-config",
        "include/python3.11/Python.h",
        "lib/libpython3.11.a",
        "lib/libreadline.so.8.2",
        "lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so",
        "lib/python3.11/__pycache__/ssl.cpython-311.pyc",
        "lib/python3.11/idlelib/help.html",
        "lib/python3.11/sqlite3/test/dbapi.py",
        "lib/python3.11/test/support/__init__.py",
        "lib/python3.11/site-packages/llmdeploy_llamacpp/llama-quantize",
        "lib/python3.11/site-packages/pip/__init__.py",
        "share/man/man1/python3.1",
    ],
)
def test_what_only_builds_tests_or_documents_is_not(path: str) -> None:
    assert not trim.kept(path, "runtime")


def test_an_environment_may_take_back_what_the_others_leave_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trim.txt").write_text("lib/tests/*\n")
    (tmp_path / "trim-own.txt").write_text("!lib/tests/needed.py\n")
    monkeypatch.setattr(trim, "FOLDER", tmp_path)
    assert trim.kept("lib/tests/needed.py", "own")
    assert not trim.kept("lib/tests/other.py", "own")
    assert not trim.kept("lib/tests/needed.py", "other")
