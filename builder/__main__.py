"""`python -m builder TASK`, which ./llmdeploy calls: Invoke with our exit codes and suggestions."""

from __future__ import annotations

import difflib
import sys

from invoke import Program
from invoke.exceptions import ParseError

from builder.settings import ROOT
from entrypoint.errors import UsageFailure
from entrypoint.language import _


class Builder(Program):
    """Invoke's own program; only a mistyped task or option is answered differently."""

    def parse_tasks(self) -> None:
        """Parse the words after the core options; exit 2 with a suggestion if one is unknown."""
        try:
            super().parse_tasks()
        except ParseError as error:
            print(f"llmdeploy: {self._unknown(error)}", file=sys.stderr)
            sys.exit(UsageFailure.code)

    def _unknown(self, error: ParseError) -> UsageFailure:
        known = list(self.collection.task_names)
        for context in self.collection.to_contexts():
            known += [flag for flag in context.flags if len(flag) > len("-x")]
        near = [
            match
            for word in self.core.unparsed
            if word not in known
            for match in difflib.get_close_matches(word, known, n=1)
        ]
        return UsageFailure(
            str(error),
            _("Did you mean {name}?").format(name=near[0]) if near else "",
            _("List all tasks with: ./llmdeploy --list"),
        )


if __name__ == "__main__":
    Builder(name="llmdeploy", binary="llmdeploy").run(
        ["llmdeploy", "--search-root", str(ROOT), *sys.argv[1:]]
    )
