"""README and docs stay true: their commands exist, and both languages tell the same."""

import re
import shlex
from pathlib import Path

import pytest

from builder.__main__ import Builder
from builder.settings import ROOT
from entrypoint.__main__ import _parser

CHINESE = {
    ROOT / "README.md": ROOT / "README.zh-CN.md",
    **{
        page.with_name(page.name.replace(".zh.md", ".md")): page
        for page in sorted((ROOT / "docs").rglob("*.zh.md"))
    },
}
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAIRS = pytest.mark.parametrize(
    ("english", "chinese"), CHINESE.items(), ids=[page.stem for page in CHINESE]
)
EACH = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def blocks(page: Path) -> list[str]:
    """Return the shell blocks of a page."""
    return re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def lines(page: Path) -> list[str]:
    return "\n".join(blocks(page)).replace("\\\n", " ").splitlines()


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command in the page's shell blocks, one list a command."""
    return [
        shlex.split(part, comments=True)
        for line in lines(page)
        for part in line.split("|")
        if part.partition("#")[0].strip()
    ]


def headings(page: Path) -> list[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line.split()[0] for line in prose.splitlines() if line.startswith("#")]


@PAIRS
def test_both_languages_have_the_same_structure(english: Path, chinese: Path) -> None:
    assert headings(english) == headings(chinese)
    assert len(commands(english)) == len(commands(chinese))
    tables = [page.read_text(encoding="utf-8").count("|---|") for page in (english, chinese)]
    assert tables[0] == tables[1]


def test_both_languages_launch_with_the_same_commands_and_mark_the_same_as_untried() -> None:
    """tests/image/launch/test_readme.py runs the English ones that have no mark."""

    def launching(pages: list[Path]) -> list[tuple[str, bool]]:
        typed = [line for page in pages for line in lines(page)]
        return [(line.partition("  #")[0], "  #" in line) for line in typed]

    english = sorted(page for page in CHINESE if page.parent.name == "launch")
    assert ("./llmdeploy launch ecs --apply", True) in launching(english)
    assert launching(english) == launching([CHINESE[page] for page in english])


def test_each_readme_links_to_the_other_at_the_top() -> None:
    for page, other in (("README.md", "README.zh-CN.md"), ("README.zh-CN.md", "README.md")):
        assert other in (ROOT / page).read_text(encoding="utf-8").split("##")[0]


def test_the_readme_is_read_at_one_sitting() -> None:
    for name in ("README.md", "README.zh-CN.md"):
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 160


@EACH
def test_every_task_can_be_typed(page: Path) -> None:
    for words in commands(page):
        if words[0] == "./llmdeploy":
            program = Builder()
            program.create_config()
            program.parse_core(["llmdeploy", "--search-root", str(ROOT), *words[1:]])
            program.parse_collection()
            program.parse_tasks()
            assert [task.name for task in program.tasks] == [words[1]]


@EACH
def test_every_command_of_the_image_can_be_typed(page: Path) -> None:
    for words in commands(page):
        if words[:2] == ["docker", "run"]:
            names = [word.partition(":")[0].partition("-")[0] for word in words]
            assert _parser().parse_args(words[names.index("llmdeploy") + 1 :]).run
        if words[0] == "llmdeploy":
            assert _parser().parse_args(words[1:]).run


def test_there_are_commands_to_look_at() -> None:
    typed = [words for page in PAGES for words in commands(page)]
    assert sum(words[0] == "./llmdeploy" for words in typed) >= 60
    assert sum(words[:2] == ["docker", "run"] for words in typed) >= 20


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"])
def test_every_file_that_the_readme_links_to_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_chinese_readers_are_sent_to_chinese_pages() -> None:
    """Links of the README; those between the pages follow the site's own language."""
    for link in re.findall(r"\]\((docs/[\w/-]+)\.md\)", (ROOT / "README.zh-CN.md").read_text()):
        assert not (ROOT / f"{link}.zh.md").exists(), link
