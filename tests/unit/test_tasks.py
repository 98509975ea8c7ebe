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


def test_only_the_mistyped_word_gets_one() -> None:
    done = llmdeploy("image-size", "qwen", "--engine", "itrex")  # there is an option --itrex
    assert done.returncode == 2
    assert done.stderr == (
        "llmdeploy: No idea what 'qwen' is!\n"
        "  See what there is with: ./llmdeploy image-size --help\n"
    )


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["fetch", "--source", "nosuch"], "qwen2.5-coder-1.5b"),
        (["fetch", "smollm2-135m", "--source", "nosuch"], "smollm2-135m"),
        (["fetch", "--source=nosuch", "smollm2-135m"], "smollm2-135m"),
        (["fetch", "--model", "smollm2-135m", "--source", "nosuch"], "smollm2-135m"),
    ],
)
def test_a_model_is_named_or_else_the_default_one(words: list[str], model: str) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 2
    assert f"Fetching {model}" in done.stderr
    assert "--source cannot be 'nosuch'" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fetch", "one", "two"], "two"),
        (["build-env", "nosuch"], "no environment called nosuch"),
        (["unpack-env", "nosuch.tar.gz"], "no file nosuch.tar.gz"),
        (["unpack-env"], "--trust-on-first-use"),
    ],
)
def test_a_word_too_many_or_too_few_is_told(words: list[str], told: str) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["fetch", "--help"], ["unpack-env", "-h"], ["--help", "fetch"]])
def test_a_task_has_help_before_and_after_its_name(words: list[str]) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 0
    assert "a name in models" in done.stdout or "folder to restore it to" in done.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["--list"]])
def test_who_types_no_task_sees_them_all(words: list[str]) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 0
    assert "From nothing to the chat prompt" in done.stdout


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


def test_one_thing_is_measured_at_a_time() -> None:
    done = llmdeploy("bench", "--serve", "--itrex")
    assert done.returncode == 2
    assert "exclude each other: --serve, --itrex" in done.stderr
