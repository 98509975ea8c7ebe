"""`python -m builder TASK`, which ./llmdeploy calls: Invoke with our exit codes and suggestions."""

from __future__ import annotations

import copy
import itertools
import re
import sys
from collections.abc import Iterator, Sequence

from invoke import Argument, ParserContext, Program
from invoke.exceptions import ParseError

from builder.settings import ROOT
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

HELP = {"-h", "--help"}
# Commands of the program in the image, which people look for here.
INSIDE = ("chat", "battery", "compare", "serve", "notebook", "models", "version")


class Builder(Program):
    """Invoke's own program, which speaks the user's language and takes bare words."""

    def task_list_opener(self, extra: str = "") -> str:  # noqa: ARG002 - Invoke's signature
        """Return what stands above the list of tasks."""
        return _("Tasks, in the order in which they are needed")

    def list_flat(self) -> None:
        """Print the tasks in the order of tasks.py."""
        tasks = self.scoped_collection.tasks.values()
        self.display_with_columns([(_typed(task.name), task.__doc__) for task in tasks])

    def print_task_help(self, name: str) -> None:
        """Print what a task does, and its options."""
        print(_("Usage: {program} [OPTIONS]").format(program=f"./llmdeploy {name}"))
        print(f"\n{self.collection[name].__doc__}\n")
        if options := self.parser.contexts[name].help_tuples():
            print(_("Options:"))
            self.print_columns(options)

    def parse_tasks(self) -> None:
        """Parse the words after the core options; exit 2 with a suggestion if one is unknown."""
        typed = self.core.unparsed
        self.core.unparsed = list(self._named(typed))
        try:
            super().parse_tasks()
        except ParseError as error:
            print(f"llmdeploy: {self._unknown(error, typed)}", file=sys.stderr)
            sys.exit(UsageFailure.code)

    def _named(self, typed: Sequence[str]) -> Iterator[str]:
        """Name the option of each bare word: Invoke lets none be left out that may be bare."""
        # Of a copy: what is asked once for its contexts has no help texts any more.
        contexts = copy.deepcopy(self.collection).to_contexts()
        tasks = {context.name: context for context in contexts}
        task, is_value = ParserContext(), False
        bare: Iterator[Argument] = iter(())
        for word in typed:
            if is_value or word in task.flags:
                is_value = not is_value and task.flags[word].takes_value
            elif word in tasks:
                task = tasks[word]
                bare = (each for each in task.positional_args if each.default is not None)
            elif not word.startswith("-") and (option := next(bare, None)):
                yield f"--{option.name}"
                if option.kind is list:  # it takes all the words that follow
                    bare = itertools.repeat(option)
            yield word

    def _unknown(self, error: ParseError, typed: Sequence[str]) -> UsageFailure:
        known = [*self.collection.task_names, "--help"]
        for context in self.collection.to_contexts():
            known += [flag for flag in context.flags if len(flag) > len("-x")]
        # Invoke quotes the word that it cannot place.
        strange = [word for each in typed if repr(word := each.partition("=")[0]) in str(error)]
        task = error.context.name if error.context else None
        if commands := [word for word in strange if word in INSIDE and not task]:
            return UsageFailure(
                _said(error),
                _("It is a command of the image."),
                _("Run: docker run -it --rm llmdeploy {command}").format(command=commands[0]),
            )
        return UsageFailure(
            _said(error),
            did_you_mean(known, *strange),
            _("See what there is with: {program} --help").format(
                program=f"./llmdeploy {task}" if task else "./llmdeploy"
            ),
        )


def _typed(task: str) -> str:
    return task.replace("_", "-")


def _said(error: ParseError) -> str:
    """Return in the user's language what Invoke says of a word."""
    known = (
        (r"No idea what (.+) is!", _("Unknown word: {0}.")),
        (r"Flag <Argument: (\S+?)(?: .*)?> needed value .+", _("The option {0} needs a value.")),
        (r"'(.+)' did not receive required positional arguments: (.+)", _("{0} needs: {1}.")),
    )
    for pattern, text in known:
        if match := re.fullmatch(pattern, str(error)):
            return text.format(*match.groups())
    return str(error)


def words(typed: Sequence[str]) -> list[str]:
    """Return what Invoke is told: without a task to list them, and --help before its task.

    After the task, Invoke would take it for the task's bare word.
    """
    task = [word for word in typed if word not in HELP]
    if not task:
        return ["--list"]
    return ["--help", task[0]] if HELP & {*typed} else task


if __name__ == "__main__":
    Builder(name="llmdeploy", binary="llmdeploy").run(
        ["llmdeploy", "--search-root", str(ROOT), *words(sys.argv[1:])]
    )
