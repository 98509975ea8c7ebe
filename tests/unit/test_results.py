import dataclasses
import json
from contextlib import closing
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from docs import schema
from entrypoint.answers import results
from entrypoint.answers.results import Answer, Loaded, Machine, RecordedTurn, Run, Sampling, Store
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import ConfigFailure, NotWritable
from entrypoint.engines import Usage

USAGE = Usage(
    prompt_tokens=9,
    cached_tokens=2,
    completion_tokens=4,
    first_token=0.1,
    rate=50.0,
    finish_reason="stop",
)
RUN = Run(
    model="one",
    engine="llamacpp",
    quantization="Q4_0",
    files=(ModelFile("model.gguf", 1, "11"),),
    options=Sampling(temperature=0, top_p=0.9, max_tokens=512, seed=None),
)
HERE = Machine("EPYC", "zen4", threads=2, memory=2**34, parallel=4, version="0.1.0")
ONE = Answer(
    "a", (RecordedTurn("甲？", "甲。", USAGE, 0.5),), RUN, HERE, memory=7, ended="2026-11-25"
)
TWO = Answer(
    "b",
    (RecordedTurn("乙？", "乙。", USAGE, 0.5), RecordedTurn("丙？", "丙。", USAGE, 0.25)),
    RUN,
    HERE,
)
OLD = Answer("a", (RecordedTurn("甲？", "旧的。"),), Run("old", "import"))


def write(path: Path, *answers: Answer) -> Path:
    path.write_bytes(b"".join(map(results.dump, answers)))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / results.LINES


def test_what_is_written_is_read_again(path: Path) -> None:
    write(path, ONE, TWO, OLD)
    assert results.load(path) == results.load(path.parent) == Loaded((ONE, TWO, OLD))


def test_a_line_is_readable_chinese_and_says_its_format(path: Path) -> None:
    line = write(path, ONE).read_text()
    assert "甲？" in line
    assert json.loads(line)["schema"] == results.SCHEMA


def test_the_last_of_several_answers_counts_and_costs_add_up() -> None:
    assert TWO.text == "丙。"
    assert TWO.questions == ("乙？", "丙？")
    assert (TWO.tokens, TWO.seconds) == (8, 0.75)
    assert (OLD.tokens, OLD.seconds) == (0, 0)


def test_an_answer_tells_why_it_ended() -> None:
    assert [each.finish_reason for each in (ONE, OLD)] == ["stop", ""]
    assert dataclasses.replace(ONE, error="too long").finish_reason == "error"


def test_answers_of_equal_runs_belong_together() -> None:
    warmer = dataclasses.replace(ONE, run=dataclasses.replace(RUN, options=Sampling(1, 1, None, 7)))
    elsewhere = dataclasses.replace(TWO, machine=None)
    assert results.runs([ONE, OLD, elsewhere, warmer]) == {
        RUN: (ONE, elsewhere),
        OLD.run: (OLD,),
        warmer.run: (warmer,),
    }


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_last_line_cut_in_half_is_left_out_and_told(path: Path, cut: int) -> None:
    path.write_bytes(results.dump(ONE) + results.dump(TWO)[:cut])
    assert results.load(path) == Loaded((ONE,), cut=True)


def test_an_answer_given_twice_counts_once_and_is_told(path: Path) -> None:
    again = dataclasses.replace(ONE, turns=(RecordedTurn("甲？", "又甲。"),))
    write(path, ONE, TWO, again, OLD)
    assert results.load(path) == Loaded((ONE, TWO, OLD), (again,))


def test_a_file_of_no_answers_has_none(path: Path) -> None:
    path.touch()
    assert results.load(path) == Loaded(())


def test_a_newer_format_is_refused(path: Path) -> None:
    line = json.loads(results.dump(TWO)) | {"schema": results.SCHEMA + 1, "mood": "good"}
    path.write_bytes(results.dump(ONE) + json.dumps(line).encode() + b"\n")
    with pytest.raises(ConfigFailure, match=r"line 2 has format 2; .* reads format 1") as caught:
        results.load(path)
    assert "newer" in caught.value.next


DEEP = "[" * 100_000
STRANGE = {"schema": 1, "id": "a", "turns": [], "run": {"model": "m", "engine": "e"}}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "7",
        "[1]",
        "not json",
        '{"id": "a"}',
        '"\\ud800"',
        "\xff",
        "[" * 100_000,
        json.dumps(STRANGE),
    ],
)
def test_a_line_that_is_no_answer_is_named(path: Path, line: str) -> None:
    path.write_bytes(results.dump(ONE) + line.encode("latin-1") + b"\n")
    with pytest.raises(ConfigFailure, match=r"answers\.jsonl, line 2 is not an answer"):
        results.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"turns": [{"question": "?", "answer": 7}]},
            "'answer' in .*line 1, .turns 1. must be text",
        ),
        ({"turns": "?"}, "'turns' in .*line 1 must be a list of a table"),
        ({"memory": "much"}, "'memory' in .*line 1 must be a whole number"),
        ({"mood": "good"}, "Unknown key 'mood' in .*line 1"),
        ({"run": {"model": "m"}}, "'engine' is missing in .*line 1, .run."),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    path: Path, change: dict[str, object], message: str
) -> None:
    path.write_text(json.dumps(json.loads(results.dump(ONE)) | change) + "\n")
    with pytest.raises(ConfigFailure, match=message):
        results.load(path)


def test_a_file_that_is_not_there_is_named(path: Path) -> None:
    with pytest.raises(ConfigFailure, match=r"answers\.jsonl does not exist"):
        results.load(path)
    with pytest.raises(ConfigFailure, match=r"nothing does not exist"):
        results.load(path.with_name("nothing"))


def test_a_store_keeps_what_it_is_given(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "new" / "out")) as store:
        store.add(ONE)
        assert results.load(tmp_path / "new" / "out").answers == (ONE,)
        assert store.find(RUN, ["甲？"]) == ONE
        assert store.find(RUN, ["乙？"]) is None
        assert store.find(OLD.run, ["甲？"]) is None


def test_a_store_goes_on_after_a_kill(path: Path) -> None:
    path.write_bytes(results.dump(ONE) + results.dump(TWO)[:50])
    with closing(Store(path.parent)) as store:
        assert store.find(RUN, ONE.questions) == ONE
        store.add(OLD)
    assert results.load(path) == Loaded((ONE, OLD))


def test_two_cannot_write_one_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(NotWritable, match=r"Another battery is writing .*answers\.jsonl"):
        Store(tmp_path)
    store.close()
    store.close()
    Store(tmp_path).close()


def test_a_strange_line_is_left_alone(path: Path) -> None:
    path.write_text("strange\n")
    with pytest.raises(ConfigFailure):
        Store(path.parent)
    assert path.read_text() == "strange\n"
    path.write_bytes(results.dump(ONE))
    Store(path.parent).close()


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    store = Store(None)
    store.add(ONE)
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_published_schemas_are_those_of_the_dataclasses() -> None:
    for path, text in schema.files().items():
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("answer", [ONE, TWO, OLD])
def test_a_line_has_the_published_form_and_nothing_else(answer: Answer) -> None:
    form, line = Draft202012Validator(schema.answer()), json.loads(results.dump(answer))
    form.validate(line)
    assert not form.is_valid(line | {"mood": "good"})
    assert not form.is_valid(line | {"schema": results.SCHEMA + 1})
