import sys
import time
from collections.abc import Mapping, Sequence

import pytest

from builder.bench import engines, figures, quantization
from builder.bench.figures import Promise, Row
from builder.bench.quantization import QuantizationCost, Weights
from builder.stage.run import watch
from entrypoint.common.errors import CommandFailed

ROW = Row("decode", "decode, tok/s", "{:.1f}")
CHAT = {"prompt": 30, "new": 14, "computed": 15}


def measured(
    *, ours: float = 95, answer: float = 1.8, together: float = 0.7, scheduler: float = 0.45
) -> Mapping[str, Mapping[str, Sequence[float]]]:
    rounds = engines.ROUNDS
    return {
        "llmdeploy": {"decode": [ours] * rounds, "prefill": [ours] * rounds},
        engines.NATIVE: {"decode": [100.0] * rounds, "prefill": [100.0] * rounds},
        "battery": {"alone": [1.0] * rounds, "together": [together] * rounds},
        "scheduler": {"together": [scheduler] * rounds},
        "docker": {"answer": [answer] * rounds, "trivial": [0.5] * rounds},
    }


def broken(
    found: Mapping[str, Mapping[str, Sequence[float]]], chat: Mapping[str, float] = CHAT
) -> list[str]:
    return [each.title for each in engines.promises(found, chat) if not each.held]


def test_a_ratio_compares_within_rounds_so_a_slow_machine_cancels_out() -> None:
    ours, theirs = [80, 40, 8, 82, 81], [100, 50, 10, 50, 100]
    assert figures.ratio(ours, theirs) == pytest.approx(0.8)


def test_an_excess_is_the_middle_of_the_differences() -> None:
    assert figures.excess([2.0, 9.0, 1.5], [0.5, 0.5, 0.5]) == pytest.approx(1.5)


def test_a_round_that_one_side_missed_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        figures.ratio([1, 2, 3], [1, 2])


def answer(ended: str, seconds: float, tokens: int) -> dict[str, object]:
    turn = {"seconds": seconds, "usage": {"completion_tokens": tokens}}
    return {"ended": ended, "turns": [turn]}


def test_the_pace_of_answers_at_once_counts_their_common_time_once() -> None:
    first = answer("2026-01-01T00:00:10.000+00:00", 10, 40)
    second = answer("2026-01-01T00:00:12.000+00:00", 8, 20)
    assert engines.pace([first, second]) == pytest.approx(12 / 60)


def test_the_table_has_ratios_first_and_a_dash_for_what_a_peer_lacks() -> None:
    peers = {"llama.cpp": {"decode": [50.0, 100.0, 40.0]}, "other": {"first": [1.0]}}
    assert figures.table([ROW], {"decode": [40.0, 90.0, 40.0]}, peers).splitlines() == [
        "|  | ours : llama.cpp | ours : other | llmdeploy | llama.cpp | other |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| decode, tok/s | 0.90 | - | 40.0 | 50.0 | - |",
    ]


def test_a_promise_is_held_at_its_bound_and_not_beyond() -> None:
    assert Promise("speed", 0.95, low=0.95).held
    assert not Promise("speed", 0.949, low=0.95).held
    assert Promise("delay", 1.3, high=1.3).held
    assert not Promise("delay", 1.31, high=1.3).held


def test_a_figure_that_is_not_a_number_holds_no_promise() -> None:
    assert not Promise("speed", float("nan"), low=0.95).held


def test_verdicts_tell_value_and_bound() -> None:
    told = figures.verdicts([Promise("speed", 0.97, low=0.95), Promise("delay", 2, high=1.3)])
    assert told.splitlines() == [
        "* held: speed: 0.97 (at least 0.95)",
        "* NOT HELD: delay: 2.00 (at most 1.3)",
    ]


def test_figures_at_their_bounds_hold_every_promise() -> None:
    assert broken(measured()) == []


def test_a_slower_engine_breaks_both_speeds() -> None:
    assert len(broken(measured(ours=94))) == 2


def test_a_scheduler_that_gains_too_little_is_told() -> None:
    (title,) = broken(measured(scheduler=0.46))
    assert "openvino" in title


def test_a_slower_start_of_the_container_is_told() -> None:
    (title,) = broken(measured(answer=1.9))
    assert "docker run" in title


def test_questions_that_gain_too_little_from_each_other_are_told() -> None:
    (title,) = broken(measured(together=0.71))
    assert "at once" in title


def test_a_second_question_that_is_computed_with_its_history_is_told() -> None:
    (title,) = broken(measured(), {**CHAT, "computed": 60})
    assert "second question" in title


def test_answers_are_compared_question_by_question() -> None:
    ours, other = (Weights(1, 9.5, answers) for answers in (("a", "b", "c"), ("a", "x", "c")))
    assert QuantizationCost(ours, other, ("1", "2", "3")).differing == [1]


def test_the_perplexity_is_read_from_the_end_of_the_log() -> None:
    log = "[1]75.69,[2]46.54,\n0.59 I Final estimate: PPL = 46.5451 +/- 4.87742\n"
    assert quantization.estimate(log) == 46.5451


def test_a_log_without_an_estimate_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="no estimate"):
        quantization.estimate("error: unable to load model\n")


def test_the_text_is_chinese_and_english_and_long_enough() -> None:
    text = engines.TEXT.read_text(encoding="utf-8")
    chinese = sum("\u4e00" <= sign <= "\u9fff" for sign in text)
    english = len([word for word in text.split() if word.isascii()])
    assert chinese > 1000
    assert english > 700


def test_a_watched_program_is_timed_at_its_first_byte_not_at_its_end() -> None:
    program = (
        "import sys, time; time.sleep(0.1); sys.stdout.write('a'); sys.stdout.flush();"
        "begun = time.monotonic(); time.sleep(0.5); print('b'); print(time.monotonic() - begun)"
    )
    start = time.monotonic()
    seen = watch([sys.executable, "-c", program])
    whole = time.monotonic() - start
    after_first = float(seen.output.split()[1])
    assert seen.output.startswith("ab\n")
    # Half of what came after it: the byte may be read late where other programs want the cores.
    assert 0.1 <= seen.first <= whole - after_first / 2
    assert seen.memory > 1


def test_a_watched_program_reads_what_is_typed() -> None:
    echo = watch([sys.executable, "-c", "print(input()[::-1])"], typed="同济\n")
    assert echo.output == "济同\n"


def test_a_watched_program_that_fails_tells_its_last_words() -> None:
    with pytest.raises(CommandFailed, match="exit code 3") as caught:
        watch([sys.executable, "-c", "import sys; print('gone', file=sys.stderr); sys.exit(3)"])
    assert "gone" in caught.value.why


def test_a_watched_program_that_says_nothing_is_a_failure() -> None:
    with pytest.raises(CommandFailed):
        watch([sys.executable, "-c", ""])


def test_the_page_has_machine_figures_containers_quality_and_verdicts() -> None:
    found = {
        **measured(),
        "llmdeploy": {**measured()["llmdeploy"], "first": [1.0] * 5, "memory": [590.0] * 5},
        engines.OPENVINO: {"first": [4.0] * 5, "prefill": [190.0] * 5, "decode": [47.5] * 5},
    }
    cost = QuantizationCost(
        Weights(360_000_000, 46.0, ("同济\n大学", "b")),
        Weights(480_000_000, 40.0, ("复旦大学", "b")),
        ("问一", "问二"),
    )
    facts = {
        "cpu": {"model": "Some CPU", "kernels": "zen4"},
        "threads": {"count": 2},
        "memory": {"total": 24 * 2**30},
    }
    page = engines.page(facts, found, cost, engines.promises(found, CHAT))
    assert "Some CPU, 2 threads, 24 GiB, kernels for zen4" in page
    assert "| decode of 128 tokens, tok/s | 0.95 | 2.00 | 95.0 | 100.0 | 47.5 |" in page
    assert "| a question to its first token | 1.80 |" in page
    assert "| perplexity, fixed text | 1.15 | 46.00 | 40.00 |" in page
    assert "1 of 2 answers differ" in page
    assert "* Q4_0: 同济 大学\n\n* Q4_K_M: 复旦大学" in page
    assert page.count("* held: ") == 6
