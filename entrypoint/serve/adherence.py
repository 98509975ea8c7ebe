"""Whether a whole answer keeps to its JSON Schema: the engine's grammar is not the last word.

Patterns are left to the grammar, which has them rewritten in its own words; another reader of
regular expressions would only add ways to keep everybody waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from entrypoint.common.language import _
from entrypoint.serve import journal, problems

STEPS = 10_000  # references followed: a schema that leads back to itself could branch without end
SHOWN = 200  # characters of what is wrong
FORMATS = FormatChecker(formats=("date", "uuid"))


class _TooMuch(Exception):
    """More references than are followed."""


def require(text: str, schema: Mapping[str, Any]) -> None:
    """Raise Problem if an answer does not follow its schema.

    One that is nested too deeply, or branches too often, is taken as the grammar let it through.
    """
    try:
        fault = _fault(json.loads(text), schema)
    except (RecursionError, _TooMuch):
        journal.write("answer not checked", "warning")
        return
    except json.JSONDecodeError:
        fault = _("it is not JSON")
    if fault:
        raise problems.broken(fault)


def _fault(answer: Any, schema: Mapping[str, Any]) -> str | None:
    follow = Draft202012Validator.VALIDATORS["$ref"]
    steps = iter(range(STEPS))

    def counted(*words: Any) -> Iterator[ValidationError]:
        if next(steps, None) is None:
            raise _TooMuch
        yield from follow(*words) or ()

    keywords = {"$ref": counted, "pattern": lambda *_words: ()}
    bounded: Any = extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]
    # A dialect that nobody here knows would be looked for.
    local = {keyword: value for keyword, value in schema.items() if keyword != "$schema"}
    error = next(bounded(local, format_checker=FORMATS).iter_errors(answer), None)
    return f"{error.json_path}: {error.message}"[:SHOWN] if error else None
