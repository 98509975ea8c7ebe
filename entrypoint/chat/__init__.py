"""The mode `chat`: a conversation on the terminal, or one turn per line of standard input.

The loop knows callbacks only: a reader, an engine, a writer. Answers go to `write`; prompts, hints
and errors to `say`.
"""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from entrypoint import conversation, mounted
from entrypoint.answers import circles
from entrypoint.arguments import SAMPLING, THINK, Commands, add_sampling, models_folder, sampling
from entrypoint.chat import terminal
from entrypoint.chat.markdown import Markdown
from entrypoint.common import files, machine, table
from entrypoint.common.catalog import ENDLESS, Catalog
from entrypoint.common.errors import EngineCrashed, Failure, NotEnoughMemory, UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean
from entrypoint.common.visible import say, visible
from entrypoint.conversation import Conversation, Turn
from entrypoint.engines import Engine, Options, Usage, advised, open_engine, thinking

QUOTES = '"""'
# Now and then a small model repeats itself without an end: an answer has one all the same.
DEFAULTS = Options(max_tokens=2048)
SWITCH = {ENDLESS: "on", 0: "off"}  # how much it thinks, in words
PROMPT, CONTINUED = ">>> ", "... "


def register(commands: Commands) -> None:
    """Add the command `chat`."""
    parser = commands.add_parser(
        "chat",
        help=_("talk with a model"),
        description=_(
            "Unless set otherwise, answers are sampled as the model's publisher advises; where"
            " nothing is published, with temperature {temperature} and top-p {top_p}."
        ).format(temperature=DEFAULTS.temperature, top_p=DEFAULTS.top_p),
    )
    parser.add_argument("--model", metavar="NAME", help=_("which model (default: the catalogue's)"))
    parser.add_argument("--system", metavar="TEXT", help=_("the system prompt"))
    add_sampling(parser, DEFAULTS.max_tokens)
    parser.add_argument(
        "--session",
        type=Path,
        metavar="FILE",
        help=_("keep the conversation in this file and go on with it next time"),
    )
    parser.add_argument(
        "--plain", action="store_true", help=_("show the Markdown of answers as it is written")
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Chat until standard input ends."""
    models = mounted.load(models_folder())
    model = models.find(arguments.model).name
    talk, session = Conversation(), arguments.session
    if session:
        with files.writing(session):
            begun = _has_content(session)
        talk = conversation.load(session) if begun else talk
    if arguments.system is not None:
        talk.system = arguments.system
    if session:
        talk.save(session)  # rather now than after the first answer if it cannot be written
    person = terminal.is_terminal()
    earlier = [turn.question for turn in talk.turns]
    reader: AbstractContextManager[terminal.Reader] = (
        terminal.person(earlier, offers(models))
        if person
        else nullcontext(terminal.pipe(sys.stdin.buffer))
    )
    with reader as read:
        if person:
            if talk.turns:
                say(_("Turns loaded: {n}.").format(n=len(talk.turns)))
            say(_("Loading {name}...").format(name=models.find(model).display_name))
        chat = Chat(
            models,
            lambda name: _open(models, name),
            model,
            sampling(arguments),
            talk,
            read=read,
            styled=not arguments.plain and terminal.has_colours(),
            person=person,
            session=session,
        )
        with closing(chat):
            chat.run()


def _has_content(path: Path) -> bool:
    """Tell whether a file is there and not empty; the size of those in /proc does not tell."""
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except FileNotFoundError:
        return False


def offers(models: Catalog) -> dict[str, Iterable[str] | None]:
    """Return the commands, and of each the words that may follow it; None: the name of a file."""
    plain = ("/help", "/show", "/system", "/clear", "/retry", "/stats", "/bye")
    return {
        **dict.fromkeys(plain, ()),
        "/set": tuple(_settable(any(each.think for each in models.models))),
        "/model": [each.name for each in models.models],
        "/save": None,
        "/load": None,
    }


def _open(models: Catalog, name: str) -> Engine:
    model = models.find(name)
    machine.require_memory(model, models)
    return open_engine(model, models_folder())


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class Chat:
    """The loop: reads a line, obeys or answers it, until the reader raises EOFError.

    For a `person`, failures are told and the loop goes on; otherwise they end it. `read` is a
    `terminal.Reader`; `open_` loads the model of a name. `wishes` are the options that the user
    set, which hold for whatever model answers. `styled` shows the Markdown of answers in colours.
    """

    def __init__(
        self,
        models: Catalog,
        open_: Callable[[str], Engine],
        model: str,
        wishes: Mapping[str, Any],
        talk: Conversation,
        *,
        read: terminal.Reader,
        write: Callable[[str], None] = _write,
        say: Callable[[str], None] = say,
        styled: bool = False,
        person: bool = False,
        session: Path | None = None,
    ) -> None:
        self._models = models
        self._open = open_
        self._model = model
        self._wishes = dict(wishes)
        self._talk = talk
        self._read, self._write, self._say = read, write, say
        self._styled = styled
        self._person = person
        self._session = session
        self._usage: Usage | None = None
        self._stopped = ""  # the question whose answer was not completed
        self._engine = open_(model)
        # What each command takes, what it does, and how.
        self._commands: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "/help": ("", _("show this list"), self._help),
            "/set": (
                _("[NAME VALUE]"),
                _("list the options, or change one; none: back to its default"),
                self._set,
            ),
            "/show": ("", _("show the model, the options and the conversation"), self._show),
            "/system": (_("TEXT"), _("change the system prompt"), self._system),
            "/model": (_("NAME"), _("go on with another model"), self._change_model),
            "/clear": ("", _("forget the conversation"), self._clear),
            "/save": (_("FILE"), _("save the conversation"), self._save),
            "/load": (_("FILE"), _("go on with a saved conversation"), self._load),
            "/retry": ("", _("answer the last question again"), self._retry),
            "/stats": ("", _("show what the last answer cost"), self._stats),
            "/bye": ("", _("leave (as Ctrl-D does)"), self._bye),
        }

    def close(self) -> None:
        """Free the model."""
        self._engine.close()

    def run(self) -> None:
        """Go on until the reader ends, or /bye."""
        if self._person:
            self._say(_("Ask away, or type /help. Ctrl-D leaves."))
        while True:
            try:
                self._turn()
            except EOFError:
                if not (self._person or self._usage or self._stopped):
                    self._say(_("Nothing was asked. To chat in a container: docker run -it"))
                return
            except KeyboardInterrupt:
                if not self._person:
                    raise
                self._say(_("Ctrl-D or /bye leaves."))
            except Failure as failure:
                if not self._person:
                    raise
                self._say(str(failure))

    def _turn(self) -> None:
        line = self._read(PROMPT).strip()
        if line.startswith(QUOTES):
            line = self._quoted(line.removeprefix(QUOTES))
        elif line.startswith("/"):
            self._obey(line)
            return
        if line:
            self._ask(line)

    def _quoted(self, text: str) -> str:
        """Read on until the closing quotes."""
        while not text.rstrip().endswith(QUOTES):
            try:
                text += "\n" + self._read(CONTINUED)
            except EOFError:
                raise UsageFailure(
                    _("The input ended before the closing {quotes}.").format(quotes=QUOTES)
                ) from None
        return text.rstrip().removesuffix(QUOTES).strip()

    def _ask(self, question: str) -> bool:
        """Answer a question; return whether the answer is complete, so that the turn counts."""
        self._stopped = question
        try:
            answer = self._answer(question)
        except KeyboardInterrupt:
            if not self._person:
                raise
            self._say(_("Stopped. The model forgets this turn; /retry asks again."))
            return False
        except (EngineCrashed, NotEnoughMemory):
            if self._person:
                self._reopen(self._model)
            raise
        if answer is None:
            return False
        self._stopped = ""
        self._talk.turns.append(Turn(question, answer))
        self._keep()
        return True

    def _answer(self, question: str) -> str | None:
        """Show the answer, and return it; None if it was stopped because it went in circles."""
        context = self._engine.context
        options = self._options()
        room = min(options.max_tokens or context, context // 4)
        if count := self._talk.fit(question, self._engine.count_tokens, context, room):
            self._say(
                _("The context is full. Oldest turns that the model no longer sees: {n}.").format(
                    n=count
                )
            )
        answer = self._stream(question, options)
        if answer is None:
            self._say(
                _(
                    "Stopped: the model goes round in circles, and says the same for the third"
                    " time. It forgets this turn. Another temperature may help, or"
                    " /set repeat_penalty 1.1; then /retry."
                )
            )
            return None
        if circles.share(answer) > circles.MOST:
            self._say(
                _(
                    "The model goes round in circles: {share:.0%} of the answer was there before."
                    " Another temperature may help, or /set repeat_penalty 1.1; then /retry."
                ).format(share=circles.share(answer))
            )
        if self._usage and self._usage.finish_reason == "length":
            self._say(_("The answer was cut: it reached its limit of tokens."))
        return answer

    def _stream(self, question: str, options: Options) -> str | None:
        """Show an answer as it comes, and return it; None as soon as it goes round in circles."""
        self._usage = None
        answer, thinks = "", False
        watches = {"thought": circles.Watch(), "answer": circles.Watch()}
        shown: Callable[[str], str] = Markdown().feed if self._styled else str
        try:
            with closing(self._engine.stream(self._talk.messages(question), options)) as all_:
                for part in thinking.apart(all_):
                    if isinstance(part, Usage):
                        self._usage = part
                        continue
                    kind, piece = part
                    if kind == "answer":
                        self._write(shown(visible(piece)))
                        answer += piece
                    elif not thinks:
                        thinks = True
                        self._say(_("The model thinks first..."))
                    if watches[kind].stuck(piece):
                        return None
        finally:
            self._write(shown("\n"))
        return answer

    def _reopen(self, name: str) -> None:
        self._engine.close()
        self._engine = self._open(name)
        self._model = name

    def _keep(self) -> None:
        """Save the session, if there is one."""
        if self._session:
            self._talk.save(self._session)

    def _obey(self, line: str) -> None:
        name, _space, rest = line.partition(" ")
        try:
            _takes, _does, how = self._commands[name]
        except KeyError:
            raise UsageFailure(
                _("There is no command {name}.").format(name=name),
                did_you_mean(self._commands, name),
                _("To send a text that starts with /, put it between {quotes}.").format(
                    quotes=QUOTES
                ),
            ) from None
        how(rest.strip())

    def _help(self, _rest: str) -> None:
        rows = [(f"{name} {takes}", does) for name, (takes, does, _how) in self._commands.items()]
        rows.append((QUOTES, _("begin and end a text of several lines")))
        rows.append(("Ctrl-C", _("stop the answer")))
        self._say(table.columns(rows))

    def _options(self) -> Options:
        """Return how to answer: as the user wishes, else as is advised for the model."""
        model = self._models.find(self._model)
        known = _settable(bool(model.think))
        wishes = {name: value for name, value in self._wishes.items() if name in known}
        return replace(advised(model, DEFAULTS), **wishes)

    def _settable(self) -> dict[str, Callable[[str], float | int]]:
        """Return the options of this model, and how each is read."""
        return _settable(bool(self._models.find(self._model).think))

    def _set(self, rest: str) -> None:
        if not rest:
            self._list()
            return
        name, _space, value = rest.partition(" ")
        name = name.replace("-", "_")
        settable = self._settable()
        if name not in settable:
            raise UsageFailure(
                _("There is no option {name}.").format(name=repr(name))
                if name != THINK
                else _("This model cannot be told to think or not."),
                _("Options: {names}.").format(names=", ".join(settable)),
                did_you_mean(settable, name),
            )
        if value.strip() == "none":
            self._wishes.pop(name, None)
        else:
            try:
                self._wishes[name] = settable[name](value.strip())
            except argparse.ArgumentTypeError as error:
                raise UsageFailure(f"{name}: {error}") from None
        self._say(self._setting(name))

    def _list(self) -> None:
        for name in self._settable():
            self._say(self._setting(name))

    def _setting(self, name: str) -> str:
        """Say what an option is, and whether its value is the publisher's advice."""
        options = self._options()
        value = getattr(options, name)
        if value is None:
            return f"{name} = none"
        if name == THINK:
            return f"{name} = {SWITCH.get(value, value)}"
        advice = getattr(self._models.find(self._model).sampling, name, None)
        published = name not in self._wishes and value == advice
        setting = f"{name} = {value}"
        return _("{option} (as published)").format(option=setting) if published else setting

    def _show(self, _rest: str) -> None:
        model = self._models.find(self._model)
        self._say(f"{model.display_name} ({model.name}, {model.quantization})")
        self._list()
        self._say(_("System prompt: {text}").format(text=self._talk.system or _("the model's own")))
        self._say(
            _(
                "Turns: {seen} seen by the model, {forgotten} forgotten; {context} tokens fit."
            ).format(
                seen=len(self._talk.turns),
                forgotten=len(self._talk.forgotten),
                context=self._engine.context,
            )
        )

    def _system(self, rest: str) -> None:
        self._talk.system = rest
        self._keep()
        if rest:
            self._say(_("The system prompt is set."))
        else:
            self._say(_("The system prompt is removed."))

    def _change_model(self, rest: str) -> None:
        name = self._models.find(rest or None).name
        before = self._model
        try:
            self._reopen(name)
        except Failure:
            self._reopen(before)
            raise
        self._say(self._models.find(name).display_name)

    def _clear(self, _rest: str) -> None:
        self._talk.turns.clear()
        self._talk.forgotten.clear()
        self._stopped = ""
        self._keep()
        self._say(_("The conversation is forgotten; the system prompt stays."))

    def _save(self, rest: str) -> None:
        path = _path(rest)
        self._talk.save(path)
        self._say(_("Saved: {path}").format(path=path))

    def _load(self, rest: str) -> None:
        self._talk = conversation.load(_path(rest))
        self._keep()
        self._say(_("Turns loaded: {n}.").format(n=len(self._talk.turns)))

    def _retry(self, _rest: str) -> None:
        if self._stopped:
            self._ask(self._stopped)
            return
        if not self._talk.turns:
            raise UsageFailure(_("There is no question to answer again."))
        last = self._talk.turns.pop()
        done = False
        try:
            done = self._ask(last.question)
        finally:
            if not done:
                self._talk.turns.append(last)
                self._stopped = ""

    def _stats(self, _rest: str) -> None:
        usage = self._usage
        if usage is None:
            raise UsageFailure(_("There is no whole answer to tell the cost of."))
        self._say(
            _(
                "prompt {prompt} tokens, {cached} of them cached; answer {completion} tokens, "
                "{rate:.1f} a second; first token after {first:.2f} s"
            ).format(
                prompt=usage.prompt_tokens,
                cached=usage.cached_tokens,
                completion=usage.completion_tokens,
                rate=usage.rate,
                first=usage.first_token,
            )
        )

    def _bye(self, _rest: str) -> None:
        raise EOFError


def _settable(thinks: bool) -> dict[str, Callable[[str], float | int]]:
    """Return the options of a model that thinks or does not, and how each is read."""
    return {name: read for name, read in SAMPLING.items() if thinks or name != THINK}


def _path(text: str) -> Path:
    if not text:
        raise UsageFailure(_("Name a file."))
    if "\0" in text:
        raise UsageFailure(_("The name of a file cannot have a character of code 0."))
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = Path(text).parts[0]
        raise UsageFailure(_("There is no home folder {name}.").format(name=user)) from error
