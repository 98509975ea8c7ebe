"""TOML files that people write, read strictly: an unknown key is an error with a suggestion."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from entrypoint.errors import ConfigFailure, NotUtf8
from entrypoint.language import _

Record = TypeVar("Record")


def read(path: Path) -> dict[str, Any]:
    """Parse `path`; raise ConfigFailure if unreadable or malformed, NotUtf8 if it is not UTF-8."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Notepad begins with a mark
    except FileNotFoundError:
        raise ConfigFailure(_("{path} does not exist.").format(path=path)) from None
    except OSError as error:
        raise ConfigFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None
    except UnicodeDecodeError as error:
        raise NotUtf8(
            _("{path} is not UTF-8 (byte {offset}).").format(path=path, offset=error.start),
            next=_("Save it as UTF-8 and try again."),
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigFailure(
            _("{path} is not valid TOML: {error}").format(path=path, error=error)
        ) from None


def record(kind: type[Record], table: dict[str, Any], where: str) -> Record:
    """Make a dataclass of `table`; raise ConfigFailure on unknown, missing or mistyped keys.

    `where` names the table in messages, for example "models.toml, [models.smollm2-135m]".
    Values are checked against plain annotations: str, int, float, bool, dict and tuples of them. A
    field whose type is a dataclass, or that or None, is a table of its own, read the same way.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            raise ConfigFailure(
                _("Unknown key {key} in {where}.").format(key=repr(key), where=where),
                _("Known keys: {keys}.").format(keys=", ".join(fields)),
                _("Did you mean {name}?").format(name=near[0]) if near else "",
            )
    kinds = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in table:
            if field.default is dataclasses.MISSING:
                raise ConfigFailure(
                    _("The key {key} is missing in {where}.").format(key=repr(name), where=where)
                )
            continue
        value = table[name]
        value = tuple(value) if isinstance(value, list) else value
        inner = _inner(kinds[name])
        if inner and isinstance(value, dict):
            value = record(inner, value, f"{where}, [{name}]")
        if not _fits(value, kinds[name]):
            raise ConfigFailure(
                _("{key} in {where} must be {type}, not {value}.").format(
                    key=repr(name), where=where, type=_name(kinds[name]), value=repr(table[name])
                )
            )
        values[name] = value
    return kind(**values)


def _inner(kind: Any) -> Any:
    """Return the dataclass that a table becomes, None where it stays a table."""
    choices = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next((each for each in choices if dataclasses.is_dataclass(each)), None)


def _name(kind: Any) -> str:
    """Name a type as a person who writes TOML would."""
    if typing.get_origin(kind) is tuple:
        return _("a list of {kind}").format(kind=_name(typing.get_args(kind)[0]))
    plain = {
        str: _("text"),
        bool: _("true or false"),
        int: _("a whole number"),
        dict: _("a table"),
    }
    if _inner(kind):
        return plain[dict]
    return plain.get(typing.get_origin(kind) or kind, _("a number"))


def _fits(value: object, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return isinstance(value, tuple) and all(_fits(each, item) for each in value)
    if isinstance(value, bool):  # Python counts it as an int, people do not
        return kind is bool
    if isinstance(kind, types.UnionType):
        return isinstance(value, kind)
    return isinstance(value, (int, float) if kind is float else typing.get_origin(kind) or kind)
