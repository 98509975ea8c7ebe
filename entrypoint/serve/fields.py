"""How a body is read: what of its fields counts, and the words in which the rest is refused.

Clients send more than they mean: fields of other servers, set to nothing; whole numbers as 8.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from entrypoint.common.language import _
from entrypoint.serve import messages, responses, wire
from entrypoint.serve.problems import Problem
from entrypoint.serve.vetting import Unfit

Asked = TypeVar("Asked", bound=msgspec.Struct)

NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})  # as the description of the API has it

# Lists of objects in which clients send more than they mean, too: of what, by which field.
TEXTS: Mapping[str, type[msgspec.Struct]] = {"content": wire.TextPart}
TALK: Mapping[str, type[msgspec.Struct]] = {"messages": messages.AnthropicMessage}
INSIDE: Mapping[type[msgspec.Struct], Mapping[str, type[msgspec.Struct]]] = {
    wire.ChatRequest: {"messages": wire.ChatMessage},
    wire.ChatMessage: {**TEXTS, "tool_calls": wire.ToolCall},
    responses.ResponsesRequest: {"input": responses.InputItem},
    responses.InputItem: TEXTS,
    messages.MessagesRequest: TALK,
    messages.CountRequest: TALK,
    messages.AnthropicMessage: {"content": messages.ContentBlock},
    messages.ContentBlock: TEXTS,
}


def read(body: bytes, kind: type[Asked]) -> Asked:
    """Return a body as `kind`; raise Problem that names the field which is wrong."""
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _require_utf8(body)
        raise _refusal(error) from None
    return convert(value, kind)


def convert(value: Any, kind: type[Asked]) -> Asked:
    """Return what a body says as `kind`; raise Problem that names the field which is wrong."""
    try:
        return msgspec.convert(_meant(value, kind), kind)
    except RecursionError:
        raise _too_deep() from None
    except msgspec.DecodeError as error:
        raise _refusal(error) from None


def _too_deep() -> Problem:
    return Problem(400, _("The body is nested too deep."), code="invalid_value")


def _require_utf8(body: bytes) -> None:
    """Raise Problem that names the first byte which is none of a UTF-8 text."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        words = _("The body is not UTF-8: byte {offset}, counted from 0, is 0x{value:02x}.")
        words = words.format(offset=error.start, value=body[error.start])
        raise Problem(400, words, code="invalid_value") from None


def _meant(body: Any, kind: type[msgspec.Struct]) -> Any:
    """Return an object without unknown fields that say nothing, and with 8 for 8.0."""
    if not isinstance(body, dict):
        return body
    known = {each.encode_name for each in msgspec.structs.fields(kind)}
    inside = INSIDE.get(kind, {})
    return {
        name: _value(value, inside.get(name))
        for name, value in body.items()
        if name in known or value
    }


def _value(value: Any, inside: type[msgspec.Struct] | None) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if inside and isinstance(value, list):
        return [_meant(each, inside) for each in value]
    return value


def _refusal(error: Exception) -> Problem:
    """Return what msgspec says, which ends with "- at `$.field`", in words about the field."""
    text, _dash, place = str(error).partition(" - at ")
    param = re.sub(r".*\$\.?", "", place).strip("`")
    if isinstance(error.__cause__, wire.Unsupported):
        return Problem(400, text, code="unsupported_value", param=error.__cause__.param or param)
    if isinstance(error.__cause__, Unfit):
        return Problem(400, text, code="invalid_json_schema", param=param or None)
    if missing := re.fullmatch(r"Object (?:missing required|contains unknown) field `(.+)`", text):
        param = f"{param}.{missing[1]}" if param else missing[1]
        if "missing" in text:
            words, code = _("The field {field} is missing."), "missing_required_parameter"
        else:
            words, code = _("There is no field {field} here."), "unknown_parameter"
        return Problem(400, words.format(field=param), code=code, param=param)
    if form := re.fullmatch(r"Expected (`.+?`(?: .+?)?)(?:, got `\w+`)?", text):
        kind = re.sub("[a-z]+", _named, form[1].replace("`", ""))
        text = _("{field} must be {kind}.").format(field=param or _("The body"), kind=kind)
    return Problem(400, text, code="invalid_value", param=param or None)


def _named(word: re.Match[str]) -> str:
    names = {
        "int": _("a whole number"),
        "float": _("a number"),
        "str": _("a text"),
        "bool": _("true or false"),
        "array": _("a list"),
        "object": _("an object"),
    }
    return names.get(word[0], word[0])
