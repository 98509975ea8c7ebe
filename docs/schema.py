"""The published forms of answers.jsonl's lines and of report.json, made from the dataclasses.

Regenerate with: .venv/bin/python -m docs.schema
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from entrypoint.answers import results
from entrypoint.compare import checks, report

report.Check = checks.Check  # type: ignore[misc]  # it imports the name for its annotations only


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
    """Return the schema of a type, which has its version beside its own fields."""
    _refs, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for form in components.values():
        form |= {"description": form["description"].partition("\n")[0]}
        form["additionalProperties"] = False
    top = components.pop(kind.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "title": title,
        "properties": {"schema": {"const": version}, **top["properties"]},
        "required": ["schema", *top["required"]],
        "$defs": components,
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
