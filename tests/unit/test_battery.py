import dataclasses
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import entrypoint
from entrypoint import __main__ as program
from entrypoint.answers import results
from entrypoint.answers.results import Run, Sampling
from entrypoint.battery import respondent
from entrypoint.battery.progress import Page, Progress
from entrypoint.common import catalog, files, machine
from entrypoint.common.catalog import ENDLESS, Catalog, Model, ModelFile
from entrypoint.common.errors import (
    ConfigFailure,
    DiskFull,
    EndpointFailure,
    EngineCrashed,
    MessageTooLong,
    NotEnoughMemory,
    NotWritable,
    UnknownModel,
    UsageFailure,
)
from entrypoint.engines import Message, Options, Usage
from tests import endpoints
from tests.endpoints import piece

USAGE = Usage(
    prompt_tokens=9,
    cached_tokens=2,
    completion_tokens=4,
    first_token=0.1,
    rate=50.0,
    finish_reason="stop",
)
THREE = """
[[questions]]
id = "a"
text = "甲？"
[[questions]]
id = "b"
text = "乙？"
[[questions]]
id = "c"
text = "丙？"
"""


class Parrot:
    """An engine that says each question twice, unless the question is its `last`."""

    context = 100
    suffix = ""
    opened: list["Parrot"]
    last: tuple[str, BaseException] | None

    def __init__(self, model: Model, folder: Path, *, parallel: int) -> None:
        self.model, self.folder, self.closed = model, folder, False
        self.parallel = parallel
        self.asked: list[tuple[list[Message], Options]] = []
        Parrot.opened.append(self)

    def stream(self, messages: Sequence[Message], options: Options) -> Iterator[str | Usage]:
        self.asked.append((list(messages), options))
        text = messages[-1]["content"]
        if Parrot.last and Parrot.last[0] == text and isinstance(Parrot.last[1], MessageTooLong):
            raise Parrot.last[1]
        yield text
        if Parrot.last and Parrot.last[0] == text:
            raise Parrot.last[1]
        yield text + self.suffix
        yield USAGE

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return len(messages)

    def alive(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


def model(name: str, sha256: str, memory: int = 1) -> Model:
    return Model(
        name=name,
        display_name=name.title(),
        engine="llamacpp",
        quantization="Q4_0",
        context=100,
        memory=memory,
        languages=("zh",),
        license="Apache-2.0",
        source="dir",
        revision="1",
        chat_template="",
        stop=(),
        files=(ModelFile("model.gguf", 1, sha256),),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three models in a catalogue, of which the last fits no machine, and three questions."""
    Parrot.opened, Parrot.last = [], None
    models = tmp_path / "models"
    models.mkdir()
    known = (model("one", "11"), model("two", "22"), model("huge", "33", 2**60))
    catalog.dump(Catalog("one", known), models)
    (tmp_path / "three.toml").write_text(THREE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMDEPLOY_MODELS", str(models))
    monkeypatch.setattr(respondent, "open_engine", Parrot)
    monkeypatch.setattr("entrypoint.engines.llamacpp.kernels", lambda: "zen4")
    return tmp_path


def ask(*words: str) -> None:
    """Ask, one question after the other unless told otherwise."""
    typed = ["battery", "--parallel", "1", "--questions", "three.toml", *words]
    arguments = program._parser().parse_args(typed)
    arguments.run(arguments)


def lines(path: Path = Path("out/answers.jsonl")) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def questions_asked() -> list[str]:
    return [each[0][-1]["content"] for engine in Parrot.opened for each in engine.asked]


ALL = "问题1：\n甲？甲？\n问题2：\n乙？乙？\n问题3：\n丙？丙？\n"


def test_answers_are_printed_as_the_tutorial_does(capsys: pytest.CaptureFixture[str]) -> None:
    ask()
    out, err = capsys.readouterr()
    assert out == ALL
    assert re.findall(r"(?m)^(\d)/3  \d+\.\d tok/s  \d+ s left$", err) == ["1", "2", "3"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what moves the clock of a progress on by so many seconds."""
    now = [100.0]
    monkeypatch.setattr("entrypoint.battery.progress.time.monotonic", lambda: now[0])

    def forward(seconds: float) -> None:
        now[0] += seconds

    return forward


def test_the_speed_is_that_of_the_last_seconds_and_so_is_the_time_left(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(total=2)
    progress.begin()
    for pause in (1, 0.2):  # a slow minute, then 5 tokens a second
        for _ in range(60):
            clock(pause)
            progress.piece()
    progress.answered(90)
    rate, left = re.findall(r"1/2  ([\d.]+) tok/s  (\d+) s left", capsys.readouterr().err)[0]
    assert float(rate) == pytest.approx(5, abs=0.2)
    assert int(left) == 12  # 60 tokens: as many as the first, less the 30 that are there


def test_each_model_has_a_speed_of_its_own(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(total=2)
    for pause in (1, 0.1):
        progress.begin()
        for _ in range(20):
            clock(pause)
            progress.piece()
        progress.answered(20)
        progress.pause()
        clock(60)  # the next one is loaded
    assert re.findall(r"([\d.]+) tok/s", capsys.readouterr().err) == ["1.1", "10.0"]


def test_no_time_is_told_before_an_answer_ended(
    clock: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress(total=2)
    progress.begin()
    clock(1)
    progress.piece()
    assert capsys.readouterr().err == "\r\x1b[K0/2  1.0 tok/s"


def test_nothing_is_left_after_the_last_answer_even_if_its_pieces_were_few(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(total=1)
    progress.begin()
    clock(9)
    progress.piece()
    progress.answered(60)
    assert capsys.readouterr().err.endswith(" 0 s left\n")


def test_on_a_terminal_one_line_changes_and_makes_room_for_an_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress(total=1)
    page = Page(progress, ["1:"])
    progress.begin()
    progress.piece()
    progress.piece()  # too soon to be shown
    progress.answered(2)
    page.add(0, "甲")
    out, err = capsys.readouterr()
    assert out == "1:\n甲\n"
    assert re.fullmatch(r"\r\x1b\[K0/1  [\d.]+ tok/s\r\x1b\[K", err)


def test_a_page_shows_an_answer_as_it_grows_when_it_is_its_turn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = Page(Progress(total=3), ["1:", "2:", "3:"])
    page.grow(1, "乙")
    page.grow(0, "")
    assert capsys.readouterr().out == ""
    page.grow(0, "甲")
    assert capsys.readouterr().out == "1:\n甲"
    page.grow(0, "甲")
    page.add(0, "甲甲。")
    assert capsys.readouterr().out == "甲。\n"
    page.grow(1, "乙")
    page.add(1, None)
    page.add(2, None)
    assert capsys.readouterr().out == "2:\n乙\n3:\n"


def test_answers_asked_one_by_one_appear_while_they_are_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    class Watched(Parrot):
        def stream(self, messages: Sequence[Message], options: Options) -> Iterator[str | Usage]:
            for part in super().stream(messages, options):
                yield part
                for _ in range(500):  # until the first piece is there
                    seen.append(capsys.readouterr().out)
                    if "".join(seen).endswith("？") or isinstance(part, Usage):
                        break
                    time.sleep(0.01)

    monkeypatch.setattr(respondent, "open_engine", Watched)
    ask()
    assert "问题1：\n甲？" in seen
    assert "".join(seen) + capsys.readouterr().out == ALL


def test_each_question_is_asked_again_with_other_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    ask("--repeat", "2", "--temperature", "0.7", "--seed", "7", "--output", "out")
    assert capsys.readouterr().out == f"# One, seed 7\n{ALL}# One, seed 8\n{ALL}"
    (engine,) = Parrot.opened
    assert [options.seed for _messages, options in engine.asked] == [7] * 3 + [8] * 3
    kept = results.load(Path("out")).answers
    assert [each.run.options and each.run.options.seed for each in kept] == [7] * 3 + [8] * 3
    resume()
    assert len(Parrot.opened) == 1


def test_a_repetition_that_would_say_the_same_is_refused() -> None:
    with pytest.raises(UsageFailure) as caught:
        ask("--repeat", "2")
    assert "--temperature 0.7" in caught.value.next
    assert not Parrot.opened


def test_the_tutorials_questions_are_asked_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = program._parser().parse_args(["battery"])
    arguments.run(arguments)
    assert capsys.readouterr().out.count("问题") == 10
    assert len(questions_asked()) == 10


def test_each_question_is_a_conversation_of_its_own_in_one_engine() -> None:
    ask("--system", "短答")
    (engine,) = Parrot.opened
    assert engine.closed
    system = {"role": "system", "content": "短答"}
    assert [messages for messages, _ in engine.asked] == [
        [system, {"role": "user", "content": text}] for text in ("甲？", "乙？", "丙？")
    ]


def test_a_battery_is_repeatable_unless_told_otherwise() -> None:
    ask()
    ask("--temperature", "0.5", "--seed", "7", "--max-tokens", "9", "--top-p", "0.8")
    assert [engine.asked[0][1] for engine in Parrot.opened] == [
        Options(temperature=0, top_p=0.9, max_tokens=512, seed=None),
        Options(temperature=0.5, top_p=0.8, max_tokens=9, seed=7),
    ]


def advise(engine: str) -> None:
    """Put a model with published sampling, of this engine, into the catalogue."""
    advice = catalog.SamplingAdvice(0.7, 0.8, top_k=20, min_p=0.0, repeat_penalty=1.1)
    known = dataclasses.replace(model("one", "11"), engine=engine, sampling=advice)
    catalog.dump(Catalog("one", (known,)), Path("models"))


def test_of_what_is_published_the_penalty_holds_always_and_the_rest_for_sampled_answers() -> None:
    advise("llamacpp")
    published = Options(0.7, 0.8, 512, top_k=20, min_p=0.0, repeat_penalty=1.1)
    for words, options in (
        ((), Options(0, 0.9, 512, repeat_penalty=1.1)),
        (("--temperature", "0"), Options(0, 0.9, 512, repeat_penalty=1.1)),
        (("--repeat-penalty", "1"), Options(0, 0.9, 512, repeat_penalty=1)),
        (("--temperature", "0.7"), published),
        (("--temperature", "1", "--top-k", "5"), replace(published, temperature=1, top_k=5)),
    ):
        ask(*words)
        assert [each for _messages, each in Parrot.opened[-1].asked] == [options] * 3


def test_advice_that_an_engine_cannot_follow_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entrypoint.engines.itrex.kernels", lambda: "avx2")
    advise("itrex")
    ask()
    ask("--temperature", "0.5", "--top-k", "7")
    assert [engine.asked[0][1] for engine in Parrot.opened] == [
        Options(0, 0.9, 512),
        Options(0.5, 0.8, 512, top_k=7),  # which is a wish: the engine refuses it
    ]


def test_a_battery_goes_on_with_the_sampling_that_it_began_with() -> None:
    advise("llamacpp")
    Parrot.last = "乙？", EngineCrashed("gone")
    with pytest.raises(EngineCrashed):
        ask("--output", "out", "--temperature", "0.5")
    Parrot.last = None
    resume()
    first, second = (engine.asked[-1][1] for engine in Parrot.opened)
    assert first == second == Options(0.5, 0.8, 512, top_k=20, min_p=0.0, repeat_penalty=1.1)


def test_a_kept_answer_tells_all_about_itself() -> None:
    ask("--output", "out")
    first = results.load(Path("out")).answers[0]
    assert first.id == "a"
    assert first.run == Run(
        model="one",
        engine="llamacpp",
        quantization="Q4_0",
        files=(ModelFile("model.gguf", 1, "11"),),
        options=Sampling(temperature=0, top_p=0.9, max_tokens=512, seed=None),
    )
    (turn,) = first.turns
    assert (turn.question, turn.answer, turn.usage) == ("甲？", "甲？甲？", USAGE)
    assert turn.seconds is not None
    assert first.machine is not None
    assert first.machine.version == entrypoint.__version__
    assert first.machine.kernels == "zen4"
    assert first.machine.threads >= 1
    assert first.machine.memory > 2**20
    assert first.ended.endswith("+00:00")
    assert [line["id"] for line in lines()] == ["a", "b", "c"]


def test_what_is_answered_is_printed_and_not_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask("--output", "out")
    before = lines()
    capsys.readouterr()
    ask("--output", "out")
    out, err = capsys.readouterr()
    assert out == ALL
    assert err == "out has all 3 answers.\n"
    assert len(Parrot.opened) == 1
    assert lines() == before


def resume(*words: str) -> None:
    arguments = program._parser().parse_args(["battery", "--resume", "out", *words])
    arguments.run(arguments)


TOLD = ("--model", "two", "--model", "one", "--system", "短答", "--seed", "7", "--max-tokens", "9")


def test_a_battery_is_resumed_as_it_began_without_being_told_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Parrot.last = "乙？", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ask(*TOLD, "--output", "out")
    Parrot.last = None
    Path("three.toml").unlink()
    resume()
    assert capsys.readouterr().out.endswith(f"# Two\n{ALL}# One\n{ALL}")
    killed, *later = Parrot.opened
    assert [(each.model.name, each.parallel, len(each.asked)) for each in later] == [
        ("two", 1, 2),
        ("one", 1, 3),
    ]
    for engine in later:
        assert {options for _, options in engine.asked} == {killed.asked[0][1]}
        assert engine.asked[0][0][0] == {"role": "system", "content": "短答"}
    answers = results.load(Path("out")).answers
    assert [len(given) for given in results.runs(answers).values()] == [3, 3]
    resume()
    assert len(Parrot.opened) == 3
    assert capsys.readouterr().err.endswith("out has all 6 answers.\n")


def test_the_battery_that_was_begun_last_is_resumed() -> None:
    ask("--output", "out")
    Parrot.last = "丙？", EngineCrashed("gone")
    with pytest.raises(EngineCrashed):
        ask("--output", "out", "--model", "two")
    Parrot.last = None
    resume()
    assert [(each.model.name, len(each.asked)) for each in Parrot.opened] == [
        ("one", 3),
        ("two", 3),
        ("two", 1),
    ]


@pytest.mark.parametrize(
    "more",
    [
        ("--output", "out"),
        ("--model", "two"),
        ("--questions", "three.toml"),
        ("--system", "短答"),
        ("--parallel", "2"),
        ("--endpoint", "http://127.0.0.1:1/v1"),
        ("--import", "old.txt"),
        ("--model-name", "m"),
        ("--seed", "1"),
        ("--temperature", "1"),
        ("--temperature", "0"),
        ("--top-k", "20"),
    ],
)
def test_a_battery_that_goes_on_cannot_be_changed(more: tuple[str, str]) -> None:
    ask("--output", "out")
    with pytest.raises(UsageFailure, match="resumed with the settings"):
        resume(*more)


def test_another_model_of_the_same_name_does_not_go_on() -> None:
    ask("--output", "out")
    catalog.dump(Catalog("one", (model("one", "99"),)), Path("models"))
    with pytest.raises(ConfigFailure, match="one is no longer the model"):
        resume()
    assert len(Parrot.opened) == 1


def test_a_model_thinks_as_the_catalogue_says_unless_told_otherwise() -> None:
    known = dataclasses.replace(model("one", "11"), engine="llamacpp", think="64")
    catalog.dump(Catalog("one", (known, model("two", "22"))), Path("models"))
    for words, think in (((), 64), (("--think", "off"), 0), (("--think", "on"), ENDLESS)):
        Parrot.opened.clear()
        ask(*words)
        assert {options.think for _messages, options in Parrot.opened[0].asked} == {think}
    with pytest.raises(UsageFailure, match="two cannot be told to think"):
        ask("--model", "two", "--think", "on")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"out/battery\.json does not exist"),
        ("{", "is not of this version"),
        ("[]", "is not of this version"),
        ("[" * 100_000, "is not of this version"),
        ('{"schema": 2}', "is not of this version"),
        ('{"schema": 1, "runs": [], "questions": [], "paralell": 1}', "Unknown key 'paralell'"),
    ],
)
def test_what_is_no_battery_cannot_be_resumed(content: str | None, told: str) -> None:
    if content is not None:
        Path("out").mkdir()
        Path("out/battery.json").write_text(content)
    with pytest.raises(ConfigFailure, match=told):
        resume()
    assert not Path("out/answers.jsonl").exists()


def test_an_endpoint_is_asked_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Parrot] = []

    def open_(address: str, name: str) -> Parrot:
        opened.append(Parrot(model(name, address), Path(), parallel=1))
        return opened[-1]

    monkeypatch.setattr("entrypoint.engines.endpoint.Endpoint", open_)
    Parrot.last = "乙？", EngineCrashed("gone")
    with pytest.raises(EngineCrashed):
        ask("--endpoint", "http://127.0.0.1:1/v1", "--model", "x", "--output", "out")
    Parrot.last = None
    resume()
    assert len(opened[1].asked) == 2
    assert opened[1].model.files[0].sha256 == "http://127.0.0.1:1/v1"


def test_an_answer_that_is_none_is_told_and_the_battery_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = piece("好", "stop")
    with endpoints.serving() as server:
        server.script = [(200, right), (200, b'data: {"choices":5}'), (200, right), (200, right)]
        with pytest.raises(EndpointFailure, match="broke off: 1 of 3") as caught:
            ask("--endpoint", server.address, "--model", "x", "--output", "out")
        assert caught.value.code == 24
        assert [line["id"] for line in lines()] == ["a", "c"]
        out, err = capsys.readouterr()
        assert out == "问题1：\n好\n问题2：\n问题3：\n好\n"
        assert "问题2：The endpoint" in err
        resume()
        assert [line["id"] for line in lines()] == ["a", "c", "b"]


def test_no_answer_steers_a_terminal_and_no_transcript_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "\x1b[2J\x1b]0;title\x07\x1b]52;c;aGk=\x07\x1b[8m hidden\x7f\x9b2J\r"
    monkeypatch.setattr(Parrot, "suffix", hostile)
    ask("--output", "out", "--system", hostile)
    texts = capsys.readouterr().out, Path("out/transcript.md").read_text(encoding="utf-8")
    for text in texts:
        assert "␛[2J␛]0;title␇␛]52;c;aGk=␇␛[8m hidden␡�2J" in text
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_half_written_line_is_dropped_and_its_question_asked_again(cut: int) -> None:
    ask("--output", "out")
    path = Path("out/answers.jsonl")
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + third[:cut])
    ask("--output", "out")
    assert questions_asked() == ["甲？", "乙？", "丙？", "丙？"]
    assert [line["id"] for line in lines()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "change",
    [
        ("--temperature", "0.1"),
        ("--top-p", "0.5"),
        ("--top-k", "5"),
        ("--repeat-penalty", "1.2"),
        ("--max-tokens", "5"),
        ("--seed", "1"),
        ("--system", "短答"),
        ("--model", "two"),
    ],
)
def test_answers_of_another_setting_do_not_count(change: tuple[str, str]) -> None:
    ask("--output", "out")
    ask("--output", "out", *change)
    assert len(questions_asked()) == 6
    ask("--output", "out", *change)
    assert len(questions_asked()) == 6


def test_a_changed_question_is_asked_again() -> None:
    ask("--output", "out")
    Path("three.toml").write_text(THREE.replace("乙", "丁"))
    ask("--output", "out")
    assert questions_asked() == ["甲？", "乙？", "丙？", "丁？"]


def test_several_models_answer_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    ask("--model", "two", "--model", "one", "--model", "two")
    out, err = capsys.readouterr()
    assert out == f"# Two\n{ALL}# One\n{ALL}"
    assert err.splitlines()[-1].startswith("6/6 ")
    assert [engine.model.name for engine in Parrot.opened] == ["two", "one"]
    assert all(engine.closed for engine in Parrot.opened)


def test_ctrl_c_keeps_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    Parrot.last = "丙？", KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ask("--output", "out")
    assert "Go on with: llmdeploy battery --resume out\n" in capsys.readouterr().err
    assert [line["id"] for line in lines()] == ["a", "b"]
    assert Path("out/transcript.md").read_text().count("## 问题") == 2
    assert Parrot.opened[0].closed
    Parrot.last = None
    ask("--output", "out")
    assert questions_asked()[-2:] == ["丙？", "丙？"]
    assert Path("out/transcript.md").read_text().count("## 问题") == 3


@pytest.mark.parametrize(("at", "kept"), [("entrypoint.answers.results.dump", 0), ("os.fsync", 1)])
def test_ctrl_c_while_an_answer_is_kept_leaves_a_transcript_of_what_was(
    monkeypatch: pytest.MonkeyPatch, at: str, kept: int
) -> None:
    def interrupt(*_arguments: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as now:
        now.setattr(at, interrupt)
        with pytest.raises(KeyboardInterrupt):
            ask("--output", "out")
    assert len(lines()) == kept
    assert Path("out/transcript.md").read_text().count("## 问题") == kept
    ask("--output", "out")
    assert len(lines()) == 3


def test_an_answer_that_broke_off_is_not_kept_and_the_battery_can_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Parrot.last = "乙？", EngineCrashed("gone")
    with pytest.raises(EngineCrashed):
        ask("--output", "out")
    assert [line["id"] for line in lines()] == ["a"]
    assert capsys.readouterr().err.endswith("Go on with: llmdeploy battery --resume out\n")


def test_an_unknown_model_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownModel) as caught:
        ask("--model", "one", "--model", "tow", "--output", "out")
    assert "two" in caught.value.next
    assert not Path("out").exists()


def test_a_model_too_large_is_refused_before_any_is_loaded() -> None:
    with pytest.raises(NotEnoughMemory):
        ask("--model", "one", "--model", "huge", "--output", "out")
    assert not Parrot.opened


def test_an_output_folder_that_cannot_be_made_is_refused_before_anything_is_computed() -> None:
    Path("file").touch()
    with pytest.raises(NotWritable, match="file/out"):
        ask("--output", "file/out")
    with pytest.raises(NotWritable, match="/proc/out"):
        ask("--output", "/proc/out")
    assert not Parrot.opened


def test_malformed_questions_are_refused_before_anything_is_written() -> None:
    Path("three.toml").write_text("[[questions]]\nid = 'a'\n")
    with pytest.raises(ConfigFailure, match=r"three\.toml, question 1"):
        ask("--output", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "typed", [("--temperature", "hot"), ("--max-tokens", "0"), ("--questoins", "x")]
)
def test_a_wrong_option_is_refused(typed: tuple[str, str]) -> None:
    with pytest.raises(UsageFailure):
        ask(*typed)


def test_a_full_disk_is_named() -> None:
    full = Path("/dev/full")
    with pytest.raises(DiskFull, match="/dev/full"), files.writing(full):
        full.write_text("x")


class Thinker(Parrot):
    """Thinks before it answers."""

    def stream(self, messages: Sequence[Message], options: Options) -> Iterator[str | Usage]:
        yield from ("<think>\nhm", "</think>\n\n")
        yield from super().stream(messages, options)


def test_a_thought_is_kept_apart_from_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(respondent, "open_engine", Thinker)
    ask("--output", "out")
    assert capsys.readouterr().out == ALL
    turns = [turn for answer in results.load(Path("out")).answers for turn in answer.turns]
    assert {turn.thought for turn in turns} == {"hm"}
    assert "<think>" not in Path("out/answers.jsonl").read_text()
    assert "hm" not in Path("out/transcript.md").read_text()


class Chorus(Parrot):
    """Several at once: each says a piece, then waits until all have; the first one ends last."""

    def stream(self, messages: Sequence[Message], options: Options) -> Iterator[str | Usage]:
        barrier = vars(self).setdefault("barrier", threading.Barrier(self.parallel, timeout=9))
        pieces = super().stream(messages, options)
        yield next(pieces)
        barrier.wait()
        while messages[-1]["content"] == "甲？" and len(lines()) < 2:
            if Parrot.last:
                return
            time.sleep(0.01)
        yield from pieces


def test_several_are_computed_at_once_and_printed_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(respondent, "open_engine", Chorus)
    ask("--parallel", "3", "--output", "out")
    assert capsys.readouterr().out == ALL
    assert [line["id"] for line in lines()][-1] == "a", "kept when it ended"
    machine = results.load(Path("out")).answers[0].machine
    assert machine is not None
    assert machine.parallel == 3


@pytest.mark.parametrize(
    ("free", "cores", "parallel"), [(1, 2, 1), (101, 2, 2), (10**6, 2, 3), (10**6, 1, 2)]
)
def test_how_many_at_once_follows_questions_memory_and_cores(
    monkeypatch: pytest.MonkeyPatch, free: int, cores: int, parallel: int
) -> None:
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(10**6, None, free))
    monkeypatch.setattr(machine, "threads", lambda: cores)
    monkeypatch.setattr(respondent, "PER_CORE", 2)
    each = dataclasses.replace(model("one", "11"), memory=1, memory_each=100)
    assert respondent._fitting(each, 3) == parallel


def test_more_at_once_than_memory_allows_is_refused() -> None:
    known = catalog.load(Path("models"))
    large = dataclasses.replace(known.models[0], memory_each=2**58)
    catalog.dump(Catalog("one", (large,)), Path("models"))
    with pytest.raises(NotEnoughMemory) as caught:
        ask("--parallel", "9")
    assert "--parallel" in caught.value.next
    ask("--parallel", "1")


def test_a_question_that_is_too_long_fails_alone_and_is_not_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Parrot.last = "乙？", MessageTooLong("The messages have 300 tokens.")
    ask("--output", "out")
    out, err = capsys.readouterr()
    assert out == "问题1：\n甲？甲？\n问题2：\n\n问题3：\n丙？丙？\n"
    assert "问题2：The messages have 300 tokens." in err
    failed = results.load(Path("out")).answers[1]
    assert (failed.id, failed.error) == ("b", "The messages have 300 tokens.")
    assert failed.finish_reason == "error"
    ask("--output", "out")
    assert len(questions_asked()) == 3


TURNS = """
[[questions]]
id = "a"
turns = ["一？", "二？"]
"""


def test_the_turns_of_a_question_are_one_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    Path("three.toml").write_text(TURNS)
    ask("--output", "out", "--system", "短答")
    assert capsys.readouterr().out == "问题1：\n一？一？\n二？二？\n"
    (engine,) = Parrot.opened
    assert [[each["content"] for each in messages] for messages, _ in engine.asked] == [
        ["短答", "一？"],
        ["短答", "一？", "一？一？", "二？"],
    ]
    (answer,) = results.load(Path("out")).answers
    assert [(turn.question, turn.answer) for turn in answer.turns] == [
        ("一？", "一？一？"),
        ("二？", "二？二？"),
    ]
    assert answer.tokens == 8


def test_a_later_turn_that_is_too_long_keeps_the_earlier_ones() -> None:
    Path("three.toml").write_text(TURNS)
    Parrot.last = "二？", MessageTooLong("too long")
    ask("--output", "out")
    (answer,) = results.load(Path("out")).answers
    assert [turn.answer for turn in answer.turns] == ["一？一？", ""]
    assert answer.error == "too long"


def test_two_batteries_cannot_write_one_folder() -> None:
    with closing(results.Store(Path("out"))), pytest.raises(NotWritable, match="Another battery"):
        ask("--output", "out")
    assert not Parrot.opened


def test_an_engine_that_dies_ends_the_battery_and_what_is_done_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(respondent, "open_engine", Chorus)
    Parrot.last = "乙？", EngineCrashed("gone")
    with pytest.raises(EngineCrashed):
        ask("--output", "out", "--parallel", "3")
    assert "b" not in {line["id"] for line in lines()}


def test_a_transcript_is_imported_once() -> None:
    Path("old.txt").write_text("问题1：\n旧甲。\n问题2：\n旧乙。\n")
    for _ in range(2):
        ask("--import", "old.txt", "--model-name", "ChatGLM3-6B", "--output", "out")
    answers = results.load(Path("out")).answers
    assert [(each.id, each.text, each.run) for each in answers] == [
        ("a", "旧甲。", Run("ChatGLM3-6B", "import")),
        ("b", "旧乙。", Run("ChatGLM3-6B", "import")),
    ]
    assert "# ChatGLM3-6B" in Path("out/transcript.md").read_text()
    assert not Parrot.opened


def test_what_is_printed_can_be_imported(capsys: pytest.CaptureFixture[str]) -> None:
    ask()
    Path("printed.txt").write_text(capsys.readouterr().out)
    ask("--import", "printed.txt", "--model-name", "Parrot", "--output", "out")
    assert [each.text for each in results.load(Path("out")).answers] == [
        "甲？甲？",
        "乙？乙？",
        "丙？丙？",
    ]


def test_a_transcript_cannot_answer_several_turns() -> None:
    Path("three.toml").write_text(TURNS)
    Path("old.txt").write_text("问题1：\n旧甲。\n")
    with pytest.raises(UsageFailure, match="a has several turns"):
        ask("--import", "old.txt", "--model-name", "m", "--output", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--import", "old.txt"),
        ("--import", "old.txt", "--model-name", "m"),
        ("--model-name", "m", "--output", "out"),
        ("--endpoint", "http://127.0.0.1:1/v1"),
        ("--endpoint", "nonsense", "--model", "m"),
        ("--parallel", "0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: tuple[str, ...]) -> None:
    Path("old.txt").write_text("问题1：\n旧甲。\n")
    with pytest.raises(UsageFailure):
        ask(*words)


def test_models_of_an_endpoint_are_asked_without_a_catalogue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMDEPLOY_MODELS", "/nowhere")

    def open_(address: str, name: str) -> Parrot:
        return Parrot(model(name, address), Path(), parallel=1)

    monkeypatch.setattr("entrypoint.engines.endpoint.Endpoint", open_)
    address = "http://127.0.0.1:1/v1"
    ask("--endpoint", address, "--model", "x", "--model", "y", "--output", "out")
    assert capsys.readouterr().out == f"# x\n{ALL}# y\n{ALL}"
    first = results.load(Path("out")).answers[0]
    assert (first.run.model, first.run.engine, first.run.endpoint) == ("x", "endpoint", address)
    assert first.memory is None
