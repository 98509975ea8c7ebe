"""The README stays true: its commands exist, and both languages tell the same."""

import re
import shlex

import pytest

from builder.__main__ import Builder
from builder.settings import ROOT
from entrypoint.__main__ import _parser

ENGLISH, CHINESE = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md")
)


def commands(text: str) -> list[list[str]]:
    """Return the words of every command in the text's shell blocks, one list a command."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(part, comments=True)
        for line in lines
        for part in line.split("|")
        if part.strip()
    ]


def headings(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [line.split()[0] for line in prose.splitlines() if line.startswith("#")]


def test_both_languages_have_the_same_structure() -> None:
    assert headings(ENGLISH) == headings(CHINESE)
    assert len(commands(ENGLISH)) == len(commands(CHINESE))
    assert ENGLISH.count("|---|") == CHINESE.count("|---|")


def test_both_languages_launch_with_the_same_commands_and_mark_the_same_as_untried() -> None:
    """tests/image/launch/test_readme.py runs the English ones that have no mark."""

    def launching(text: str) -> list[tuple[str, bool]]:
        part = re.split(r"(?m)^## ", text)[4]
        lines = "".join(re.findall(r"```sh\n(.*?)```", part, re.DOTALL)).splitlines()
        return [(line.partition("  #")[0], "  #" in line) for line in lines]

    assert ("./llmdeploy launch ecs --apply", True) in launching(ENGLISH)
    assert launching(ENGLISH) == launching(CHINESE)


def test_each_readme_links_to_the_other_at_the_top() -> None:
    assert "README.zh-CN.md" in ENGLISH.split("##")[0]
    assert "README.md" in CHINESE.split("##")[0]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_task_in_the_readme_can_be_typed(text: str) -> None:
    typed = [words[1:] for words in commands(text) if words[0] == "./llmdeploy"]
    assert len(typed) >= 8
    for words in typed:
        program = Builder()
        program.create_config()
        program.parse_core(["llmdeploy", "--search-root", str(ROOT), *words])
        program.parse_collection()
        program.parse_tasks()
        assert [task.name for task in program.tasks] == [words[0]]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_command_of_the_image_in_the_readme_can_be_typed(text: str) -> None:
    typed = [
        words[[word.partition(":")[0] for word in words].index("llmdeploy") + 1 :]
        for words in commands(text)
        if words[:2] == ["docker", "run"]
    ]
    assert len(typed) >= 3
    for words in typed:
        assert _parser().parse_args(words).run


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_file_that_the_readme_links_to_exists(text: str) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
