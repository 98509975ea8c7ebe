"""Whole reports of the small fixed runs in comparison/, and of runs with something wrong.

After a wanted change, write what is expected anew; in tests/unit/comparison, with en and then zh:
    python -m entrypoint compare qwen smol --questions list.toml --price 2 --lang en -o expected/en
"""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from builder.settings import ROOT
from docs import schema
from entrypoint import __main__ as program
from entrypoint import compare as mode
from entrypoint.answers import plan as plans
from entrypoint.answers import questions, results
from entrypoint.answers.plan import Plan
from entrypoint.answers.questions import TUTORIAL
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog, Model, ModelFile
from entrypoint.common.errors import ConfigFailure, NotWritable, UnknownModel, UsageFailure
from entrypoint.compare import chance
from entrypoint.engines import AnswerStream, endpoint

COMPARISON = Path(__file__).with_name("comparison")


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the runs, in English."""
    shutil.copytree(COMPARISON, tmp_path / "comparison")
    monkeypatch.chdir(tmp_path / "comparison")
    monkeypatch.setenv("LLMDEPLOY_LANG", "en")


def compare(*runs: str, **options: str) -> Path:
    """Compare runs, qwen and smol if none are named; return the folder of the report."""
    typed = {"output": "out", "questions": "list.toml", **options}
    words = [word for name, value in typed.items() for word in (f"--{name}", value)]
    arguments = program._parser().parse_args(["compare", *(runs or ("qwen", "smol")), *words])
    arguments.run(arguments)
    return Path(typed["output"])


def report(*runs: str, **options: str) -> dict[str, Any]:
    """Return what report.json has; whatever was compared, it has the published form."""
    found: dict[str, Any] = json.loads((compare(*runs, **options) / "report.json").read_text())
    Draft202012Validator(schema.comparison()).validate(found)
    return found


def lines(run: str) -> list[str]:
    return Path(run, "answers.jsonl").read_text().splitlines(keepends=True)


def rewrite(run: str, *kept: str) -> None:
    Path(run, "answers.jsonl").write_text("".join(kept))


def more(times: int) -> str:
    """Let the runs answer each question so many times, under other ids; return the list."""
    for run in ("qwen", "smol"):
        written = lines(run)
        rewrite(
            run,
            *(
                line.replace('"id": "', f'"id": "{n}-', 1) if n else line
                for n in range(times)
                for line in written
            ),
        )
    listed = Path("list.toml").read_text()
    Path("more.toml").write_text(
        "\n".join(listed.replace('id = "', f'id = "{n}-') if n else listed for n in range(times))
    )
    return "more.toml"


@pytest.mark.parametrize("name", ["en/report.md", "en/report.json", "zh/report.md"])
def test_the_report_is_the_expected_one(name: str) -> None:
    found = compare(price="2", lang=name[:2]) / Path(name).name
    assert found.read_text() == (COMPARISON / "expected" / name).read_text()


def test_it_tells_where_the_report_is(capsys: pytest.CaptureFixture[str]) -> None:
    compare()
    assert capsys.readouterr() == ("out/report.html\n", "")


def test_two_reports_of_the_same_runs_have_the_same_bytes() -> None:
    pages = [compare(output=each).joinpath("report.html").read_bytes() for each in ("a", "b")]
    assert pages[0] == pages[1]


def test_every_sentence_stands_on_numbers_that_are_in_the_report_and_on_the_page() -> None:
    told = report(questions=more(2))
    ids = set(re.findall(r' id="([^"]+)"', Path("out/report.html").read_text()))
    assert len(told["findings"]) > 8
    for finding in told["findings"]:
        assert finding["evidence"], finding["text"]
        for evidence in finding["evidence"]:
            value: Any = told
            for step in evidence["path"].strip("/").split("/"):
                value = value[int(step) if isinstance(value, list) else step]
            assert value is not None
            assert evidence["path"].strip("/").replace("/", "-") in ids


class Elements(HTMLParser):
    """Collects the tags of a page, and what their attributes point at."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.targets |= {value or "" for name, value in attrs if name in {"src", "href"}}


def test_a_report_grows_by_the_same_for_each_question() -> None:
    """A thousand questions and eight models: 14 MB of page, 153 MB of memory, 10 s (see docs)."""
    sizes = []
    for times in (1, 10, 20):  # 4, 40 and 80 questions
        shutil.copytree(COMPARISON, ".", dirs_exist_ok=True)
        compare(questions=more(times))
        sizes.append([Path("out", name).stat().st_size for name in ("report.html", "report.json")])
    for small, middle, large in zip(*sizes, strict=True):
        assert (large - middle) / 40 <= 1.1 * (middle - small) / 36
    text = Path("out/report.md").read_text()
    assert "Answers not in the language of the question: 60 of 60." in text
    assert " and 40 more)" in text


def test_the_page_is_one_file_that_asks_for_nothing_and_runs_nothing() -> None:
    page = compare().joinpath("report.html").read_text()
    found = Elements(page)
    assert "default-src 'none'" in page
    assert not found.tags & {"script", "img", "b", "iframe", "object", "code"}
    assert {target for target in found.targets if not target.startswith("#")} == {"data:,"}


def test_charts_leave_no_finder_behind_that_python_warns_of() -> None:
    drawing = """
import sys
from entrypoint.compare import charts
charts.bars("", ["a"], [[0.5]], "{:.0%}")
assert all(hasattr(each, "find_spec") for each in sys.meta_path), sys.meta_path
"""
    subprocess.run([sys.executable, "-c", drawing], cwd=ROOT, check=True)


def test_without_a_judge_nothing_is_said_to_be_judged() -> None:
    told = report()
    assert told["judging"] is None
    assert {score["judge"] for each in told["dimensions"] for score in each["scores"]} == {None}
    assert Path("out/report.html").read_text().count("not judged") >= 10
    assert "No judge was asked" in Path("out/report.md").read_text()


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a model called `judge`, which prefers the answer without Latin letters."""

    class Judge:
        def __init__(self, *_model: object) -> None: ...

        def stream(self, prompt: list[dict[str, str]], _options: object) -> AnswerStream:
            return AnswerStream(self._pieces(prompt))

        def _pieces(self, prompt: list[dict[str, str]]) -> Generator[str, None, None]:
            shown = prompt[0]["content"].partition("<answer-A>")[2].partition("</answer-A>")[0]
            yield "B" if re.search("[A-Za-z]", shown) else "A"

        def close(self) -> None: ...

    model = Model(
        name="judge",
        display_name="Judge",
        engine="llamacpp",
        quantization="Q4_0",
        files=(ModelFile("model.gguf", 1, "99" * 32),),
        context=100,
        memory=1,
        languages=("zh",),
        license="MIT",
        source="",
        revision="",
        chat_template="",
        stop=(),
    )
    catalog.dump(Catalog("judge", (model,)), tmp_path)
    monkeypatch.setenv("LLMDEPLOY_MODELS", str(tmp_path))
    monkeypatch.setattr(mode, "open_engine", Judge)


@pytest.mark.usefixtures("judge")
def test_a_judges_opinion_is_shown_beside_the_points_and_its_words_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = more(6)  # of fewer questions a verdict may be chance
    told = report(judge="judge", questions=asked)
    assert told["judging"]["judge"] == "judge 9999999999999999"
    assert told["judging"]["verdicts"] == 2 * sum(
        len(each["dimensions"]) for each in told["questions"]
    )
    humour = next(each for each in told["dimensions"] if each["name"] == "humour")
    assert [score["judge"]["rate"] for score in humour["scores"]] == [1, 0]
    assert [score["counted"] for score in humour["scores"]] == [None, None]
    text = Path("out/report.md").read_text()
    assert "The judge prefers it in humour and creativity" in text
    assert "Choose qwen2.5-coder-0.5b for" in text
    page = Path("out/report.html").read_text()
    judging = told["judging"]
    assert (judging["measured"], judging["first"]) == (24, pytest.approx(7 / 18))
    assert f"on 24 pairs: agreement {judging['agreement']:.0%}" in text
    assert f"kappa {judging['kappa']:.2f}" in page
    assert ("no better than none" in text) is (judging["kappa"] < 0.4)
    assert "a judge&#39;s opinion" in page
    assert "not judged" not in page
    assert len(Path("out/verdicts.jsonl").read_text().splitlines()) == 108
    assert "Loading Judge..." in capsys.readouterr().err
    assert report(judge="judge", questions=asked)["judging"]["reused"] == 108


@pytest.mark.usefixtures("judge")
def test_a_judge_that_is_not_there_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UnknownModel):
        compare(judge="jugde")
    assert not Path("out").exists()


def test_a_judge_behind_an_endpoint_that_is_away_is_counted_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "WAITS", (0.0, 0.0, 0.0))
    with socket.socket() as nobody:  # has the port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        told = report(judge="far", **{"judge-endpoint": address})
    assert told["judging"] == {
        "judge": f"far {address}",
        "verdicts": 18,
        "failed": 18,
        **dict.fromkeys(("reused", "unclear", "refused", "pairs", "flipped", "measured"), 0),
        **dict.fromkeys(("agreement", "kappa", "first")),
    }
    assert "failed 18" in Path("out/report.md").read_text()
    (first, *_more) = Path("out/verdicts.jsonl").read_text().splitlines()
    assert address in json.loads(first)["reply"]


def test_an_endpoint_without_a_name_is_no_judge() -> None:
    with pytest.raises(UsageFailure, match="Which of the endpoint's models"):
        compare(**{"judge-endpoint": "http://127.0.0.1:1/v1"})


def test_marks_by_hand_are_asked_for_then_read_and_take_precedence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = report(annotate="marks.csv")
    assert "Fill in the column mark of marks.csv" in capsys.readouterr().err
    path = Path("marks.csv")
    rows = path.read_text(encoding="utf-8-sig").splitlines()
    assert len(rows) == 1 + 18
    marked = [row + ("2" if "qwen" in row else "9") if ",logic," in row else row for row in rows]
    path.write_text("\n".join(marked))
    after = report(annotate="marks.csv")
    logic = after["dimensions"][6]
    assert [score["person"]["mean"] for score in logic["scores"]] == [2, 9]
    assert logic["scores"] == [
        {**old, "person": new["person"]}
        for old, new in zip(before["dimensions"][6]["scores"], logic["scores"], strict=True)
    ]
    assert "consistency and logic: 2.0 of 10" in Path("out/report.md").read_text()
    page = Path("out/report.html").read_text()
    assert "9.0/10, by hand" in page
    assert "Marks by hand take precedence" in page


@pytest.mark.usefixtures("judge")
def test_a_judge_of_its_own_answers_is_said_to_be_one() -> None:
    assert not [note for note in report(judge="judge")["notes"] if "favour" in note]
    rewrite("smol", *(line.replace("smollm2-135m", "judge") for line in lines("smol")))
    assert [note for note in report(judge="judge")["notes"] if "favour" in note]


def test_text_that_cannot_be_written_as_utf_8_is_shown_with_a_question_mark() -> None:
    rewrite("smol", *(line.replace("whom.", r"\ud800.") for line in lines("smol")))
    assert "I am not sure who likes ?." in compare().joinpath("report.html").read_text()
    assert report()["questions"][1]["replies"][1]["turns"] == ["I am not sure who likes ?."]


def test_a_single_run_is_described_and_nothing_advised() -> None:
    assert {each["kind"] for each in report("qwen")["findings"]} == {"weakness"}
    told = report("qwen", questions=more(2))  # enough to say that something is good
    assert {each["kind"] for each in told["findings"]} == {"strength", "weakness"}


def test_runs_of_one_model_are_told_apart_by_what_differs() -> None:
    colder = [line.replace('"temperature": 0', '"temperature": 0.5') for line in lines("qwen")]
    Path("warm").mkdir()
    rewrite("warm", *colder)
    Path("again").mkdir()
    rewrite("again", *colder)
    told = report("qwen", "warm", "again")
    assert [each["name"] for each in told["contenders"]] == [
        "qwen2.5-coder-0.5b, temperature 0",
        "qwen2.5-coder-0.5b, temperature 0.5, warm",
        "qwen2.5-coder-0.5b, temperature 0.5, again",
    ]
    assert "The models were asked with different options." in told["notes"]


def test_a_run_named_twice_counts_once() -> None:
    assert len(report("qwen", "qwen")["contenders"]) == 1


def test_answers_of_several_models_in_one_folder_are_several_contenders() -> None:
    rewrite("qwen", *lines("qwen"), *lines("smol"))
    assert len(report("qwen")["contenders"]) == 2


def test_the_price_is_that_of_the_time_in_which_something_was_computed() -> None:
    (qwen, _smol) = report(price="3.6")["contenders"]
    cost = qwen["cost"]
    assert cost["price"] == pytest.approx(3.6 / 3600 / cost["throughput"] * 1e6)
    assert "price" not in {key for key, value in report()["contenders"][0]["cost"].items() if value}


def test_answers_computed_at_once_do_not_take_their_time_twice() -> None:
    (before, _smol) = report()["contenders"]
    at_once = [
        re.sub(r'"ended": "[^"]*"', '"ended": "2026-11-25T01:00:09+00:00"', line)
        for line in lines("qwen")
    ]
    rewrite("qwen", *at_once)
    (after, _smol) = report()["contenders"]
    longest = max(json.loads(line)["turns"][0]["seconds"] for line in at_once)
    assert after["cost"]["throughput"] == pytest.approx(after["cost"]["tokens"] / longest)
    assert after["cost"]["throughput"] > before["cost"]["throughput"]


def test_only_shared_questions_are_compared_and_the_others_are_named() -> None:
    rewrite("smol", *lines("smol")[1:], lines("smol")[0].replace("东", "西"))
    told = report()
    assert [each["id"] for each in told["questions"]] == ["mingming", "hostile", "dialogue"]
    assert told["notes"][:2] == [
        "Not compared, because smollm2-135m did not answer: satellites.",
        "Not compared, because qwen2.5-coder-0.5b did not answer: satellites.",
    ]


def planned(run: str, *models: str) -> None:
    """Put a plan beside a run's answers: the first one's run for each of the models."""
    first = results.load(Path(run)).answers[0].run
    listed = questions.load(Path("list.toml"))
    plans.save(Plan(tuple(replace(first, model=name) for name in models), listed), Path(run))


def test_what_a_battery_did_not_get_is_said_where_it_is_seen_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rewrite("qwen", *lines("qwen")[:3])
    planned("qwen", "qwen2.5-coder-0.5b", "smollm2-135m")
    planned("smol", "smollm2-135m")
    note = (
        "qwen has 3 of 8 answers; qwen2.5-coder-0.5b has 3 of 4, smollm2-135m has none."
        " Get the others with: llmdeploy battery --resume qwen"
    )
    assert report()["notes"][0] == note
    assert capsys.readouterr().err == f"{note}\n"
    text = Path("out/report.md").read_text()
    assert text.index("3 of 8 answers") < text.index("## ")


def repeated(run: str, *seeds: int) -> None:
    """Have a run repeated with seeds; the second time its second answer is another."""
    rewrite(
        run,
        *(
            (
                line.replace('"answer": "白白喜欢他', '"answer": "谁知道') if n == 1 else line
            ).replace('"seed": null', f'"seed": {seed}')
            for n, seed in enumerate(seeds)
            for line in lines(run)
        ),
    )


def test_repetitions_are_one_contender_and_show_its_spread() -> None:
    repeated("qwen", 7, 8, 9)
    told = report()
    assert [each["name"] for each in told["contenders"]] == ["qwen2.5-coder-0.5b", "smollm2-135m"]
    assert ["seeds", "7, 8, 9"] in told["contenders"][0]["facts"]
    logic = told["dimensions"][6]["scores"][0]["counted"]
    assert (logic["passed"], logic["total"], logic["repeats"]) == (2, 3, [1, 0, 1])
    assert logic["shares"] == [pytest.approx(2 / 3)]
    assert (logic["low"], logic["high"]) == pytest.approx(chance.interval(2 / 3, 1))
    assert (
        f"2 of 3 points ({logic['low']:.0%} to {logic['high']:.0%}), 3 repetitions: 0% to 100%"
        in Path("out/report.md").read_text()
    )
    page = Path("out/report.html").read_text()
    assert page.count("With other seeds: 2") == 4
    (circles,) = (each for each in told["findings"] if "circles: 3 of 12" in each["text"])
    for evidence in circles["evidence"]:
        assert f'id="{evidence["path"].strip("/").replace("/", "-")}"' in page


def moved(run: str, cpu: str) -> None:
    """Have a run's answers computed on another machine."""
    rewrite(run, *(line.replace("AMD EPYC 9R14", cpu) for line in lines(run)))


def test_one_model_on_several_machines_is_one_table_with_a_price_for_each() -> None:
    shutil.copytree("qwen", "other")
    moved("other", "Intel Xeon 8575C")
    rewrite("other", *(line.replace('"rate": 80.0', '"rate": 40.0') for line in lines("other")))
    typed = ["compare", "qwen", "other", "--questions", "list.toml", "-o", "out"]
    arguments = program._parser().parse_args([*typed, "--price", "2", "--price", "8"])
    arguments.run(arguments)
    told = json.loads(Path("out/report.json").read_text())
    amd, intel = told["contenders"]
    assert (amd["name"], intel["name"]) == (
        "qwen2.5-coder-0.5b, AMD EPYC 9R14, 2 threads",
        "qwen2.5-coder-0.5b, Intel Xeon 8575C, 2 threads",
    )
    assert intel["cost"]["price"] == pytest.approx(4 * amd["cost"]["price"])
    assert (
        "| the machine | AMD EPYC 9R14, 2 threads | Intel Xeon 8575C, 2 threads |"
        in Path("out/report.md").read_text()
    )
    assert "Fastest." in {each["text"] for each in told["findings"]}


def test_speeds_of_other_models_on_other_machines_are_not_compared() -> None:
    moved("smol", "Intel Xeon 8575C")
    assert not [each for each in report()["findings"] if "astest" in each["text"]]


def test_prices_that_are_neither_one_nor_one_for_each_are_refused() -> None:
    typed = ["compare", "qwen", "smol", "-o", "out", *("--price", "1") * 3]
    arguments = program._parser().parse_args(typed)
    with pytest.raises(UsageFailure, match="3 prices for 2 runs"):
        arguments.run(arguments)


def test_questions_keep_the_order_and_the_numbers_of_their_list() -> None:
    rewrite("qwen", *reversed(lines("qwen")))
    rewrite("smol", lines("smol")[3], lines("smol")[1])
    told = [(each["number"], each["id"]) for each in report()["questions"]]
    assert told == [(2, "mingming"), (4, "dialogue")]


def test_of_many_questions_without_an_answer_some_are_named() -> None:
    more = [lines("qwen")[0].replace('"satellites"', f'"s{n}"') for n in range(40)]
    rewrite("qwen", *lines("qwen"), *more)
    (note,) = (each for each in report()["notes"] if "Not compared" in each)
    assert note.endswith("did not answer: s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 30 more.")


def test_questions_of_another_list_are_compared_by_their_shape_only() -> None:
    told = report(questions=str(TUTORIAL))
    (note,) = (each for each in told["notes"] if "--questions" in each)
    assert "hostile, dialogue" in note
    assert {each["kind"] for each in told["questions"][2]["replies"][0]["checks"]} == {
        "repetition",
        "whole",
    }


def test_a_line_cut_in_half_is_left_out_and_said() -> None:
    rewrite("smol", *lines("smol")[:3], lines("smol")[3][:90])
    told = report()
    assert len(told["questions"]) == 3
    assert told["notes"][0] == "The last line of smol is not whole and was left out."


def test_the_first_of_two_answers_to_one_question_counts() -> None:
    rewrite("smol", *lines("smol"), lines("smol")[1].replace("not sure", "quite sure"))
    told = report()
    assert "not sure" in told["questions"][1]["replies"][1]["turns"][0]
    assert told["notes"][0] == "smol answers these again; the first answer counts: mingming."


def test_an_answer_that_broke_off_says_why() -> None:
    broken = lines("smol")[1].replace('"error": ""', '"error": "The connection broke."')
    rewrite("smol", lines("smol")[0], broken, *lines("smol")[2:])
    reply = report()["questions"][1]["replies"][1]
    assert reply["error"] == "The connection broke."
    assert {"kind": "whole", "passed": False}.items() <= reply["checks"][-1].items()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "smol has no answers."),
        ("half", "smol has no answers."),
        ("nonsense\n", "line 1"),
        ("{}\n", "line 1"),
        ('{"schema": 99}\n', "has format 99; this program reads format 1"),
    ],
)
def test_a_run_that_cannot_be_read_is_named(content: str, told: str) -> None:
    rewrite("smol", content)
    with pytest.raises(ConfigFailure, match=told):
        compare()
    assert not Path("out").exists()


def test_runs_without_a_question_in_common_are_refused() -> None:
    rewrite("smol", *lines("smol")[:1])
    rewrite("qwen", *lines("qwen")[1:])
    with pytest.raises(ConfigFailure, match="no question in common"):
        compare()


def test_a_run_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigFailure, match="qwem"):
        compare("qwem")


@pytest.mark.parametrize("folder", ["/proc/here", "list.toml/here"])
def test_a_folder_that_cannot_be_written_is_named(folder: str) -> None:
    with pytest.raises(NotWritable, match=folder):
        compare(output=folder)


@pytest.mark.parametrize("typed", [("--price", "much"), ("--lang", "fr"), ("--jugde", "x")])
def test_a_wrong_option_is_refused(typed: tuple[str, str]) -> None:
    with pytest.raises(UsageFailure):
        program._parser().parse_args(["compare", "qwen", "-o", "out", *typed])
