"""The published form of a line of answers.jsonl, made from the dataclasses of entrypoint.results.

Regenerate with: .venv/bin/python -m docs.schema
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from entrypoint import results

PATH = Path(__file__).with_name("results.schema.json")
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of one line."""
    known: dict[str, Any] = {}
    _form(results.Answer, known)
    line = known.pop("Answer")
    line["properties"] = {"schema": {"const": results.SCHEMA}, **line["properties"]}
    line["required"] = ["schema", *line["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of {results.LINES}: one answer of a model",
        **line,
        "$defs": known,
    }


def text() -> str:
    """Return the content of results.schema.json."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _form(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; dataclasses go to `known` and are referred to."""
    if dataclasses.is_dataclass(kind):
        name = typing.cast("type", kind).__name__
        if name not in known:
            known[name] = {}  # its place in the order
            hints = typing.get_type_hints(kind)
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
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if origin is types.UnionType:
        return {"anyOf": [_form(each, known) for each in inner]}
    return {"type": PLAIN[kind]}


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
