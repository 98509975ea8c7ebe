"""The published forms of answers.jsonl's lines and of report.json, made from the dataclasses.

Regenerate with: .venv/bin/python -m docs.schema
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from entrypoint.answers import results
from entrypoint.compare import checks, report

LATE = {"Check": checks.Check}  # which report.py imports for its annotations only
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def answer() -> dict[str, Any]:
    """Return the JSON Schema of a line of answers.jsonl."""
    title = f"A line of {results.LINES}: one answer of a model"
    return _schema(results.Answer, title, results.SCHEMA)


def comparison() -> dict[str, Any]:
    """Return the JSON Schema of report.json."""
    return _schema(report.Report, "report.json: what a comparison found", report.SCHEMA)


def files() -> dict[Path, str]:
    """Return the content of each published file."""
    forms = {"results.schema.json": answer(), "report.schema.json": comparison()}
    return {
        Path(__file__).with_name(name): json.dumps(form, indent=1, ensure_ascii=False) + "\n"
        for name, form in forms.items()
    }


def _schema(kind: type, title: str, version: int) -> dict[str, Any]:
    known: dict[str, Any] = {}
    _form(kind, known)
    top = known.pop(kind.__name__)
    top["properties"] = {"schema": None, **top["properties"]} | {"schema": {"const": version}}
    top["required"] = list(dict.fromkeys(("schema", *top["required"])))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **top,
        "$defs": known,
    }


def _form(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; dataclasses go to `known` and are referred to."""
    if dataclasses.is_dataclass(kind):
        name = typing.cast("type", kind).__name__
        if name not in known:
            known[name] = {}  # its place in the order
            hints = typing.get_type_hints(kind, localns=LATE)
            fields = dataclasses.fields(kind)
            known[name] = {
                "description": (kind.__doc__ or "").partition("\n")[0],
                "type": "object",
                "properties": {each.name: _form(hints[each.name], known) for each in fields},
                "required": [each.name for each in fields if each.default is dataclasses.MISSING],
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": _form(inner[0], known)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _form(inner[1], known)}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin is types.UnionType:
        return {"anyOf": [_form(each, known) for each in inner]}
    return {"type": PLAIN[kind]}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
