"""The chat loop, by whole transcripts: what is typed, answered and told."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from entrypoint import conversation
from entrypoint.__main__ import _parser
from entrypoint.arguments import sampling
from entrypoint.chat import DEFAULTS, Chat, offers, terminal
from entrypoint.common.catalog import ENDLESS, NO_ADVICE, Catalog, Model, SamplingAdvice
from entrypoint.common.errors import EngineCrashed, Failure, MessageTooLong, NotUtf8, UsageFailure
from entrypoint.conversation import Conversation
from entrypoint.engines import AnswerStream, Message, Options, Prompt, Tokens, Usage


class Parrot:
    """An engine that repeats the last question; a token is a character."""

    context = 200

    def __init__(self, name: str, mishaps: list[BaseException | None]) -> None:
        self.name = name
        self.mishaps = mishaps
        self.asked: list[tuple[list[Message], Options]] = []
        self.closed = False

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        return AnswerStream(self._pieces(prompt, options))

    def _pieces(self, prompt: Prompt, options: Options) -> Generator[str | Usage, None, None]:
        assert not isinstance(prompt, str | Tokens)
        self.asked.append((list(prompt), options))
        text = f"{self.name}: {prompt[-1]['content']}"
        yield text[:4]
        if self.mishaps and (mishap := self.mishaps.pop(0)):
            raise mishap
        yield text[4:]
        cut = (options.max_tokens or self.context) < len(text)
        yield Usage(10, 4, len(text), 0.25, 50.0, "length" if cut else "stop")

    def count_tokens(self, messages: Sequence[Message]) -> int:
        return sum(len(message["content"]) for message in messages)

    def alive(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


def model(name: str, engine: str = "parrot", sampling: SamplingAdvice = NO_ADVICE) -> Model:
    return Model(
        name, name.title(), engine, "Q4_0", 200, 1, (), "", "", "", "", (), (), sampling=sampling
    )


class Room:
    """A chat with parrots, and all that is said in it."""

    def __init__(
        self,
        typed: Iterable[str | BaseException],
        *,
        person: bool = True,
        session: Path | None = None,
        mishaps: Iterable[BaseException | None] = (),
        talk: Conversation | None = None,
        engine: type[Parrot] = Parrot,
        models: tuple[Model, ...] = (model("polly"), model("coco")),
        wishes: Mapping[str, float] | None = None,
        styled: bool = False,
    ) -> None:
        self.engine = engine
        self.typed = iter(typed)
        self.heard: list[str] = []
        self.engines: list[Parrot] = []
        self.mishaps = list(mishaps)
        self.talk = talk or Conversation()
        self.chat = Chat(
            Catalog("polly", models),
            self.open,
            "polly",
            wishes or {},
            self.talk,
            read=self.read,
            write=self.write,
            say=lambda text: self.heard.append(f"[{text}]"),
            styled=styled,
            person=person,
            session=session,
        )

    def open(self, name: str) -> Parrot:
        self.engines.append(self.engine(name, self.mishaps))
        return self.engines[-1]

    def read(self, prompt: str) -> str:
        entry = next(self.typed, EOFError())
        if isinstance(entry, BaseException):
            raise entry
        self.heard.append(f"{prompt}{entry}")
        return entry

    def write(self, text: str) -> None:
        if self.heard and not self.heard[-1].startswith((">>>", "...", "[")):
            self.heard[-1] += text
        else:
            self.heard.append(text)

    def run(self) -> list[str]:
        with closing(self.chat):
            self.chat.run()
        assert all(engine.closed for engine in self.engines)
        return self.heard


GREETING = "[Ask away, or type /help. Ctrl-D leaves.]"


def test_no_answer_steers_a_terminal() -> None:
    heard = Room(["\x1b]52;c;aGk=\x07"]).run()
    assert "polly: ␛]52;c;aGk=␇\n" in heard


def test_an_answer_in_colours_steers_nothing_else() -> None:
    room = Room(["**a** \x1b[2J"], styled=True)
    assert "polly: \x1b[1ma\x1b[22m ␛[2J\n" in room.run()
    assert room.talk.turns[0].answer == "polly: **a** \x1b[2J"  # what the model wrote is kept


def test_a_model_that_goes_round_in_circles_is_told_of() -> None:
    told = "[The model goes round in circles: 83% of the answer was there before."
    assert any(line.startswith(told) for line in Room(["I see a tree. " * 10]).run())
    assert not any("circles" in line for line in Room(["I see a tree, and then a house."]).run())


class Stuck(Parrot):
    """An engine that says the question again and again without an end, in small pieces."""

    def _pieces(self, prompt: Prompt, options: Options) -> Generator[str | Usage, None, None]:
        assert not isinstance(prompt, str | Tokens)
        self.asked.append((list(prompt), options))
        yield self.opening
        while True:
            yield from prompt[-1]["content"]
            yield " "

    opening = ""


class StuckThought(Stuck):
    opening = "<think>"


@pytest.mark.parametrize("engine", [Stuck, StuckThought])
@pytest.mark.parametrize("person", [True, False])
def test_an_endless_circle_is_stopped_and_forgotten(engine: type[Parrot], *, person: bool) -> None:
    room = Room(["我看见一棵树，树上有一只鸟。"], engine=engine, person=person)
    assert room.run()[-1].startswith("[Stopped: the model goes round in circles, and says the same")
    assert len("".join(room.heard)) < 700  # of an answer that would not have ended
    assert not room.talk.turns


def test_after_a_stopped_circle_its_question_can_be_asked_again_and_has_no_cost() -> None:
    room = Room(["唱一首歌。", "/stats", "/retry"], engine=Stuck)
    assert "[There is no whole answer to tell the cost of.]" in room.run()
    [engine] = room.engines
    assert [messages[-1]["content"] for messages, _options in engine.asked] == ["唱一首歌。"] * 2


def test_a_conversation() -> None:
    room = Room(["hello", "", "  why?  "])
    assert room.run() == [
        GREETING,
        ">>> hello",
        "polly: hello\n",
        ">>> ",
        ">>>   why?  ",
        "polly: why?\n",
    ]
    assert [message["content"] for message in room.engines[0].asked[1][0]] == [
        "hello",
        "polly: hello",
        "why?",
    ]


class Thinker(Parrot):
    """Thinks before it repeats the question."""

    def _pieces(self, prompt: Prompt, options: Options) -> Generator[str | Usage, None, None]:
        yield from ("<thi", "nk>\nhm", "\n</think>\n", "\n")
        yield from super()._pieces(prompt, options)


def test_a_thought_is_no_part_of_the_answer_nor_of_the_conversation() -> None:
    room = Room(["hello"], engine=Thinker)
    assert room.run() == [GREETING, ">>> hello", "[The model thinks first...]", "polly: hello\n"]
    assert [turn.answer for turn in room.talk.turns] == ["polly: hello"]


def test_lines_between_triple_quotes_are_one_question() -> None:
    room = Room(['"""', "/help", "me", '"""', '"""one"""', '"""two', 'three"""'])
    assert room.run() == [
        GREETING,
        '>>> """',
        "... /help",
        "... me",
        '... """',
        "polly: /help\nme\n",
        '>>> """one"""',
        "polly: one\n",
        '>>> """two',
        '... three"""',
        "polly: two\nthree\n",
    ]


def test_quotes_that_never_close_ask_nothing() -> None:
    room = Room(['"""', "half"])
    assert room.run()[-1] == '[The input ended before the closing """.]'
    assert room.engines[0].asked == []


def test_ctrl_c_stops_the_answer_and_the_turn_does_not_count() -> None:
    room = Room(["one", "two"], mishaps=[KeyboardInterrupt()])
    assert room.run() == [
        GREETING,
        ">>> one",
        "poll\n",
        "[Stopped. The model forgets this turn; /retry asks again.]",
        ">>> two",
        "polly: two\n",
    ]
    assert [len(messages) for messages, _options in room.engines[0].asked] == [1, 1]


def test_ctrl_c_at_the_prompt_says_how_to_leave() -> None:
    assert Room([KeyboardInterrupt(), "one"]).run() == [
        GREETING,
        "[Ctrl-D or /bye leaves.]",
        ">>> one",
        "polly: one\n",
    ]


@pytest.mark.parametrize(
    ("typed", "suggestion"), [("/hlep", "/help"), ("/stat", "/stats"), ("/Bye", "/bye")]
)
def test_unknown_commands_never_reach_the_model(typed: str, suggestion: str) -> None:
    room = Room([typed, "/etc/passwd is what?"])
    heard = room.run()
    assert f"There is no command {typed}." in heard[2]
    assert f"Did you mean {suggestion}?" in heard[2]
    assert "put it between" in heard[4]
    assert room.engines[0].asked == []


def test_help_lists_every_command() -> None:
    told = "\n".join(Room(["/help"]).run())
    expected = "/help /set /show /system /model /clear /save /load /retry /stats /bye"
    assert re.findall(r"/\w+", told)[2:] == expected.split()


def test_the_tab_key_knows_every_command() -> None:
    models = Catalog("polly", (model("polly"), model("coco")))
    told = "\n".join(Room(["/help"]).run())
    assert set(offers(models)) == set(re.findall(r"/\w+", told)[2:])
    assert offers(models)["/model"] == ["polly", "coco"]


def test_what_is_changed_without_an_answer_is_said() -> None:
    heard = Room(["/system Be brief.", "/system", "/clear"]).run()
    assert heard[2::2] == [
        "[The system prompt is set.]",
        "[The system prompt is removed.]",
        "[The conversation is forgotten; the system prompt stays.]",
    ]


def test_bye_leaves() -> None:
    assert Room(["/bye", "never read"]).run() == [GREETING, ">>> /bye"]


def test_options_are_set_and_shown() -> None:
    room = Room(
        [
            "/set temperature 0", "/set top-p 0.5", "/set top-k 40", "/set min_p 0.1",
            "/set repeat-penalty 1.2", "/set seed 7", "/set max_tokens 3", "hi", "/show", "/set",
        ]
    )  # fmt: skip
    heard = room.run()
    assert "[temperature = 0.0]" in heard
    assert room.engines[0].asked[0][1] == Options(
        0, 0.5, 3, 7, top_k=40, min_p=0.1, repeat_penalty=1.2
    )
    listed = [
        "[temperature = 0.0]",
        "[top_p = 0.5]",
        "[top_k = 40]",
        "[min_p = 0.1]",
        "[repeat_penalty = 1.2]",
        "[max_tokens = 3]",
        "[seed = 7]",
    ]
    start = heard.index(">>> /show")
    assert heard[start:] == [
        ">>> /show",
        "[Polly (polly, Q4_0)]",
        *listed,
        "[System prompt: the model's own]",
        "[Turns: 1 seen by the model, 0 forgotten; 200 tokens fit.]",
        ">>> /set",
        *listed,
    ]
    assert "[The answer was cut: it reached its limit of tokens.]" in heard


def test_none_brings_an_option_back_to_its_default() -> None:
    room = Room(
        ["/set temperature 0", "/set temperature none", "/set seed 1", "/set seed none", "."]
    )
    room.run()
    assert room.engines[0].asked[0][1] == DEFAULTS


ADVICE = SamplingAdvice(temperature=0.6, top_p=0.8, top_k=20, min_p=0.0, repeat_penalty=1.1)
PUBLISHED = replace(DEFAULTS, **asdict(ADVICE))


def test_an_answer_is_sampled_as_published_unless_the_user_wishes_otherwise() -> None:
    room = Room(
        ["a", "/set top-k 40", "b", "/set top-k none", "/set temperature none", "c", "/set"],
        models=(model("polly", "llamacpp", ADVICE),),
        wishes={"temperature": 1.0},
    )
    heard = room.run()
    assert [options for _messages, options in room.engines[0].asked] == [
        replace(PUBLISHED, temperature=1.0),
        replace(PUBLISHED, temperature=1.0, top_k=40),
        PUBLISHED,
    ]
    assert "[top_k = 40]" in heard
    assert heard[-7:] == [
        "[temperature = 0.6 (as published)]",
        "[top_p = 0.8 (as published)]",
        "[top_k = 20 (as published)]",
        "[min_p = 0.0 (as published)]",
        "[repeat_penalty = 1.1 (as published)]",
        "[max_tokens = 2048]",
        "[seed = none]",
    ]


def test_advice_that_an_engine_cannot_follow_is_left_out_but_a_wish_reaches_it() -> None:
    room = Room(
        ["a", "/set", "/set min-p 0.3", "b"],
        models=(model("polly", "itrex", ADVICE),),
    )
    heard = room.run()
    assert "[top_k = none]" in heard
    followed = replace(DEFAULTS, temperature=0.6, top_p=0.8)
    assert [options for _messages, options in room.engines[0].asked] == [
        followed,
        replace(followed, min_p=0.3),
    ]


def test_another_model_has_its_own_advice_and_the_same_wishes() -> None:
    room = Room(
        ["/set seed 7", "a", "/model coco", "b"],
        models=(model("polly", "llamacpp", ADVICE), model("coco", "llamacpp", SamplingAdvice(0.3))),
    )
    room.run()
    assert [engine.asked[0][1] for engine in room.engines] == [
        replace(PUBLISHED, seed=7),
        replace(DEFAULTS, temperature=0.3, seed=7),
    ]


def test_a_model_thinks_as_the_catalogue_says_unless_told_otherwise() -> None:
    thinker = replace(model("polly", "llamacpp"), think="off")
    room = Room(
        [
            *("a", "/set think on", "b", "/model coco", "c"),
            *("/model polly", "/set think 99", "d", "/set think none", "e"),
        ],
        models=(thinker, model("coco", "llamacpp")),
    )
    heard = room.run()
    thoughts = [options.think for each in room.engines for _messages, options in each.asked]
    assert thoughts == [0, ENDLESS, None, 99, 0], "coco cannot be told"
    assert [line for line in heard if "think =" in line] == [
        "[think = on]",
        "[think = 99]",
        "[think = off]",
    ]


def test_an_engine_without_templates_is_told_of_thinking_only_if_the_user_wishes() -> None:
    thinker = replace(model("polly", "itrex"), think="on")
    room = Room(["a", "/set", "/set think off", "b"], models=(thinker,))
    assert "[think = none]" in room.run()
    assert [options.think for _messages, options in room.engines[0].asked] == [None, 0]


def test_a_model_that_does_not_think_is_not_told_to() -> None:
    heard = Room(["/set think on", "/set"]).run()
    assert "This model cannot be told to think or not." in heard[2]
    assert "Options: temperature, top_p" in heard[2]
    assert not [line for line in heard if "think =" in line]
    thinker = replace(model("polly"), think="8")
    for wrong in ("maybe", "-1", "1.5"):
        heard = Room([f"/set think {wrong}"], models=(thinker,)).run()
        assert f"'{wrong}' is neither on nor off nor a number of tokens." in heard[2]
    assert "[think = 8]" in Room(["/set"], models=(replace(thinker, engine="llamacpp"),)).run()
    assert "think" in (offers(Catalog("polly", (thinker,)))["/set"] or ())
    assert "think" not in (offers(Catalog("polly", (model("polly"),)))["/set"] or ())


def test_an_answer_has_an_end_even_if_the_model_finds_none() -> None:
    room = Room(["/set max_tokens 9000", "/set max_tokens none", "."])
    room.run()
    assert room.engines[0].asked[0][1].max_tokens == 2048


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("/set temprature 1", "Did you mean temperature?"),
        ("/set x", "Options: temperature, top_p, top_k, min_p, repeat_penalty, max_tokens, seed."),
        ("/set top_k -1", "top_k: '-1' is not a number from 0 to 1000000."),
        ("/set min_p 2", "min_p: '2' is not a number from 0 to 1."),
        ("/set repeat_penalty 0", "repeat_penalty: '0' is not a number from 0.01 to 2."),
        ("/set temperature 3", "temperature: '3' is not a number from 0 to 2."),
        ("/set temperature", "temperature: '' is not a number from 0 to 2."),
        ("/set temperature nan", "temperature: 'nan' is not a number from 0 to 2."),
        ("/set top_p 0", "top_p: '0' is not a number"),
        ("/set max_tokens 0", "max_tokens: '0' is not a number"),
        ("/set seed -1", "seed: '-1' is not a number"),
        ("/model cocoa", "Did you mean coco?"),
        ("/save", "Name a file."),
        ("/load", "Name a file."),
        ("/load /nowhere/talk.json", "/nowhere/talk.json does not exist"),
        ("/save /nowhere/talk.json", "/nowhere/talk.json cannot be written"),
        ("/save .", "cannot be written: Is a directory"),
        ("/save /", "/ cannot be written: Is a directory"),
        ("/save ~nobodyhere/x", "There is no home folder ~nobodyhere."),
        ("/load ~nobodyhere/x", "There is no home folder ~nobodyhere."),
        ("/save /tmp/" + "长" * 86, "cannot be written: File name too long"),
        ("/load /tmp/" + "长" * 86, "cannot be read: File name too long"),
        ("/save a\0b", "The name of a file cannot have a character of code 0."),
        ("/load a\0b", "The name of a file cannot have a character of code 0."),
        ("/retry", "There is no question to answer again."),
        ("/stats", "There is no whole answer to tell the cost of."),
    ],
)
def test_a_mistake_is_told_and_the_chat_goes_on(typed: str, told: str) -> None:
    heard = Room([typed, "still here"]).run()
    assert told in heard[2]
    assert heard[3:] == [">>> still here", "polly: still here\n"]


def test_what_the_command_line_sets_is_a_wish() -> None:
    typed = ["chat", "--top-k", "40", "--min-p", "0", "--repeat-penalty", "1.1"]
    assert sampling(_parser().parse_args(typed)) == {
        "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1
    }  # fmt: skip
    assert sampling(_parser().parse_args(["chat"])) == {}


def test_the_system_prompt_changes_and_the_conversation_stays() -> None:
    room = Room(["one", "/system Be brief.", "two", "/system", "three"])
    room.run()
    roles = [[message["role"] for message in messages] for messages, _ in room.engines[0].asked]
    assert roles[1] == ["system", "user", "assistant", "user"]
    assert roles[2][0] == "user"


def test_another_model_goes_on_with_the_conversation() -> None:
    room = Room(["one", "/model coco", "two"])
    assert room.run()[3:] == [">>> /model coco", "[Coco]", ">>> two", "coco: two\n"]
    assert [message["content"] for message in room.engines[1].asked[0][0]] == [
        "one",
        "polly: one",
        "two",
    ]
    assert room.engines[0].closed


def test_a_model_that_does_not_load_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(["/model coco", "two"])
    opened: list[str] = []

    def open_(name: str) -> Parrot:
        opened.append(name)
        if name == "coco":
            raise Failure("Coco is asleep.")
        return Room.open(room, name)

    monkeypatch.setattr(room.chat, "_open", open_)
    assert room.run()[2:] == ["[Coco is asleep.]", ">>> two", "polly: two\n"]
    assert opened == ["coco", "polly"]


def test_clear_forgets() -> None:
    room = Room(["one", "/clear", "two", "/clear", "/retry"])
    assert room.run()[-1] == "[There is no question to answer again.]"
    assert len(room.engines[0].asked[1][0]) == 1


def test_retry_replaces_the_last_answer() -> None:
    room = Room(["one", "two", "/retry"])
    assert room.run()[-1] == "polly: two\n"
    assert room.engines[0].asked[2] == room.engines[0].asked[1]
    assert [turn.question for turn in room.talk.turns] == ["one", "two"]


def test_retry_after_ctrl_c_asks_the_stopped_question() -> None:
    room = Room(["one", "two", "/retry"], mishaps=[None, KeyboardInterrupt()])
    assert room.run()[-1] == "polly: two\n"
    assert [turn.question for turn in room.talk.turns] == ["one", "two"]


@pytest.mark.parametrize("mishap", [KeyboardInterrupt(), Failure("No.")])
def test_a_retry_that_fails_keeps_the_old_answer(mishap: BaseException) -> None:
    room = Room(["one", "/retry", "two"], mishaps=[None, mishap])
    room.run()
    assert [turn.question for turn in room.talk.turns] == ["one", "two"]


def test_stats_show_what_the_last_answer_cost() -> None:
    assert Room(["one", "/stats"]).run()[-1] == (
        "[prompt 10 tokens, 4 of them cached; answer 10 tokens, 50.0 a second; "
        "first token after 0.25 s]"
    )


def test_a_full_context_drops_the_oldest_turns_and_says_so() -> None:
    room = Room(["a" * 30, "b" * 30, "c" * 30])
    assert "[The context is full. Oldest turns that the model no longer sees: 1.]" in room.run()
    assert [turn.question[0] for turn in room.talk.forgotten] == ["a"]
    assert [turn.question[0] for turn in room.talk.turns] == ["b", "c"]


def test_a_message_longer_than_the_context_is_refused() -> None:
    room = Room(["one", "x" * 200, "two"])
    assert "The message has 200 tokens; the model's context has 200." in room.run()[4]
    assert [turn.question for turn in room.talk.turns] == ["one", "two"]


def test_an_engine_that_dies_is_started_again() -> None:
    room = Room(["one", "two"], mishaps=[EngineCrashed("It died.")])
    assert room.run() == [
        GREETING,
        ">>> one",
        "poll\n",
        "[It died.]",
        ">>> two",
        "polly: two\n",
    ]
    assert len(room.engines) == 2


def test_the_session_is_saved_after_every_turn(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    seen: list[int] = []

    def typed() -> Generator[str, None, None]:
        yield "one"
        seen.append(len(conversation.load(path).turns))
        yield "two"
        seen.append(len(conversation.load(path).turns))
        yield "three"  # stopped
        seen.append(len(conversation.load(path).turns))
        yield "/clear"
        seen.append(len(conversation.load(path).turns))

    Room(typed(), session=path, mishaps=[None, None, KeyboardInterrupt()]).run()
    assert seen == [1, 2, 2, 0]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    first = Room(["one", "/system Be brief.", f"/save {path}"])
    assert first.run()[-1] == f"[Saved: {path}]"
    second = Room([f"/load {path}", "two"])
    assert "[Turns loaded: 1.]" in second.run()
    contents = [message["content"] for message in second.engines[0].asked[0][0]]
    assert contents == ["Be brief.", "one", "polly: one", "two"]


def test_a_pipe_that_asks_nothing_is_told_how_to_chat() -> None:
    told = "[Nothing was asked. To chat in a container: docker run -it]"
    assert Room([], person=False).run() == [told]


def test_a_pipe_gets_answers_and_nothing_else() -> None:
    room = Room(["one", "two"], person=False)
    assert [each for each in room.run() if not each.startswith(">>>")] == [
        "polly: one\n",
        "polly: two\n",
    ]


@pytest.mark.parametrize(
    ("typed", "mishap", "kind"),
    [
        (["/hlep"], None, UsageFailure),
        (["x" * 200], None, MessageTooLong),
        (['"""'], None, UsageFailure),
        (["one"], EngineCrashed("It died."), EngineCrashed),
        (["one"], KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_in_a_pipe_a_failure_is_the_end(
    typed: list[str], mishap: BaseException | None, kind: type[BaseException]
) -> None:
    room = Room(typed, person=False, mishaps=[mishap])
    with pytest.raises(kind):
        room.run()
    assert room.engines[0].closed


def lines(content: bytes) -> Callable[[str], str]:
    return terminal.pipe(io.BytesIO(content))


def test_a_pipe_is_read_line_by_line() -> None:
    read = lines("你好\r\nlast".encode())
    assert (read(""), read("")) == ("你好", "last")
    with pytest.raises(EOFError):
        read("")


def test_a_byte_order_mark_is_not_text() -> None:
    assert lines(b"\xef\xbb\xbf/help\n")("") == "/help"


def test_a_line_that_is_not_utf8_is_numbered() -> None:
    read = lines("你好\n".encode() + "你好\n".encode("gbk"))
    assert read("") == "你好"
    with pytest.raises(NotUtf8, match="Line 2"):
        read("")
