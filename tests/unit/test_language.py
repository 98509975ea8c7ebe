"""Everything that a user reads exists in English and in Chinese."""

import argparse
import ast
import os
import string
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Task
from jinja2 import Environment, nodes

import tasks
from builder.settings import ROOT
from builder.stage.edge import summary
from entrypoint.common import language
from entrypoint.common.errors import EXIT_CODES
from entrypoint.common.language import _

SIDES = ("entrypoint", "builder")


def texts(side: str) -> Iterator[str]:
    """Yield every literal that the code of one side passes to `_`."""
    for path in sorted((ROOT / side).rglob("*.py")):
        yield from marked(path)
    for path in sorted((ROOT / side).rglob("*.jinja")):
        yield from marked_in_template(path)
    if side == "builder":
        yield from marked(ROOT / "tasks.py")
        yield from (summary(task.body) for task in vars(tasks).values() if isinstance(task, Task))


def marked_in_template(path: Path) -> Iterator[str]:
    for call in (
        Environment(autoescape=True).parse(path.read_text(encoding="utf-8")).find_all(nodes.Call)
    ):
        if isinstance(call.node, nodes.Name) and call.node.name == "_":
            yield call.args[0].as_const()


def marked(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def catalogue(side: str) -> dict[str, str]:
    return tomllib.loads((ROOT / side / "zh.toml").read_text(encoding="utf-8"))


def fields(text: str) -> list[str]:
    return sorted(name for _literal, name, _spec, _conv in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("side", SIDES)
def test_every_text_has_a_chinese_one(side: str) -> None:
    known = {text for each in SIDES for text in catalogue(each)}
    missing = sorted(set(texts(side)) - known)
    assert not missing, f"add these to {side}/zh.toml: {missing}"


def test_every_exit_code_has_a_chinese_meaning() -> None:
    assert set(EXIT_CODES.values()) <= set(catalogue("entrypoint"))


def test_no_chinese_text_is_left_over() -> None:
    used = {text for side in SIDES for text in texts(side)} | set(EXIT_CODES.values())
    used |= set(marked(Path(argparse.__file__)))
    known = [text for side in SIDES for text in catalogue(side)]
    assert sorted(set(known) - used) == []
    assert len(known) == len(set(known)), "a text stands in both catalogues"


@pytest.mark.parametrize("side", SIDES)
def test_translations_keep_the_placeholders(side: str) -> None:
    for english, chinese in catalogue(side).items():
        assert fields(english) == fields(chinese), english


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LLMDEPLOY_LANG": "zh"}, "zh"),
    ],
)
def test_the_language_follows_the_usual_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("LLMDEPLOY_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language.language() == expected


def test_chinese_users_read_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMDEPLOY_LANG", "zh")
    text = _("There is no model called {name}.").format(name="x")
    assert "x" in text
    assert not text.isascii()


def test_the_catalogues_are_text_files_that_git_can_diff() -> None:
    for side in SIDES:
        assert b"\r" not in Path(ROOT / side / "zh.toml").read_bytes()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "Set PYTHON"),
        ({"LANG": "zh_CN.UTF-8"}, "请用变量 PYTHON"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "Set PYTHON"),
        ({"LANG": "en_GB.UTF-8", "LLMDEPLOY_LANG": "ZH"}, "请用变量 PYTHON"),
    ],
)
def test_before_there_is_a_python_the_language_is_the_same(
    variables: dict[str, str], told: str
) -> None:
    done = subprocess.run(
        [ROOT / "llmdeploy", "up"],
        env={"PATH": os.environ["PATH"], "PYTHON": "/bin/false", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
