"""The build program as a person types it."""

import re
import subprocess
import sys

import pytest
from invoke import Context

from builder import settings
from builder import up as flow
from builder.__main__ import INSIDE
from builder.settings import ROOT, Settings
from entrypoint.__main__ import _parser


def llmdeploy(*words: str, lang: str = "C.UTF-8") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LANG": lang},
    )


def entries(text: str) -> list[str]:
    """Return the lines of a list of tasks or options that begin one."""
    return [line for line in text.splitlines() if re.match(r"  \S", line)]


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["bild-env"], "build-env"),
        (["build-env", "--sorce", "lock"], "--source"),
        (["lock", "--chekc"], "--check"),
        (["up", "--hlep"], "--help"),
    ],
)
def test_a_mistyped_word_gets_a_suggestion(words: list[str], suggestion: str) -> None:
    done = llmdeploy(*words)
    assert done.returncode == 2
    assert f"Did you mean {suggestion}?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", INSIDE)
def test_a_command_of_the_image_is_told_from_a_mistake(command: str) -> None:
    done = llmdeploy(command)
    assert done.returncode == 2
    assert f"docker run -it --rm llmdeploy {command}\n" in done.stderr
    with pytest.raises(SystemExit) as shown:
        _parser().parse_args([command, "--help"])
    assert shown.value.code == 0


def test_only_the_mistyped_word_gets_one() -> None:
    done = llmdeploy("image-size", "qwen", "--engine", "itrex")  # there is an option --itrex
    assert done.returncode == 2
    assert done.stderr == (
        "llmdeploy: Unknown word: 'qwen'.\n"
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
    assert "From nothing to a chat" in done.stdout


def test_the_tasks_are_listed_in_working_order() -> None:
    listed = [line.split()[0] for line in entries(llmdeploy().stdout)]
    order = ["up", "unpack-env", "fetch", "quantize", "build-image", "launch", "teardown"]
    assert [name for name in listed if name in order] == order


@pytest.mark.parametrize("words", [[], ["quantize", "--help"], ["launch", "--help"]])
def test_help_is_in_one_language(words: list[str]) -> None:
    english, chinese = (llmdeploy(*words, lang=lang).stdout for lang in ("C.UTF-8", "zh_CN.UTF-8"))
    assert english.isascii()
    assert len(entries(chinese)) == len(entries(english))
    assert [line for line in entries(chinese) if line.isascii()] == []


@pytest.mark.parametrize(
    ("words", "english", "chinese"),
    [
        (["bild-env"], "Unknown word: 'bild-env'.", "无法识别：'bild-env'。"),
        (["quantize", "--type"], "The option type needs a value.", "选项 type 需要一个值。"),
        (["launch"], "launch needs: 'target'.", "launch 缺少：'target'。"),
    ],
)
def test_what_invoke_cannot_place_is_told_in_the_users_language(
    words: list[str], english: str, chinese: str
) -> None:
    for lang, text in (("C.UTF-8", english), ("zh_CN.UTF-8", chinese)):
        done = llmdeploy(*words, lang=lang)
        assert done.returncode == 2
        assert done.stderr.splitlines()[0] == f"llmdeploy: {text}"


def test_an_unknown_source_of_the_environment_is_refused() -> None:
    done = llmdeploy("build-env", "--source", "lokc")
    assert done.returncode == 2
    assert "lock" in done.stderr


def test_one_thing_is_measured_at_a_time() -> None:
    done = llmdeploy("bench", "--serve", "--itrex")
    assert done.returncode == 2
    assert "exclude each other: --serve, --itrex" in done.stderr


@pytest.mark.parametrize(("no_mirrors", "asked"), [(False, ("https://m",)), (True, ())])
def test_up_asks_the_mirrors_unless_told_not_to(
    no_mirrors: bool, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    import tasks

    seen = []
    monkeypatch.setattr(settings, "load", lambda _engine: Settings(mirrors=("https://m",)))
    monkeypatch.setattr(flow, "up", lambda chosen, _name: seen.append(chosen.mirrors))
    tasks.up(Context(), no_mirrors=no_mirrors)
    assert seen == [asked]


def test_up_makes_the_chat_for_the_engine_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    import tasks

    seen = []
    monkeypatch.setattr(flow, "up", lambda chosen, _name: seen.append(chosen.engine))
    tasks.up(Context(), engine="ik")
    assert seen == ["ik"]
