"""What `quality` tells of each type of weights, from figures with values that can be computed."""

from dataclasses import replace

import pytest

from builder.bench import figures, quality, texts
from builder.bench.quality import RECIPES, Weighed
from entrypoint.common.errors import CommandFailed

FACTS = {
    "cpu": {"model": "Some CPU", "kernels": "zen4"},
    "threads": {"count": 2},
    "memory": {"total": 24 * 2**30},
}
SOURCE = Weighed(
    size=480_000_000,
    chinese=20.0,
    english=10.0,
    runs={"prefill": [90.0, 90.0, 45.0], "decode": [30.0, 30.0, 30.0]},
    beside={"prefill": [100.0, 100.0, 50.0], "decode": [60.0, 60.0, 60.0]},
)


def equal_speed(loss: float) -> Weighed:
    return replace(
        SOURCE, chinese=20 * loss, english=10 * loss, runs=SOURCE.beside, size=350_000_000
    )


def test_a_loss_weighs_both_languages_alike() -> None:
    assert replace(SOURCE, chinese=80.0).loss(SOURCE) == pytest.approx(2.0)
    assert replace(SOURCE, english=40.0).loss(SOURCE) == pytest.approx(2.0)


def test_the_best_of_those_that_are_fast_enough_is_held_to_the_bound() -> None:
    slow = replace(equal_speed(1.0), runs=SOURCE.runs)
    (held,) = quality.promises(
        {"": SOURCE, "slow": slow, "good": equal_speed(1.02), "poor": equal_speed(1.2)}
    )
    assert held.value == pytest.approx(1.02)
    assert held.held
    broken = quality.promises({"": SOURCE, "slow": slow, "poor": equal_speed(1.04)})
    assert "NOT HELD: perplexity of the best at 0.95 of Q4_0's speed" in figures.verdicts(broken)
    with pytest.raises(CommandFailed, match="as fast as Q4_0"):
        quality.require(broken)


def test_the_page_has_a_line_for_what_was_fetched_and_for_each_recipe() -> None:
    made = {recipe.name: equal_speed(1.02) for recipe in RECIPES}
    page = quality.page(FACTS, "Tiny", {quality.SOURCE: SOURCE, **made})
    assert "Some CPU, 2 threads, 24 GiB" in page
    assert "| what was fetched | 480 | 20.00 | 10.00 | 1.000 | 0.90 | 0.50 |" in page
    for recipe in RECIPES:
        assert f"| {recipe.name} | 350 | 20.40 | 10.20 | 1.020 | 1.00 | 1.00 |" in page
    assert "* held: " in page


def test_a_type_of_whole_blocks_is_left_out_where_the_rows_do_not_come_out_even() -> None:
    assert [each.name for each in RECIPES if each not in quality.fitting(896)] == [
        "Q4_0, imatrix, embeddings Q6_K"
    ]
    assert quality.fitting(1536) == list(RECIPES)


def test_prose_is_the_paragraphs_of_a_page_without_its_markup() -> None:
    page = """<h1>A heading that is long enough to count as prose</h1>
    <p>The <b>first</b> paragraph,\n  over two lines &amp; more.</p><p>Short.</p>
    <pre>a program that nobody reads as prose, however long</pre>
    <p>系统以保存在文件中的欢迎信息来开始，同时显示提示符。</p>"""
    assert texts.paragraphs(page) == [
        "The first paragraph, over two lines & more.",
        "系统以保存在文件中的欢迎信息来开始，同时显示提示符。",
    ]
