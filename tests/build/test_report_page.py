"""The page of a report in a real browser: nothing hostile gets out, everything fits and shows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from entrypoint import __main__ as program
from tests.contrast import contrast, luminance

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COMPARISON = Path(__file__).parents[1] / "unit/comparison"
PHONE, DESKTOP = (390, 800), (1280, 800)
Show = Callable[..., "Page"]


def compare(folder: Path, *runs: Path) -> Path:
    words = [*map(str, runs), "--output", str(folder), "--questions", f"{COMPARISON}/list.toml"]
    arguments = program._parser().parse_args(["compare", *words])
    arguments.run(arguments)
    return folder / "report.html"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMDEPLOY_LANG", "en")
        return compare(tmp_path_factory.mktemp("pair"), COMPARISON / "qwen", COMPARISON / "smol")


@pytest.fixture
def show(chromium: Browser) -> Iterator[Show]:
    """Return a function that opens a page; when the test ends, nothing may have been asked for."""
    seen: list[str] = []
    contexts = []

    def show(path: Path, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: seen.append(request.url))
        page.goto(path.as_uri())
        assert seen == [path.as_uri()]
        seen.clear()
        return page

    yield show
    for context in contexts:
        context.close()
    assert seen == []


def unfold(page: Page) -> None:
    """Show the answers, which a phone folds."""
    for fold in page.locator(".fold:visible").all():
        fold.click()


@pytest.mark.parametrize(("size", "folded"), [(PHONE, True), (DESKTOP, False)])
def test_a_phone_folds_the_answers_and_unfolds_what_is_pointed_at(
    pair: Path, show: Show, size: tuple[int, int], *, folded: bool
) -> None:
    page = show(pair, size)
    answer = page.locator(".question .answer").first
    assert answer.is_visible() is not folded
    page.evaluate("location.hash = '#questions-0-replies-0-checks-0-passed'")
    assert answer.is_visible()
    page.evaluate("location.hash = ''")
    unfold(page)
    assert answer.is_visible()


def test_three_models_take_a_phone_fewer_than_eight_screens(show: Show, tmp_path: Path) -> None:
    for name in ("qwen", "smol"):
        shutil.copytree(COMPARISON / name, tmp_path / name)
    shutil.copytree(COMPARISON / "smol", tmp_path / "third")
    answers = tmp_path / "third/answers.jsonl"
    answers.write_text(answers.read_text().replace("smollm2-135m", "third-of-three"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMDEPLOY_LANG", "en")
        runs = [tmp_path / name for name in ("qwen", "smol", "third")]
        page = show(compare(tmp_path / "report", *runs), PHONE)
    assert page.locator("#models .card").count() == 3
    assert page.evaluate("document.documentElement.scrollHeight") < 8 * PHONE[1]
    assert fits(page)
    settings = page.locator("#models .card dl").first
    assert not settings.is_visible()
    page.get_by_label("Settings").first.check()
    assert settings.is_visible()


def test_of_many_questions_a_phone_folds_the_list(show: Show, tmp_path: Path) -> None:
    for name in ("qwen", "smol"):
        shutil.copytree(COMPARISON / name, tmp_path / name)
        answers = tmp_path / name / "answers.jsonl"
        lines = answers.read_text().splitlines(keepends=True)
        answers.write_text(
            "".join(
                line.replace('"id": "', f'"id": "{n}-', 1) if n else line
                for n in range(15)
                for line in lines
            )
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMDEPLOY_LANG", "en")
        page = show(compare(tmp_path / "report", tmp_path / "qwen", tmp_path / "smol"), PHONE)
    question = page.locator(".question").last
    assert not question.is_visible()
    assert page.evaluate("document.documentElement.scrollHeight") < 8 * PHONE[1]
    page.evaluate(f"location.hash = '#{question.get_attribute('id')}'")
    assert question.is_visible()
    page.evaluate("location.hash = ''")
    page.get_by_label("Show the questions").check()
    assert question.is_visible()
    page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
    assert not page.get_by_label("Show the questions").is_visible()
    assert question.is_visible()


def test_print_shows_every_answer_and_keeps_headings_with_their_text(
    pair: Path, show: Show
) -> None:
    page = show(pair, PHONE)
    page.emulate_media(media="print")
    assert all(each.is_visible() for each in page.locator(".question .answer").all())
    assert not page.locator(".fold").first.is_visible()
    for heading in page.locator("h2, h3").all():
        assert heading.evaluate("each => getComputedStyle(each).breakAfter") == "avoid"


def test_no_table_has_an_empty_head(pair: Path, show: Show) -> None:
    heads = show(pair).locator("thead th").all()
    assert heads
    assert all(each.inner_text().strip() for each in heads)


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(("size", "stacked"), [(PHONE, True), (DESKTOP, False)])
def test_answers_stand_side_by_side_where_there_is_room(
    pair: Path, show: Show, size: tuple[int, int], stacked: bool
) -> None:
    page = show(pair, size)
    unfold(page)
    assert fits(page)
    for question in page.locator(".question").all():
        first, second = (card.bounding_box() for card in question.locator(".card").all())
        assert first
        assert second
        assert (second["y"] >= first["y"] + first["height"]) is stacked
        assert (second["x"] >= first["x"] + first["width"]) is not stacked


def test_hostile_text_is_only_text(pair: Path, show: Show) -> None:
    (line,) = (
        line
        for line in (COMPARISON / "qwen/answers.jsonl").read_text().splitlines()
        if "<script>" in line
    )
    answer = json.loads(line)["turns"][0]["answer"]
    shown = show(pair).locator(".question").nth(2).locator(".answer .text").first
    assert shown.inner_text() == answer.replace("\x1b", "␛").replace("\x00", "␀")
    assert "שלום עולם" in answer
    assert shown.evaluate("each => each.children.length") == 0


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_a_long_line_wraps_inside_its_card(pair: Path, show: Show, size: tuple[int, int]) -> None:
    page = show(pair, size)
    unfold(page)
    shown = page.locator(".answer .text").all()
    assert any("x" * 400 in each.inner_text() for each in shown)
    assert all(each.evaluate("each => each.scrollWidth <= each.clientWidth") for each in shown)


def test_a_sentence_leads_to_its_number(pair: Path, show: Show) -> None:
    page = show(pair)
    page.get_by_role("link", name="4 of 11 points").first.click()
    target = page.locator(":target")
    assert target.inner_text().startswith("4 of 11 points")
    box = target.bounding_box()
    assert box
    assert 0 <= box["y"] < DESKTOP[1]


def test_bars_are_told_apart_without_colour_and_have_their_values_beside_them(
    pair: Path, show: Show
) -> None:
    chart = show(pair).locator(".chart").first
    fills = [
        chart.locator(f".color-{place} .rect").first.evaluate("each => getComputedStyle(each).fill")
        for place in (0, 1)
    ]
    assert fills == ['url("#fill-0")', 'url("#fill-1")']
    assert set(chart.locator(".value").all_text_contents()) >= {"91%", "36%"}


# In pixels: how small the texts of a chart are, and how far they reach beyond their card.
MEASURED = """card => {
  const frame = card.getBoundingClientRect();
  return [...card.querySelectorAll("text")].filter(each => each.textContent).map(each => {
    const text = each.getBoundingClientRect();
    return [text.height, Math.max(frame.left - text.left, text.right - frame.right)];
  });
}"""


@pytest.mark.parametrize("size", [PHONE, DESKTOP])
def test_what_a_chart_says_can_be_read(pair: Path, show: Show, size: tuple[int, int]) -> None:
    for card in show(pair, size).locator("figure").all():
        texts = card.evaluate(MEASURED)
        assert texts
        assert min(height for height, _beyond in texts) >= 12
        assert max(beyond for _height, beyond in texts) < 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(pair: Path, show: Show, scheme: str) -> None:
    page = show(pair, scheme=scheme)
    paper, ink, soft = (
        page.evaluate(
            "([selector, what]) => getComputedStyle(document.querySelector(selector))[what]", each
        )
        for each in (["body", "backgroundColor"], ["body", "color"], [".soft", "color"])
    )
    assert (luminance(paper) > luminance(ink)) is (scheme == "light")
    for text in (ink, soft):
        assert contrast(text, paper) >= 4.5, "WCAG 2 AA"


def test_many_models_scroll_in_their_tables_and_not_the_page(show: Show, tmp_path: Path) -> None:
    runs = []
    for number in range(7):
        run = tmp_path / f"run{number}"
        run.mkdir()
        lines = (COMPARISON / "qwen/answers.jsonl").read_text()
        run.joinpath("answers.jsonl").write_text(
            lines.replace("qwen2.5-coder-0.5b", f"a-model-with-a-very-long-name-indeed-{number}")
        )
        runs.append(run)
    page = show(compare(tmp_path / "out", *runs), PHONE)
    assert fits(page)
    scrolls = "each => each.scrollWidth > each.clientWidth"
    assert not page.locator("#dimensions .wide").evaluate(scrolls)  # one below the other there
    assert page.locator("#speed .wide").evaluate(scrolls)
    assert page.locator(".question").first.locator(".card").count() == 7
