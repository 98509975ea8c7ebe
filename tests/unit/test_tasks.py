"""The build program as a person types it."""

import subprocess
import sys

import pytest

from builder.settings import ROOT


def llmdeploy(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["bild-env"], "build-env"),
        (["build-env", "--sorce", "lock"], "--source"),
        (["lock", "--chekc"], "--check"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(words: list[str], suggestion: str) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 2
    assert f"Did you mean {suggestion}?" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_task_says_in_both_languages_what_it_does() -> None:
    from invoke import Task

    import tasks

    for task in vars(tasks).values():
        if isinstance(task, Task):
            english, chinese = (task.__doc__ or "").strip().split("\n\n")
            assert english.isascii(), task.name
            assert not chinese.isascii(), task.name


def test_an_unknown_source_of_the_environment_is_refused() -> None:
    done = llmdeploy("build-env", "--source", "lokc")
    assert done.returncode == 2
    assert "lock" in done.stderr
