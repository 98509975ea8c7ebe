"""The JSON Schema of a call that a model has to make, of functions whose parameters have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from entrypoint.serve.vetting import vet

Schema: TypeAlias = Mapping[str, Any]
ANY: Schema = {"type": "object"}


def schema_of(functions: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the schema of a call of one of these functions, by name with their parameters.

    Where the engine cannot follow parameters, they are any object; so are all, where together they
    are too much. Raises ValueError if even their names are.
    """
    schemas = {
        name: ANY if _unfit(parameters) else parameters for name, parameters in functions.items()
    }
    try:
        return vet(_either(schemas))
    except ValueError:
        return vet(_either(dict.fromkeys(functions, ANY)))


def _unfit(parameters: Schema) -> bool:
    try:
        vet(dict(parameters))
    except ValueError:
        return True
    return False


def _either(functions: Mapping[str, Schema]) -> dict[str, Any]:
    """Return the schema of a call, in which what parameters refer to lies where they lie."""
    calls: list[dict[str, Any]] = []
    definitions = {}
    for number, (name, parameters) in enumerate(functions.items()):
        place = f"#/$defs/{number}"
        arguments: Any = _moved(parameters, place)
        if arguments != parameters:
            definitions[str(number)] = arguments
            arguments = {"$ref": place}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": definitions} if definitions else schema


def _moved(value: Any, place: str) -> Any:
    """Return a schema whose references lead to the same when it lies at `place` of another."""
    if isinstance(value, list):
        return [_moved(each, place) for each in value]
    if not isinstance(value, Mapping):
        return value
    moved = {name: _moved(each, place) for name, each in value.items()}
    if isinstance(target := value.get("$ref"), str):
        moved["$ref"] = place + target.removeprefix("#")
    return moved
